"""The firmware's digest is read from either DICE extension, and from nothing that only resembles one."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from support.gpu import gpu
from support.tdx import refusal

from toposeal.errors import Reason
from toposeal.evidence.gpu_firmware import COMPOSITE_DEVICE_ID, TCB_INFO, read_firmware
from toposeal_lab.simgpu.pki import DeviceShape, firmware, fwid, tlv

DIGEST = bytes(range(48))
KEY = tlv(0x30, b"")
SHA256 = tlv(0x30, bytes.fromhex("0609608648016503040201") + tlv(0x04, bytes(32)))
FLAGS = tlv(0x87, bytes.fromhex("0080000001"))


def test_hopper_names_the_device_key() -> None:
    device = gpu()
    oid, value = firmware(device.key, device.shape)
    found = read_firmware(oid.dotted_string, value)
    info = device.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert (found.fwid, found.issuer_key, found.unsafe) == (device.shape.fwid, info, ())


def test_blackwell_has_flags() -> None:
    device = gpu("GB100")
    oid, value = firmware(device.key, device.shape)
    found = read_firmware(oid.dotted_string, value)
    assert (oid.dotted_string, found.fwid, found.issuer_key) == (TCB_INFO, device.shape.fwid, b"")
    assert found.unsafe == ()


@pytest.mark.parametrize(
    ("flags", "unsafe"),
    [
        ("0090000001", ("debug",)),
        ("00a0000001", ("recovery",)),
        ("0070000000", ("notSecure", "recovery", "debug")),
        ("0080000001", ()),
        ("000f000040", ()),
    ],
)
def test_E18_an_open_device_says_so(flags: str, unsafe: tuple[str, ...]) -> None:
    shape = DeviceShape(model="GB100", flags=bytes.fromhex(flags))
    _, value = firmware(gpu().key, shape)
    assert read_firmware(TCB_INFO, value).unsafe == unsafe


def test_the_rest_of_a_tcb_info_is_optional() -> None:
    assert read_firmware(TCB_INFO, tlv(0x30, tlv(0xA6, fwid(DIGEST)) + FLAGS)).fwid == DIGEST


@pytest.mark.parametrize(
    ("extension", "body"),
    [
        (COMPOSITE_DEVICE_ID, b"\x02\x01\x02" + KEY + fwid(DIGEST)),
        (COMPOSITE_DEVICE_ID, b"\x02\x01\x01" + fwid(DIGEST)),
        (COMPOSITE_DEVICE_ID, b"\x02\x01\x01" + KEY + fwid(bytes(47))),
        (COMPOSITE_DEVICE_ID, b"\x02\x01\x01" + KEY + SHA256),
        (COMPOSITE_DEVICE_ID, b"\x02\x01\x01" + KEY + fwid(DIGEST) + b"\x05\x00"),
        (COMPOSITE_DEVICE_ID, b""),
        (TCB_INFO, tlv(0xA6, fwid(DIGEST))),
        (TCB_INFO, tlv(0xA6, fwid(DIGEST)) + tlv(0x87, b"\x00")),
        (TCB_INFO, tlv(0xA6, b"") + FLAGS),
        (TCB_INFO, tlv(0xA6, fwid(DIGEST) + SHA256) + FLAGS),
        (TCB_INFO, FLAGS + tlv(0xA6, fwid(DIGEST))),
        (TCB_INFO, tlv(0xA6, fwid(DIGEST)) + FLAGS + tlv(0x8A, b"")),
    ],
)
def test_E14_another_shape_is_refused(extension: str, body: bytes) -> None:
    assert refusal(read_firmware, extension, tlv(0x30, body)) is Reason.CERTIFICATE_INVALID


def test_E14_nothing_follows_it() -> None:
    assert refusal(read_firmware, TCB_INFO, tlv(0x30, b"") + b"\0") is Reason.CERTIFICATE_INVALID

"""What a device's leaf certificate says about the firmware that holds its key: two extensions. No IO.

TCG DICE: Hopper and LS10 carry a CompositeDeviceID (2.23.133.5.4.1, the older "RIoT" form), Blackwell a
TcbInfo (2.23.133.5.4.1.1, DICE Attestation Architecture 1.1, 6.1.1).
"""

from __future__ import annotations

from dataclasses import dataclass

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence import der
from toposeal.evidence.der import DerReader

COMPOSITE_DEVICE_ID, TCB_INFO = "2.23.133.5.4.1", "2.23.133.5.4.1.1"
FIRMWARE_EXTENSIONS = (COMPOSITE_DEVICE_ID, TCB_INFO)
_SHA384 = "2.16.840.1.101.3.4.2.2"
_FWID_SIZE = 48
_VERSION = 1
_FIELD = "chain[0].firmware"
# TcbInfo's implicit tags, in their order: vendor, model, version, svn, layer, index come before the digests.
_BEFORE_DIGESTS = (0x80, 0x81, 0x82, 0x83, 0x84, 0x85)
_FWIDS, _FLAGS = 0xA6, 0x87
_AFTER_FLAGS = (0x88, 0x89)  # vendorInfo, type
_UNSAFE = {"notSecure": 0x40, "recovery": 0x20, "debug": 0x10}  # in the first byte of OperationalFlags


@dataclass(frozen=True)
class Firmware:
    """`unsafe` names the operational flags under which a device must not be believed; Hopper has none."""

    fwid: bytes  # 48, SHA-384 of the firmware
    issuer_key: bytes  # SubjectPublicKeyInfo of the device key; empty where the extension has none
    unsafe: tuple[str, ...]


def read_firmware(extension: str, value: bytes) -> Firmware:
    """Read one of FIRMWARE_EXTENSIONS. Raises EvidenceError(CERTIFICATE_INVALID)."""
    reader = DerReader(value, _FIELD, Reason.CERTIFICATE_INVALID)
    body = reader.inside(der.SEQUENCE)
    reader.end()
    return _tcb_info(body) if extension == TCB_INFO else _composite(body)


def _composite(body: DerReader) -> Firmware:
    """Version, key of the issuer, digest of what holds the key below it."""
    if body.integer() != _VERSION:
        raise body.refusal("another version", _VERSION)
    issuer_key = body.whole(der.SEQUENCE)
    fwid = _fwid(body)
    body.end()
    return Firmware(fwid, issuer_key, ())


def _tcb_info(body: DerReader) -> Firmware:
    for tag in _BEFORE_DIGESTS:
        if body.has(tag):
            body.element(tag)
    digests = body.inside(_FWIDS)
    fwid = _fwid(digests)
    while digests.more():  # of later stages; unused ones are zero
        _fwid(digests)
    flags = body.element(_FLAGS)
    for tag in _AFTER_FLAGS:
        if body.has(tag):
            body.element(tag)
    body.end()
    return Firmware(fwid, b"", _unsafe(flags))


def _fwid(reader: DerReader) -> bytes:
    digest = reader.inside(der.SEQUENCE)
    algorithm, value = digest.oid(), digest.element(der.OCTET_STRING)
    digest.end()
    if algorithm != _SHA384 or len(value) != _FWID_SIZE:
        raise reader.refusal(f"{len(value)} bytes of {algorithm}", f"{_FWID_SIZE} bytes of SHA-384")
    return value


def _unsafe(flags: bytes) -> tuple[str, ...]:
    """A BIT STRING: the number of unused bits, then the flags from the highest bit on."""
    if len(flags) < 2:
        raise EvidenceError.of(Reason.CERTIFICATE_INVALID, f"{_FIELD}.flags", flags, "operational flags")
    return tuple(name for name, bit in _UNSAFE.items() if flags[1] & bit)

"""Any bytes are refused as a manifest or a DICE extension with a typed reason, quickly, or are genuine.

Reports and chains: `test_bad_input.py`.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gpu import NOW, anchors, gpu, manifests
from support.quick import quickly

from toposeal.errors import EvidenceError
from toposeal.evidence.gpu_firmware import FIRMWARE_EXTENSIONS, read_firmware
from toposeal.evidence.rim import parse_rim
from toposeal.evidence.strict_xml import canonical, parse_xml
from toposeal.limits import MAX_RIM_SIZE
from toposeal.verification.gpu_rim import authenticate_rim
from toposeal_lab.simgpu.pki import firmware

MANY = settings(max_examples=max(500, settings.default.max_examples if settings.default else 0))
LIMIT_SECONDS, LIMIT_BYTES = 0.05, 10 << 20
RIM = manifests()[0]


def accepted(parse: Callable[[], object]) -> bool:
    """Whether `parse` accepts. Anything but a typed refusal escapes, and so does a slow one."""

    def work() -> bool:
        try:
            parse()
        except EvidenceError as refused:
            assert refused.mismatches
            return False
        return True

    return quickly(work, LIMIT_SECONDS)


def believed(data: bytes) -> bool:
    return accepted(lambda: authenticate_rim(parse_rim(data), anchors(), NOW))


def test_the_unchanged_manifest_is_the_positive_control() -> None:
    assert believed(RIM)


@given(st.integers(0, len(RIM) - 1), st.integers(0, 7))
@MANY
def test_E13_no_flipped_bit_of_a_manifest_is_believed(offset: int, bit: int) -> None:
    assert not believed(RIM[:offset] + bytes([RIM[offset] ^ 1 << bit]) + RIM[offset + 1 :])


@given(st.integers(0, len(RIM)), st.integers(0, len(RIM)), st.binary(max_size=60))
def test_E14_no_cut_or_spliced_manifest_is_believed(start: int, end: int, middle: bytes) -> None:
    spliced = RIM[:start] + middle + RIM[end:]
    if believed(spliced):  # white space around the document says nothing
        assert canonical(parse_xml(spliced)) == canonical(parse_xml(RIM))
    assert believed(spliced) or spliced != RIM


@given(st.binary(max_size=400) | st.text("<>/=\"' &!?[]-abx:ns0\n", max_size=400).map(str.encode))
@MANY
def test_E14_what_is_accepted_as_xml_is_written_back_to_the_same(data: bytes) -> None:
    try:
        root = parse_xml(data)
    except EvidenceError:
        return
    written = canonical(root)
    assert canonical(parse_xml(written)) == written


@pytest.mark.parametrize(
    "data",
    [
        b"<a" + b" " * (MAX_RIM_SIZE - 10),
        b"<a" + b' b="1"' * 10_000,
        b"<a" + b"".join(b' b%d="1"' % n for n in range(128)) + b" " * 60_000,
        b"<a>" + b"<b/>" * 1_020 + b"c" * 50_000,
        b"<a " + b"\n" * 60_000 + b"=",
        b'<a b="' + b"c" * 60_000,
        b"<a>" + b"<b>" * 20_000,
        b"<a>" * 16 + b"c" * 60_000,
        b"<" * MAX_RIM_SIZE,
        b"<a>" + b"<b/>" * 5_000 + b"</a>",
        b"<!DOCTYPE a [" + b'<!ENTITY e "ee">' * 3_000 + b"]><a>&e;</a>",
        b'<a xmlns:p="u" ' + b" ".join(b'p:a%d="1"' % n for n in range(127)) + b"/>",
        b"<a>" + (b"<b " + b" ".join(b'a%d="1"' % n for n in range(120)) + b"/>") * 60,
    ],
)
def test_E14_hostile_xml_takes_little_time_and_memory(data: bytes) -> None:
    assert not accepted(lambda: parse_rim(data))
    tracemalloc.start()
    with pytest.raises(EvidenceError):
        parse_rim(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < LIMIT_BYTES


@given(st.sampled_from(["GH100", "GB100"]), st.integers(0, 400), st.integers(0, 7), st.binary(max_size=200))
@MANY
def test_E14_a_changed_dice_extension_is_refused_or_another(
    model: str, offset: int, bit: int, other: bytes
) -> None:
    oid, value = firmware(gpu(model).key, gpu(model).shape)
    place = offset % len(value)
    changed = value[:place] + bytes([value[place] ^ 1 << bit]) + value[place + 1 :]
    for extension in FIRMWARE_EXTENSIONS:
        for data in (changed, other, value[:place]):
            accepted(lambda e=extension, d=data: read_firmware(e, d))  # type: ignore[misc]
    assert accepted(lambda: read_firmware(oid.dotted_string, value))

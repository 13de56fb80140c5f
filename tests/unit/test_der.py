"""DER has one spelling for everything, and what is asked for is what is read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.x509 import Name, NameAttribute, ObjectIdentifier

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence import der
from toposeal.evidence.der import DerReader


def reader(text: str) -> DerReader:
    return DerReader(bytes.fromhex(text), "field", Reason.CERTIFICATE_INVALID)


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(EvidenceError) as caught:
        call()
    assert caught.value.reason is Reason.CERTIFICATE_INVALID
    return str(caught.value)


def test_elements_follow_each_other_to_the_end() -> None:
    outer = reader("3006 020105 0401aa".replace(" ", ""))
    inner = outer.inside(der.SEQUENCE)
    assert inner.has(der.INTEGER)
    assert inner.integer() == 5
    assert inner.more()
    assert inner.element(der.OCTET_STRING) == b"\xaa"
    assert not inner.more()
    assert not inner.has(der.INTEGER)
    inner.end()
    outer.end()


def test_the_whole_element_is_given_as_it_stands() -> None:
    outer = reader("020105020106")
    assert outer.whole(der.INTEGER) == b"\x02\x01\x05"
    assert outer.tagged(der.OCTET_STRING, der.INTEGER) == (der.INTEGER, b"\x06")


def test_another_tag_is_refused() -> None:
    assert "tag 0x02" in refused(lambda: reader("020105").element(der.OCTET_STRING))


def test_what_follows_is_refused() -> None:
    assert "1 bytes more" in refused(reader("00").end)


@pytest.mark.parametrize(
    "text",
    [
        *("", "04", "0402aa", "0481", "048201", "0480aa0000", "04810100", "0484000000", "04ff"),
        *("04817f" + "00" * 127, "048200ff", "04820080" + "00" * 128, "048401000000", "0483010000"),
    ],
)
def test_E14_lengths_have_one_spelling_and_stay_inside(text: str) -> None:
    refused(lambda: reader(text).element(der.OCTET_STRING))


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65_535, 65_536])
def test_every_length_can_be_read(size: int) -> None:
    content = b"x" * size
    count = (size.bit_length() + 7) // 8
    length = bytes([size]) if size < 128 else bytes([0x80 | count]) + size.to_bytes(count, "big")
    assert DerReader(b"\x04" + length + content, "f", Reason.MALFORMED).element(der.OCTET_STRING) == content


@pytest.mark.parametrize(
    ("text", "value"), [("020100", 0), ("02017f", 127), ("02020080", 128), ("0202ff00", None)]
)
def test_integers_are_whole_numbers(text: str, value: int | None) -> None:
    if value is None:
        refused(reader(text).integer)
    else:
        assert reader(text).integer() == value


@pytest.mark.parametrize("text", ["0200", "020180", "02020001", "0203000080"])
def test_integers_have_one_spelling(text: str) -> None:
    refused(reader(text).integer)


def test_integers_have_at_most_20_bytes() -> None:
    assert reader("0215" + "00" + "ff" * 20).integer() == (1 << 160) - 1
    assert "a number of 22 bytes" in refused(reader("0216" + "01" * 22).integer)


def test_true_has_one_spelling() -> None:
    reader("0101ff").true()
    for text in ("010100", "010101", "0100", "0102ffff"):
        refused(reader(text).true)


def test_bit_strings_have_whole_bytes() -> None:
    assert reader("030300aabb").bits() == b"\xaa\xbb"
    for text in ("0300", "030101", "030207ff"):
        refused(reader(text).bits)


@pytest.mark.parametrize(
    "name", ["1.3.6.1.4.1.3704.1.3.1", "2.5.4.3", "0.9.2342", "2.999.3", "1.2.840.113741"]
)
def test_object_identifiers_are_those_of_the_library(name: str) -> None:
    written = Name([NameAttribute(ObjectIdentifier(name), "xx")]).public_bytes()
    names = DerReader(written, "f", Reason.MALFORMED).inside(der.SEQUENCE)
    assert names.inside(der.SET).inside(der.SEQUENCE).oid() == name


@pytest.mark.parametrize("text", ["0600", "060180", "060155" + "", "06028001", "0603550480", "0604558004ff"])
def test_object_identifiers_have_one_spelling(text: str) -> None:
    if text == "060155":
        assert reader(text).oid() == "2.5"
    else:
        refused(reader(text).oid)


def test_an_object_identifier_above_32_bytes_is_refused() -> None:
    longest = "0620" + "01" * 32
    assert reader(longest).oid() == "0." + ".".join("1" * 32)
    refused(reader("0621" + "01" * 33).oid)

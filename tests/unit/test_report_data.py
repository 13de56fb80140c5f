"""What evidence must say, and whose words stand there instead."""

from __future__ import annotations

import hashlib

import pytest
from support.tdx import refusal

from toposeal.errors import EvidenceError, Reason
from toposeal.verification.report_data import expect_report_data, is_padded_hash

OURS = hashlib.sha512(b"a binding").digest()
RUNTIME = hashlib.sha256(b'{"keys":[{"kid":"HCLAkPub"}]}').digest()


def test_all_64_bytes_are_compared() -> None:
    expect_report_data(OURS, OURS, "quote.report_data")
    for index in range(64):
        other = OURS[:index] + bytes([OURS[index] ^ 1]) + OURS[index + 1 :]
        assert refusal(expect_report_data, other, OURS, "x") is Reason.REPORT_DATA


@pytest.mark.parametrize("found", [b"", OURS[:63], OURS + b"\0", bytes(64)])
def test_E4_what_is_empty_short_or_long_is_never_equal(found: bytes) -> None:
    assert refusal(expect_report_data, found, OURS, "x") is Reason.REPORT_DATA


def test_a_guest_under_a_paravisor_is_refused_by_name() -> None:
    """Azure: SHA-256 of the runtime data, then zeros, instead of what we asked for."""
    with pytest.raises(EvidenceError) as refused:
        expect_report_data(RUNTIME + bytes(32), OURS, "report.report_data")
    assert refused.value.reason is Reason.PARAVISOR
    assert refused.value.mismatches[0].field == "report.report_data"
    assert "virtual TPM" in str(refused.value)


def test_only_a_value_before_zeros_is_a_padded_hash() -> None:
    assert is_padded_hash(bytes(31) + b"\1" + bytes(32))
    assert not is_padded_hash(bytes(64))
    assert not is_padded_hash(RUNTIME + bytes(31) + b"\1")


def test_a_padded_hash_that_was_asked_for_is_what_was_asked_for() -> None:
    expect_report_data(RUNTIME + bytes(32), RUNTIME + bytes(32), "x")

"""Sizes and ranges of single message fields."""

from __future__ import annotations

import pytest

from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal.errors import Reason, RemoteProtocolError
from toposeal.limits import MAX_EPOCH, MAX_GPUS, MAX_QUOTE_SIZE
from toposeal.membership.fields import (
    digest_field,
    epoch_field,
    evidence_field,
    gpus_field,
    nonce_field,
)


@pytest.mark.parametrize("size", [0, 1, 47, 49, 96])
def test_a_digest_has_48_bytes_and_no_other_number(size: int) -> None:
    assert digest_field(bytes(48), "x") == bytes(48)
    with pytest.raises(RemoteProtocolError) as refused:
        digest_field(bytes(size), "message.field")
    assert refused.value.reason is Reason.MALFORMED
    assert refused.value.mismatches[0].field == "message.field"


@pytest.mark.parametrize("nonce", [b"", bytes([1]) * 31, bytes([1]) * 33, bytes(32)])
def test_K7_a_nonce_has_32_bytes_that_are_not_all_zero(nonce: bytes) -> None:
    assert nonce_field(bytes(31) + b"\x01", "x") == bytes(31) + b"\x01"
    with pytest.raises(RemoteProtocolError) as refused:
        nonce_field(nonce, "x")
    assert refused.value.reason is Reason.MALFORMED


@pytest.mark.parametrize("value", [-1, 0, MAX_EPOCH + 1, (1 << 64) - 1])
def test_T6_numbers_are_between_1_and_2_to_the_53(value: int) -> None:
    assert [epoch_field(n, "x") for n in (1, MAX_EPOCH)] == [1, MAX_EPOCH]
    with pytest.raises(RemoteProtocolError) as refused:
        epoch_field(value, "x")
    assert refused.value.reason is Reason.MALFORMED


def test_evidence_above_the_kernels_limit_is_refused_before_anybody_keeps_it() -> None:
    largest = wire_evidence.Evidence(quote=bytes(MAX_QUOTE_SIZE))
    assert evidence_field(largest, "x") is largest
    with pytest.raises(RemoteProtocolError) as refused:
        evidence_field(wire_evidence.Evidence(quote=bytes(MAX_QUOTE_SIZE + 1)), "commit.evidence")
    assert refused.value.reason is Reason.TOO_LARGE
    assert refused.value.mismatches[0].field == "commit.evidence.quote"


def test_E14_more_gpus_than_a_pod_can_have_are_the_peers_fault() -> None:
    evidence = wire_evidence.Evidence(gpus=[wire_evidence.GpuEvidence()] * (MAX_GPUS + 1))
    with pytest.raises(RemoteProtocolError) as refused:
        gpus_field(evidence, "introduction.join")
    assert refused.value.reason is Reason.TOO_LARGE
    assert refused.value.mismatches[0].field == "introduction.join.gpus"

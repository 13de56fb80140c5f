"""Auxiliary evidence: the digest that a manifest carries, and the bounds of what is kept."""

from __future__ import annotations

import hashlib

import pytest

from toposeal._wire import evidence_pb2 as wire
from toposeal.encoding import lp
from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.auxiliary import aux_digest, gpu_messages, read_gpus
from toposeal.evidence.binding import ZERO_DIGEST, gpu_binding, gpu_nonce, join_binding
from toposeal.evidence.gpu_certs import GpuEvidence
from toposeal.limits import MAX_GPU_CHAIN_SIZE, MAX_GPU_REPORT_SIZE, MAX_GPUS

ONE, TWO = GpuEvidence(b"report", b"chain"), GpuEvidence(b"other", b"chain")


def test_no_device_is_the_zero_digest() -> None:
    assert aux_digest(()) == ZERO_DIGEST


def test_the_digest_is_over_every_part_in_order_with_its_length() -> None:
    parts = b"".join(map(lp, (b"report", b"chain", b"other", b"chain")))
    assert aux_digest((ONE, TWO)) == hashlib.sha384(b"toposeal/v1/aux" + parts).digest()
    assert aux_digest((TWO, ONE)) != aux_digest((ONE, TWO))
    assert aux_digest((GpuEvidence(b"reportc", b"hain"),)) != aux_digest((ONE,))


def test_what_travels_is_read_back() -> None:
    assert read_gpus(gpu_messages((ONE, TWO)), "gpus") == (ONE, TWO)


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([wire.GpuEvidence()] * (MAX_GPUS + 1), "gpus"),
        ([wire.GpuEvidence(report=bytes(MAX_GPU_REPORT_SIZE + 1))], "gpus.report"),
        ([wire.GpuEvidence(chain=bytes(MAX_GPU_CHAIN_SIZE + 1))], "gpus.chain"),
    ],
)
def test_E14_more_than_a_pod_can_have_is_refused(messages: list[wire.GpuEvidence], field: str) -> None:
    with pytest.raises(EvidenceError) as refused:
        read_gpus(messages, field.partition(".")[0])
    assert (refused.value.reason, refused.value.mismatches[0].field) == (Reason.TOO_LARGE, field)


def test_E3_a_gpus_nonce_is_made_of_the_identity_and_of_no_other_purpose() -> None:
    parts = (bytes([1]) * 48, "web", bytes([2]) * 48, bytes([3]) * 48)
    binding = gpu_binding(*parts)
    assert gpu_nonce(binding) == binding.report_data()[:32]
    assert gpu_nonce(binding) != join_binding(*parts).report_data()[:32]
    with pytest.raises(ValueError, match="GPUBIND"):
        gpu_nonce(join_binding(*parts))

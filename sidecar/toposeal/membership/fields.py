"""Checks of single message fields. No IO."""

from __future__ import annotations

from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal.errors import EvidenceError, Reason, RemoteProtocolError
from toposeal.evidence.auxiliary import read_gpus
from toposeal.evidence.gpu_certs import GpuEvidence
from toposeal.limits import (
    DIGEST_SIZE,
    MAX_AMD_CERTIFICATE_SIZE,
    MAX_EPOCH,
    MAX_QUOTE_SIZE,
    NONCE_SIZE,
)


def digest_field(value: bytes, field: str) -> bytes:
    """Exactly 48 bytes, or RemoteProtocolError naming `field`."""
    return sized_field(value, DIGEST_SIZE, field)


def nonce_field(value: bytes, field: str) -> bytes:
    """Exactly 32 bytes that are not all zero (a zero nonce is an RNG that failed, K7)."""
    if not any(sized_field(value, NONCE_SIZE, field)):
        raise RemoteProtocolError.of(Reason.MALFORMED, field, "zero", "random bytes")
    return value


def epoch_field(value: int, field: str) -> int:
    """1 to 2^53 - 1."""
    if not 1 <= value <= MAX_EPOCH:
        raise RemoteProtocolError.of(Reason.MALFORMED, field, value, f"1 to {MAX_EPOCH}")
    return value


def evidence_field(value: wire_evidence.Evidence, field: str) -> wire_evidence.Evidence:
    """Parts within their limits, so that nobody keeps or appraises larger ones."""
    limits = (
        ("quote", MAX_QUOTE_SIZE),
        ("endorsement", MAX_AMD_CERTIFICATE_SIZE),
        ("endorsement_ca", MAX_AMD_CERTIFICATE_SIZE),
    )
    for name, limit in limits:
        size = len(getattr(value, name))
        if size > limit:
            raise RemoteProtocolError.of(
                Reason.TOO_LARGE, f"{field}.{name}", f"{size} bytes", f"at most {limit}"
            )
    return value


def gpus_field(value: wire_evidence.Evidence, field: str) -> tuple[GpuEvidence, ...]:
    """The auxiliary evidence that came with JOIN, bounded and not yet appraised."""
    try:
        return read_gpus(value.gpus, f"{field}.gpus")
    except EvidenceError as error:
        raise RemoteProtocolError(*error.mismatches) from error


def sized_field(value: bytes, size: int, field: str) -> bytes:
    """Exactly `size` bytes, or RemoteProtocolError naming `field`."""
    if len(value) != size:
        raise RemoteProtocolError.of(Reason.MALFORMED, field, f"{len(value)} bytes", f"{size} bytes")
    return value

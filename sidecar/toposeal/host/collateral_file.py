"""Reads the caller's own collateral and endorsements: a bundle, or dcap-qvl's objects alone."""

from __future__ import annotations

from toposeal.errors import EvidenceError, Reason, UsageError
from toposeal.evidence.bundle import Bundle, parse_bundle
from toposeal.host.files import read_once
from toposeal.limits import MAX_BUNDLE_SIZE


def read_bundle(path: str) -> Bundle:
    """The parts, checked for form alone: signatures and dates are judged with evidence. Raises UsageError."""
    try:
        return parse_bundle(read_once(path, MAX_BUNDLE_SIZE))
    except EvidenceError as error:  # the caller's file, so the caller's fault
        raise UsageError(*error.mismatches) from error


def read_collateral(path: str) -> tuple[bytes, ...]:
    """The TDX entries of a bundle as JSON. Raises UsageError."""
    return read_bundle(path).tdx


def expect_content(name: str, part: bytes | None) -> bytes | None:
    """`part` as it is, unless it is empty: that is neither a part nor none, and what else is at hand must not
    take its place unsaid. Raises UsageError naming `name`."""
    if part == b"":
        raise UsageError.of(Reason.USAGE, name, "no bytes", "certificates, or a revocation list")
    return part

"""The PCK chain of a quote: which machine Intel certified, and by which certificates. No IO, no trust.

Profile: Intel SGX PCK Certificate and CRL Profile Specification, section 1.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence import dcap
from toposeal.evidence.certificates import Certificate, parse_chain

_FIELD = "quote.pck_chain"
_REMEMBERED = 64  # machines: every quote of one carries the same chain


@dataclass(frozen=True)
class PckChain:
    """Leaf, its CA and the root, as the quote carries them, with the platform's identity."""

    leaf: Certificate
    platform_ca: Certificate
    root: Certificate
    ppid: bytes  # 16
    fmspc: bytes  # 6
    pce_id: bytes  # 2

    @cached_property
    def windows(self) -> tuple[tuple[str, int, int], ...]:
        """Field, first and last second of each of the three."""
        chain = (self.leaf, self.platform_ca, self.root)
        return tuple((_FIELD, each.not_before, each.not_after) for each in chain)

    @cached_property
    def valid_until(self) -> int:
        """Unix seconds: the earliest end of validity of the three."""
        return min(self.leaf.not_after, self.platform_ca.not_after, self.root.not_after)


@lru_cache(_REMEMBERED)
def parse_pck_chain(pem: bytes) -> PckChain:
    """Parse exactly leaf, platform CA and root, or remember it. Raises EvidenceError(QUOTE_FORMAT)."""
    leaf, platform_ca, root = parse_chain(pem, 3, _FIELD, Reason.QUOTE_FORMAT)
    ppid, fmspc, pce_id = dcap.pck_identity(leaf.pem)
    for name, value, size in (("ppid", ppid, 16), ("fmspc", fmspc, 6), ("pceid", pce_id, 2)):
        if len(value) != size:
            raise EvidenceError.of(Reason.QUOTE_FORMAT, f"{_FIELD}.{name}", value, f"{size} bytes")
    return PckChain(leaf, platform_ca, root, ppid, fmspc, pce_id)

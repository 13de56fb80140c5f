"""Which of several revocation lists of AMD's counts for one CA: a choice, and no trust in it. No IO."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.amd_x509 import AmdCertificate, AmdCrl, parse_amd_certificate, parse_amd_crl

_REMEMBERED = 8  # roots and sets of lists: three of one set, and the same after a renewal


def list_for(lists: Sequence[bytes], ca: AmdCertificate, root: AmdCertificate) -> bytes | None:
    """The DER of the newest by number, not by date, of those that name `ca` if any does; of those in the name
    of `root`, that is: one of another product, or of nobody we know, says nothing here.

    An ARK signs two lists, the ASK's and the ASVK's, which nothing inside tells apart: the newer one of the
    other must not hide a revocation. `lists` are the verifier's own choice; a stranger's have passed
    `verification.stapled` before. Raises EvidenceError: COLLATERAL_INVALID for what is no list, TOO_LARGE,
    COLLATERAL_SIGNER for one in the name of `root` that it did not sign, which might be the one that revokes.
    """
    signed = _signed(tuple(lists), root.der)
    naming = [(der, crl) for der, crl in signed if crl.lists(ca)]
    newest = max(naming or signed, key=lambda each: each[1].number, default=None)
    return None if newest is None else newest[0]


@lru_cache(_REMEMBERED)
def _signed(lists: tuple[bytes, ...], root: bytes) -> tuple[tuple[bytes, AmdCrl], ...]:
    """Those of `lists` in the name of `root`, or remember them. Whoever judges by a list verifies it anew."""
    issuer = parse_amd_certificate(root, "anchor")
    parsed = ((der, parse_amd_crl(der)) for der in lists)
    named = tuple((der, crl) for der, crl in parsed if crl.issuer == issuer.subject)
    if not all(crl.issued_by(issuer) for _, crl in named):
        expected = f"one of {issuer.common_name} that holds"
        raise EvidenceError.of(Reason.COLLATERAL_SIGNER, "crl.signature", "another", expected)
    return named

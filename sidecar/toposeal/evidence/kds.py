"""AMD's Key Distribution Service: which path names which certificate, chain or revocation list. No IO.

Paths: AMD 57230 (VCEK certificate and KDS interface specification), chapters on VCEK and VLEK. A VLEK
itself is given to providers alone, who log in; its chain and its list are public.
"""

from __future__ import annotations

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_tcb import Product, SnpTcb

_LEVELS = {"bl": "blSPL", "tee": "teeSPL", "snp": "snpSPL", "ucode": "ucodeSPL", "fmc": "fmcSPL"}


def vcek_path(product: Product, chip_id: bytes, tcb: SnpTcb) -> str:
    """Where the VCEK of one chip for one TCB version is. `chip_id` is 64 bytes, Turin's with 56 zeros.

    Raises EvidenceError(CHIP_ID) for a chip that is masked, or that has more bytes than its product.
    """
    size = product.hwid_size
    if not any(chip_id) or any(chip_id[size:]):
        expected = f"{size} bytes, not all zero"
        raise EvidenceError.of(Reason.CHIP_ID, "report.chip_id", chip_id, expected)
    levels = "&".join(f"{_LEVELS[name]}={level:02}" for name, level in tcb.components().items())
    return f"/vcek/v1/{product}/{chip_id[:size].hex()}?{levels}"


def chain_path(product: Product, kind: KeyKind) -> str:
    """ASK or ASVK, then ARK, in PEM."""
    return f"/{kind.lower()}/v1/{product}/cert_chain"


def list_path(product: Product, kind: KeyKind) -> str:
    """The revocation list that the CA certificate of `kind` names, in DER."""
    return f"/{kind.lower()}/v1/{product}/crl"

"""TDX collateral: a dcap-qvl QuoteCollateralV3 in JSON, parsed strictly into one frozen value. No IO.

Shapes: Intel PCS API version 4 (TCB info version 3, TD QE identity version 2). Nothing here is
believed before `verification.tdx_authentic` has checked signer, signatures and freshness.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any

from cryptography import x509

from toposeal.errors import EvidenceError, Reason, ToposealError
from toposeal.evidence.certificates import Certificate, parse_chain
from toposeal.evidence.strict_json import parse_object
from toposeal.limits import MAX_COLLATERAL_ENTRIES, MAX_COLLATERAL_SIZE
from toposeal.x509_errors import X509_ERRORS

_MEMBERS = frozenset(
    {
        "pck_crl_issuer_chain",
        "root_ca_crl",
        "pck_crl",
        "tcb_info_issuer_chain",
        "tcb_info",
        "tcb_info_signature",
        "qe_identity_issuer_chain",
        "qe_identity",
        "qe_identity_signature",
    }
)
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


@dataclass(frozen=True)
class SignedDocument:
    """TCB info or QE identity: the exact text that is signed, and what the checks read in it."""

    text: str
    signature: bytes  # 64, r | s, big-endian
    chain: tuple[Certificate, ...]  # signer, root
    direct: bool  # that root issued that signer: subject, key and signature
    evaluation: int  # tcbEvaluationDataNumber
    issued: int  # Unix seconds
    next_update: int  # Unix seconds


@dataclass(frozen=True)
class Crl:
    """One revocation list; `next_update` in Unix seconds."""

    x509: x509.CertificateRevocationList
    der: bytes
    next_update: int


@dataclass(frozen=True)
class Collateral:
    """All that is needed to judge the quotes of one platform family."""

    fmspc: bytes  # 6
    pce_id: bytes  # 2
    tcb_info: SignedDocument
    qe_identity: SignedDocument
    qe_mrsigner: bytes  # 32
    pck_crl_chain: tuple[Certificate, ...]  # platform CA, root
    pck_crl_direct: bool  # that root issued that CA: subject, key and signature
    pck_crl: Crl
    root_ca_crl: Crl

    @cached_property
    def windows(self) -> tuple[tuple[str, int, int], ...]:
        """Field, first and last second of every part that has to be in force.

        A list's thisUpdate is left alone on purpose: a younger list than our clock says nothing worse than
        an older one would, and evaluation numbers order the rest.
        """
        return tuple(self._windows())

    def _windows(self) -> Iterator[tuple[str, int, int]]:
        for name, document in (("tcb_info", self.tcb_info), ("qe_identity", self.qe_identity)):
            yield f"collateral.{name}", document.issued, document.next_update
            for each in document.chain:
                yield f"collateral.{name}_issuer_chain", each.not_before, each.not_after
        for name, crl in (("pck_crl", self.pck_crl), ("root_ca_crl", self.root_ca_crl)):
            yield f"collateral.{name}", 0, crl.next_update - 1
        for each in self.pck_crl_chain:
            yield "collateral.pck_crl_issuer_chain", each.not_before, each.not_after

    @cached_property
    def valid_until(self) -> int:
        """Unix seconds: the earliest end of validity of any part."""
        chains = self.tcb_info.chain + self.qe_identity.chain + self.pck_crl_chain
        updates = (self.tcb_info, self.qe_identity, self.pck_crl, self.root_ca_crl)
        return min(*(each.next_update for each in updates), *(each.not_after for each in chains))


@lru_cache(MAX_COLLATERAL_ENTRIES)
def parse_collateral(data: bytes) -> Collateral:
    """Parse one JSON object of exactly the nine members of QuoteCollateralV3.

    `pck_certificate_chain`, which newer writers may add, is refused: the PCK chain is the quote's.
    The value follows from the bytes alone, so the last few are remembered.
    Raises EvidenceError(COLLATERAL_INVALID), or TOO_LARGE above 256 KiB.
    """
    if len(data) > MAX_COLLATERAL_SIZE:
        raise EvidenceError.of(
            Reason.TOO_LARGE, "collateral", f"{len(data)} bytes", f"at most {MAX_COLLATERAL_SIZE}"
        )
    parts = _strings(data)
    tcb = parse_object(parts["tcb_info"], "collateral.tcb_info")
    _expect_kind(tcb, "TDX", 3, "collateral.tcb_info")
    qe = parse_object(parts["qe_identity"], "collateral.qe_identity")
    _expect_kind(qe, "TD_QE", 2, "collateral.qe_identity")
    document = _document(parts, tcb, "tcb_info", None)
    platform_ca, root = _chain(parts, "pck_crl_issuer_chain")
    return Collateral(
        fmspc=_hex(tcb.get("fmspc"), "collateral.tcb_info.fmspc", 6),
        pce_id=_hex(tcb.get("pceId"), "collateral.tcb_info.pceId", 2),
        tcb_info=document,
        qe_identity=_document(parts, qe, "qe_identity", document),
        qe_mrsigner=_hex(qe.get("mrsigner"), "collateral.qe_identity.mrsigner", 32),
        pck_crl_chain=(platform_ca, root),
        pck_crl_direct=platform_ca.issued_by(root),
        pck_crl=_crl(parts, "pck_crl"),
        root_ca_crl=_crl(parts, "root_ca_crl"),
    )


def _strings(data: bytes) -> dict[str, str]:
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise _invalid("", error, "ASCII") from error
    parts = parse_object(text, "collateral")
    if parts.keys() != _MEMBERS:
        raise _invalid("", sorted(parts.keys() ^ _MEMBERS), "exactly the nine members, no other difference")
    for name, value in parts.items():
        if not isinstance(value, str) or not value.isascii():
            raise _invalid(f".{name}", type(value).__name__, "an ASCII string")
    return parts


def _expect_kind(document: dict[str, Any], kind: str, version: int, field: str) -> None:
    found = (document.get("id"), document.get("version"))
    if found != (kind, version):
        raise EvidenceError.of(Reason.COLLATERAL_INVALID, f"{field}.id", found, (kind, version))


def _document(
    parts: dict[str, str], document: dict[str, Any], name: str, other: SignedDocument | None
) -> SignedDocument:
    """One of the two; `other`, if it has the same chain, already knows who issued its signer."""
    evaluation = document.get("tcbEvaluationDataNumber")
    if type(evaluation) is not int or evaluation < 0:
        raise _invalid(f".{name}.tcbEvaluationDataNumber", evaluation, "a whole number")
    chain = _chain(parts, f"{name}_issuer_chain")
    return SignedDocument(
        text=parts[name],
        signature=_hex(parts[f"{name}_signature"], f"collateral.{name}_signature", 64),
        chain=chain,
        direct=other.direct if other and other.chain == chain else chain[0].issued_by(chain[1]),
        evaluation=evaluation,
        issued=_date(document.get("issueDate"), f".{name}.issueDate"),
        next_update=_date(document.get("nextUpdate"), f".{name}.nextUpdate"),
    )


def _chain(parts: dict[str, str], name: str) -> tuple[Certificate, ...]:
    """Issuer and root. A longer chain is how a key of another role would sign collateral."""
    return parse_chain(parts[name].encode("ascii"), 2, f"collateral.{name}", Reason.COLLATERAL_SIGNER)


def _crl(parts: dict[str, str], name: str) -> Crl:
    der = _hex(parts[name], f"collateral.{name}")
    try:
        crl = x509.load_der_x509_crl(der)
        next_update = crl.next_update_utc
    except X509_ERRORS as error:
        raise _invalid(f".{name}", error, "a DER revocation list") from error
    if next_update is None:
        raise _invalid(f".{name}.nextUpdate", "nothing", "a date: a list without one never expires")
    return Crl(crl, der, int(next_update.timestamp()))


def _hex(text: object, field: str, size: int | None = None) -> bytes:
    """Hexadecimal of exactly `size` bytes, of any size without one; either case, nothing between."""
    value = None
    if isinstance(text, str) and (size is None or len(text) == 2 * size):
        with suppress(ValueError):
            value = bytes.fromhex(text)
    # fromhex skips blanks; the length does not.
    if value is None or 2 * len(value) != len(str(text)):
        wanted = "hexadecimal" if size is None else f"{size} bytes in hexadecimal"
        raise EvidenceError.of(Reason.COLLATERAL_INVALID, field, text, wanted)
    return value


def _date(text: object, field: str) -> int:
    if not isinstance(text, str) or _DATE.fullmatch(text) is None:
        raise _invalid(field, text, "a date like 2026-01-31T00:00:00Z")
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError as error:
        raise _invalid(field, text, "a date of the calendar") from error


def _invalid(member: str, found: object, expected: object) -> ToposealError:
    return EvidenceError.of(Reason.COLLATERAL_INVALID, f"collateral{member}", found, expected)

"""The one place that calls dcap-qvl: bytes in, plain values out, its failures as typed refusals. No IO.

dcap-qvl (Phala, Rust) checks certificate chains, revocation lists, signatures and TCB levels. It says
why it refuses in English alone: the text is passed on for people and never decided upon.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dcap_qvl  # type: ignore[import-untyped]

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.certificates import Certificate
from toposeal.evidence.collateral import Collateral


@dataclass(frozen=True)
class DcapVerdict:
    """What dcap-qvl says of a quote that it did not refuse, in Intel's words."""

    status: str  # platform and quoting enclave together
    platform_status: str
    qe_status: str
    advisories: tuple[str, ...]


def pck_identity(leaf_pem: bytes) -> tuple[bytes, bytes, bytes]:
    """PPID, FMSPC and PCEID of a PCK certificate. Raises EvidenceError(QUOTE_FORMAT)."""
    with _refusals(Reason.QUOTE_FORMAT, "quote.pck_chain"):
        extension = dcap_qvl.parse_pck_extension_from_pem(leaf_pem)
        return bytes(extension.ppid), bytes(extension.fmspc), bytes(extension.pce_id)


def pck_firmware(leaf_pem: bytes) -> tuple[bytes, int, int]:
    """CPUSVN (16 bytes), PCESVN and SGX type of a PCK certificate. Raises EvidenceError(QUOTE_FORMAT)."""
    with _refusals(Reason.QUOTE_FORMAT, "quote.pck_chain"):
        extension = dcap_qvl.parse_pck_extension_from_pem(leaf_pem)
        return bytes(extension.cpu_svn), int(extension.pce_svn), int(extension.sgx_type)


def verify(quote: bytes, collateral: Collateral, root_ca: bytes, now: int) -> DcapVerdict:
    """Verify `quote` against `root_ca` (DER) at `now` (Unix seconds).

    Raises EvidenceError(QUOTE_SIGNATURE) whatever the cause.
    """
    with _refusals(Reason.QUOTE_SIGNATURE, "quote"):
        report = dcap_qvl.verify_with_root_ca(quote, _for_dcap(collateral), root_ca, now)
        verdict = json.loads(report.to_json())
    return DcapVerdict(
        status=verdict["status"],
        platform_status=verdict["platform_status"]["status"],
        qe_status=verdict["qe_status"]["status"],
        advisories=tuple(sorted(_advisories(verdict))),
    )


def _advisories(verdict: dict[str, dict[str, list[str]]]) -> set[str]:
    """All of them, whichever part they are attached to."""
    parts = (verdict["platform_status"], verdict["qe_status"])
    return {each for part in parts for each in part["advisory_ids"]}.union(verdict["advisory_ids"])


def _for_dcap(collateral: Collateral) -> object:
    """Handed over part by part as we parsed it, so that no second JSON reader sees the whole."""
    return dcap_qvl.QuoteCollateralV3(
        pck_crl_issuer_chain=_pem(collateral.pck_crl_chain),
        root_ca_crl=collateral.root_ca_crl.der,
        pck_crl=collateral.pck_crl.der,
        tcb_info_issuer_chain=_pem(collateral.tcb_info.chain),
        tcb_info=collateral.tcb_info.text,
        tcb_info_signature=collateral.tcb_info.signature,
        qe_identity_issuer_chain=_pem(collateral.qe_identity.chain),
        qe_identity=collateral.qe_identity.text,
        qe_identity_signature=collateral.qe_identity.signature,
    )


def _pem(chain: tuple[Certificate, ...]) -> str:
    return b"".join(certificate.pem for certificate in chain).decode("ascii")


@contextmanager
def _refusals(reason: Reason, field: str) -> Iterator[None]:
    """Turn every way in which the library says no into EvidenceError(`reason`).

    A Rust panic arrives as pyo3_runtime.PanicException, which is a BaseException and cannot be
    imported: a hostile quote that provoked one would otherwise end the daemon.
    """
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise EvidenceError.of(reason, field, error, "acceptance by dcap-qvl") from error
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":
            raise
        raise EvidenceError.of(reason, field, "a panic of dcap-qvl", "a verdict") from error

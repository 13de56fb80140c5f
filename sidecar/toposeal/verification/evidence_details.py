"""The rest of a quote, a report or a certificate table, for people to read and not verified. No IO."""

from __future__ import annotations

from typing import Any

from toposeal.errors import EvidenceError
from toposeal.evidence.amd_x509 import parse_amd_certificate, parse_amd_crl, split_certificates
from toposeal.evidence.ghcb_table import CertificateTable
from toposeal.evidence.gpu_report import parse_gpu_report
from toposeal.evidence.kind import EvidenceKind
from toposeal.evidence.snp_report import SIGNED_SIZE, SnpReport, parse_snp_report
from toposeal.evidence.tdx_quote import TdxQuote, inspect_tdx_quote
from toposeal.verification.evidence_fields import Fields, rfc3339
from toposeal.verification.gpu_check import gpu_details

# Intel TDX module ABI specification, ATTRIBUTES.
_TD_ATTRIBUTES = {
    "debug": 0,
    "hgs_plus_prof": 4,
    "perf_prof": 5,
    "pmt_prof": 6,
    "icssd": 16,
    "servtd_ext": 17,
    "lass": 27,
    "sept_ve_disable": 28,
    "migratable": 29,
    "pks": 30,
    "kl": 31,
    "tpa": 62,
    "perfmon": 63,
}
# SGX REPORT body, which the quoting enclave's is: name, offset, size in bytes.
_QE_REPORT = (
    ("cpusvn", 0, 16),
    ("miscselect", 16, 4),
    ("attributes", 48, 16),
    ("mrenclave", 64, 32),
    ("mrsigner", 128, 32),
    ("isvprodid", 256, 2),
    ("isvsvn", 258, 2),
    ("report_data", 320, 64),
)
_BLOBS = (("ARK", "root"), ("ASK", "ca"), ("VCEK", "vcek"), ("VLEK", "vlek"), ("CRL", "crl"))
_SCALAR_SIZE = 72  # of R and S in an SNP report


def read_details(kind: EvidenceKind, data: bytes) -> Fields:
    """What `read_fields` leaves out of evidence of `kind`. Raises EvidenceError for what cannot be read."""
    if kind is EvidenceKind.TDX:
        return tdx_details(inspect_tdx_quote(data))
    if kind is EvidenceKind.GPU:
        return gpu_details(parse_gpu_report(data))
    return snp_details(parse_snp_report(data))


def tdx_details(quote: TdxQuote) -> Fields:
    """Header, named attributes, and all that vouches for the body. Bytes in lower-case hexadecimal."""
    bits, auth = int.from_bytes(quote.td_attributes, "little"), quote.auth
    return {
        "attestation_key_type": int.from_bytes(quote.raw[2:4], "little"),
        "qe_vendor_id": quote.raw[12:28].hex(),
        "user_data": quote.user_data.hex(),
        "td_attributes_decoded": {name: bits >> bit & 1 for name, bit in _TD_ATTRIBUTES.items()},
        "signature": auth.signature.hex(),
        "attestation_key": auth.attestation_key.hex(),
        **{
            f"qe_report_{name}": auth.qe_report.raw[start : start + size].hex()
            for name, start, size in _QE_REPORT
        },
        "qe_report_signature": auth.qe_report_signature.hex(),
        "qe_auth_data": auth.qe_auth_data.hex(),
    }


def snp_details(report: SnpReport) -> Fields:
    """The signature as the report has it: R and S, little-endian, 72 bytes each."""
    places = {"signature_r": SIGNED_SIZE, "signature_s": SIGNED_SIZE + _SCALAR_SIZE}
    return {name: report.raw[start : start + _SCALAR_SIZE].hex() for name, start in places.items()}


def table_facts(table: CertificateTable) -> Fields:
    """What a host's certificate table holds, under AMD's names for its GUIDs. The host's word alone: what
    cannot be read is said to be so."""
    found: Fields = {}
    for name, member in _BLOBS:
        blob: bytes | None = getattr(table, member)
        if blob is not None:
            found[name] = {"size": len(blob), **_readable(name, blob)}
    return found


def _readable(name: str, blob: bytes) -> dict[str, Any]:
    try:
        if name == "CRL":
            listed = parse_amd_crl(blob)
            return {
                "number": listed.number,
                "revoked": len(listed.serials),
                "next_update": rfc3339(listed.next_update),
            }
        certificate = parse_amd_certificate(split_certificates(blob, name)[0], name)
    except EvidenceError as error:
        return {"unreadable": str(error)}
    return {
        "cn": certificate.common_name,
        "issuer": certificate.issuer_name,
        "serial": certificate.serial,
        "not_before": rfc3339(certificate.not_before),
        "not_after": rfc3339(certificate.not_after),
    }

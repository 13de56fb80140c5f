"""What kind of evidence is this? Told by its first four bytes, so that the right parser judges it. No IO."""

from __future__ import annotations

from enum import StrEnum

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.hcl import refuse_hcl_report

_QUOTE_VERSIONS = (3, 4, 5)
_SPDM_REQUEST = b"\x11\xe0"  # SPDM 1.1 GET_MEASUREMENTS: what an NVIDIA report starts with
_MAX_REPORT_VERSION = 0xFF


class EvidenceKind(StrEnum):
    TDX = "tdx"
    SNP = "snp"
    GPU = "gpu"


def detect_kind(data: bytes) -> EvidenceKind:
    """The kind whose parser gives the most helpful answer. Raises EvidenceError: EVIDENCE_KIND, PARAVISOR.

    An Intel quote starts with u16 version and u16 key type, which is never zero; a report of AMD's with
    u32 version, which is small.
    """
    refuse_hcl_report(data, "evidence")
    version, key_type = int.from_bytes(data[:2], "little"), int.from_bytes(data[2:4], "little")
    if data[:2] == _SPDM_REQUEST:
        return EvidenceKind.GPU
    if version in _QUOTE_VERSIONS and key_type:
        return EvidenceKind.TDX
    if 0 < version <= _MAX_REPORT_VERSION and not key_type and len(data) >= 4:
        return EvidenceKind.SNP
    raise EvidenceError.of(
        Reason.EVIDENCE_KIND, "evidence", data[:4], "a TDX quote, or a report of SNP or a GPU"
    )

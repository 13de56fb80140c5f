"""Reports of Azure's host compatibility layer: recognised by their header so as to be refused by name. No IO.

Header of 32 bytes: "HCLA", then u32 version, report size, request type, status and three reserved ones. An
SNP report or a TDREPORT of the paravisor follows, not of the guest that asked.
"""

from __future__ import annotations

from toposeal.errors import EvidenceError, Reason

HCL_MAGIC = b"HCLA"


def refuse_hcl_report(data: bytes, field: str) -> None:
    """Raises EvidenceError(PARAVISOR) naming `field` if `data` is such a report; looks at 4 bytes."""
    if data[: len(HCL_MAGIC)] == HCL_MAGIC:
        wanted = "evidence of this guest: a paravisor's (Azure) vouches for a virtual TPM"
        raise EvidenceError.of(Reason.PARAVISOR, field, "an HCL report", wanted)

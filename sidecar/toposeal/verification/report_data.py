"""Does evidence say what it should? All 64 bytes are compared, and a paravisor's are told apart. No IO.

Under a paravisor (Azure's confidential VMs) the guest cannot choose REPORT_DATA: VMPL 0, or the TD's first
partition, puts SHA-256 of its own runtime data there, which names the key of a virtual TPM, and 32 zeros.
Such evidence binds that key and never ours. toposeal follows no chain through a virtual TPM.
"""

from __future__ import annotations

import hmac

from toposeal.errors import EvidenceError, Reason

_HASH_SIZE = 32


def expect_report_data(found: bytes, expected: bytes, field: str) -> None:
    """Refuse unless `found` is `expected`, 64 bytes of any content; never skipped, whatever is empty (E4).

    Raises EvidenceError naming `field`: PARAVISOR where a 32-byte hash and zeros stand instead, as a
    paravisor writes them, else REPORT_DATA.
    """
    if hmac.compare_digest(found, expected):
        return
    if is_padded_hash(found):
        wanted = "our binding: REPORT_DATA of a paravisor's guest (Azure) holds a virtual TPM's key"
        raise EvidenceError.of(Reason.PARAVISOR, field, found, wanted)
    raise EvidenceError.of(Reason.REPORT_DATA, field, found, expected)


def is_padded_hash(report_data: bytes) -> bool:
    """A value of 32 bytes that is padded with zeros. A binding of ours is that with probability 2^-256."""
    return any(report_data[:_HASH_SIZE]) and not any(report_data[_HASH_SIZE:])

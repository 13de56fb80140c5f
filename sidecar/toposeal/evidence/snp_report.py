"""SNP attestation reports: 1184 bytes in, one frozen value or a refusal that names the field out. No IO.

Layout: AMD 56860 (SEV Secure Nested Paging Firmware ABI), ATTESTATION_REPORT, versions 2 to 5.
Everything is little-endian. Nothing here is believed before `verification.snp_authentic` has checked
the signature over it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.hcl import refuse_hcl_report
from toposeal.evidence.snp_tcb import Product, product_of_cpu

REPORT_SIZE = 1184
SIGNED_SIZE = 0x2A0
# Firmware 1.55.31 writes 4 (Milan at GCP); AMD describes 2, 3 and 5. Its layout is 3's: what 5 adds is zero.
VERSIONS = (2, 3, 4, 5)
SIGNED_BY_VCEK, SIGNED_BY_VLEK = 0, 1
_ECDSA_P384_SHA384 = 1
_CPUID_SINCE = 3
_MITIGATIONS_SINCE = 5
_MUST_BE_ONE = 1 << 17
_MASK_CHIP_KEY = 1 << 1
_SCALAR_SIZE, _SCALAR_FIELD = 48, 72

_NUMBERS = (
    ("version", 0x000, 4),
    ("guest_svn", 0x004, 4),
    ("policy", 0x008, 8),
    ("vmpl", 0x030, 4),
    ("sig_algo", 0x034, 4),
    ("platform_info", 0x040, 8),
    ("key_info", 0x048, 4),
    ("cpuid_fam", 0x188, 1),
    ("cpuid_mod", 0x189, 1),
    ("cpuid_step", 0x18A, 1),
    ("cur_build", 0x1E8, 1),
    ("cur_minor", 0x1E9, 1),
    ("cur_major", 0x1EA, 1),
    ("com_build", 0x1EC, 1),
    ("com_minor", 0x1ED, 1),
    ("com_major", 0x1EE, 1),
    ("launch_mit_vector", 0x1F8, 8),
    ("current_mit_vector", 0x200, 8),
)
_STRINGS = (
    ("family_id", 0x010, 16),
    ("image_id", 0x020, 16),
    ("current_tcb", 0x038, 8),
    ("report_data", 0x050, 64),
    ("measurement", 0x090, 48),
    ("host_data", 0x0C0, 32),
    ("id_key_digest", 0x0E0, 48),
    ("author_key_digest", 0x110, 48),
    ("report_id", 0x140, 32),
    ("report_id_ma", 0x160, 32),
    ("reported_tcb", 0x180, 8),
    ("chip_id", 0x1A0, 64),
    ("committed_tcb", 0x1E0, 8),
    ("launch_tcb", 0x1F0, 8),
)
_MUST_BE_ZERO = (
    (0x04C, 0x050),
    (0x18B, 0x1A0),
    (0x1EB, 0x1EC),
    (0x1EF, 0x1F0),
    (0x208, 0x2A0),
    (0x2A0 + _SCALAR_SIZE, 0x2A0 + _SCALAR_FIELD),  # a P-384 scalar has 48 of its 72 bytes
    (0x2A0 + _SCALAR_FIELD + _SCALAR_SIZE, REPORT_SIZE),
)


@dataclass(frozen=True)
class SnpReport:
    """A report under AMD's field names. Sizes in bytes where they are; TCB versions are 8, raw."""

    version: int
    guest_svn: int
    policy: int
    family_id: bytes  # 16
    image_id: bytes  # 16
    vmpl: int
    sig_algo: int
    current_tcb: bytes
    platform_info: int
    key_info: int
    report_data: bytes  # 64
    measurement: bytes  # 48
    host_data: bytes  # 32
    id_key_digest: bytes  # 48
    author_key_digest: bytes  # 48
    report_id: bytes  # 32
    report_id_ma: bytes  # 32
    reported_tcb: bytes
    cpuid_fam: int  # zero before version 3, as are the next two
    cpuid_mod: int
    cpuid_step: int
    chip_id: bytes  # 64; Turin uses 8; all zero where the host masks it
    committed_tcb: bytes
    cur_build: int
    cur_minor: int
    cur_major: int
    com_build: int
    com_minor: int
    com_major: int
    launch_tcb: bytes
    launch_mit_vector: int  # zero before version 5, as is the next
    current_mit_vector: int
    signature_r: int
    signature_s: int
    signed: bytes  # 672: what the endorsement key signs
    raw: bytes

    @property
    def signing_key(self) -> int:
        """SIGNING_KEY of key_info: SIGNED_BY_VCEK or SIGNED_BY_VLEK."""
        return self.key_info >> 2 & 7

    @property
    def author_key_en(self) -> bool:
        return bool(self.key_info & 1)

    @property
    def has_cpuid(self) -> bool:
        """Whether the report says what it was made on; version 2 leaves that to the certificate."""
        return self.version >= _CPUID_SINCE

    @property
    def product(self) -> Product | None:
        """The product line by CPUID; None where the report does not say, or says an unknown one."""
        return product_of_cpu(self.cpuid_fam, self.cpuid_mod) if self.has_cpuid else None

    @property
    def has_mitigations(self) -> bool:
        return self.version >= _MITIGATIONS_SINCE


def parse_snp_report(data: bytes) -> SnpReport:
    """Parse exactly one report of version 2 to 5; nothing may follow it.

    Raises EvidenceError: QUOTE_FORMAT, QUOTE_TRAILING, UNKNOWN_VERSION, SIGNING_KEY or PARAVISOR.
    """
    raw = bytes(data)
    refuse_hcl_report(raw, "report")
    if len(raw) != REPORT_SIZE:
        reason = Reason.QUOTE_TRAILING if len(raw) > REPORT_SIZE else Reason.QUOTE_FORMAT
        raise EvidenceError.of(reason, "report", f"{len(raw)} bytes", REPORT_SIZE)
    fields: dict[str, Any] = {name: _number(raw, offset, size) for name, offset, size in _NUMBERS}
    if fields["version"] not in VERSIONS:
        raise EvidenceError.of(Reason.UNKNOWN_VERSION, "report.version", fields["version"], VERSIONS)
    _expect(fields["sig_algo"] == _ECDSA_P384_SHA384, "sig_algo", fields["sig_algo"], _ECDSA_P384_SHA384)
    fields |= {name: raw[offset : offset + size] for name, offset, size in _STRINGS}
    _expect_zeros(raw, fields["version"])
    _expect_bits(fields["policy"], fields["key_info"])
    return SnpReport(
        **fields,
        signature_r=_number(raw, SIGNED_SIZE, _SCALAR_SIZE),
        signature_s=_number(raw, SIGNED_SIZE + _SCALAR_FIELD, _SCALAR_SIZE),
        signed=raw[:SIGNED_SIZE],
        raw=raw,
    )


def _number(raw: bytes, offset: int, size: int) -> int:
    return int.from_bytes(raw[offset : offset + size], "little")


def _expect_zeros(raw: bytes, version: int) -> None:
    """Reserved fields, and those that this version does not have yet."""
    ranges = list(_MUST_BE_ZERO)
    if version < _CPUID_SINCE:
        ranges.append((0x188, 0x18B))
    if version < _MITIGATIONS_SINCE:
        ranges.append((0x1F8, 0x208))
    for start, end in ranges:
        _expect(not any(raw[start:end]), f"reserved at {start:#x}", raw[start:end].hex(), "zeros")


def _expect_bits(policy: int, key_info: int) -> None:
    _expect(bool(policy & _MUST_BE_ONE), "policy", f"{policy:#x}", "bit 17 set")
    _expect(key_info >> 5 == 0, "key_info", f"{key_info:#x}", "bits 5 to 31 clear")
    if key_info >> 2 & 7 not in (SIGNED_BY_VCEK, SIGNED_BY_VLEK):
        found = f"signing key {key_info >> 2 & 7}"
        raise EvidenceError.of(Reason.SIGNING_KEY, "report.key_info", found, "0 (VCEK) or 1 (VLEK)")
    if key_info & _MASK_CHIP_KEY and key_info >> 2 & 7 == SIGNED_BY_VCEK:
        found = "MASK_CHIP_KEY set, signed by the chip's key"
        raise EvidenceError.of(Reason.SIGNING_KEY, "report.key_info", found, "one or the other")


def _expect(holds: bool, field: str, found: object, expected: object) -> None:
    if not holds:
        raise EvidenceError.of(Reason.QUOTE_FORMAT, f"report.{field}", found, expected)

"""Is an authentic SNP report acceptable: guest policy, platform, firmware, measured guest, chip. No IO.

Every field of the policy is a requirement or the owner's explicit `any`; nothing empty means unchecked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from toposeal.errors import Mismatch, PolicyError, Reason, printable
from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_report import SnpReport
from toposeal.topology.model import Role, Topology
from toposeal.topology.snp import RELAXATIONS, SnpPolicy, SnpReference
from toposeal.verification.role import measured_role
from toposeal.verification.snp_authentic import AuthenticSnp

# AMD 56860, guest policy and PLATFORM_INFO: bit numbers by AMD's names.
GUEST_POLICY_BITS: Mapping[str, int] = {
    "SMT": 16,
    "MIGRATE_MA": 18,
    "DEBUG": 19,
    "SINGLE_SOCKET": 20,
    "CXL_ALLOW": 21,
    "MEM_AES_256_XTS": 22,
    "RAPL_DIS": 23,
    "CIPHERTEXT_HIDING": 24,
    "PAGE_SWAP_DISABLE": 25,
}
PLATFORM_INFO_BITS: Mapping[str, int] = {
    "SMT_EN": 0,
    "TSME_EN": 1,
    "ECC_EN": 2,
    "RAPL_DIS": 3,
    "CIPHERTEXT_HIDING_EN": 4,
    "ALIAS_CHECK_COMPLETE": 5,
    "TIO_EN": 7,
}
_POLICY_KNOWN = 0xFFFF | 1 << 17 | sum(1 << bit for bit in GUEST_POLICY_BITS.values())
_PLATFORM_KNOWN = sum(1 << bit for bit in PLATFORM_INFO_BITS.values())


def refuse_unsafe_guest(report: SnpReport) -> None:
    """Refuse guests that the host may look into or move, and hosts whose memory was not checked for
    aliases (E7; BadRAM, CVE-2024-21944). No policy can admit them, nor a bit whose meaning is unknown.

    Raises PolicyError with every mismatch: GUEST_DEBUG, GUEST_MIGRATABLE, GUEST_POLICY, PLATFORM_INFO.
    """
    policy, platform = report.policy, report.platform_info
    rules = (
        (_set(policy, 19), Reason.GUEST_DEBUG, "policy", policy, "bit 19 (DEBUG) clear"),
        (_set(policy, 18), Reason.GUEST_MIGRATABLE, "policy", policy, "bit 18 (MIGRATE_MA) clear"),
        (bool(policy & ~_POLICY_KNOWN), Reason.GUEST_POLICY, "policy", policy, "no bit above 25"),
        (
            not _set(platform, PLATFORM_INFO_BITS["ALIAS_CHECK_COMPLETE"]),
            Reason.PLATFORM_INFO,
            "platform_info",
            platform,
            "bit 5 (ALIAS_CHECK_COMPLETE) set",
        ),
        (
            bool(platform & ~_PLATFORM_KNOWN),
            Reason.PLATFORM_INFO,
            "platform_info",
            platform,
            "bits 0 to 5 and 7 alone",
        ),
    )
    _raise_any(
        [
            Mismatch(reason, f"report.{field}", f"{found:#x}", expected)
            for wrong, reason, field, found, expected in rules
            if wrong
        ]
    )


def require_platform(authentic: AuthenticSnp, policy: SnpPolicy) -> None:
    """Kind of key, product, firmware, privilege level, guest policy and platform are as demanded (E8, E12).

    Raises PolicyError with every mismatch: SIGNING_KEY, PRODUCT_REFUSED, TCB_FLOOR, PROVISIONAL_FIRMWARE,
    CSP_ID, VMPL, GUEST_POLICY, PLATFORM_INFO, MITIGATIONS, COLLATERAL_MISSING.
    """
    wrong = [
        *_key(authentic, policy),
        *_firmware(authentic, policy),
        *_provisional(authentic, policy),
        *_guest(authentic.report, policy),
        *_mitigations(authentic.report, policy),
        *_revocation(authentic, policy),
    ]
    _raise_any(wrong)


def require_role(report: SnpReport, topology: Topology, expected: str) -> Role:
    """The one role whose references the measured guest fits; it has to be `expected`. Raises PolicyError,
    as `role.measured_role` does."""

    def differences(role: Role) -> Iterator[list[Mismatch]]:
        return (list(differences_from(report, reference)) for reference in role.snp)

    return measured_role(topology, expected, "snp", differences)


def require_reference(report: SnpReport, references: Sequence[SnpReference]) -> None:
    """The measured guest is one of `references` (E5). Raises PolicyError with all that differs from the
    closest one: MEASUREMENT, CONFIG_DIGEST, ID_KEY; EVIDENCE_KIND where there is none."""
    nothing = Mismatch(Reason.EVIDENCE_KIND, "references", "none", "an SNP reference")
    differences = (list(differences_from(report, reference)) for reference in references)
    _raise_any(min(differences, key=len, default=[nothing]))


def require_chip(authentic: AuthenticSnp, chips: frozenset[bytes] | None) -> None:
    """The machine is one that the owner lists (E11). One that does not say which it is, is not: the host
    masks CHIP_ID at will, and a VLEK serves many. Raises PolicyError(PLATFORM_REFUSED)."""
    if chips is not None and (authentic.chip is None or authentic.chip not in chips):
        found = "no confirmed CHIP_ID" if authentic.chip is None else authentic.chip.hex()
        raise PolicyError.of(Reason.PLATFORM_REFUSED, "platform.chip_id", found, "a listed chip")


def differences_from(report: SnpReport, reference: SnpReference) -> Iterator[Mismatch]:
    """All in which the measured guest differs from `reference`."""
    wanted = (
        (Reason.MEASUREMENT, "measurement", reference.measurement),
        (Reason.CONFIG_DIGEST, "host_data", reference.host_data),
        (Reason.MEASUREMENT, "family_id", reference.family_id),
        (Reason.MEASUREMENT, "image_id", reference.image_id),
    )
    for reason, name, value in wanted:
        found: bytes = getattr(report, name)
        if value is not None and found != value:
            yield Mismatch(reason, f"report.{name}", found.hex(), value.hex())
    if report.guest_svn < reference.guest_svn:
        floor = f"at least {reference.guest_svn}"
        yield Mismatch(Reason.MEASUREMENT, "report.guest_svn", str(report.guest_svn), floor)
    yield from _key_digest(report.id_key_digest, "id_key_digest", reference.id_key_digests)
    author = report.author_key_digest if report.author_key_en else bytes(len(report.author_key_digest))
    yield from _key_digest(author, "author_key_digest", reference.author_key_digests)


def _key_digest(found: bytes, name: str, admitted: frozenset[bytes] | None) -> Iterator[Mismatch]:
    """Zero means that no such key signed the launch: no list admits that."""
    if admitted is not None and (not any(found) or found not in admitted):
        yield Mismatch(Reason.ID_KEY, f"report.{name}", found.hex(), f"one of {len(admitted)} admitted keys")


def _key(authentic: AuthenticSnp, policy: SnpPolicy) -> Iterator[Mismatch]:
    if authentic.kind not in policy.endorsements:
        admitted = " or ".join(sorted(policy.endorsements))
        yield Mismatch(Reason.SIGNING_KEY, "report.key_info", authentic.kind, admitted)
    admitted_to = None if authentic.kind is KeyKind.VCEK else policy.csp_ids
    if admitted_to is not None and authentic.csp_id not in admitted_to:
        providers = ", ".join(sorted(admitted_to))
        yield Mismatch(Reason.CSP_ID, "endorsement.cspID", printable(str(authentic.csp_id)), providers)
    if authentic.report.vmpl != policy.vmpl:
        yield Mismatch(Reason.VMPL, "report.vmpl", str(authentic.report.vmpl), str(policy.vmpl))


def _firmware(authentic: AuthenticSnp, policy: SnpPolicy) -> Iterator[Mismatch]:
    floors = policy.products.get(authentic.product)
    if floors is None:
        admitted = ", ".join(sorted(policy.products)) or "no product"
        yield Mismatch(Reason.PRODUCT_REFUSED, "platform.product", authentic.product, admitted)
        return
    for name in ("reported", "committed", "launch"):
        tcb, floor = getattr(authentic, f"{name}_tcb"), getattr(floors, name)
        if tcb.below(floor):
            wanted = " ".join(f"{component}={level}" for component, level in floor.items())
            yield Mismatch(Reason.TCB_FLOOR, f"report.{name}_tcb", str(tcb), f"at least {wanted}")
    if not policy.lowered_tcb and authentic.reported_tcb.below(authentic.committed_tcb.components()):
        found, wanted = str(authentic.reported_tcb), f"at least committed_tcb, {authentic.committed_tcb}"
        yield Mismatch(Reason.TCB_FLOOR, "report.reported_tcb", found, wanted)


def _provisional(authentic: AuthenticSnp, policy: SnpPolicy) -> Iterator[Mismatch]:
    """The running firmware is the committed one: the host can still take back what it has not committed."""
    report = authentic.report
    running = (f"{report.cur_major}.{report.cur_minor}.{report.cur_build}", str(authentic.current_tcb))
    committed = (f"{report.com_major}.{report.com_minor}.{report.com_build}", str(authentic.committed_tcb))
    for name, found, wanted in zip(("current", "current_tcb"), running, committed, strict=True):
        if found != wanted and not policy.provisional_firmware:
            yield Mismatch(Reason.PROVISIONAL_FIRMWARE, f"report.{name}", found, f"{wanted}, as committed")


def _guest(report: SnpReport, policy: SnpPolicy) -> Iterator[Mismatch]:
    for name in RELAXATIONS:
        if _set(report.policy, GUEST_POLICY_BITS[name]) and name not in policy.admit:
            yield Mismatch(Reason.GUEST_POLICY, "report.policy", f"{report.policy:#x}", f"{name} clear")
    for name in sorted(policy.require):
        if not _set(report.policy, GUEST_POLICY_BITS[name]):
            yield Mismatch(Reason.GUEST_POLICY, "report.policy", f"{report.policy:#x}", f"{name} set")
    for name in sorted(policy.require_platform):
        if not _set(report.platform_info, PLATFORM_INFO_BITS[name]):
            found = f"{report.platform_info:#x}"
            yield Mismatch(Reason.PLATFORM_INFO, "report.platform_info", found, f"{name} set")


def _mitigations(report: SnpReport, policy: SnpPolicy) -> Iterator[Mismatch]:
    """More than is demanded is welcome. Before version 5 both vectors are zero."""
    for name in ("launch", "current"):
        found, wanted = getattr(report, f"{name}_mit_vector"), getattr(policy, f"{name}_mitigations")
        if wanted & ~found:
            field = f"report.{name}_mit_vector"
            yield Mismatch(Reason.MITIGATIONS, field, printable(f"{found:#x}"), f"all of {wanted:#x}")


def _revocation(authentic: AuthenticSnp, policy: SnpPolicy) -> Iterator[Mismatch]:
    """A list that is at hand has been applied; whether one has to be, the policy says."""
    if policy.crl and authentic.crl_number is None:
        expected = f"the revocation list of ARK-{authentic.product}"
        yield Mismatch(Reason.COLLATERAL_MISSING, "crl", "none", expected)


def _set(bits: int, number: int) -> bool:
    return bool(bits >> number & 1)


def _raise_any(mismatches: list[Mismatch]) -> None:
    if mismatches:
        raise PolicyError(*mismatches)

"""Is an authentic TDX quote acceptable: attributes, TCB, measured role, platform. No IO.

Every field of the policy is a requirement or the owner's explicit `any`; nothing empty means unchecked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from toposeal.errors import Mismatch, PolicyError, Reason, printable
from toposeal.evidence.tdx_quote import TdxQuote
from toposeal.topology.model import Role, TdxPolicy, TdxReference, Topology
from toposeal.verification.tdx_authentic import AuthenticTdx

# Intel TDX module ABI specification, ATTRIBUTES: a set bit refuses, whatever a topology says.
_FORBIDDEN = (
    (0xFF, Reason.TD_DEBUG, "bits 0 to 7 clear: no debug, no profiling"),
    (1 << 17, Reason.SERVICE_TD, "bit 17 (SERVTD_EXT) clear"),
    (1 << 29, Reason.TD_MIGRATABLE, "bit 29 (MIGRATABLE) clear"),
)
# Fields of newer bodies that have to be zero: each names somebody else inside the guest's trust, and no
# topology can name whom.
_ZERO = (
    ("mrservicetd", Reason.SERVICE_TD, "zero: no service TD is bound"),
    ("init_servtd_hash", Reason.SERVICE_TD, "zero: no service TD was bound"),
    ("init_servtd_attr", Reason.SERVICE_TD, "zero: no service TD was bound"),
    ("cur_servtd_hash", Reason.SERVICE_TD, "zero: no service TD is bound"),
    ("cur_servtd_attr", Reason.SERVICE_TD, "zero: no service TD is bound"),
    ("vmid", Reason.TD_ATTRIBUTES, "zero: a TD, no partition of one"),
    ("dev_info", Reason.TD_ATTRIBUTES, "zero: no device is trusted"),
)
_SEPT_VE_DISABLE = 1 << 28  # without it the host can inject exceptions into the guest at will


def refuse_unsafe_attributes(quote: TdxQuote) -> None:
    """Refuse guests that the host may look into or move, or that share their trust with a service TD, a
    partition or a device (E7). No topology can admit them.

    Raises PolicyError with every mismatch: TD_DEBUG, SERVICE_TD, TD_MIGRATABLE, TD_ATTRIBUTES.
    """
    bits, found = int.from_bytes(quote.td_attributes, "little"), quote.td_attributes.hex()
    field = "quote.td_attributes"
    wrong = [Mismatch(reason, field, found, rule) for mask, reason, rule in _FORBIDDEN if bits & mask]
    if not bits & _SEPT_VE_DISABLE:
        wrong.append(Mismatch(Reason.TD_ATTRIBUTES, field, found, "bit 28 (SEPT_VE_DISABLE) set"))
    bound = [(name, getattr(quote, name), reason, rule) for name, reason, rule in _ZERO]
    wrong += [
        Mismatch(why, f"quote.{name}", value.hex(), rule) for name, value, why, rule in bound if any(value)
    ]
    _raise_any(wrong)


def require_tcb(authentic: AuthenticTdx, policy: TdxPolicy) -> None:
    """Every status that Intel gives is admitted, every advisory too, and the collateral is not below
    the floor: the number decides, not the date (E8, E9).

    Raises PolicyError: TCB_STATUS, TCB_ADVISORY, TCB_EVALUATION.
    """
    admitted = ", ".join(sorted(policy.tcb_status))
    wrong = [
        Mismatch(Reason.TCB_STATUS, "tcb.status", printable(status), f"one of {admitted}")
        for status in sorted(authentic.statuses - policy.tcb_status)
    ]
    wrong += [
        Mismatch(Reason.TCB_ADVISORY, "tcb.advisories", printable(advisory), "an admitted advisory")
        for advisory in authentic.advisories
        if advisory not in policy.advisories
    ]
    if authentic.evaluation < policy.min_tcb_evaluation:
        found, floor = str(authentic.evaluation), f"at least {policy.min_tcb_evaluation}"
        wrong.append(Mismatch(Reason.TCB_EVALUATION, "tcb.tcbEvaluationDataNumber", found, floor))
    _raise_any(wrong)


def require_role(quote: TdxQuote, topology: Topology, expected: str) -> Role:
    """The one role whose references the measured values match; it has to be `expected` (E5, E6).

    Raises PolicyError: ROLE_UNKNOWN, ROLE_MISMATCH, ROLES_INDISTINGUISHABLE, or, where no role
    matches, all that differs from the closest reference of `expected`.
    """
    if expected not in topology.roles:
        raise PolicyError.of(Reason.ROLE_UNKNOWN, "role", expected, "a role of the topology")
    matching = [role for role in topology.roles.values() if _matches(quote, role)]
    if not matching:
        _raise_any(_closest(quote, topology.roles[expected]))
    if len(matching) != 1:
        names = [role.name for role in matching]
        raise PolicyError.of(Reason.ROLES_INDISTINGUISHABLE, "role", names, "one role by measurement")
    if matching[0].name != expected:
        raise PolicyError.of(Reason.ROLE_MISMATCH, "role", matching[0].name, expected)
    return matching[0]


def require_reference(quote: TdxQuote, references: Sequence[TdxReference]) -> None:
    """The measured guest is one of `references`. Raises PolicyError with all that differs from the closest
    one; EVIDENCE_KIND where there is none."""
    nothing = Mismatch(Reason.EVIDENCE_KIND, "references", "none", "a TDX reference")
    _raise_any(min((list(_differences(quote, each)) for each in references), key=len, default=[nothing]))


def require_platform(ppid: bytes, role: Role) -> None:
    """The machine is one that the owner lists for `role` (E11). Raises PolicyError(PLATFORM_REFUSED)."""
    if role.platforms is not None and ppid not in role.platforms:
        raise PolicyError.of(Reason.PLATFORM_REFUSED, "platform.ppid", ppid, f"a platform of {role.name}")


def require_listed(ppid: bytes, platforms: frozenset[bytes]) -> None:
    """The machine is one of `platforms`. Raises PolicyError(PLATFORM_REFUSED)."""
    if ppid not in platforms:
        raise PolicyError.of(Reason.PLATFORM_REFUSED, "platform.ppid", ppid, "a listed platform")


def _matches(quote: TdxQuote, role: Role) -> bool:
    return any(not list(_differences(quote, reference)) for reference in role.tdx)


def _closest(quote: TdxQuote, role: Role) -> list[Mismatch]:
    """What differs from the reference with the fewest differences; a role without one differs too."""
    nothing = Mismatch(Reason.EVIDENCE_KIND, f"roles.{role.name}.tdx", "no reference", "a TDX reference")
    return min((list(_differences(quote, reference)) for reference in role.tdx), key=len, default=[nothing])


def _differences(quote: TdxQuote, reference: TdxReference) -> Iterator[Mismatch]:
    wanted = (
        (Reason.MEASUREMENT, "mrtd", reference.mrtd),
        (Reason.CONFIG_DIGEST, "mrconfigid", reference.mrconfigid),
        *((Reason.MEASUREMENT, f"rtmr{index}", value) for index, value in enumerate(reference.rtmr)),
        (Reason.MEASUREMENT, "mrowner", reference.mrowner),
        (Reason.MEASUREMENT, "mrownerconfig", reference.mrownerconfig),
        (Reason.TD_ATTRIBUTES, "td_attributes", reference.td_attributes),
        (Reason.XFAM, "xfam", reference.xfam),
    )
    for reason, name, value in wanted:
        found: bytes = getattr(quote, name)
        if value is not None and found != value:
            yield Mismatch(reason, f"quote.{name}", found.hex(), value.hex())
    if reference.mrseam is not None and quote.mrseam not in reference.mrseam:
        modules = f"one of {len(reference.mrseam)} admitted TDX modules"
        yield Mismatch(Reason.MEASUREMENT, "quote.mrseam", quote.mrseam.hex(), modules)


def _raise_any(mismatches: list[Mismatch]) -> None:
    if mismatches:
        raise PolicyError(*mismatches)

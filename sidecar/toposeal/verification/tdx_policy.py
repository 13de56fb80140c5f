"""Is an authentic TDX quote acceptable: attributes, TCB, measured role, platform. No IO.

Every field of the policy is a requirement or the owner's explicit `any`; nothing empty means unchecked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from toposeal.errors import Mismatch, PolicyError, Reason, printable
from toposeal.evidence.rtmr import instance_event, replay
from toposeal.evidence.tdx_quote import TdxQuote
from toposeal.topology.model import InstanceRegister, Role, TdxPolicy, TdxReference, Topology
from toposeal.verification.role import measured_role
from toposeal.verification.tdx_authentic import AuthenticTdx
from toposeal.verification.tdx_unsafe import unsafe_fields


def refuse_unsafe_attributes(quote: TdxQuote) -> None:
    """Refuse guests that the host may look into or move, or that share their trust with a service TD, a
    partition or a device (E7). No topology can admit them.

    Raises PolicyError with every mismatch: TD_DEBUG, SERVICE_TD, TD_MIGRATABLE, TD_ATTRIBUTES.
    """
    _raise_any(unsafe_fields(quote))


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


@dataclass(frozen=True)
class RuntimeLog:
    """Who asked for the quote, and what its guest says to have extended into RTMR3: believed by replay."""

    iid: bytes  # 48
    events: tuple[bytes, ...] = ()  # 48 each, in order; none: the instance event alone


def require_role(quote: TdxQuote, topology: Topology, expected: str, log: RuntimeLog | None = None) -> Role:
    """The one role whose references the measured guest fits; it has to be `expected`. Raises PolicyError,
    as `role.measured_role` does."""

    def differences(role: Role) -> Iterator[list[Mismatch]]:
        return (list(_differences(quote, reference, log)) for reference in role.tdx)

    return measured_role(topology, expected, "tdx", differences)


def require_reference(
    quote: TdxQuote, references: Sequence[TdxReference], log: RuntimeLog | None = None
) -> None:
    """The measured guest is one of `references`; without `log` none that wants an instance event fits.

    Raises PolicyError with all that differs from the closest one; EVIDENCE_KIND where there is none.
    """
    nothing = Mismatch(Reason.EVIDENCE_KIND, "references", "none", "a TDX reference")
    _raise_any(min((list(_differences(quote, each, log)) for each in references), key=len, default=[nothing]))


def require_platform(ppid: bytes, role: Role) -> None:
    """The machine is one that the owner lists for `role` (E11). Raises PolicyError(PLATFORM_REFUSED)."""
    admitted = role.platforms.tdx
    if admitted is not None and ppid not in admitted:
        raise PolicyError.of(Reason.PLATFORM_REFUSED, "platform.ppid", ppid, f"a platform of {role.name}")


def require_listed(ppid: bytes, platforms: frozenset[bytes]) -> None:
    """The machine is one of `platforms`. Raises PolicyError(PLATFORM_REFUSED)."""
    if ppid not in platforms:
        raise PolicyError.of(Reason.PLATFORM_REFUSED, "platform.ppid", ppid, "a listed platform")


def _differences(quote: TdxQuote, reference: TdxReference, log: RuntimeLog | None) -> Iterator[Mismatch]:
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
    yield from _rtmr3(quote.rtmr3, reference.rtmr3, log)
    if reference.mrseam is not None and quote.mrseam not in reference.mrseam:
        modules = f"one of {len(reference.mrseam)} admitted TDX modules"
        yield Mismatch(Reason.MEASUREMENT, "quote.mrseam", quote.mrseam.hex(), modules)


def _rtmr3(
    found: bytes, wanted: bytes | InstanceRegister | None, log: RuntimeLog | None
) -> Iterator[Mismatch]:
    if isinstance(wanted, InstanceRegister):
        yield from _instance(found, wanted, log)
    elif wanted is not None and found != wanted:
        yield Mismatch(Reason.MEASUREMENT, "quote.rtmr3", found.hex(), wanted.hex())


def _instance(found: bytes, wanted: InstanceRegister, log: RuntimeLog | None) -> Iterator[Mismatch]:
    """The sidecar of this very instance extended RTMR3 once, and whoever else did, did only what is
    admitted: what came before or after could otherwise have asked for this quote in its name."""
    field = "quote.rtmr3"
    if log is None:
        yield Mismatch(Reason.RTMR3_INSTANCE, field, "no instance", "evidence of a member, whose event it is")
        return
    own = instance_event(log.iid)
    events = log.events or (own,)
    if events.count(own) != 1:
        yield Mismatch(Reason.RTMR3_INSTANCE, field, f"{events.count(own)} events of the instance", "one")
    strangers = [event.hex() for event in events if event != own and event not in wanted.events]
    if strangers:
        yield Mismatch(Reason.RTMR3_INSTANCE, field, f"event {strangers[0]}", "an admitted event")
    replayed = replay(wanted.base, events)
    if replayed != found:
        yield Mismatch(Reason.RTMR3_INSTANCE, field, found.hex(), f"{replayed.hex()}, as the events make it")


def _raise_any(mismatches: list[Mismatch]) -> None:
    if mismatches:
        raise PolicyError(*mismatches)

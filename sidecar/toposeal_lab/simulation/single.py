"""What one step shows by itself: S9 and S7."""

from __future__ import annotations

from toposeal.errors import LocalProtocolError, Reason, ToposealError
from toposeal.membership.events import Alarm, Announce, Fault, Fence, Received, Send, Suspend
from toposeal.membership.state import Fenced
from toposeal_lab.simulation.parts import Step
from toposeal_lab.simulation.violation import Violation

_EXPLAINED = {
    Reason.MEASUREMENT,  # the newest topology has no place for who boots
    Reason.QUORUM_LOST,
    Reason.SIBLING_ACTIVE,
    Reason.NOT_ACTIVE,
    Reason.QUOTE_SOURCE,
    Reason.REPORT_DATA,
    Reason.ROLE_MISMATCH,
}


def no_crash(step: Step) -> None:
    """S9: a refusal is typed, answers a message, and changes nothing; a fence explains itself."""
    if step.error is not None:
        refused = isinstance(step.error, ToposealError) and not isinstance(step.error, LocalProtocolError)
        if not refused or not isinstance(step.event, Received):
            raise Violation("S9", f"{type(step.event).__name__} raised {step.error!r}")
        if step.after is not step.before:
            raise Violation("S9", "a refusal changed the state")
    if isinstance(step.event, Fault) and not isinstance(step.after.phase, Fenced):
        raise Violation("S9", "a fault of the pod, and it went on")
    if isinstance(step.before.phase, Fenced) and (step.effects or step.after is not step.before):
        raise Violation("S9", "a fenced member acts")
    for effect in step.effects:
        if not isinstance(effect, Fence) or isinstance(step.event, Fault):
            continue
        if effect.mismatch.reason not in _EXPLAINED:
            raise Violation("S9", f"fenced for {effect.mismatch.reason}")


def no_secrets(step: Step) -> None:
    """S7: no private key in anything that leaves a member, said to others or to its operator."""
    told: list[bytes] = []
    for effect in step.effects:
        if isinstance(effect, Send):
            told.append(effect.data)
        elif isinstance(effect, Announce):
            told += effect.messages
        elif isinstance(effect, (Alarm, Suspend, Fence)):
            told.append(str(effect.mismatch).encode())
    together = b"\n".join(told)
    for secret in step.node.boot.secrets:
        if secret in together:
            raise Violation("S7", f"a private key in {[type(effect).__name__ for effect in step.effects]}")

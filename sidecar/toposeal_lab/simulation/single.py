"""What one step shows by itself: S9 and S7."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from toposeal.errors import LocalProtocolError, Reason, ToposealError
from toposeal.membership.events import Alarm, Announce, Fault, Fence, Received, Send, Suspend
from toposeal.membership.state import Fenced
from toposeal_lab.simulation.parts import Node, Step
from toposeal_lab.simulation.violation import Violation

_ENOUGH = 20_000  # bytes: to look through them together is cheaper than one after another
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


class Secrets:
    """S7: no private key in anything that leaves a member, said to others or to its operator."""

    def __init__(self) -> None:
        self._told: defaultdict[int, bytearray] = defaultdict(bytearray)  # by node: not looked at yet
        self._announced: set[tuple[int, bytes]] = set()  # by whom: said again and again

    def check(self, step: Step, told: Collection[type]) -> None:
        """What is told in this step, of these kinds: together with more of it if all are messages to one."""
        together = self._told[step.node.index]
        for effect in step.effects:
            if isinstance(effect, Send):
                together += effect.data
            elif isinstance(effect, Announce):
                together += b"\n".join(self._new(step.node.index, effect.messages))
            elif isinstance(effect, (Alarm, Suspend, Fence)):
                together += str(effect.mismatch).encode()
            together += b"\n"
        if len(together) > _ENOUGH or told != {Send}:
            self._look(step.node)

    def review(self, nodes: Iterable[Node]) -> None:
        """What is left to look at."""
        for node in nodes:
            self._look(node)

    def _new(self, node: int, messages: tuple[bytes, ...]) -> list[bytes]:
        new = [data for data in messages if (node, data) not in self._announced]
        self._announced.update((node, data) for data in new)
        return new

    def _look(self, node: Node) -> None:
        together = self._told.pop(node.index, b"")
        if any(secret in together for secret in node.boot.secrets):
            raise Violation("S7", f"a private key in what {node.index} has told")

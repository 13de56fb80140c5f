"""Each LEAVE that was said, and whom it counts for: S3 and S5 of those who have left (PROTOCOL.md 4.10)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from toposeal._wire import peer_pb2 as wire
from toposeal.membership.events import Effect, Left, Send
from toposeal.membership.sealed import SealedManifest
from toposeal.membership.state import Fenced
from toposeal_lab.simulation.parts import Step
from toposeal_lab.simulation.violation import Violation

_LEAVE = b"\x6a"  # the key of that field of an envelope, which has no other


def own_leave(effects: tuple[Effect, ...], iid: bytes) -> wire.Decision | None:
    """What the LEAVE of `iid` among what is said says; others may repeat it."""
    for effect in effects:
        for each in effect.farewell if isinstance(effect, Left) else (effect,):
            if isinstance(each, Send) and each.data[:1] == _LEAVE:
                decision = wire.Decision.FromString(wire.Envelope.FromString(each.data).leave.body)
                if decision.sender == iid:
                    return decision
    return None


class Leaves:
    """What each has said, apart from what anybody remembers of it."""

    def __init__(self) -> None:
        self.said: dict[bytes, wire.Decision] = {}  # by iid

    def note(self, step: Step) -> None:
        """S3: one LEAVE, of who serves and commits no more."""
        iid = step.after.own.iid
        said = own_leave(step.effects, iid)
        if said is None:
            return
        if self.said.setdefault(iid, said) != said:
            raise Violation("S3", "a second LEAVE")
        if step.after.serving is not None or not isinstance(step.after.phase, Fenced):
            raise Violation("S3", "a LEAVE of a member that is not fenced")

    def to(
        self,
        d: bytes,
        manifest: wire.Manifest,
        seals: Mapping[bytes, Sequence[SealedManifest]],
        committed: Iterable[tuple[bytes, int]],
    ) -> set[bytes]:
        """Who has left to `d`. S3: what it follows is what each sealed last, and its epoch is above all that
        they committed to.
        """
        found = {iid for iid, said in self.said.items() if said.manifest_digest == d}
        for iid in found:
            if seals[iid][-1].manifest.digest != manifest.previous or any(
                entry.iid == iid for entry in manifest.members
            ):
                raise Violation("S3", "a LEAVE for what is no child of what its sender sealed last")
            if any(who == iid and epoch >= manifest.epoch for who, epoch in committed):
                raise Violation("S3", "a LEAVE for no later epoch than its sender's last commitment")
        return found

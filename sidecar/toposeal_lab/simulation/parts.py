"""What a simulated network is made of: its faults, its members, and what happened at one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from toposeal._wire import peer_pb2 as wire
from toposeal.errors import Mismatch
from toposeal.evidence.binding import Binding
from toposeal.membership import machine
from toposeal.membership.events import Effect, Event
from toposeal.membership.sealed import SealedManifest
from toposeal.membership.state import Member, Phase
from toposeal.topology.accept import SignedTopology
from toposeal_lab.simulation.dice import Dice
from toposeal_lab.simulation.keys import Boot

Blow = tuple[object, ...]  # one fault that happened: its kind, and which of that kind


@dataclass
class Faults:
    """Chances per message, and what happens to quotes. All zero: a perfect network."""

    loss: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    replay: float = 0.0  # of any message that anybody sent before, to anybody
    delay: tuple[int, int] = (1, 3)  # ms, each message on its own: what differs is reordered
    quote_ms: int = 40
    quote_failure: float = 0.0
    quote_slow: float = 0.0
    quote_slow_ms: int = 60_000
    cut: Callable[[int, int, int], bool] | None = None  # partition: (now, from, to)
    data_cut: Callable[[int, int, int], bool] | None = None  # the same of the data plane


@dataclass
class Node:
    """One boot of one pod. A restart is another Node with the same address."""

    index: int
    address: str
    role: str  # what its evidence shows
    member: Member
    signed: SignedTopology
    boot: Boot
    dice: Dice
    alive: bool = True
    paused_until: int = 0
    missed: list[Event] = field(default_factory=list)  # while paused
    crash_on: tuple[str, bool] | None = None  # on entering this phase; True: with its messages sent
    quoteless: bool = False  # its platform makes no quotes
    active: SealedManifest | None = None  # of the last Activate
    suspended: bool = False
    suspensions: int = 0
    fenced: Mismatch | None = None
    alarms: list[Mismatch] = field(default_factory=list)
    refusals: list[Mismatch] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    entered: type[Phase] | None = None  # the last of `phases`
    quotes: list[Binding] = field(default_factory=list)
    sent: int = 0
    offset: int = 0  # ms: its clock, against the network's time
    floor: int = 0  # its clock never goes back
    wake_at: int | None = None  # network's time
    wanted: int | None = None  # when `wanted_by` wants a timer, by its clock
    wanted_by: Member | None = None

    @property
    def phase(self) -> str:
        return machine.phase_name(self.member.phase)

    @property
    def deadline(self) -> int | None:
        """When it wants a timer, by its clock."""
        if self.wanted_by is not self.member:
            self.wanted_by, self.wanted = self.member, machine.deadline(self.member)
        return self.wanted


@dataclass(slots=True)
class Step:
    """What happened at one member: `after` is `before` itself if `error` refused the event."""

    node: Node
    before: Member
    event: Event
    after: Member
    effects: tuple[Effect, ...]
    error: Exception | None
    now: int  # the network's time
    clock: int  # the member's


def sent_kind(data: bytes) -> str:
    """Which message an envelope holds."""
    return wire.Envelope.FromString(data).WhichOneof("message") or ""

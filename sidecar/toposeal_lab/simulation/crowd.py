"""One mesh of very many members, some or all of them production machines, the others extras.

What the protocol asks of one of a thousand members can thereby be seen and measured without doing all of it
a thousand times. A message takes 1 ms. Each host makes one quote after another. A machine has a core of its
own: a step takes as long as it was measured to take, if the costs say so, and what comes meanwhile waits.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from toposeal.errors import Mismatch, RemoteProtocolError
from toposeal.evidence.binding import Binding
from toposeal.membership import machine
from toposeal.membership.events import (
    Activate,
    Alarm,
    Announce,
    Appraise,
    Effect,
    Event,
    Fence,
    Quote,
    Quoted,
    Received,
    Send,
    Timer,
)
from toposeal.membership.manifest import Manifest, build_manifest
from toposeal.membership.sealed import SealedManifest
from toposeal.membership.state import Attempt, Member, Own, attempt_of
from toposeal_lab.simulation.dice import Dice
from toposeal_lab.simulation.extras import Extra, sized_appraisal, sized_evidence, sized_gpus
from toposeal_lab.simulation.keys import boot_of, own_of
from toposeal_lab.simulation.parts import sent_kind
from toposeal_lab.simulation.symbolic import signed_topology

QUOTE_MS = 40.0
_MESSAGE_MS = 1.0


@dataclass(frozen=True)
class Costs:
    """What the core of a machine is charged. `steps`: as measured while they run; else they take no time."""

    steps: bool = False
    appraisal_ms: float = 0.0  # of one JOIN or SEAL quote


@dataclass
class Machine:
    """One member that is the production state machine, and what it has cost so far."""

    own: Own
    member: Member
    dice: Dice
    wanted: int | None = None  # when it wants to be woken
    attempt: Attempt | None = None  # its first
    gathered_at: float = 0.0  # ms, as all times here
    active_at: float | None = None
    active: SealedManifest | None = None
    fenced: Mismatch | None = None
    alarms: list[Mismatch] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)  # by reason
    sent: Counter[str] = field(default_factory=Counter)  # messages, by kind
    sent_bytes: int = 0
    largest: int = 0  # bytes of one message, sent or received
    step_ms: float = 0.0  # CPU
    appraisals: int = 0
    quotes: int = 0
    waiting: deque[Event | Appraise] = field(default_factory=deque)
    busy: bool = False
    wake_at: float | None = None


class Crowd:
    """`size` members on `hosts` hosts, the first `machines` of them production machines."""

    def __init__(
        self,
        size: int,
        machines: int,
        hosts: int,
        gpus: Callable[[int], int] = lambda number: 0,
        symbolic: bool = True,
        costs: Costs | None = None,
        **timers: Any,
    ) -> None:
        """`gpus` gives how many devices an extra shows. `symbolic`: inside `symbolic_signatures`."""
        self.now = 0.0
        self.signed = signed_topology({"db": (1, 1), "web": (size - 1, size - 1)}, **timers)
        self.machines: dict[bytes, Machine] = {}
        self.extras: dict[bytes, Extra] = {}
        self.manifest: Manifest | None = None  # what the extras stand to
        self.last_hello = 0.0
        self._there: set[bytes] = set()  # extras that have begun
        self._home: dict[bytes, int] = {}  # iid -> host
        self._address: dict[bytes, str] = {}
        self._symbolic = symbolic
        self._costs = costs or Costs()
        self._free = [0.0] * hosts  # when each host has made its last quote
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        for number in range(size):
            if number < machines:
                self._boot(number)
            else:
                extra = Extra(self._own(number), number, sized_gpus(number, gpus(number)))
                self.extras[extra.own.iid] = extra
                self._quote(extra.own.iid, lambda extra=extra: self._introduce(extra))  # type: ignore[misc]

        self._cast = tuple(self.machines)  # machines of the manifest

    def newcomer(self) -> Machine:
        """One more machine, for which the manifest has no place. Extras do not know it."""
        return self._boot(len(self.machines) + len(self.extras))

    def run(self, until: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until `until` ms or until `stop()`."""
        while self._heap and self._heap[0][0] <= until and not stop():
            self.now, _, action = heapq.heappop(self._heap)
            action()

    def all_active(self) -> bool:
        return all(each.active is not None for each in self.machines.values())

    # Members.

    def _own(self, number: int) -> Own:
        role = "web" if number else "db"
        boot = boot_of(Dice("crowd", number))
        keys = boot.symbolic if self._symbolic else boot.real
        own = own_of(boot, keys, role, f"10.0.{number // 250}.{number % 250 + 1}", self.signed)
        self._home[own.iid], self._address[own.iid] = number % len(self._free), own.addresses[0]
        return own

    def _boot(self, number: int) -> Machine:
        own = self._own(number)
        member, effects = machine.start(own, int(self.now))
        made = Machine(own, member, Dice("entropy", number))
        self.machines[own.iid] = made
        self._perform(made, effects)
        return made

    def _introduce(self, extra: Extra) -> None:
        self.last_hello = self.now
        self._there.add(extra.own.iid)
        for each in self.machines.values():
            self._deliver(each, extra.introduction())

    def _hear(self, extra: Extra, sender: Machine, data: bytes) -> None:
        manifest = self._common()
        for answer in extra.answers(sender.own.iid, data, manifest):
            self._deliver(sender, answer)
        if manifest is not None and extra.wants_quote(len(self._cast)):
            self._quote(extra.own.iid, lambda: self._commit(extra, manifest))

    def _commit(self, extra: Extra, manifest: Manifest) -> None:
        for each in self.machines.values():
            self._deliver(each, extra.commit(manifest))

    def _common(self) -> Manifest | None:
        """What all of them come to, once every machine has a HELLO."""
        cast = [self.machines[iid] for iid in self._cast]
        if self.manifest is None and all(each.attempt for each in cast):
            entries = [extra.entry for extra in self.extras.values()]
            entries += [each.attempt.hello.entry(each.own.identity) for each in cast if each.attempt]
            topology = self.signed.topology
            self.manifest = build_manifest(cast[0].own.identity.mesh_id, topology, 1, entries)
        return self.manifest

    # What happens, and when.

    def _at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when, next(self._order), action))

    def _quote(self, iid: bytes, made: Callable[[], None]) -> None:
        host = self._home[iid]
        self._free[host] = max(self._free[host], self.now) + QUOTE_MS
        self._at(self._free[host], made)

    def _deliver(self, target: Machine, data: bytes) -> None:
        target.largest = max(target.largest, len(data))
        self._at(self.now + _MESSAGE_MS, lambda: self._arrive(target, Received(data)))

    def _arrive(self, target: Machine, event: Event | Appraise) -> None:
        target.waiting.append(event)
        if not target.busy:
            self._turn(target)

    def _turn(self, each: Machine) -> None:
        """The core takes up what has waited longest; what comes of it happens when that is done."""
        each.busy = bool(each.waiting)
        if not each.busy:
            return
        event = each.waiting.popleft()
        effects: tuple[Effect, ...] = ()
        if isinstance(event, Appraise):
            each.appraisals += 1
            each.waiting.appendleft(sized_appraisal(event))
            cost = self._costs.appraisal_ms
        else:
            began = time.thread_time()
            effects = self._step(each, event)
            spent = 1000 * (time.thread_time() - began)
            each.step_ms += spent
            cost = spent if self._costs.steps else 0.0
        self._at(self.now + cost, lambda: self._done(each, effects))

    def _done(self, each: Machine, effects: Iterable[Effect]) -> None:
        self._perform(each, effects)
        self._turn(each)

    def _step(self, each: Machine, event: Event) -> tuple[Effect, ...]:
        now = int(self.now)
        if isinstance(event, Timer) and (each.wanted is None or each.wanted > now):
            return ()
        try:
            each.member, effects = machine.step(each.member, event, now)
        except RemoteProtocolError as error:
            each.refused[error.reason.value] += 1
            return ()
        each.wanted = machine.deadline(each.member)
        if each.attempt is None and (attempt := attempt_of(each.member.phase)) is not None:
            each.attempt, each.gathered_at = attempt, self.now
            self.last_hello = self.now
        return effects

    def _perform(self, each: Machine, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Quote(binding):
                    each.quotes += 1
                    self._quote(each.own.iid, lambda b=binding: self._quoted(each, b))  # type: ignore[misc]
                case Appraise():
                    self._arrive(each, effect)
                case Send(iid, _, data):
                    self._send(each, iid, data)
                case Announce(messages, known):
                    for iid in [iid for iid in self._home if iid != each.own.iid]:
                        for data in messages if self._address[iid] not in known else ():
                            self._send(each, iid, data)
                case Activate(sealed):
                    each.active, each.active_at = sealed, self.now
                case Alarm(mismatch):
                    each.alarms.append(mismatch)
                case Fence(mismatch):
                    each.fenced = mismatch
        if each.wanted is not None and (each.wake_at is None or each.wanted < each.wake_at):
            each.wake_at = max(float(each.wanted), self.now)
            self._at(each.wake_at, lambda at=each.wake_at: self._wake(each, at))  # type: ignore[misc]

    def _wake(self, each: Machine, at: float) -> None:
        if each.wake_at == at:
            each.wake_at = None
            self._arrive(each, Timer(each.dice.randbytes(64)))

    def _quoted(self, each: Machine, binding: Binding) -> None:
        self._arrive(each, Quoted(binding, sized_evidence(binding)))

    def _send(self, each: Machine, iid: bytes, data: bytes) -> None:
        each.sent[sent_kind(data)] += 1
        each.sent_bytes += len(data)
        each.largest = max(each.largest, len(data))
        if iid in self.machines:
            self._deliver(self.machines[iid], data)
        elif each.own.iid in self._cast and iid in self._there:
            extra = self.extras[iid]
            self._at(self.now + _MESSAGE_MS, lambda: self._hear(extra, each, data))

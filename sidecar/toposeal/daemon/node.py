"""Runs the state machine of one member: events in, effects out, everything else behind four ports.

This is the only place where the machine's state is kept. A task that dies takes the node with it, and
the node's end closes the gate (S9).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal._wire import peer_pb2 as wire
from toposeal.daemon.failure import cause
from toposeal.encoding import encode
from toposeal.errors import (
    EvidenceError,
    LocalProtocolError,
    Mismatch,
    Reason,
    RemoteProtocolError,
    TopologyError,
    ToposealError,
)
from toposeal.evidence.binding import Binding
from toposeal.host import journal
from toposeal.membership import machine
from toposeal.membership.events import (
    Activate,
    Alarm,
    Announce,
    Appraise,
    Appraised,
    Effect,
    Event,
    Fault,
    Fence,
    Leave,
    Left,
    Quote,
    Quoted,
    QuoteFailed,
    Received,
    Refused,
    Resume,
    Send,
    Suspend,
    Timer,
)
from toposeal.membership.sealed import SealedManifest
from toposeal.membership.state import Member, Own, attempt_of, sealed_of
from toposeal.membership.timers import ENTROPY_SIZE
from toposeal.outside.pushed import Pushed
from toposeal.topology.accept import SignedTopology
from toposeal.topology.model import Topology
from toposeal.verification.model import VerifiedEvidence


class Quotes(Protocol):
    """The platform: `quote` blocks until there is evidence or raises ToposealError."""

    def quote(self, binding: Binding, deadline_s: float) -> wire_evidence.Evidence: ...


class Link(Protocol):
    """Delivery to peers; may lose anything."""

    def send(self, addresses: tuple[str, ...], data: bytes) -> None: ...

    def announce(self, messages: tuple[bytes, ...], known: Collection[str]) -> None: ...


@dataclass(frozen=True)
class Ports:
    """What the machine's effects and events come from."""

    quotes: Quotes
    link: Link
    appraise: Callable[[wire_evidence.Evidence, Binding, Topology], VerifiedEvidence]
    random: Callable[[int], bytes]
    clock: Callable[[], int]
    activate: Callable[[SealedManifest], Coroutine[Any, Any, None]]
    expect: Callable[[Topology], Coroutine[Any, Any, None]]  # a manifest of it will come
    suspend: Callable[[], Coroutine[Any, Any, None]]
    resume: Callable[[], Coroutine[Any, Any, None]]


class _Fenced(Exception):
    """Ends the task group."""


class Node:
    """One member. `run` ends only with the reason for fencing."""

    def __init__(self, own: Own, ports: Ports) -> None:
        self._ports = ports
        self._changed = asyncio.Event()
        self._fenced: asyncio.Future[Mismatch] = asyncio.get_running_loop().create_future()
        # One thread each: quotes are serialised by the platform, verdicts by the interpreter.
        self._quoting = ThreadPoolExecutor(1, "quote")
        self._appraising = ThreadPoolExecutor(1, "appraise")
        self._tasks: asyncio.TaskGroup | None = None
        self._own = own
        self._member: Member | None = None
        self._quoted_at: int | None = None
        self._left: asyncio.Future[Left] = asyncio.get_running_loop().create_future()

    @property
    def member(self) -> Member | None:
        """The present state; None before `run`."""
        return self._member

    @property
    def quoted_at(self) -> int | None:
        """When the platform made the last quote, on the clock of the ports; None before the first."""
        return self._quoted_at

    async def run(self) -> Mismatch:
        """Boot, and go on until fenced; then no task is waited for. An exception of any task ends all
        others and is raised here, in a group.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self._member, effects = machine.start(self._own, self._ports.clock())
                self._log_phase()
                self._perform(effects)
                tasks.create_task(self._timer())
                await self._fenced
                raise _Fenced
        except* _Fenced:
            pass
        except* ToposealError:
            if not self._fenced.done():  # else what fenced the member has failed its tasks too
                raise
        return self._fenced.result()

    def receive(self, data: bytes) -> None:
        """One envelope from anybody. Raises ToposealError when it is refused; nothing has changed then.

        An error of our own fences the member before it is raised (S9).
        """
        try:
            self._step(Received(data))
        except LocalProtocolError as error:
            self._fence(error.mismatches[0])
            raise
        except ToposealError as error:
            if error.reason is not Reason.STALE_ATTEMPT:
                journal.mismatch("refused", error.mismatches[0])
            raise
        except Exception as error:
            self._fence(cause(error))
            raise

    def push(self, envelope: bytes) -> Pushed:
        """A signed topology from anybody, to be ours if it is newer. Raises ToposealError if refused."""
        before = self._member
        if before is None or before.leaving:  # who leaves begins no round, so it would tell nobody
            raise not_active(before)
        self.receive(encode(wire.Envelope(topology=envelope)))
        after = self._member or before
        if after.blocked is not None:
            raise TopologyError(after.blocked)
        return Pushed(after.topology.version > before.topology.version, after.topology.version)

    async def leave(self) -> Left:
        """Ask the others to go on without us, and wait until they do or plainly cannot. With a farewell the
        member is fenced, and the caller sends it when it has closed everything.
        """
        self._step(Leave())
        return await self._left

    def fault(self, mismatch: Mismatch) -> None:
        """Something in the pod failed: fence."""
        self._step(Fault(mismatch))

    async def live(self, challenge: bytes) -> tuple[SignedTopology, SealedManifest, wire_evidence.Evidence]:
        """LIVE evidence on an outside verifier's challenge, and what is served, under which topology. Raises
        ToposealError for who may not serve.
        """
        member = self._member
        if member is None or member.serving is None:
            raise not_active(member)
        binding = machine.live(member, challenge)
        signed = member.topologies[member.serving.manifest.topology_digest]
        return signed, member.serving, await self._quote(binding)

    def _step(self, event: Event) -> None:
        if self._member is None:
            raise not_active(None)
        before = self._member
        self._member, effects = machine.step(before, event, self._ports.clock())
        if type(self._member.phase) is not type(before.phase):
            self._log_phase()
        if self._member.own.topology is not before.own.topology:
            journal.event("topology", version=self._member.topology.version)
            self._spawn(self._ports.expect(self._member.topology))
        self._changed.set()
        self._perform(effects)

    def _perform(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            match effect:
                case Send(_, addresses, data):
                    self._ports.link.send(addresses, data)
                case Announce(messages, known):
                    self._ports.link.announce(messages, known)
                case Quote(binding):
                    self._spawn(self._quote_for_machine(binding))
                case Appraise():
                    self._spawn(self._appraise(effect))
                case Activate(sealed):
                    self._spawn(self._ports.activate(sealed))
                case Suspend(mismatch):
                    journal.mismatch("suspend", mismatch)
                    self._spawn(self._ports.suspend())
                case Resume():
                    journal.event("resume")
                    self._spawn(self._ports.resume())
                case Alarm(mismatch):
                    journal.mismatch("alarm", mismatch)
                case Left():
                    if not self._left.done():
                        self._left.set_result(effect)
                case Fence(mismatch):
                    self._fence(mismatch)

    def _fence(self, mismatch: Mismatch) -> None:
        if not self._fenced.done():
            journal.mismatch("fence", mismatch)
            self._fenced.set_result(mismatch)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._tasks is None:
            raise RuntimeError("an effect before run()")
        self._tasks.create_task(work)

    async def _timer(self) -> None:
        """Feed a Timer with fresh entropy whenever the machine's deadline has come."""
        while self._member is not None:
            self._changed.clear()
            wanted = machine.deadline(self._member)
            delay = None if wanted is None else (wanted - self._ports.clock()) / 1000
            try:
                async with asyncio.timeout(delay):
                    await self._changed.wait()
            except TimeoutError:
                self._step(Timer(self._ports.random(ENTROPY_SIZE)))

    async def _quote_for_machine(self, binding: Binding) -> None:
        try:
            evidence = await self._quote(binding)
        except ToposealError as error:
            self._step(QuoteFailed(binding, error.mismatches[0]))
        else:
            self._step(Quoted(binding, evidence))

    async def _quote(self, binding: Binding) -> wire_evidence.Evidence:
        topology = self._own.topology.topology if self._member is None else self._member.topology
        deadline_s = topology.timers.quote_ms / 1000
        started = self._ports.clock()
        loop = asyncio.get_running_loop()
        evidence = await loop.run_in_executor(self._quoting, self._ports.quotes.quote, binding, deadline_s)
        self._quoted_at = self._ports.clock()
        journal.event("quote", purpose=binding.purpose.name.lower(), ms=self._quoted_at - started)
        return evidence

    async def _appraise(self, effect: Appraise) -> None:
        loop = asyncio.get_running_loop()
        try:
            verified = await loop.run_in_executor(self._appraising, self._verdict, effect)
        except ToposealError as error:
            self._step(Refused(effect.ticket, error.mismatches[0]))
        else:
            self._step(Appraised(effect.ticket, verified))

    def _verdict(self, effect: Appraise) -> VerifiedEvidence:
        """In a thread of its own. Whoever makes a parser fail in a way that we do not know is refused, like
        anybody whose evidence is not understood: the bytes are a stranger's, and appraising changes nothing.
        """
        try:
            return self._ports.appraise(effect.evidence, effect.binding, effect.topology)
        except ToposealError:
            raise
        except BaseException as error:  # a panic of the TDX library is no Exception
            raise EvidenceError(replace(cause(error), field="evidence", expected="a verdict")) from error

    def _log_phase(self) -> None:
        if self._member is not None:
            phase = self._member.phase
            attempt, sealed = attempt_of(phase), sealed_of(phase)
            epoch = attempt.epoch if attempt else sealed.manifest.epoch if sealed else 0
            named = {"manifest": sealed.manifest.digest.hex()} if sealed else {}
            journal.event("phase", phase=machine.phase_name(phase), epoch=epoch, **named)


def not_active(member: Member | None) -> RemoteProtocolError:
    """The refusal of everything that only an active member may answer."""
    phase = "boot" if member is None else machine.phase_name(member.phase)
    return RemoteProtocolError.of(Reason.NOT_ACTIVE, "phase", phase, "active")

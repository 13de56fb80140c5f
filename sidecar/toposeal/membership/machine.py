"""The member as a pure state machine: `step(state, event, now) -> (state, effects)`.

It handles all of PROTOCOL.md 4 to 6; quotes, verification, delivery, clocks and entropy are effects
and events, and happen elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import decode
from toposeal.errors import LocalProtocolError, Mismatch, Reason, RemoteProtocolError
from toposeal.evidence.binding import Binding, Purpose, live_binding
from toposeal.limits import MAX_ENVELOPE_SIZE, MAX_EPOCH_STEP
from toposeal.membership import (
    adopting,
    exchange,
    fetching,
    heartbeats,
    leaving,
    liveness,
    peers,
    rounds,
    sealing,
    timers,
    updates,
)
from toposeal.membership.events import (
    Alarm,
    Appraised,
    Event,
    Fence,
    Leave,
    Quote,
    Quoted,
    QuoteFailed,
    Received,
    Refused,
    Subject,
    Timer,
)
from toposeal.membership.fields import gpus_field
from toposeal.membership.heads import left
from toposeal.membership.peers import Step
from toposeal.membership.sealed import join_of, seal_of
from toposeal.membership.state import (
    Active,
    Boot,
    Committed,
    Fenced,
    Gathering,
    Member,
    Own,
    Phase,
    Proposed,
    Sealed,
    Waiting,
    initial,
)

FIRST_EPOCH = 1

# Which message means anything in which phase (PROTOCOL.md 6.2). Everything else is refused as stale.
MESSAGES: Mapping[str, tuple[type[Phase], ...]] = {
    "introduction": (Boot, Waiting, Gathering, Proposed, Committed, Sealed, Active),
    "hello": (Boot, Waiting, Gathering, Proposed, Committed, Sealed, Active),
    "ping": (Gathering, Proposed, Committed),
    "pong": (Gathering, Proposed),
    "propose": (Gathering, Proposed),
    "commit": (Waiting, Gathering, Proposed, Committed, Sealed, Active),
    "sealed": (Waiting, Gathering, Proposed, Committed, Sealed, Active),
    "topology": (Boot, Waiting, Gathering, Proposed, Committed, Sealed, Active),
    "heartbeat": (Waiting, Gathering, Proposed, Committed, Sealed, Active),
    "want": (Waiting, Gathering, Proposed, Committed, Sealed, Active),
    "certificate": (Waiting, Gathering, Proposed, Committed, Sealed, Active),
    "release": (Waiting, Gathering, Proposed, Active),
    "leave": (Proposed,),
}

# Every change of phase that exists; the diagram in PROTOCOL.md is made from this table.
TRANSITIONS: Mapping[type[Phase], tuple[type[Phase], ...]] = {
    Boot: (Waiting, Fenced),
    Waiting: (Gathering, Proposed, Committed, Fenced),
    Gathering: (Waiting, Proposed, Committed, Fenced),
    Proposed: (Waiting, Gathering, Committed, Fenced),
    Committed: (Waiting, Sealed, Active, Fenced),
    Sealed: (Waiting, Active, Fenced),
    Active: (Waiting, Gathering, Committed, Fenced),
    Fenced: (),
}


# What the owner declares, so that another topology may say otherwise. All else is wrong under every one, or
# for good, as a register that was extended for an earlier instance.
DECLARED = frozenset(
    {
        Reason.MEASUREMENT,
        Reason.CONFIG_DIGEST,
        Reason.TD_ATTRIBUTES,
        Reason.XFAM,
        Reason.ROLE_UNKNOWN,
        Reason.ROLE_MISMATCH,
        Reason.ROLES_INDISTINGUISHABLE,
        Reason.PLATFORM_REFUSED,
        Reason.TCB_STATUS,
        Reason.TCB_ADVISORY,
        Reason.TCB_EVALUATION,
        Reason.TCB_FLOOR,
        Reason.PRODUCT_REFUSED,
        Reason.SIGNING_KEY,
        Reason.ID_KEY,
        Reason.CSP_ID,
        Reason.VMPL,
        Reason.GUEST_POLICY,
        Reason.PLATFORM_INFO,
        Reason.MITIGATIONS,
        Reason.PROVISIONAL_FIRMWARE,
        Reason.EVIDENCE_KIND,
        Reason.GPU_COUNT,
        Reason.GPU_MODEL,
    }
)


def start(own: Own, now: int) -> Step:
    """A new boot: ask for the JOIN evidence, once. LocalProtocolError for a role that nobody declared."""
    roles = own.topology.topology.roles
    if own.identity.role not in roles:
        raise LocalProtocolError.of(Reason.ROLE_UNKNOWN, "role", own.identity.role, ", ".join(roles))
    return initial(own, now), (Quote(join_of(own.identity)),)


def step(member: Member, event: Event, now: int) -> Step:
    """One event. Raises RemoteProtocolError or TopologyError for a message that is refused, which
    changes nothing, and LocalProtocolError for anything that cannot be. `now` is in ms.
    """
    if isinstance(member.phase, Fenced):
        return member, ()
    try:
        after, effects = _dispatch(member, event, now)
    except RemoteProtocolError as error:
        if isinstance(event, Received):
            raise
        raise LocalProtocolError(*error.mismatches) from error
    after, more = heartbeats.watch(after, now)
    if after.leaving and not isinstance(after.phase, Fenced):
        more += left(after, now)
    check_transition(member.phase, after.phase)
    return after, effects + more


def check_transition(before: Phase, after: Phase) -> None:
    """Raise LocalProtocolError for a change of phase that is not in TRANSITIONS."""
    if type(after) is not type(before) and type(after) not in TRANSITIONS[type(before)]:
        expected = f"a successor of {phase_name(before)}"
        raise LocalProtocolError.of(Reason.ILLEGAL_EVENT, "phase", phase_name(after), expected)


def deadline(member: Member) -> int | None:
    """When `step` wants a `Timer`, in ms on the clock of `now`; None for never."""
    return timers.deadline(member)


def live(member: Member, challenge: bytes) -> Binding:
    """What a LIVE quote on `challenge` (32 bytes) must say; RemoteProtocolError for who may not serve."""
    if member.serving is None or member.suspended_at is not None:
        found = phase_name(member.phase) if member.serving is None else "suspended"
        raise RemoteProtocolError.of(Reason.NOT_ACTIVE, "phase", found, "active")
    manifest = member.serving.manifest
    entry = manifest.entry(member.own.iid)
    if entry is None:
        raise LocalProtocolError.of(Reason.MANIFEST_OWN_ENTRY, "manifest.members", "no own entry", "one")
    return live_binding(seal_of(manifest, entry), challenge)


def phase_name(phase: Phase) -> str:
    """Lower-case name for logs, status and metrics."""
    return type(phase).__name__.lower()


def _dispatch(member: Member, event: Event, now: int) -> Step:
    match event:
        case Received(data):
            return _received(member, data, now)
        case Timer():
            return timers.on_timer(member, event, now)
        case Quoted():
            return _quoted(member, event, now)
        case QuoteFailed():
            return _quote_failed(member, event, now)
        case Appraised():
            return _appraised(member, event, now)
        case Refused():
            return _refused(member, event, now)
        case Leave():
            return heartbeats.beat_all(replace(member, leaving=True), now)
        case _:
            return rounds.fence(member, Fence(event.mismatch))


def _received(member: Member, data: bytes, now: int) -> Step:
    envelope = decode(wire.Envelope, data, "envelope", MAX_ENVELOPE_SIZE)
    kind = envelope.WhichOneof("message")
    if kind is None:
        raise RemoteProtocolError.of(Reason.MALFORMED, "envelope.message", "nothing", "one message")
    if not isinstance(member.phase, MESSAGES[kind]):
        raise peers.stale(f"envelope.{kind}", phase_name(member.phase))
    match kind:
        case "introduction":
            return exchange.on_introduction(member, envelope.introduction, now)
        case "hello":
            return exchange.on_hello(member, envelope.hello, now)
        case "ping":
            return liveness.on_ping(member, envelope.ping)
        case "pong":
            member, joined = liveness.on_pong(member, envelope.pong, now)
            return rounds.evaluate(member, now) if joined else (member, ())
        case "propose":
            return rounds.on_propose(member, envelope.propose, now)
        case "commit":
            return sealing.on_commit(member, envelope.commit, now)
        case "sealed":
            return sealing.on_sealed(member, envelope.sealed, now)
        case "heartbeat":
            return heartbeats.on_heartbeat(member, envelope.heartbeat, now)
        case "want":
            return fetching.on_want(member, envelope.want, now)
        case "certificate":
            return fetching.on_part(member, envelope.certificate, now)
        case "release":
            return leaving.on_release(member, envelope.release)
        case "leave":
            return leaving.on_leave(member, envelope.leave, now)
        case _:
            return updates.on_topology(member, envelope.topology, now)


def _quoted(member: Member, event: Quoted, now: int) -> Step:
    if event.binding.purpose is Purpose.SEAL:
        return sealing.on_seal_quoted(member, event)
    if not isinstance(member.phase, Boot) or event.binding != join_of(member.own.identity):
        raise LocalProtocolError.of(
            Reason.ILLEGAL_EVENT, "quoted.purpose", event.binding.purpose.name, "a quote that was asked for"
        )
    # Our own JOIN evidence passes the same appraisal as a peer's before anybody else sees it.
    identity = member.own.identity
    member = replace(member, join=event.evidence, gpus=gpus_field(event.evidence, "join"))
    return member, exchange.judge(member, identity, event.evidence)


def _quote_failed(member: Member, event: QuoteFailed, now: int) -> Step:
    """Without JOIN evidence there is no member; without SEAL evidence the attempt has failed."""
    if event.binding.purpose is Purpose.SEAL:
        return sealing.on_seal_quote_failed(member, event, now)
    return rounds.fence(member, Fence(event.mismatch))


def _appraised(member: Member, event: Appraised, now: int) -> Step:
    if event.ticket.subject is Subject.COMMIT:
        return sealing.on_seal_verified(member, event, now)
    if event.ticket.subject is Subject.RECORD:
        return adopting.on_record_verified(member, event, now)
    if event.ticket.iid != member.own.iid:
        return exchange.on_admitted(member, event, now)
    if event.ticket.topology != member.topology.digest:
        return member, ()
    member = replace(member, accepted=event.ticket.topology)
    if isinstance(member.phase, Boot):
        epoch = max(FIRST_EPOCH, min(peers.highest_epoch(member), MAX_EPOCH_STEP))
        return replace(member, phase=Waiting(epoch, now), admitted=event.verified), ()
    return rounds.evaluate(member, now)


def _refused(member: Member, event: Refused, now: int) -> Step:
    if event.ticket.subject is Subject.COMMIT:
        return sealing.on_seal_refused(member, event)
    if event.ticket.subject is Subject.RECORD:
        return fetching.on_record_refused(member, event)
    if event.ticket.iid == member.own.iid:
        return _own_refused(member, event, now)
    return exchange.on_not_admitted(member, event, now)


def _own_refused(member: Member, event: Refused, now: int) -> Step:
    """Who was never admitted is no member, and says nothing to anybody; where another topology can change
    that, it waits for one. A later topology that admits us no more leaves us out of what comes next; we serve
    what was sealed for as long as leases last.
    """
    if event.ticket.topology != member.topology.digest:
        return member, ()
    if isinstance(member.phase, Boot):
        if event.mismatch.reason not in DECLARED:
            return rounds.fence(member, Fence(event.mismatch))
        return _refused_at_first(member, member.phase, event.mismatch, now)
    if member.refused == event.ticket.topology:
        return member, ()
    return replace(member, refused=event.ticket.topology), (Alarm(event.mismatch),)


def _refused_at_first(member: Member, phase: Boot, why: Mismatch, now: int) -> Step:
    if phase.refused is None:
        phase = Boot(since=now)
        member = replace(member, resend_at=now + member.topology.timers.attempt_ms)
    alarms = () if why == phase.refused else (Alarm(why),)
    return replace(member, phase=replace(phase, refused=why)), alarms

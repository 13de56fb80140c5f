"""Phase 2, agreement: PROPOSE, and the one commitment of an epoch (PROTOCOL.md 4.4, 5.2). No IO."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from toposeal._wire import peer_pb2 as wire
from toposeal.errors import LocalProtocolError, Reason, RemoteProtocolError
from toposeal.evidence.binding import Binding
from toposeal.membership import outbox
from toposeal.membership.candidates import Selection, manifest_of, select
from toposeal.membership.checks import commit_mismatches
from toposeal.membership.events import Alarm, Appraise, Effect, Fence, Quote, Subject, Ticket
from toposeal.membership.heads import look_ahead, round_is_due
from toposeal.membership.manifest import Entry, Manifest
from toposeal.membership.peers import Step, admitted_peer, highest_epoch, reach, stale
from toposeal.membership.sealed import seal_of
from toposeal.membership.signing import Tag, verify_ik
from toposeal.membership.state import (
    Active,
    Committed,
    Fenced,
    Gathering,
    Member,
    Peer,
    Proposed,
    Waiting,
    attempt_of,
)
from toposeal.membership.votes import SignedCommit, parse_decision


def evaluate(member: Member, now: int) -> Step:
    """Propose when the candidates suffice, and commit when all of them propose the same."""
    phase = member.phase
    if not isinstance(phase, (Gathering, Proposed)):
        return member, ()
    selection = select(member, phase.attempt, now) if member.blocked is None else None
    if selection is None:
        return replace(member, phase=Gathering(phase.attempt)), ()
    if isinstance(phase, Gathering) and not selection.full:
        phase = _standing(member, phase, selection, now)
        if now < phase.until:
            return replace(member, phase=phase), ()
    proposed, effects = _propose(member, phase, selection, now)
    member, more = _commit_if_agreed(replace(member, phase=proposed), proposed, now)
    return member, effects + more


def on_propose(member: Member, message: wire.Signed, now: int) -> Step:
    """Remember what a peer would commit to; a later PROPOSE replaces it."""
    proposal = parse_decision(message.body, "propose")
    peer = admitted_peer(member, proposal.sender, "propose.sender")
    verify_ik(peer.identity.ik, Tag.PROPOSE, message.body, message.signature)
    attempt = attempt_of(member.phase)
    if attempt is None or proposal.epoch != attempt.epoch:
        raise stale("propose.epoch", proposal.epoch)
    member = member.with_peer(replace(peer, proposed=proposal.manifest_digest))
    phase = member.phase
    agreed = isinstance(phase, Proposed) and _all_propose(member, phase.manifest)
    return evaluate(member, now) if agreed else (member, ())


def begin_if_due(member: Member, now: int) -> Member:
    """A member that rests on an active manifest begins the next attempt if there is a reason."""
    if not isinstance(member.phase, Active) or member.leaving:
        return member
    member = look_ahead(member, now)
    if not round_is_due(member, now):
        return member
    target = min(highest_epoch(member), reach(member))
    return replace(member, phase=Waiting(max(target, member.last_epoch + 1), now))


def fence(member: Member, effect: Fence) -> Step:
    """The last transition of a boot."""
    return replace(member, phase=Fenced(effect.mismatch), peers={}, by_id_digest={}), (effect,)


def _standing(member: Member, phase: Gathering, selection: Selection, now: int) -> Gathering:
    """With the moment since which this very selection stands, and until which it has to: a full one waits for
    nobody; where bounds leave room it stands for T_view. Nobody who lives is left out because it is slow: for
    a member of the predecessor there is the time of a lease.
    """
    timers = member.own.topology.topology.timers
    wait = max(timers.lease_ms, timers.view_ms) if selection.awaited else timers.view_ms
    since = phase.since if phase.selection == selection.iids else now
    return Gathering(phase.attempt, selection.iids, since, since + wait)


def _propose(
    member: Member, phase: Gathering | Proposed, selection: Selection, now: int
) -> tuple[Proposed, tuple[Effect, ...]]:
    """The PROPOSE of this very selection, said once; the timer repeats it. With the same entries the leaver
    is the same: the predecessor has two members or one, and without the LEAVE check 9 is not met.
    """
    if isinstance(phase, Proposed) and phase.manifest.members == selection.entries:
        return phase, ()
    manifest = manifest_of(member, phase.attempt, selection)
    deadline = now + member.own.topology.topology.timers.attempt_ms
    proposed = Proposed(phase.attempt, manifest, deadline, selection.leaver)
    return while_possible(member, proposed, now), outbox.propose(member, proposed)


def while_possible(member: Member, phase: Proposed, now: int) -> Proposed:
    """A listed member that is gone, or has committed to another manifest of this epoch, cannot commit to
    ours."""
    others = (member.peers.get(e.iid) for e in _others(member, phase.manifest))
    lost = any(peer is None or _committed_elsewhere(peer, phase.manifest) for peer in others)
    return replace(phase, deadline=now) if lost else phase


def _committed_elsewhere(peer: Peer, manifest: Manifest) -> bool:
    return peer.commit is not None and peer.commit.decision.manifest_digest != manifest.digest


def _all_propose(member: Member, manifest: Manifest) -> bool:
    others = (member.peers.get(e.iid) for e in _others(member, manifest))
    return all(p is not None and p.proposed == manifest.digest for p in others)


def _others(member: Member, manifest: Manifest) -> Iterable[Entry]:
    return (e for e in manifest.members if e.iid != member.own.iid)


def _commit_if_agreed(member: Member, phase: Proposed, now: int) -> Step:
    attempt, manifest = phase.attempt, phase.manifest
    peer = member.peers.get(phase.leaver) if phase.leaver else None
    leave = peer.left if peer else None
    if not _all_propose(member, manifest) or (phase.leaver and leave is None):
        return member, ()
    mismatches = commit_mismatches(member, attempt, manifest, now, leave)
    if mismatches:
        return replace(member, phase=replace(phase, deadline=now)), tuple(Alarm(m) for m in mismatches)
    timers = member.own.topology.topology.timers
    deadline = now + timers.quote_ms + timers.attempt_ms
    committed = Committed(attempt, manifest, deadline, None, {}, now, leave)
    member = replace(member, phase=committed, last_commitment=manifest.epoch)
    quote = Quote(own_seal(member, manifest))
    return member, (quote, *appraisals(member, committed, [e.iid for e in _others(member, manifest)]))


def appraisals(member: Member, phase: Committed, iids: Iterable[bytes]) -> tuple[Effect, ...]:
    """Verification requests for those COMMITs at hand that stand to this manifest."""
    effects = []
    for iid in iids:
        commit = member.peers[iid].commit
        if commit is not None and commit.decision.manifest_digest == phase.manifest.digest:
            effects.append(appraise(member, iid, phase.manifest, commit))
    return tuple(effects)


def appraise(member: Member, iid: bytes, manifest: Manifest, commit: SignedCommit) -> Appraise:
    """By the topology of `manifest`, which is the one that we committed under."""
    entry = manifest.entry(iid)
    if entry is None:
        raise RemoteProtocolError.of(Reason.UNKNOWN_MEMBER, "commit.sender", iid, "a member of the manifest")
    topology = member.topologies[manifest.topology_digest].topology
    ticket = Ticket(Subject.COMMIT, iid, manifest.digest)
    return Appraise(ticket, commit.evidence, seal_of(manifest, entry), topology)


def own_seal(member: Member, manifest: Manifest) -> Binding:
    """What our SEAL quote over `manifest` must say."""
    entry = manifest.entry(member.own.iid)
    if entry is None:
        raise LocalProtocolError.of(Reason.MANIFEST_OWN_ENTRY, "manifest.members", "no own entry", "one")
    return seal_of(manifest, entry)

"""Phase 2, commitment: PROPOSE, COMMIT, SEALED, active (PROTOCOL.md 4.4 to 4.6). No IO."""

from __future__ import annotations

from dataclasses import replace

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import Reason, RemoteProtocolError
from toposeal.evidence.binding import Binding
from toposeal.membership import outbox
from toposeal.membership.candidates import Selection, manifest_of, select
from toposeal.membership.checks import commit_mismatches
from toposeal.membership.events import (
    Activate,
    Alarm,
    Appraise,
    Appraised,
    Effect,
    Fence,
    Quote,
    Quoted,
    Refused,
    Subject,
    Ticket,
)
from toposeal.membership.manifest import Manifest
from toposeal.membership.peers import Step, peer_of, stale
from toposeal.membership.sealed import SealedManifest, SealedMember, seal_of
from toposeal.membership.signing import Tag, verify_ik
from toposeal.membership.state import (
    Active,
    Attempt,
    Committed,
    Fenced,
    Gathering,
    Member,
    Proposed,
    Sealed,
    attempt_of,
    sealed_of,
)
from toposeal.membership.votes import (
    SignedCommit,
    commit_message,
    make_commit,
    make_sealed,
    parse_decision,
    parse_propose,
    verify_commit,
)


def evaluate(member: Member, now: int) -> Step:
    """Propose when the candidates suffice, and commit when all of them propose the same."""
    if not isinstance(member.phase, (Gathering, Proposed)):
        return member, ()
    attempt = member.phase.attempt
    selection = select(member, attempt, now)
    if selection is None or member.own.iid not in selection.iids:
        return replace(member, phase=Gathering(attempt)), ()
    if not _is_stable(member, selection, now):
        return replace(member, phase=_gather(member.phase, attempt, selection, now)), ()
    manifest = manifest_of(member, attempt, selection)
    effects: tuple[Effect, ...] = ()
    if not isinstance(member.phase, Proposed) or member.phase.manifest.digest != manifest.digest:
        deadline = now + member.own.topology.topology.timers.attempt_ms
        member = replace(member, phase=Proposed(attempt, manifest, deadline))
        effects = outbox.propose(member, manifest)
    member, more = _commit_if_agreed(member, attempt, manifest, now)
    return member, effects + more


def on_propose(member: Member, message: wire.Signed) -> Step:
    """Remember what a peer would commit to; a later PROPOSE replaces it."""
    proposal = parse_propose(message)
    peer = peer_of(member, proposal.sender, "propose.sender")
    verify_ik(peer.identity.ik, Tag.PROPOSE, message.body, message.signature)
    attempt = attempt_of(member.phase)
    if attempt is None or proposal.epoch != attempt.epoch:
        raise stale("propose.epoch", proposal.epoch)
    return member.with_peer(replace(peer, proposal=proposal)), ()


def on_seal_quoted(member: Member, event: Quoted) -> Step:
    """The hardware signed our commitment: send COMMIT, and hold our own quote to the same checks."""
    phase = member.phase
    if not isinstance(phase, Committed) or event.binding != _own_seal(member, phase.manifest):
        return member, ()
    commit = make_commit(member.own.keys, member.own.iid, phase.manifest, event.evidence)
    member = replace(member, phase=replace(phase, commit=commit))
    data = encode(wire.Envelope(commit=commit_message(commit)))
    own = _appraise(member.own.iid, phase.manifest, commit)
    return member, (*outbox.to_listed(member, phase.manifest, data), own)


def on_commit(member: Member, message: wire.Commit) -> Step:
    """A peer's commitment: keep it, and have its SEAL evidence verified once we have committed too."""
    decision = parse_decision(message.body, "commit")
    peer = peer_of(member, decision.sender, "commit.sender")
    sealed = sealed_of(member.phase)
    if sealed is not None:
        verify_commit(message, peer.identity)
        return _help_laggard(member, sealed, decision.manifest_digest, peer.identity.iid)
    attempt = attempt_of(member.phase)
    if attempt is None or decision.epoch != attempt.epoch:
        raise stale("commit.epoch", decision.epoch)
    if peer.commit is not None and peer.commit.decision.body == message.body:
        return member, ()
    commit = verify_commit(message, peer.identity)
    member = member.with_peer(replace(peer, commit=commit))
    phase = member.phase
    if isinstance(phase, Committed) and commit.decision.manifest_digest == phase.manifest.digest:
        return member, _appraisals(member, phase, (peer.identity.iid,))
    return member, ()


def on_seal_verified(member: Member, event: Appraised, now: int) -> Step:
    """One more verified commitment; with all n of them the manifest is sealed."""
    phase = member.phase
    if not isinstance(phase, Committed) or event.ticket.digest != phase.manifest.digest:
        return member, ()
    proof = _sealed_member(member, phase, event)
    if proof is None:
        return member, ()
    members = {**phase.members, event.ticket.iid: proof}
    phase = replace(phase, members=members)
    if len(members) < len(phase.manifest.members):
        return replace(member, phase=phase), ()
    return _seal(member, phase, now)


def on_seal_refused(member: Member, event: Refused) -> Step:
    """A peer's evidence failed: another COMMIT of it may replace it. Our own failing is a fault."""
    if event.ticket.iid == member.own.iid:
        return fence(member, Fence(event.mismatch))
    peer = member.peers.get(event.ticket.iid)
    if peer is not None:
        member = member.with_peer(replace(peer, commit=None))
    return member, (Alarm(event.mismatch),)


def on_sealed(member: Member, message: wire.Signed) -> Step:
    """A peer has verified and installed D; with all of them the manifest is active."""
    decision = parse_decision(message.body, "sealed")
    peer = peer_of(member, decision.sender, "sealed.sender")
    verify_ik(peer.identity.ik, Tag.SEALED, message.body, message.signature)
    if _current_digest(member) != decision.manifest_digest:
        raise stale("sealed.manifest_digest", decision.manifest_digest)
    member = member.with_peer(replace(peer, sealed=decision.manifest_digest))
    return activate_if_all_sealed(member)


def activate_if_all_sealed(member: Member) -> Step:
    """SEALED becomes ACTIVE only with SEALED(D) of every member (DESIGN "Checks before sealing")."""
    phase = member.phase
    if not isinstance(phase, Sealed):
        return member, ()
    d = phase.sealed.manifest.digest
    others = (e.iid for e in phase.sealed.manifest.members if e.iid != member.own.iid)
    if any(iid not in member.peers or member.peers[iid].sealed != d for iid in others):
        return member, ()
    return replace(member, phase=Active(phase.sealed)), (Activate(phase.sealed),)


def fence(member: Member, effect: Fence) -> Step:
    """The last transition of a boot."""
    return replace(member, phase=Fenced(effect.mismatch), peers={}, by_id_digest={}), (effect,)


def _is_stable(member: Member, selection: Selection, now: int) -> bool:
    """A full selection waits for nobody; where bounds leave room, the choice has stood for T_view."""
    if selection.full or not isinstance(member.phase, Gathering):
        return True
    view_ms = member.own.topology.topology.timers.view_ms
    return member.phase.selection == selection.iids and now - member.phase.since >= view_ms


def _gather(phase: Gathering | Proposed, attempt: Attempt, selection: Selection, now: int) -> Gathering:
    """Gathering on, with the moment since which this very selection stands."""
    same = isinstance(phase, Gathering) and phase.selection == selection.iids
    return Gathering(attempt, selection.iids, phase.since if isinstance(phase, Gathering) and same else now)


def _commit_if_agreed(member: Member, attempt: Attempt, manifest: Manifest, now: int) -> Step:
    others = [e.iid for e in manifest.members if e.iid != member.own.iid]
    proposals = [member.peers[iid].proposal for iid in others]
    if any(p is None or p.manifest_digest != manifest.digest for p in proposals):
        return member, ()
    mismatches = commit_mismatches(member, attempt, manifest, now)
    if mismatches:
        return member, tuple(Alarm(m) for m in mismatches)
    timers = member.own.topology.topology.timers
    phase = Committed(attempt, manifest, now + timers.quote_ms + timers.attempt_ms, None, {})
    member = replace(member, phase=phase, last_commitment=manifest.epoch)
    quote = Quote(_own_seal(member, manifest))
    return member, (quote, *_appraisals(member, phase, others))


def _appraisals(
    member: Member, phase: Committed, iids: list[bytes] | tuple[bytes, ...]
) -> tuple[Effect, ...]:
    """Verification requests for those COMMITs at hand that stand to this manifest."""
    effects = []
    for iid in iids:
        commit = member.peers[iid].commit
        wanted = phase.manifest.entry(iid) is not None and iid not in phase.members
        if wanted and commit is not None and commit.decision.manifest_digest == phase.manifest.digest:
            effects.append(_appraise(iid, phase.manifest, commit))
    return tuple(effects)


def _appraise(iid: bytes, manifest: Manifest, commit: SignedCommit) -> Appraise:
    entry = manifest.entry(iid)
    if entry is None:
        raise RemoteProtocolError.of(Reason.UNKNOWN_MEMBER, "commit.sender", iid, "a member of the manifest")
    return Appraise(Ticket(Subject.COMMIT, iid, manifest.digest), commit.evidence, seal_of(manifest, entry))


def _sealed_member(member: Member, phase: Committed, event: Appraised) -> SealedMember | None:
    iid = event.ticket.iid
    entry = phase.manifest.entry(iid)
    if entry is None or event.verified.binding != seal_of(phase.manifest, entry):
        return None
    if iid == member.own.iid:
        if phase.commit is None:
            return None
        return SealedMember(member.own.signed, phase.attempt.hello, phase.commit, event.verified)
    peer = member.peers.get(iid)
    if peer is None or peer.commit is None or peer.hello.hello_digest != entry.hello_digest:
        return None
    if peer.commit.decision.manifest_digest != phase.manifest.digest:
        return None
    return SealedMember(peer.signed, peer.hello, peer.commit, event.verified)


def _seal(member: Member, phase: Committed, now: int) -> Step:
    """n verified COMMITs over one D, and our own last commitment is this one: no late seal, ever."""
    if member.last_commitment != phase.manifest.epoch:
        raise RemoteProtocolError.of(
            Reason.LATE_SEAL, "manifest.epoch", phase.manifest.epoch, member.last_commitment
        )
    sealed = SealedManifest(
        manifest=phase.manifest,
        topology=member.own.topology.topology,
        members=tuple(phase.members[e.iid] for e in phase.manifest.members),
    )
    deadline = now + member.own.topology.topology.timers.attempt_ms
    member = replace(member, phase=Sealed(sealed, deadline), failures=0)
    signed = make_sealed(member.own.keys, member.own.iid, phase.manifest)
    data = encode(wire.Envelope(sealed=signed))
    member, effects = activate_if_all_sealed(member)
    return member, (*outbox.to_listed(member, sealed.manifest, data), *effects)


def _help_laggard(member: Member, sealed: SealedManifest, d: bytes, iid: bytes) -> Step:
    """A member still collecting what we have already: give it our COMMIT and SEALED again."""
    if d != sealed.manifest.digest or sealed.manifest.entry(iid) is None:
        raise stale("commit.manifest_digest", d)
    votes = outbox.votes(member, Sealed(sealed, 0))
    return member, tuple(outbox.send(member.peers[iid], data) for data in votes)


def _own_seal(member: Member, manifest: Manifest) -> Binding:
    entry = manifest.entry(member.own.iid)
    if entry is None:
        raise RemoteProtocolError.of(Reason.MANIFEST_OWN_ENTRY, "manifest.members", "no own entry", "one")
    return seal_of(manifest, entry)


def _current_digest(member: Member) -> bytes | None:
    phase = member.phase
    if isinstance(phase, Committed):
        return phase.manifest.digest
    sealed = sealed_of(phase)
    return sealed.manifest.digest if sealed else None

"""Phase 2, certificate: COMMIT of all, SEALED of all, active (PROTOCOL.md 4.5, 4.6, 5.3). No IO."""

from __future__ import annotations

from dataclasses import replace

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import Mismatch, Reason, RemoteProtocolError, printable
from toposeal.membership import outbox
from toposeal.membership.certificate import Certificate
from toposeal.membership.events import Activate, Alarm, Appraised, Fence, Quoted, QuoteFailed, Refused
from toposeal.membership.fetching import hold, known_topologies
from toposeal.membership.history import with_chain
from toposeal.membership.peers import Step, admitted_peer, stale
from toposeal.membership.rounds import appraisals, appraise, fence, own_seal, while_possible
from toposeal.membership.sealed import SealedManifest, SealedMember, check_verified, seal_of
from toposeal.membership.signing import Tag, verify_ik
from toposeal.membership.state import (
    Active,
    Committed,
    Member,
    Proposed,
    Sealed,
    attempt_of,
)
from toposeal.membership.votes import (
    Decision,
    SignedCommit,
    commit_message,
    make_commit,
    make_sealed,
    parse_decision,
    verify_commit,
)
from toposeal.verification.model import VerifiedEvidence


def on_seal_quoted(member: Member, event: Quoted) -> Step:
    """The hardware signed our commitment: send COMMIT, and hold our own quote to the same checks."""
    phase = member.phase
    if not isinstance(phase, Committed) or event.binding != own_seal(member, phase.manifest):
        return member, ()
    commit = make_commit(member.own.keys, member.own.iid, phase.manifest, event.evidence)
    member = replace(member, phase=replace(phase, commit=commit))
    data = encode(wire.Envelope(commit=commit_message(commit)))
    own = appraise(member, member.own.iid, phase.manifest, commit)
    return member, (*outbox.to_listed(member, phase.manifest, data), own)


def on_seal_quote_failed(member: Member, event: QuoteFailed, now: int) -> Step:
    """No SEAL evidence: the attempt has failed, and the others see it by our next HELLO."""
    phase = member.phase
    if isinstance(phase, Committed) and event.binding == own_seal(member, phase.manifest):
        member = replace(member, phase=replace(phase, deadline=now))
    return member, (Alarm(event.mismatch),)


def on_commit(member: Member, message: wire.Commit, now: int) -> Step:
    """A peer's commitment: keep it, and have its SEAL evidence verified once we have committed too."""
    decision = parse_decision(message.body, "commit")
    peer = admitted_peer(member, decision.sender, "commit.sender")
    held = member.chain.get(member.sealed)
    if held is not None and decision.manifest_digest == held.digest:
        verify_commit(message, peer.identity)
        return _help_laggard(member, held.sealed, decision, now)
    attempt = attempt_of(member.phase)
    if attempt is None or decision.epoch != attempt.epoch:
        raise stale("commit.epoch", decision.epoch)
    kept = peer.commit
    if kept is not None and kept.decision.body == message.body:
        return member, ()
    commit = verify_commit(message, peer.identity)
    if kept is not None:
        raise _repeated(kept, commit)
    member = member.with_peer(replace(peer, commit=commit))
    phase = member.phase
    if isinstance(phase, Proposed):
        return replace(member, phase=while_possible(member, phase, now)), ()
    if isinstance(phase, Committed):
        return member, appraisals(member, phase, (peer.identity.iid,))
    return member, ()


def on_seal_verified(member: Member, event: Appraised, now: int) -> Step:
    """One more verified commitment; with all n of them the manifest is sealed."""
    phase = member.phase
    if not isinstance(phase, Committed) or event.ticket.digest != phase.manifest.digest:
        return member, ()
    joined = _joined(member, event.ticket.iid)
    if joined is None:
        return member, ()
    proof = _sealed_member(member, phase, event)
    if proof is None:
        return member, ()
    moved = _moved(event.verified, joined)
    if moved is not None:
        return on_seal_refused(member, Refused(event.ticket, moved))
    peer = member.peers.get(event.ticket.iid)
    if peer is not None and peer.failed_at is not None:
        member = member.with_peer(replace(peer, failed_at=None))
    members = {**phase.members, event.ticket.iid: proof}
    phase = replace(phase, members=members)
    if len(members) < len(phase.manifest.members):
        return replace(member, phase=phase), ()
    return _seal(member, phase, now)


def on_seal_refused(member: Member, event: Refused) -> Step:
    """A peer's evidence failed: another COMMIT of it may replace it. Our own failing is a fault."""
    phase = member.phase
    if not isinstance(phase, Committed) or event.ticket.digest != phase.manifest.digest:
        return member, ()
    if event.ticket.iid == member.own.iid:
        return fence(member, Fence(event.mismatch))
    peer = member.peers.get(event.ticket.iid)
    if peer is None or event.ticket.iid in phase.members:
        return member, ()
    return member.with_peer(replace(peer, commit=None)), (Alarm(event.mismatch),)


def on_sealed(member: Member, message: wire.Signed, now: int) -> Step:
    """A peer has verified and installed D; with all of them the manifest is active."""
    decision = parse_decision(message.body, "sealed")
    peer = admitted_peer(member, decision.sender, "sealed.sender")
    verify_ik(peer.identity.ik, Tag.SEALED, message.body, message.signature)
    d = decision.manifest_digest
    held, phase = member.chain.get(d), member.phase
    manifest = held.manifest if held else None
    if isinstance(phase, Committed) and phase.manifest.digest == d:
        manifest = phase.manifest
    # Others are shown this very signature as its sender's SEALED.
    if manifest is None or manifest.entry(decision.sender) is None or decision.epoch != manifest.epoch:
        raise stale("sealed.manifest_digest", d)
    if held is None or d == member.sealed:
        member = member.with_peer(replace(peer, sealed=d, seal=message.signature))
    if held is not None:
        held = held.with_seal(decision.sender, message.signature)
        member = replace(member, chain={**member.chain, d: held})
    return activate_if_all_sealed(member, now)


def activate_if_all_sealed(member: Member, now: int) -> Step:
    """SEALED becomes ACTIVE only with SEALED(D) of every member, also if a later attempt has begun."""
    held = member.chain.get(member.sealed)
    served = member.serving.manifest.digest if member.serving else None
    if held is None or not held.proven or served == held.digest:
        return member, ()
    # Every member's SEALED answers our COMMIT: each held this manifest later than that.
    lease = member.sealed_at + member.own.topology.topology.timers.lease_ms
    peers = {
        iid: replace(p, lease_until=max(p.lease_until, lease)) if iid in held.sealed.iids else p
        for iid, p in member.peers.items()
    }
    kept = {d: link for d, link in member.chain.items() if link.manifest.epoch >= held.manifest.epoch}
    phase = Active(held.sealed) if isinstance(member.phase, Sealed) else member.phase
    member = replace(member, serving=held.sealed, serving_since=member.sealed_at, peers=peers)
    version = held.manifest.topology_version
    newer = tuple((known, since) for known, since in member.adopted if known > version)
    member = replace(member, phase=phase, beat_at=now, adopted=newer)
    return known_topologies(with_chain(member, kept)), (Activate(held.sealed),)


def _sealed_member(member: Member, phase: Committed, event: Appraised) -> SealedMember | None:
    """What proves our own entry or a peer's, or None if what was appraised is no longer what we hold."""
    iid = event.ticket.iid
    entry = phase.manifest.entry(iid)
    if entry is None:
        return None
    check_verified(event.verified, seal_of(phase.manifest, entry))
    if iid == member.own.iid:
        signed, hello, commit, gpus = member.own.signed, phase.attempt.hello, phase.commit, member.gpus
    else:
        peer = member.peers[iid]
        signed, hello, commit, gpus = peer.signed, peer.hello, peer.commit, peer.gpus
    if commit is None or commit.decision.manifest_digest != phase.manifest.digest:
        return None
    if hello.hello_digest != entry.hello_digest:
        return None
    return SealedMember(signed, hello, commit, event.verified, gpus)


def _joined(member: Member, iid: bytes) -> VerifiedEvidence | None:
    """What the JOIN evidence of an instance (ours, or an admitted peer's) said; None for any other."""
    if iid == member.own.iid:
        return member.admitted
    peer = member.peers.get(iid)
    return peer.admitted.join if peer and peer.admitted else None


def _moved(sealed: VerifiedEvidence, joined: VerifiedEvidence) -> Mismatch | None:
    """SEAL evidence comes from the guest that JOIN evidence came from, on the same machine."""
    for name in ("tee", "platform", "guest"):
        found, expected = getattr(sealed, name), getattr(joined, name)
        if found != expected:
            return Mismatch(Reason.IDENTITY_MISMATCH, f"seal.{name}", printable(found), printable(expected))
    return None


def _seal(member: Member, phase: Committed, now: int) -> Step:
    """n verified COMMITs over one D, and our own last commitment is this one: no late seal, ever."""
    if member.last_commitment != phase.manifest.epoch:
        raise RemoteProtocolError.of(
            Reason.LATE_SEAL, "manifest.epoch", phase.manifest.epoch, member.last_commitment
        )
    sealed = SealedManifest(
        manifest=phase.manifest,
        topology=member.topologies[phase.manifest.topology_digest].topology,
        members=tuple(phase.members[e.iid] for e in phase.manifest.members),
    )
    deadline = now + member.own.topology.topology.timers.attempt_ms
    signed = make_sealed(member.own.keys, member.own.iid, phase.manifest)
    data = encode(wire.Envelope(sealed=signed))
    d = phase.manifest.digest
    seals = {iid: p.seal for iid, p in member.peers.items() if iid in sealed.iids and p.sealed == d}
    member = hold(member, Certificate(sealed, {**seals, member.own.iid: signed.signature}, phase.leave))
    member = replace(member, phase=Sealed(sealed, deadline), sealed=d, sealed_at=phase.since, failures=0)
    member, effects = activate_if_all_sealed(member, now)
    return member, (*outbox.to_listed(member, sealed.manifest, data), *effects)


def _help_laggard(member: Member, sealed: SealedManifest, decision: Decision, now: int) -> Step:
    """A member still collecting what we have already gets our votes again, once in `ping_ms` at most.

    A COMMIT is also a question for the other's votes. So whoever has sealed gets SEALED alone, which
    asks for nothing: two sealed members do not keep each other talking.
    """
    if sealed.manifest.entry(decision.sender) is None:
        raise stale("commit.manifest_digest", decision.manifest_digest)
    peer = member.peers[decision.sender]
    interval = member.own.topology.topology.timers.ping_ms
    if peer.helped_at is not None and now - peer.helped_at < interval:
        return member, ()
    commit, own_sealed = outbox.certificate_votes(member, sealed)
    votes = (own_sealed,) if peer.sealed == sealed.manifest.digest else (commit, own_sealed)
    member = member.with_peer(replace(peer, helped_at=now))
    return member, tuple(outbox.send(peer, data) for data in votes)


def _repeated(kept: SignedCommit, commit: SignedCommit) -> RemoteProtocolError:
    """Commit once: the first commitment of an epoch stands, whatever else its sender signs."""
    found, expected = commit.decision.manifest_digest, kept.decision.manifest_digest.hex()
    return RemoteProtocolError.of(Reason.COMMIT_REPEATED, "commit.manifest_digest", found, expected)

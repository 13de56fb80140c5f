"""RELEASE and LEAVE: the last but one ends, and the other goes on (PROTOCOL.md 4.10). No IO."""

from __future__ import annotations

from dataclasses import replace

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import Mismatch, Reason, RemoteProtocolError
from toposeal.membership.checks import leave_mismatches
from toposeal.membership.events import Left, Send
from toposeal.membership.leave import leave_message, make_leave, require_for, verify_leave
from toposeal.membership.manifest import Manifest, parse_manifest
from toposeal.membership.peers import Step, admitted_peer, stale
from toposeal.membership.records import require_equal
from toposeal.membership.rounds import evaluate
from toposeal.membership.signing import Tag, verify_ik
from toposeal.membership.state import Fenced, Member, Proposed
from toposeal.membership.votes import parse_decision


def on_release(member: Member, message: wire.Release) -> Step:
    """A member that the next manifest lists can do without us, but for our LEAVE; with the word of all that
    it lists we give it, and are fenced by that.
    """
    if not member.leaving:
        raise stale("release", "one that leaves is asked")
    manifest = parse_manifest(message.manifest)
    proposal = parse_decision(message.propose.body, "release.propose")
    peer = admitted_peer(member, proposal.sender, "release.propose.sender")
    verify_ik(peer.identity.ik, Tag.PROPOSE, message.propose.body, message.propose.signature)
    require_equal(
        Reason.MANIFEST_MISMATCH,
        ("release.propose.manifest_digest", proposal.manifest_digest, manifest.digest),
        ("release.propose.epoch", proposal.epoch, manifest.epoch),
    )
    if manifest.entry(proposal.sender) is None:
        raise RemoteProtocolError.of(
            Reason.UNKNOWN_MEMBER, "release.propose.sender", proposal.sender, "a member that it lists"
        )
    mismatches = leave_mismatches(member, manifest)
    if mismatches:
        raise RemoteProtocolError(*mismatches)
    member = member.with_peer(replace(peer, proposed=manifest.digest))
    agreed = all(member.peers[entry.iid].proposed == manifest.digest for entry in manifest.members)
    return _leave(member, manifest) if agreed else (member, ())


def on_leave(member: Member, message: wire.Leave, now: int) -> Step:
    """The LEAVE that what we propose waits for, from its sender or whoever has it."""
    leave = verify_leave(message)
    peer = admitted_peer(member, leave.sender, "leave.sender")
    phase = member.phase
    if not isinstance(phase, Proposed) or phase.leaver != leave.sender:
        raise stale("leave.sender", leave.sender)
    require_for(leave, phase.manifest)
    if peer.left is not None and peer.left.decision != leave.decision:
        found, expected = leave.decision.manifest_digest, peer.left.decision.manifest_digest.hex()
        raise RemoteProtocolError.of(Reason.COMMIT_REPEATED, "leave.manifest_digest", found, expected)
    return evaluate(member.with_peer(replace(peer, left=leave)), now)


def _leave(member: Member, manifest: Manifest) -> Step:
    """What is signed here is sent by whoever has closed the gate; nothing is signed after it."""
    leave = make_leave(member.own.keys, member.own.identity, manifest)
    data = encode(wire.Envelope(leave=leave_message(leave)))
    listed = [member.peers[entry.iid] for entry in manifest.members]
    farewell = tuple(Send(peer.identity.iid, peer.hello.addresses, data) for peer in listed)
    why = Mismatch(Reason.NOT_ACTIVE, "leave", f"signed for epoch {manifest.epoch}", "a member that stays")
    member = replace(member, phase=Fenced(why), serving=None, peers={}, by_id_digest={})
    return member, (Left(replaced=True, farewell=farewell),)

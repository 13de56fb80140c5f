"""Envelopes ready to send: the own messages of the present state. No IO."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import digest, encode, u64
from toposeal.limits import MAX_ENVELOPE_SIZE, NONCE_SIZE
from toposeal.membership.events import Announce, Effect, Send
from toposeal.membership.hello import Hello
from toposeal.membership.leave import leave_message
from toposeal.membership.manifest import Manifest
from toposeal.membership.sealed import SealedManifest
from toposeal.membership.signing import Tag
from toposeal.membership.state import Attempt, Committed, Member, Peer, Proposed, Sealed, attempt_of
from toposeal.membership.votes import commit_message, make_liveness, make_propose, make_sealed


def announce(
    member: Member, introduction: bytes | None, known: frozenset[str] = frozenset()
) -> tuple[Effect, ...]:
    """The own Introduction, once there is one, to every configured address but those `known`; with it our
    topology while nothing is served under it. Who is there may wait, silent, for one that admits it (4.7).
    """
    if introduction is None:
        return ()
    return (Announce((introduction, *_unsealed_topology(member)), known),)


def introduction(member: Member) -> bytes | None:
    """IDENTITY, JOIN evidence and the current HELLO in one; None before there is one of each."""
    current = current_hello(member)
    if current is None or member.join is None:
        return None
    signed = member.own.signed
    return encode(
        wire.Envelope(
            introduction=wire.Introduction(
                identity=signed.identity.body,
                ik_signature=signed.ik_signature,
                ca_signature=signed.ca_signature,
                join=member.join,
                hello=_hello(current),
            )
        )
    )


def current_hello(member: Member) -> Hello | None:
    """That of the attempt, or of what we sealed last; None before there is one."""
    attempt = attempt_of(member.phase)
    if attempt is not None:
        return attempt.hello
    held = member.chain.get(member.sealed)
    return held.sealed.member(member.own.iid).hello if held else None


def hello(attempt: Attempt) -> bytes:
    return encode(wire.Envelope(hello=_hello(attempt.hello)))


def ping(member: Member, attempt: Attempt, peer: Peer) -> tuple[Member, tuple[Effect, ...]]:
    """Ask `peer` whether it lives in this attempt, with a nonce never used before."""
    peer = replace(peer, pings=peer.pings + 1)
    signed = make_liveness(
        member.own.keys,
        Tag.PING,
        member.own.iid,
        peer.identity.iid,
        ping_nonce(attempt, peer, peer.pings),
        attempt.epoch,
    )
    return member.with_peer(peer), (send(peer, encode(wire.Envelope(ping=signed))),)


def ping_nonce(attempt: Attempt, peer: Peer, count: int) -> bytes:
    """32 bytes; unpredictable to all others, since the attempt's secret is."""
    return digest("toposeal/v1/ping-nonce", attempt.ping_secret, peer.identity.iid, u64(count))[:NONCE_SIZE]


def pong(member: Member, attempt: Attempt, peer: Peer, nonce: bytes) -> Effect:
    signed = make_liveness(member.own.keys, Tag.PONG, member.own.iid, peer.identity.iid, nonce, attempt.epoch)
    return send(peer, encode(wire.Envelope(pong=signed)))


def topology(member: Member, peer: Peer) -> tuple[Effect, ...]:
    """Our signed topology, unless it is larger than any envelope may be: then digests must do."""
    return tuple(send(peer, data) for data in _topology(member))


def propose(member: Member, phase: Proposed) -> tuple[Effect, ...]:
    """PROPOSE to every other member of the manifest, and to whoever is to leave to it, with the manifest."""
    said = to_listed(member, phase.manifest, proposal(member, phase.manifest))
    leaver = member.peers.get(phase.leaver) if phase.leaver else None
    if leaver is None or leaver.left is not None:
        return said
    signed = make_propose(member.own.keys, member.own.iid, phase.manifest)
    release = wire.Release(manifest=phase.manifest.body, propose=signed)
    return (*said, send(leaver, encode(wire.Envelope(release=release))))


def proposal(member: Member, manifest: Manifest) -> bytes:
    return encode(wire.Envelope(propose=make_propose(member.own.keys, member.own.iid, manifest)))


def votes(member: Member, phase: Committed | Sealed) -> tuple[bytes, ...]:
    """The own COMMIT, once quoted, and the own SEALED, once sealed."""
    if isinstance(phase, Committed):
        commits = [phase.commit] if phase.commit else []
        return tuple(encode(wire.Envelope(commit=commit_message(c))) for c in commits)
    return certificate_votes(member, phase.sealed)


def leave(phase: Committed) -> tuple[bytes, ...]:
    """The LEAVE that our commitment rests on, for who may lack it."""
    return (encode(wire.Envelope(leave=leave_message(phase.leave))),) if phase.leave else ()


def certificate_votes(member: Member, sealed: SealedManifest) -> tuple[bytes, bytes]:
    """The own COMMIT and SEALED."""
    own = sealed.member(member.own.iid)
    message = make_sealed(member.own.keys, member.own.iid, sealed.manifest)
    return (
        encode(wire.Envelope(commit=commit_message(own.commit))),
        encode(wire.Envelope(sealed=message)),
    )


def to_listed(member: Member, manifest: Manifest, data: bytes) -> tuple[Effect, ...]:
    """`data` to every other member of `manifest`."""
    others = (e.iid for e in manifest.members if e.iid != member.own.iid)
    return to_peers(member, others, data)


def to_peers(member: Member, iids: Iterable[bytes], data: bytes) -> tuple[Effect, ...]:
    return tuple(send(member.peers[iid], data) for iid in iids if iid in member.peers)


def send(peer: Peer, data: bytes) -> Effect:
    return Send(peer.identity.iid, peer.hello.addresses, data)


def _unsealed_topology(member: Member) -> tuple[bytes, ...]:
    return _topology(member) if member.adopted else ()


def _topology(member: Member) -> tuple[bytes, ...]:
    data = encode(wire.Envelope(topology=member.own.topology.envelope))
    return (data,) if len(data) <= MAX_ENVELOPE_SIZE else ()


def _hello(current: Hello) -> wire.Signed:
    return wire.Signed(body=current.body, signature=current.signature)

"""PING and PONG: who lives in this attempt, and who may count on us (PROTOCOL.md 4.3). No IO."""

from __future__ import annotations

from dataclasses import replace

from toposeal._wire import peer_pb2 as wire
from toposeal.errors import Reason, RemoteProtocolError
from toposeal.membership import outbox
from toposeal.membership.candidates import is_candidate
from toposeal.membership.peers import Step, admitted_peer, known_peer, stale
from toposeal.membership.signing import Tag, verify_ik
from toposeal.membership.state import (
    Attempt,
    Committed,
    Gathering,
    Member,
    Peer,
    Proposed,
    attempt_of,
)
from toposeal.membership.votes import parse_liveness

_EAGER_PINGS = 2  # in one attempt, the second as soon as the peer shows life: a lost one costs no time


def on_ping(member: Member, message: wire.Signed) -> Step:
    """Answer whoever may count on us; to a stranger's addresses nothing is ever sent (P5)."""
    ping = parse_liveness(message, "ping")
    peer = known_peer(member, ping.sender, "ping.sender")
    _check_receiver(member, ping.receiver, "ping.receiver")
    verify_ik(peer.identity.ik, Tag.PING, message.body, message.signature)
    if peer.admitted is None:
        return member.with_peer(replace(peer, asked=ping.nonce)), ()
    return _answer(member, peer, ping.nonce)


def on_pong(member: Member, message: wire.Signed, now: int) -> tuple[Member, bool]:
    """Proof of life in this attempt; the answer to one of the last pings counts.

    Also whether that made the peer a candidate: only then is there anything to decide anew.
    """
    pong = parse_liveness(message, "pong")
    peer = admitted_peer(member, pong.sender, "pong.sender")
    _check_receiver(member, pong.receiver, "pong.receiver")
    verify_ik(peer.identity.ik, Tag.PONG, message.body, message.signature)
    attempt = attempt_of(member.phase)
    if attempt is None or pong.target_epoch != attempt.epoch:
        raise stale("pong.target_epoch", pong.target_epoch)
    recent = range(peer.pings, max(0, peer.pings - _EAGER_PINGS - 1), -1)  # most answers are to the last
    if all(pong.nonce != outbox.ping_nonce(attempt, peer, n) for n in recent):
        raise stale("pong.nonce", pong.nonce)
    known = is_candidate(member, attempt, peer, now)
    return member.with_peer(replace(peer, pong_at=now, alive_at=now, silent=0)), not known


def attempt_open_to(member: Member, peer: Peer) -> Attempt | None:
    """After a commitment only its own members may still count on us."""
    phase = member.phase
    if isinstance(phase, Committed):
        return phase.attempt if phase.manifest.entry(peer.identity.iid) else None
    return phase.attempt if isinstance(phase, (Gathering, Proposed)) and member.blocked is None else None


def ping_current(member: Member, attempt: Attempt, peer: Peer) -> Step:
    """Ask `peer` for life if it is in this attempt."""
    return outbox.ping(member, attempt, peer) if peer.hello.target_epoch == attempt.epoch else (member, ())


def _answer(member: Member, peer: Peer, nonce: bytes) -> Step:
    """PONG while `peer` may count on us, otherwise silence; and a PING if we know less than it does."""
    attempt = attempt_open_to(member, peer)
    if attempt is None:
        return member, ()
    answer = outbox.pong(member, attempt, peer, nonce)
    if peer.pong_at is not None or peer.pings >= _EAGER_PINGS or isinstance(member.phase, Committed):
        return member, (answer,)
    member, effects = ping_current(member, attempt, peer)
    return member, (answer, *effects)


def _check_receiver(member: Member, receiver: bytes, field: str) -> None:
    if receiver != member.own.iid:
        raise RemoteProtocolError.of(Reason.IDENTITY_MISMATCH, field, receiver, member.own.iid.hex())

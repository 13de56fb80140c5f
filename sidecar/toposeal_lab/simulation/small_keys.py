"""What of a member of a small scope can decide anything: two that agree in it go on in the same way."""

from __future__ import annotations

from typing import Protocol

from toposeal.membership.state import (
    Committed,
    Fenced,
    Gathering,
    Member,
    Peer,
    Proposed,
    Sealed,
    Waiting,
)

_FAR = 4_000  # ms: whatever lies further off has no other meaning


class Pod(Protocol):
    """One boot, and what its clock shows."""

    @property
    def member(self) -> Member: ...

    @property
    def clock(self) -> int: ...


def pod_key(pod: Pod) -> tuple[object, ...]:
    """Two pods with the same key go on in the same way, but for numbers that mean nothing."""
    member, clock = pod.member, pod.clock
    return (
        _phase_key(pod),
        member.last_commitment,
        member.last_epoch,
        member.failures > 0,
        member.sealed,
        (member.topology.digest, member.accepted, member.refused, member.blocked),
        tuple((version, _off(since, clock)) for version, since in member.adopted),
        member.serving and member.serving.manifest.digest,
        member.suspended_at is None,
        member.fetch and (member.fetch.digest, member.fetch.topology),
        member.prospect and member.prospect.iids,
        member.leaving,
        frozenset((d, frozenset(link.seals), bool(link.leave)) for d, link in member.chain.items()),
        frozenset(_peer_key(peer, clock) for peer in member.peers.values()),
    )


def _phase_key(pod: Pod) -> tuple[object, ...]:
    match pod.member.phase:
        case Waiting(epoch, until):
            return ("waiting", epoch, _off(until, pod.clock))
        case Gathering(attempt, selection, since):
            return ("gathering", attempt.hello.hello_digest, selection, _off(since, pod.clock))
        case Proposed(_, manifest, deadline, leaver):
            return ("proposed", manifest.digest, _off(deadline, pod.clock), leaver)
        case Committed() as phase:
            ends = _off(phase.deadline, pod.clock)
            return ("committed", phase.manifest.digest, frozenset(phase.members), ends)
        case Sealed(sealed, deadline):
            return ("sealed", sealed.manifest.digest, _off(deadline, pod.clock))
        case Fenced():
            return ("fenced",)
        case phase:
            return (type(phase).__name__,)


def _peer_key(peer: Peer, clock: int) -> tuple[object, ...]:
    return (
        peer.identity.iid,
        peer.admitted and peer.admitted.topology,
        peer.refused,
        _off(peer.shown_at, clock),
        peer.hello.hello_digest,
        peer.proposed,
        peer.commit and peer.commit.decision.manifest_digest,
        peer.sealed,
        peer.leaving,
        peer.left and peer.left.decision,
        peer.head,
        _off(peer.pong_at, clock),
        _off(peer.alive_at, clock),
        _off(peer.lease_until, clock),
    )


def _off(time: int | None, clock: int) -> int | None:
    return None if time is None else max(-_FAR, min(_FAR, time - clock))

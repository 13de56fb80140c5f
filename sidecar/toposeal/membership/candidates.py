"""The deterministic choice of a genesis manifest's members (PROTOCOL.md 5.1). No IO."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from toposeal.membership.manifest import Entry, Manifest, build_genesis
from toposeal.membership.state import Attempt, Member, Peer
from toposeal.topology.model import Role

_MISSED_PINGS = 3  # a candidate that missed this many in a row is not live


@dataclass(frozen=True)
class Selection:
    """The members that the next manifest would have. `full`: no further instance could be in it."""

    entries: tuple[Entry, ...]
    full: bool

    @property
    def iids(self) -> tuple[bytes, ...]:
        return tuple(e.iid for e in self.entries)


def select(member: Member, attempt: Attempt, now: int) -> Selection | None:
    """Per role the live candidates by ascending iid up to max; None while a role has fewer than min.

    Every member that sees the same candidates chooses the same ones.
    """
    topology = member.own.topology.topology
    entries: list[Entry] = []
    full = True
    for role in topology.roles.values():
        chosen = sorted(_candidates(member, attempt, role, now))[: role.max_replicas]
        if len(chosen) < role.min_replicas:
            return None
        full = full and len(chosen) == role.max_replicas
        entries += chosen
    return Selection(tuple(sorted(entries)), full)


def manifest_of(member: Member, attempt: Attempt, selection: Selection) -> Manifest:
    """The genesis manifest of `selection` for this attempt."""
    own = member.own
    return build_genesis(own.identity.mesh_id, own.topology.topology, attempt.epoch, selection.entries)


def is_candidate(member: Member, attempt: Attempt, peer: Peer, now: int) -> bool:
    """Admitted, current (same topology, same epoch) and live (PONG in this attempt, not long ago)."""
    limit = _MISSED_PINGS * member.own.topology.topology.timers.ping_ms
    return (
        peer.admitted is not None
        and peer.hello.target_epoch == attempt.epoch
        and peer.hello.topology_digest == member.own.topology.topology.digest
        and peer.pong_at is not None
        and now - peer.pong_at <= limit
    )


def _candidates(member: Member, attempt: Attempt, role: Role, now: int) -> Iterable[Entry]:
    if member.own.identity.role == role.name:
        yield attempt.hello.entry(member.own.identity)
    for peer in member.peers.values():
        if peer.identity.role == role.name and is_candidate(member, attempt, peer, now):
            yield peer.hello.entry(peer.identity)

"""The deterministic choice of a genesis manifest's members (PROTOCOL.md 5.1). No IO."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from toposeal.membership.manifest import Entry, Manifest, build_genesis
from toposeal.membership.state import Attempt, Member, Peer

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
    by_role: dict[str, list[Entry]] = {name: [] for name in topology.roles}
    for entry in _unique(list(_candidates(member, attempt, now))):
        by_role[entry.role].append(entry)
    chosen: list[Entry] = []
    full = True
    for role in topology.roles.values():
        live = sorted(by_role[role.name])[: role.max_replicas]
        if len(live) < role.min_replicas:
            return None
        full = full and len(live) == role.max_replicas
        chosen += live
    return Selection(tuple(sorted(chosen)), full)


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


def _candidates(member: Member, attempt: Attempt, now: int) -> Iterable[Entry]:
    yield attempt.hello.entry(member.own.identity)
    for peer in member.peers.values():
        if is_candidate(member, attempt, peer, now):
            yield peer.hello.entry(peer.identity)


def _unique(entries: list[Entry]) -> Iterable[Entry]:
    """Two with the same nonce share an entropy source that failed: neither is a candidate (K7)."""
    count = Counter(e.nonce for e in entries)
    return (e for e in entries if count[e.nonce] == 1)

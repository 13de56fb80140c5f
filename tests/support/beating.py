"""A member that serves, and heartbeats."""

from __future__ import annotations

from collections.abc import Sequence

from support.actors import Actor, Bench, of
from toposeal._wire import peer_pb2 as wire
from toposeal.membership.events import Effect, Send
from toposeal.membership.machine import deadline
from toposeal.membership.state import Peer
from toposeal_lab.simulation.network import sent_kind

ROLES = {"db": (1, 4), "web": (0, 2)}
BEAT, LEASE, REATTEST, QUORUM, PING = 1_000, 10_000, 100_000, 30_000, 2_000
ONE = bytes([1]) * 32


class Mesh:
    """Ourselves as `web`, active together with three `db`."""

    def __init__(self, on_quorum_loss: str = "regenesis") -> None:
        self.bench = Bench(
            ROLES,
            on_quorum_loss=on_quorum_loss,
            heartbeat_ms=BEAT,
            lease_ms=LEASE,
            reattest_ms=REATTEST,
            quorum_ms=QUORUM,
            ping_ms=PING,
            view_ms=100,
        ).gathering()
        self.dbs = [self.bench.actor("db") for _ in range(3)]
        self.manifest = self.bench.active(*self.dbs)
        self.started = self.bench.member.sealed_at
        self.everybody = [self.bench.ourselves(), *self.dbs]

    def peer(self, actor: Actor) -> Peer:
        return self.bench.member.peers[actor.iid]

    def lease(self, actor: Actor) -> int:
        return self.peer(actor).lease_until

    def advance(self, ms: int, *answering: Actor) -> list[Effect]:
        """Time passes, with heartbeats that `answering` answer at once."""
        end, found = self.bench.now + ms, list[Effect]()
        while self.bench.now < end and self.bench.phase != "fenced":
            wanted = deadline(self.bench.member)
            assert wanted is not None
            found += self.bench.tick(max(1, min(wanted, end) - self.bench.now))
            for actor in answering:
                found += self.bench.beat(actor)
        return found


def beats(effects: Sequence[Effect], actor: Actor | None = None) -> list[wire.Heartbeat]:
    """The heartbeats among what was sent."""
    found = []
    for send in of(effects, Send):
        if sent_kind(send.data) == "heartbeat" and (actor is None or send.iid == actor.iid):
            signed = wire.Envelope.FromString(send.data).heartbeat
            found.append(wire.Heartbeat.FromString(signed.body))
    return found

"""Members of whom one fetches a certificate."""

from __future__ import annotations

from collections.abc import Sequence

from support.actors import Actor, Bench, of
from support.certificates import envelope, link
from toposeal._wire import peer_pb2 as wire
from toposeal.errors import Mismatch, Reason
from toposeal.membership.certificate import Certificate
from toposeal.membership.events import Effect, Send
from toposeal_lab.simulation.network import sent_kind

ROLES = {"db": (1, 5), "web": (0, 1)}
PING = 1_000
MISMATCH = Mismatch(Reason.REPORT_DATA, "quote.report_data", "another", "this")
ONE = bytes([1]) * 48


class Mesh:
    """Ourselves, a newcomer that knows three members of a mesh and holds nothing."""

    def __init__(self) -> None:
        self.bench = Bench(ROLES, ping_ms=PING).gathering()
        self.dbs = [self.bench.actor("db") for _ in range(3)]
        self.bench.meet(*self.dbs)
        self.held = link(None, 1, self.dbs, self.dbs)

    def told(self, actor: Actor, digest: bytes) -> list[Effect]:
        """`actor` answers a heartbeat of ours: it would follow `digest`."""
        self.bench.receive(actor.heartbeat(self.bench.own.iid))
        return self.bench.beat(actor, digest)

    def asking(self, held: Certificate | None = None) -> Mesh:
        self.told(self.dbs[0], (held or self.held).digest)
        assert self.bench.member.fetch is not None
        return self

    def refused(self, message: wire.CertificatePart) -> Reason:
        return self.bench.refuse(envelope(message)).reason

    def takes(self, message: wire.CertificatePart) -> list[Effect]:
        return self.bench.receive(envelope(message))


def wanted(effects: Sequence[Effect]) -> list[tuple[bytes, bytes, int]]:
    """Every WANT that was sent: to whom, for what, from which record on."""
    found = []
    for send in of(effects, Send):
        if sent_kind(send.data) == "want":
            body = wire.Want.FromString(wire.Envelope.FromString(send.data).want.body)
            found.append((send.iid, body.digest, body.first))
    return found


def answered(effects: Sequence[Effect]) -> wire.CertificatePart:
    (send,) = of(effects, Send)
    return wire.Envelope.FromString(send.data).certificate

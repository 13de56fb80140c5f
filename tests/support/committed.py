"""A member that has committed together with two others: what comes after that."""

from __future__ import annotations

from support.actors import Actor, Bench
from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.evidence.binding import Binding
from toposeal.membership.events import Quote
from toposeal.membership.manifest import Manifest, parse_manifest
from toposeal.membership.sealed import seal_of

TWO_DBS = {"db": (2, 2), "web": (1, 1)}


class Mesh:
    """Ourselves as `web`, committed together with two `db`."""

    def __init__(self) -> None:
        self.bench = Bench(TWO_DBS, ping_ms=1_000).gathering()
        self.a, self.b = (self.bench.actor("db") for _ in range(2))
        self.manifest = self.bench.committed(self.a, self.b)

    def quote_ourselves(self) -> None:
        self.bench.appraise(self.bench.quote(self.bench.last(Quote)))

    def commit(self, *actors: Actor) -> None:
        for actor in actors:
            self.bench.appraise(self.bench.receive(actor.commit(self.manifest)))


def foreign(mesh: Mesh, **changes: object) -> Manifest:
    message = wire.Manifest.FromString(mesh.manifest.body)
    for name, value in changes.items():
        setattr(message, name, value)
    return parse_manifest(encode(message))


def seal_binding(mesh: Mesh, actor: Actor) -> Binding:
    entry = mesh.manifest.entry(actor.iid)
    assert entry is not None
    return seal_of(mesh.manifest, entry)


def sealed(mesh: Mesh) -> Mesh:
    mesh.commit(mesh.a, mesh.b)
    mesh.quote_ourselves()
    assert mesh.bench.phase == "sealed"
    return mesh

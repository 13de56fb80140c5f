"""Certificates made by hand: of any members, after any predecessor, sealed by whom the test likes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from support.actors import Actor
from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.evidence.binding import ZERO_DIGEST
from toposeal.membership.certificate import Certificate
from toposeal.membership.leave import leave_message, make_leave
from toposeal.membership.manifest import Manifest, build_manifest
from toposeal.membership.records import record_message
from toposeal.membership.sealed import SealedManifest, SealedMember, seal_of
from toposeal.membership.votes import make_commit, make_sealed
from toposeal.verification.model import VerifiedEvidence
from toposeal_lab.simulation.symbolic import symbolic_evidence


def link(
    previous: Certificate | None,
    epoch: int,
    actors: Sequence[Actor],
    sealed: Sequence[Actor] = (),
    left: Actor | None = None,
) -> Certificate:
    """`actors` make a HELLO for `epoch` and commit to the manifest of all of them; `sealed` seal it, and
    `left` has left to it.
    """
    own = actors[0].own
    for actor in actors:
        actor.new_hello(epoch, previous=previous.digest if previous else ZERO_DIGEST)
    entries = [actor.hello.entry(actor.own.identity) for actor in actors]
    before = previous.manifest if previous else None
    manifest = build_manifest(own.identity.mesh_id, own.topology.topology, epoch, entries, before)
    made = certificate(manifest, actors, sealed)
    leave = make_leave(left.own.keys, left.own.identity, manifest) if left else None
    return replace(made, leave=leave)


def certificate(manifest: Manifest, actors: Sequence[Actor], sealed: Sequence[Actor] = ()) -> Certificate:
    """All members of `manifest` are `actors`, in the attempt that it is of."""
    members = tuple(_member(manifest, actor) for actor in sorted(actors, key=_order))
    topology = actors[0].own.topology.topology
    seals = {a.iid: make_sealed(a.own.keys, a.iid, manifest).signature for a in sealed}
    return Certificate(SealedManifest(manifest, topology, members), seals)


def part(held: Certificate, first: int = 0, count: int | None = None) -> wire.CertificatePart:
    """`count` records from `first` on, or all that follow."""
    members = held.sealed.members[first : None if count is None else first + count]
    leave = leave_message(held.leave) if held.leave and not first else None
    return wire.CertificatePart(
        leave=leave,
        manifest_digest=held.digest,
        manifest=b"" if first else held.manifest.body,
        first=first,
        members=[record_message(member) for member in members],
        seals=[held.seals.get(member.identity.iid, b"") for member in members],
    )


def envelope(message: wire.CertificatePart) -> bytes:
    return encode(wire.Envelope(certificate=message))


def _member(manifest: Manifest, actor: Actor) -> SealedMember:
    entry = manifest.entry(actor.iid)
    assert entry is not None
    binding = seal_of(manifest, entry)
    evidence = symbolic_evidence(binding, actor.measured)
    verified = VerifiedEvidence("tdx", entry.role, binding, "UpToDate", (), bytes(16), 1 << 40)
    commit = make_commit(actor.own.keys, actor.iid, manifest, evidence)
    return SealedMember(actor.own.signed, actor.hello, commit, verified)


def _order(actor: Actor) -> tuple[str, bytes]:
    return actor.own.identity.role, actor.iid

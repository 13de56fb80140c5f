"""MANIFEST: the members of one epoch and its digest D (PROTOCOL.md 5). No IO."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import decode, digest, encode
from toposeal.errors import Mismatch, Reason, RemoteProtocolError
from toposeal.evidence.binding import ZERO_DIGEST
from toposeal.limits import MAX_MESSAGE_SIZE, MAX_REPLICAS
from toposeal.membership.fields import digest_field, epoch_field, nonce_field
from toposeal.membership.identity import PROTOCOL
from toposeal.names import is_name
from toposeal.topology.model import Topology


@dataclass(frozen=True, order=True)
class Entry:
    """One member of a manifest; ordered by (role, iid), which is the manifest's order."""

    role: str
    iid: bytes  # 48, as all digests
    id_digest: bytes
    hello_digest: bytes
    ca_digest: bytes
    nonce: bytes  # 32
    aux_digest: bytes


@dataclass(frozen=True)
class Manifest:
    """A well-formed manifest: sorted, unique in iid, CA key and nonce (check 3)."""

    body: bytes
    digest: bytes  # D, 48
    mesh_id: bytes
    topology_version: int
    topology_digest: bytes
    lineage: bytes
    epoch: int
    previous: bytes
    members: tuple[Entry, ...]

    @property
    def is_genesis(self) -> bool:
        return self.previous == ZERO_DIGEST

    def entry(self, iid: bytes) -> Entry | None:
        return next((e for e in self.members if e.iid == iid), None)


def build_manifest(
    mesh_id: bytes, topology: Topology, epoch: int, members: Iterable[Entry], previous: Manifest | None = None
) -> Manifest:
    """The manifest of `members` for attempt `epoch` after `previous`, or a genesis; every member builds the
    same bytes."""
    lineage = ZERO_DIGEST
    if previous is not None:
        lineage = previous.digest if previous.is_genesis else previous.lineage
    message = wire.Manifest(
        protocol=PROTOCOL,
        mesh_id=mesh_id,
        topology_version=topology.version,
        topology_digest=topology.digest,
        lineage=lineage,
        epoch=epoch,
        previous=ZERO_DIGEST if previous is None else previous.digest,
        members=[
            wire.Entry(
                role=e.role,
                iid=e.iid,
                id_digest=e.id_digest,
                hello_digest=e.hello_digest,
                ca_digest=e.ca_digest,
                nonce=e.nonce,
                aux_digest=e.aux_digest,
            )
            for e in sorted(members)
        ],
    )
    return parse_manifest(encode(message))


def parse_manifest(body: bytes) -> Manifest:
    """Parse exactly one well-formed manifest. Raises RemoteProtocolError naming the field."""
    message = decode(wire.Manifest, body, "manifest", MAX_MESSAGE_SIZE)
    if message.protocol != PROTOCOL:
        raise RemoteProtocolError.of(Reason.PROTOCOL_VERSION, "manifest.protocol", message.protocol, PROTOCOL)
    if not 1 <= len(message.members) <= MAX_REPLICAS:
        raise _invalid("manifest.members", len(message.members), f"1 to {MAX_REPLICAS}")
    manifest = Manifest(
        body=body,
        digest=digest("toposeal/v1/manifest", body),
        mesh_id=digest_field(message.mesh_id, "manifest.mesh_id"),
        topology_version=epoch_field(message.topology_version, "manifest.topology_version"),
        topology_digest=digest_field(message.topology_digest, "manifest.topology_digest"),
        lineage=digest_field(message.lineage, "manifest.lineage"),
        epoch=epoch_field(message.epoch, "manifest.epoch"),
        previous=digest_field(message.previous, "manifest.previous"),
        members=tuple(_entry(entry, n) for n, entry in enumerate(message.members)),
    )
    _check_order(manifest.members)
    if manifest.is_genesis != (manifest.lineage == ZERO_DIGEST):
        raise _invalid("manifest.lineage", manifest.lineage.hex(), "zero in a genesis and only there")
    return manifest


def bounds_mismatches(members: Sequence[Entry], topology: Topology) -> list[Mismatch]:
    """Check 5: every role of the topology within its bounds, and no other role."""
    count = Counter(e.role for e in members)
    wrong = [
        Mismatch(
            Reason.MANIFEST_BOUNDS, f"manifest.members[{name}]", str(count[name]), _bounds(topology, name)
        )
        for name, role in topology.roles.items()
        if not role.min_replicas <= count[name] <= role.max_replicas
    ]
    foreign = sorted(set(count) - set(topology.roles))
    return wrong + [
        Mismatch(Reason.ROLE_UNKNOWN, "manifest.members", name, "a role of the topology") for name in foreign
    ]


def _bounds(topology: Topology, name: str) -> str:
    role = topology.roles[name]
    return f"{role.min_replicas} to {role.max_replicas}"


def _entry(message: wire.Entry, index: int) -> Entry:
    at = f"manifest.members[{index}]"
    if not is_name(message.role):
        raise _invalid(f"{at}.role", message.role, "[a-z0-9-]{1,40}")
    return Entry(
        role=message.role,
        iid=digest_field(message.iid, f"{at}.iid"),
        id_digest=digest_field(message.id_digest, f"{at}.id_digest"),
        hello_digest=digest_field(message.hello_digest, f"{at}.hello_digest"),
        ca_digest=digest_field(message.ca_digest, f"{at}.ca_digest"),
        nonce=nonce_field(message.nonce, f"{at}.nonce"),
        aux_digest=digest_field(message.aux_digest, f"{at}.aux_digest"),
    )


def _check_order(members: Sequence[Entry]) -> None:
    keys = [(e.role, e.iid) for e in members]
    if keys != sorted(keys):
        raise _invalid("manifest.members", "unsorted", "ascending (role, iid)")
    for name in ("iid", "ca_digest", "nonce", "hello_digest"):
        values = [getattr(e, name) for e in members]
        if len(set(values)) != len(values):
            raise RemoteProtocolError.of(
                Reason.DUPLICATE_MEMBER, f"manifest.members.{name}", "a value twice", "unique values"
            )


def _invalid(field: str, found: object, expected: object) -> RemoteProtocolError:
    return RemoteProtocolError.of(Reason.MANIFEST_INVALID, field, found, expected)

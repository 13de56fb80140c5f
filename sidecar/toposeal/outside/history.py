"""The manifests before the one that a verifier trusts, which needs nobody's word for them. No IO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from toposeal._wire import attestation_pb2 as wire
from toposeal.encoding import decode, encode
from toposeal.errors import Reason, RemoteProtocolError
from toposeal.limits import MAX_HISTORY_MESSAGE
from toposeal.membership.manifest import Manifest, parse_manifest

HISTORY_TYPE = "application/vnd.toposeal.history.v1+protobuf"


@dataclass(frozen=True)
class Instance:
    role: str
    iid: str  # 96 hexadecimal digits


@dataclass(frozen=True)
class Step:
    """One manifest, and who is in it that was not in the one before, and the other way round."""

    epoch: int
    digest: str  # D, 96 hexadecimal digits
    version: int  # of its topology
    topology: str  # topo_digest
    members: int
    joined: tuple[Instance, ...]  # of the oldest that is known: all
    left: tuple[Instance, ...]


@dataclass(frozen=True)
class History:
    """`steps` newest first. `whole`: back to the genesis; else the member that was asked knows no more."""

    lineage: str
    whole: bool
    steps: tuple[Step, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_text(self) -> str:
        lines = [line for step in self.steps for line in _lines(step)]
        end = "the genesis" if self.whole else "what came before is not known to who answered"
        return "\n".join([f"lineage {self.lineage}", *lines, f"  {end}"])


def build_history(manifests: Sequence[Manifest]) -> bytes:
    """The message's bytes, newest first."""
    return encode(wire.History(manifests=[manifest.body for manifest in manifests]))


def read_history(data: bytes, digest: bytes) -> tuple[Manifest, ...]:
    """The manifest `digest` (D, 48 bytes) and its predecessors, newest first; what is newer than it is left
    out, since nothing vouches for it.

    Raises RemoteProtocolError unless each is named by the one after it, to the last byte, in one lineage of
    one mesh with falling epochs; a genesis has nothing before it.
    """
    message = decode(wire.History, data, "history", MAX_HISTORY_MESSAGE)
    parsed = [parse_manifest(body) for body in message.manifests]
    digests = [manifest.digest for manifest in parsed]
    if digest not in digests:
        raise _broken("history.manifests", f"{len(parsed)} others", digest.hex())
    found = tuple(parsed[digests.index(digest) :])
    for number, (newer, older) in enumerate(pairwise(found), start=1):
        _check_link(f"history.manifests[{number}]", newer, older)
    return found


def told(manifests: Sequence[Manifest]) -> History:
    """What happened in `manifests`, as `read_history` gives them: at least one."""
    newest, oldest = manifests[0], manifests[-1]
    lineage = newest.digest if newest.is_genesis else newest.lineage
    steps = (
        *(_step(newer, _instances(older)) for newer, older in pairwise(manifests)),
        _step(oldest, frozenset()),
    )
    return History(lineage.hex(), oldest.is_genesis, steps)


def _check_link(place: str, newer: Manifest, older: Manifest) -> None:
    lineage = older.digest if older.is_genesis else older.lineage
    if older.digest != newer.previous:
        raise _broken(f"{place}.digest", older.digest.hex(), newer.previous.hex())
    if older.mesh_id != newer.mesh_id or lineage != newer.lineage:
        raise _broken(f"{place}.lineage", lineage.hex(), newer.lineage.hex())
    if older.epoch >= newer.epoch:
        raise _broken(f"{place}.epoch", str(older.epoch), f"below {newer.epoch}")


def _step(manifest: Manifest, before: frozenset[Instance]) -> Step:
    now = _instances(manifest)
    return Step(
        epoch=manifest.epoch,
        digest=manifest.digest.hex(),
        version=manifest.topology_version,
        topology=manifest.topology_digest.hex(),
        members=len(now),
        joined=_sorted(now - before),
        left=_sorted(before - now),
    )


def _instances(manifest: Manifest) -> frozenset[Instance]:
    return frozenset(Instance(entry.role, entry.iid.hex()) for entry in manifest.members)


def _sorted(instances: frozenset[Instance]) -> tuple[Instance, ...]:
    return tuple(sorted(instances, key=lambda one: (one.role, one.iid)))


def _lines(step: Step) -> list[str]:
    head = (
        f"  epoch {step.epoch}  {step.digest[:16]}  topology version {step.version}  {step.members} members"
    )
    changes = [*(("+", one) for one in step.joined), *(("-", one) for one in step.left)]
    return [head, *(f"    {sign} {one.role} {one.iid[:16]}" for sign, one in changes)]


def _broken(field: str, found: str, expected: str) -> RemoteProtocolError:
    return RemoteProtocolError.of(Reason.MANIFEST_MISMATCH, field, found, expected)

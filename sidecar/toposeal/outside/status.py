"""What a member says of itself to whoever asks: its word, unsigned, and nothing that is secret. No IO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from toposeal.errors import Mismatch, NetworkError, Reason, ToposealError
from toposeal.limits import MAX_STATUS_SIZE
from toposeal.membership.machine import phase_name
from toposeal.membership.state import Member, attempt_of
from toposeal.membership.waiting import waits
from toposeal.topology.strict_json import parse

STATUS_TYPE = "application/vnd.toposeal.status.v1+json"


@dataclass(frozen=True)
class Listed:
    """One member of what is served. `lease_ms` is how long it may be counted on from now; its own: None."""

    name: str
    role: str
    lease_ms: int | None


@dataclass(frozen=True)
class Serving:
    epoch: int
    digest: str  # D, 96 hexadecimal digits
    lineage: str
    version: int  # of its topology
    members: tuple[Listed, ...]


@dataclass(frozen=True)
class Status:
    """`version` is the newest topology that the member knows, `epoch` that of its attempt or of its seal."""

    name: str
    role: str
    phase: str
    epoch: int
    version: int
    suspended: bool
    serving: Serving | None
    waits: tuple[Mismatch, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_text(self) -> str:
        """For a terminal; the caller makes it printable."""
        where = f"{self.phase}, epoch {self.epoch}, topology version {self.version}"
        lines = [f"{self.role} {self.name}: {where}"]
        if self.serving is None:
            lines.append("serves nothing")
        else:
            how = "may not serve" if self.suspended else "serves"
            lines.append(f"{how} epoch {self.serving.epoch} under topology version {self.serving.version}")
            lines += [f"  {m.role} {m.name} {_lease(m)}" for m in self.serving.members]
        lines += [f"waits: {mismatch}" for mismatch in self.waits]
        return "\n".join(lines)


def status_of(member: Member, now: int) -> Status:
    """What `member` says at `now` (ms)."""
    attempt, held = attempt_of(member.phase), member.chain.get(member.sealed)
    sealed = held.manifest.epoch if held else 0
    return Status(
        name=member.own.identity.ca.domain,
        role=member.own.identity.role,
        phase=phase_name(member.phase),
        epoch=attempt.epoch if attempt else sealed,
        version=member.topology.version,
        suspended=member.suspended_at is not None,
        serving=_serving(member, now),
        waits=waits(member, now),
    )


def read_status(body: bytes) -> Status:
    """Exactly what `Status.as_json` makes. Raises NetworkError for all else."""
    try:
        said = parse(body, "http.body", MAX_STATUS_SIZE)
        return _status(said)
    except (ToposealError, TypeError, ValueError) as error:
        raise NetworkError.of(Reason.NETWORK, "http.body", body[:64], "a member's status") from error


def _serving(member: Member, now: int) -> Serving | None:
    if member.serving is None:
        return None
    manifest = member.serving.manifest
    lineage = manifest.digest if manifest.is_genesis else manifest.lineage
    members = []
    for sealed in member.serving.members:
        identity, peer = sealed.identity, member.peers.get(sealed.identity.iid)
        own = identity.iid == member.own.iid
        lease = None if own else max(0, peer.lease_until - now if peer else 0)
        members.append(Listed(identity.ca.domain, identity.role, lease))
    return Serving(
        manifest.epoch, manifest.digest.hex(), lineage.hex(), manifest.topology_version, tuple(members)
    )


def _lease(member: Listed) -> str:
    return "(itself)" if member.lease_ms is None else f"lease {member.lease_ms} ms"


def _status(said: object) -> Status:
    found = _fields(said, Status)
    for name, kind in (("name", str), ("role", str), ("phase", str), ("suspended", bool)):
        _require(found[name], kind)
    for name in ("epoch", "version"):
        _number(found[name])
    serving = None if found["serving"] is None else _listed(found["serving"])
    return Status(**{**found, "serving": serving, "waits": tuple(map(_mismatch, _list(found["waits"])))})


def _listed(said: object) -> Serving:
    found = _fields(said, Serving)
    _number(found["epoch"])
    _number(found["version"])
    _require(found["digest"], str)
    _require(found["lineage"], str)
    members = []
    for each in _list(found["members"]):
        member = _fields(each, Listed)
        _require(member["name"], str)
        _require(member["role"], str)
        if member["lease_ms"] is not None:
            _number(member["lease_ms"])
        members.append(Listed(**member))
    return Serving(**{**found, "members": tuple(members)})


def _mismatch(said: object) -> Mismatch:
    found = _fields(said, Mismatch)
    for name in ("field", "found", "expected"):
        _require(found[name], str)
    return Mismatch(Reason(found["reason"]), found["field"], found["found"], found["expected"])


def _fields(said: object, kind: type) -> dict[str, Any]:
    """Raises TypeError unless `said` has exactly the fields of `kind`."""
    if not isinstance(said, Mapping) or set(said) != set(kind.__dataclass_fields__):  # type: ignore[attr-defined]
        raise TypeError(kind.__name__)
    return dict(said)


def _list(said: object) -> list[object]:
    _require(said, list)
    return list(said)  # type: ignore[call-overload,no-any-return]


def _number(said: object) -> None:
    if type(said) is not int or said < 0:
        raise TypeError("number")


def _require(said: object, kind: type) -> None:
    if type(said) is not kind:
        raise TypeError(kind.__name__)

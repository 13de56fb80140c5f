"""What the last verifications let pass: whom connections may lead to, and until when. No IO.

Times are seconds on a clock that goes on while the machine sleeps; the caller reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from toposeal.errors import NetworkError, Reason, ToposealError, UsageError
from toposeal.limits import CONNECT_GRACE, CONNECT_RETRY
from toposeal.outside import visits
from toposeal.outside.model import VerifiedMember, VerifiedMesh
from toposeal.outside.visits import Visits


@dataclass(frozen=True)
class Standing:
    """Value after one verification. Only `first` and `after` make it, and `failed` takes from it."""

    mesh: VerifiedMesh  # the last one that was verified
    role: str
    members: Mapping[bytes, VerifiedMember]  # by iid: whom connections may lead to
    until: float  # nothing passes from then on
    due: float  # the next verification
    open: bool  # whether a connection may begin: the last verification was a good one
    seen: Visits  # numbers that never fall, and the lineage

    def takes(self, now: float) -> bool:
        """Whether a connection may begin."""
        return self.open and bool(self.members) and now < self.until

    def admits(self, iid: bytes, now: float) -> bool:
        """Whether what belongs to a connection to this member may pass."""
        return iid in self.members and now < self.until


def first(mesh: VerifiedMesh, port: int, role: str | None, asked_at: float, interval: float) -> Standing:
    """After the first verification, which began at `asked_at`: connections go to `role`, by default the one
    that opens `port` to the outside, else the one that opens any. Raises UsageError where that is not one.
    """
    wanted = _only_role(mesh, port) if role is None else role
    if not any(member.role == wanted and member.ingress for member in mesh.members):
        raise UsageError.of(Reason.USAGE, "--role", wanted, "a role with a member and an ingress port")
    return _verified(mesh, wanted, {}, asked_at, interval)


def after(standing: Standing, mesh: VerifiedMesh, asked_at: float, interval: float) -> Standing:
    """After another one. Raises PolicyError for lower numbers or another lineage than before."""
    return _verified(mesh, standing.role, standing.seen, asked_at, interval)


def failed(standing: Standing, error: ToposealError, now: float) -> Standing:
    """No new connection. Silence leaves those that are open until the last verification is too old; what was
    refused ends them too: they lead to a mesh of which something does not hold."""
    members = standing.members if isinstance(error, NetworkError) else {}
    return replace(standing, open=False, members=members, due=now + CONNECT_RETRY / 1000)


def _verified(mesh: VerifiedMesh, role: str, seen: Visits, asked_at: float, interval: float) -> Standing:
    return Standing(
        mesh=mesh,
        role=role,
        members={member.iid: member for member in mesh.members if member.role == role},
        until=asked_at + interval + CONNECT_GRACE / 1000,
        due=asked_at + interval,
        open=True,
        seen=visits.after(seen, mesh.mesh_id, mesh),
    )


def _only_role(mesh: VerifiedMesh, port: int) -> str:
    opened = {member.role for member in mesh.members if member.ingress}
    roles = {member.role for member in mesh.members if port in member.ingress} or opened
    if len(roles) != 1:
        found = ", ".join(sorted(roles)) or "no role with an ingress port"
        raise UsageError.of(Reason.USAGE, "--role", found, "the one role that connections shall lead to")
    return roles.pop()

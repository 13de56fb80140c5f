"""How many connections each client may have at once, so that none of them can use up all. No IO.

A share follows from the topology alone and not from who is a member just now: it does not change when one
joins or leaves, and no connection of the others is cut for it.
"""

from __future__ import annotations

from toposeal.limits import (
    INGRESS_CONNECTIONS,
    MAX_MEMBER_SHARES,
    MEMBER_CONNECTIONS,
    MIN_MEMBER_CONNECTIONS,
)
from toposeal.topology.model import Role, Topology


def callers(topology: Topology, own: Role, port: int) -> tuple[Role, ...]:
    """The roles whose members may call `port` of `own`, ascending by name."""
    return tuple(
        role
        for role in topology.roles.values()
        if any(call.role == own.name and call.port == port for call in role.calls)
    )


def is_crowd(topology: Topology, own: Role, port: int) -> bool:
    """Whether so many may call `port` of `own` that they have MAX_MEMBER_SHARES together, not one each."""
    return _clients(topology, own, port) > MAX_MEMBER_SHARES


def member_share(topology: Topology, own: Role) -> int:
    """Connections of one share at one port of `own`: an equal part of MEMBER_CONNECTIONS for all shares that
    there can be, but never less than MIN_MEMBER_CONNECTIONS."""
    shares = sum(min(_clients(topology, own, port), MAX_MEMBER_SHARES) for port in own.serves)
    return max(MIN_MEMBER_CONNECTIONS, MEMBER_CONNECTIONS // max(1, shares))


def _clients(topology: Topology, own: Role, port: int) -> int:
    return sum(role.max_replicas for role in callers(topology, own, port))


def ingress_share(own: Role) -> int:
    """For all outside clients together at one ingress port of `own`."""
    return INGRESS_CONNECTIONS // max(1, len(own.ingress))

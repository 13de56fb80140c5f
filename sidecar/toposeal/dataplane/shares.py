"""How many connections each client may have at once, so that none of them can use up all. No IO.

A share follows from the topology alone and not from who is a member just now: it does not change when one
joins or leaves, and no connection of the others is cut for it.
"""

from __future__ import annotations

from toposeal.limits import INGRESS_CONNECTIONS, MEMBER_CONNECTIONS, MIN_MEMBER_CONNECTIONS
from toposeal.topology.model import Role, Topology


def callers(topology: Topology, own: Role, port: int) -> tuple[Role, ...]:
    """The roles whose members may call `port` of `own`, ascending by name."""
    return tuple(
        role
        for role in topology.roles.values()
        if any(call.role == own.name and call.port == port for call in role.calls)
    )


def member_share(topology: Topology, own: Role) -> int:
    """For one member at one port of `own`: an equal part of MEMBER_CONNECTIONS for all that there can be, but
    never less than MIN_MEMBER_CONNECTIONS."""
    clients = sum(role.max_replicas for port in own.serves for role in callers(topology, own, port))
    return max(MIN_MEMBER_CONNECTIONS, MEMBER_CONNECTIONS // max(1, clients))


def ingress_share(own: Role) -> int:
    """For all outside clients together at one ingress port of `own`."""
    return INGRESS_CONNECTIONS // max(1, len(own.ingress))

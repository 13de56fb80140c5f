"""Where the roles of a topology stand in a drawing: the same topology, the same places. No IO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from toposeal.limits import MAX_PAGE_EDGES, MAX_PAGE_ROLES
from toposeal.topology.model import Role, Topology

OUTSIDE = ""  # the node that ingress comes from; no role has this name


@dataclass(frozen=True)
class Edge:
    caller: str  # a role, or OUTSIDE
    called: str
    ports: tuple[int, ...]  # ascending


@dataclass(frozen=True)
class Graph:
    """Columns from left to right, in each the names from top to bottom; callers stand left of the called,
    as far as there is no circle."""

    columns: Sequence[Sequence[str]]
    edges: Sequence[Edge]
    roles_left_out: int
    edges_left_out: int


def graph_of(topology: Topology) -> Graph:
    """At most MAX_PAGE_ROLES roles, by name, and MAX_PAGE_EDGES edges between those."""
    shown = dict(list(topology.roles.items())[:MAX_PAGE_ROLES])
    edges = [edge for edge in _edges(shown) if edge.called in shown]
    columns = _columns(shown, edges)
    outside = [[OUTSIDE]] if any(edge.caller == OUTSIDE for edge in edges) else []
    return Graph(
        columns=[*outside, *columns],
        edges=edges[:MAX_PAGE_EDGES],
        roles_left_out=len(topology.roles) - len(shown),
        edges_left_out=max(0, len(edges) - MAX_PAGE_EDGES),
    )


def _edges(roles: Mapping[str, Role]) -> list[Edge]:
    found: dict[tuple[str, str], list[int]] = {}
    for name, role in roles.items():
        for entry in role.ingress:
            found.setdefault((OUTSIDE, name), []).append(entry.port)
    for name, role in roles.items():
        for call in role.calls:
            found.setdefault((name, call.role), []).append(call.port)
    return [Edge(*pair, tuple(sorted(ports))) for pair, ports in found.items()]


def _columns(roles: Mapping[str, Role], edges: Sequence[Edge]) -> list[list[str]]:
    """By the number of calls from a role that is open to the outside, or that nobody else calls."""
    called = {edge.called for edge in edges if edge.caller not in (OUTSIDE, edge.called)}
    column = [name for name, role in roles.items() if role.ingress or name not in called]
    placed: set[str] = set()
    columns = []
    while len(placed) < len(roles):
        column = column or [next(name for name in roles if name not in placed)]  # a circle of its own
        columns.append(column)
        placed.update(column)
        following = {edge.called for edge in edges if edge.caller in column}
        column = [name for name in roles if name in following - placed]
    return columns

"""What one pod's Envoy may let through, and where to; what a later view takes away of it. No IO.

It only grows until Envoy has taken less: what was offered and not acknowledged may be in force all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from toposeal.dataplane.envoy_plan import PodPlan, plan
from toposeal.dataplane.view import PodView

Grant = tuple[str | int, ...]


@dataclass(frozen=True)
class Reach:
    """Of a closed Envoy, nothing."""

    grants: frozenset[Grant] = frozenset()
    addresses: Mapping[bytes, frozenset[str]] = field(
        default_factory=dict
    )  # of each member (iid), also old ones

    def widened(self, view: PodView) -> Reach:
        """With what `view` adds."""
        known = dict(self.addresses)
        for member in view.members:
            known[member.iid] = known.get(member.iid, frozenset()).union(member.addresses)
        return Reach(self.grants | grants(view), known)

    def narrowed(self, view: PodView) -> Reach:
        """Once Envoy runs `view` and whoever is not in it is cut. A member that stays may be connected at an
        address that it had before.
        """
        members = {member.iid for member in view.members}
        kept = {iid: addresses for iid, addresses in self.addresses.items() if iid in members}
        return Reach(grants(view), kept)

    def loses(self, view: PodView) -> bool:
        """Whether `view` takes anything away."""
        return not self.grants <= grants(view)

    def gone(self, view: PodView) -> frozenset[str]:
        """Where members may be connected that are not in `view`. An address that another member has too is
        among them: it is the network that says whose it is.
        """
        members = {member.iid for member in view.members}
        return frozenset().union(*(a for iid, a in self.addresses.items() if iid not in members))


def grants(view: PodView) -> frozenset[Grant]:
    """One for each member, and for each thing that somebody may do: another view that lacks one of them
    trusts less. Addresses are no grants: whoever is there has to prove who it is, or is outside.
    """
    allowed = plan(view)
    members = (("member", member.iid.hex()) for member in view.members)
    return frozenset((*members, *_edges(allowed), *_outside(allowed)))


def _edges(allowed: PodPlan) -> Iterator[Grant]:
    for way in allowed.inbound:
        yield from (("in", way.port, client.domain) for client in way.clients)
    for call in allowed.outbound:
        yield from (("out", call.role, call.port, place) for place in (call.vip, *call.addresses))
        yield from (("out", call.role, call.port, server.domain) for server in call.servers)


def _outside(allowed: PodPlan) -> Iterator[Grant]:
    yield from (("ingress", entry.port, entry.target) for entry in allowed.ingress)
    yield from (("host", host.host, host.port, host.tls_ca) for host in allowed.hosts)
    yield from (("range", part.cidr, part.port) for part in allowed.ranges)
    yield from (("probe", probe.port, probe.path, probe.target) for probe in allowed.probes)
    yield ("attestation", allowed.attestation_port)
    yield ("metrics", allowed.metrics)

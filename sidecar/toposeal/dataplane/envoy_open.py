"""Envoy's configuration after the seal, made from a plan's frame with Envoy's own message types. No IO.

Importing this module takes about 0.5 s and 55 MiB: only the renderer's child and the command line do.
"""

from __future__ import annotations

from dataclasses import replace

from toposeal.dataplane.discovery import Update
from toposeal.dataplane.envoy_chains import (
    inbound_chains,
    member_chain,
    outbound_chains,
    range_chain,
    role_chain,
    withheld_chain,
)
from toposeal.dataplane.envoy_clusters import (
    called_role,
    clusters,
    destination,
    label,
    place,
    share_cluster,
    trust,
)
from toposeal.dataplane.envoy_form_maker import made
from toposeal.dataplane.envoy_forms import CalledRole, Destination, Forms, Named, Range, ServedPort, filled
from toposeal.dataplane.envoy_metrics import metrics_chains, metrics_clusters
from toposeal.dataplane.envoy_plan import Inbound, Outbound, OutsideHost, OutsideRange, Peer, PodPlan
from toposeal.dataplane.envoy_probes import probe_chains, probe_clusters
from toposeal.dataplane.view import Layout


def render(plan: PodPlan, layout: Layout) -> Update:
    """The whole configuration, in one process."""
    return filled(forms(plan.frame, layout), plan)


def forms(frame: PodPlan, layout: Layout) -> Forms:
    """What is to be filled in for every plan of this frame."""
    known = (*clusters(frame, layout), *probe_clusters(frame), *metrics_clusters(frame, layout))
    chains = (*inbound_chains(frame), *probe_chains(frame), *metrics_chains(frame))
    return Forms(
        inbound=tuple(_served(frame, edge) for edge in frame.inbound),
        outbound=tuple(_called(edge, frame.own) for edge in frame.outbound),
        hosts=tuple(map(_destination, frame.hosts)),
        ranges=tuple(map(_range, frame.ranges)),
        clusters=tuple(Named(cluster.name, bytes(cluster)) for cluster in known),
        chains_in=tuple(map(bytes, chains)),
        chains_out=tuple(map(bytes, outbound_chains(frame))),
    )


def _served(frame: PodPlan, edge: Inbound) -> ServedPort:
    return ServedPort(
        chain=made(lambda client, cluster: bytes(member_chain(edge, client, cluster))),
        cluster=made(lambda _, name: bytes(share_cluster(frame, edge, name))),
    )


def _called(edge: Outbound, own: Peer) -> CalledRole:
    """Whoever else has the role, its chain is the same."""
    return CalledRole(
        cluster=called_role(edge, own),
        label=made(lambda server, _: bytes(label(server))),
        address=made(lambda _, address: bytes(place(address, edge.port))),
        trust=made(lambda server, _: bytes(trust(server, own))),
        chain=bytes(role_chain(replace(edge, servers=(own,)), own)),
        alone=bytes(role_chain(replace(edge, servers=()), own)) if edge.includes_self else b"",
    )


def _destination(outside: OutsideHost) -> Destination:
    return Destination(
        cluster=destination(outside),
        address=made(lambda _, address: bytes(place(address, outside.port))),
    )


def _range(part: OutsideRange) -> Range:
    return Range(
        chain=bytes(range_chain(part)),
        withheld=made(lambda _, address: bytes(withheld_chain(part, address))),
    )

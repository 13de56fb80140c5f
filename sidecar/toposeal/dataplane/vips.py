"""One synthetic address per role: what the pod's DNS answers and what its Envoy listens for. No IO."""

from __future__ import annotations

from toposeal.topology.model import Topology

_PER_BLOCK = 250  # host parts 1 to 250: no network, no broadcast address, room for the probe's


def vip(topology: Topology, role: str) -> str:
    """The address of `role`, by its place among the role names: 240.10.0.1, 240.10.0.2 and so on.

    Raises ValueError for a role that the topology does not have.
    """
    index = sorted(topology.roles).index(role)
    return f"240.10.{index // _PER_BLOCK}.{index % _PER_BLOCK + 1}"

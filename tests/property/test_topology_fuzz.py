"""Every parser of the owner's files accepts or refuses with a typed error, whatever the bytes."""
from __future__ import annotations

from hypothesis import given

from property.strategies import topologies
from toposeal.topology.model import Topology


@given(topologies())
def test_generated_topologies_are_valid(topology: Topology) -> None:
    assert topology.roles

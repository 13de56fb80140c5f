"""Where the sidecar's figures may be read: what an owner can declare, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from support.topologies import document, payload, refusals, role

from toposeal.errors import Reason
from toposeal.topology.model import Topology
from toposeal.topology.parse import parse_topology

FIELD = "roles.web.metrics"
USED: dict[str, Any] = {
    "serves": [8080],
    "ingress": [{"port": 8443, "target": 8080}],
    "probes": [{"port": 9090, "path": "/live", "target": 9000}],
}


def parsed(port: object) -> Topology:
    return parse_topology(payload(document(roles={"web": role(1, metrics=port, **USED)})))


def test_without_a_word_there_are_none() -> None:
    assert {role.metrics for role in parse_topology(payload(document())).roles.values()} == {None}


@pytest.mark.parametrize("port", [1, 9464, 9000, 65_535])
def test_a_port_of_its_own(port: int) -> None:
    """A probe's target is asked inside the pod, where this port is not."""
    assert parsed(port).roles["web"].metrics == port


@pytest.mark.parametrize(
    "port", [8080, 8443, 9090, 8444, 53, 15000, 15006, 15499, 0, 65_536, "9464", True, None]
)
def test_T8_a_port_that_has_another_meaning_is_refused(port: object) -> None:
    assert refusals(lambda: parsed(port)) == {(Reason.TOPOLOGY_INVALID, FIELD)}

"""What a kubelet may ask: what an owner can declare, and what is refused when the topology is checked."""

from __future__ import annotations

from typing import Any

import pytest
from support.topologies import document, payload, refusals, role

from toposeal.errors import Reason
from toposeal.limits import MAX_PROBES_PER_ROLE
from toposeal.topology.model import Probe, Topology
from toposeal.topology.parse import parse_topology

HEALTH: dict[str, Any] = {"port": 8080, "path": "/healthz", "target": 8080}
WHOLE, FIRST = "roles.web.probes", "roles.web.probes[0]"


def parsed(*probes: object) -> Topology:
    served: dict[str, Any] = {"serves": [8080], "ingress": [{"port": 8443, "target": 8080}]}
    return parse_topology(payload(document(roles={"web": role(1, probes=list(probes), **served)})))


def refused(*probes: object) -> set[str]:
    found = refusals(lambda: parsed(*probes))
    assert {reason for reason, _ in found} <= {Reason.TOPOLOGY_INVALID}
    return {field for _, field in found}


def test_without_a_word_there_is_none() -> None:
    assert {role.probes for role in parse_topology(payload(document())).roles.values()} == {()}


def test_probes_are_read_in_order_also_at_ports_that_serve() -> None:
    more = [{**HEALTH, "port": 8443}, {**HEALTH, "path": "/a"}, {**HEALTH, "port": 80, "target": 9}]
    assert parsed(HEALTH, *more).roles["web"].probes == (
        Probe(80, "/healthz", 9),
        Probe(8080, "/a", 8080),
        Probe(8080, "/healthz", 8080),
        Probe(8443, "/healthz", 8080),
    )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"port": 53}, WHOLE),
        ({"port": 15006}, WHOLE),
        ({"target": 53}, WHOLE),
        ({"target": 15000}, WHOLE),
        ({"target": 15443}, WHOLE),
        ({"port": 8444}, WHOLE),
        ({"port": 0}, f"{FIRST}.port"),
        ({"target": 65_536}, f"{FIRST}.target"),
        ({"path": ""}, f"{FIRST}.path"),
        ({"path": "healthz"}, f"{FIRST}.path"),
        ({"path": "/x?y"}, f"{FIRST}.path"),
        ({"path": "/x#y"}, f"{FIRST}.path"),
        ({"path": "/x y"}, f"{FIRST}.path"),
        ({"path": "/%2e"}, f"{FIRST}.path"),
        ({"path": "/x\n"}, f"{FIRST}.path"),
        ({"path": "/" + "x" * 128}, f"{FIRST}.path"),
        ({"path": 7}, f"{FIRST}.path"),
        ({"method": "POST"}, f"{FIRST}.method"),
    ],
)
def test_T8_what_is_no_probe_is_refused(changes: dict[str, Any], field: str) -> None:
    assert refused({**HEALTH, **changes}) == {field}


def test_T8_one_port_and_path_is_one_probe() -> None:
    assert refused(HEALTH, {**HEALTH, "target": 9}) == {WHOLE}
    assert refused(HEALTH, HEALTH) == {f"{WHOLE}[1]"}


def test_T8_there_are_not_too_many() -> None:
    many = [{**HEALTH, "path": f"/{n}"} for n in range(MAX_PROBES_PER_ROLE + 1)]
    assert refused(*many) == {WHOLE}
    parsed(*many[1:])

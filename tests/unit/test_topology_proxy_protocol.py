"""Which ports begin with a PROXY header: what an owner can declare, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from support.topologies import document, payload, refusals, role

from toposeal.errors import Reason
from toposeal.topology.model import Topology
from toposeal.topology.parse import parse_topology

FIELD = "roles.web.proxy_protocol"
SERVED: dict[str, Any] = {"serves": [8080, 80, 25], "ingress": [{"port": 8443, "target": 8080}]}


def parsed(ports: object, **fields: Any) -> Topology:
    web = role(1, proxy_protocol=ports, **{**SERVED, **fields})
    return parse_topology(payload(document(roles={"web": web})))


def test_without_a_word_no_port_begins_with_a_header() -> None:
    assert parse_topology(payload(document())).roles["web"].proxy_protocol == ()


def test_ports_are_read_in_order_also_those_that_ingress_leads_to() -> None:
    assert parsed([8080, 25]).roles["web"].proxy_protocol == (25, 8080)


@pytest.mark.parametrize(
    ("ports", "field"),
    [
        ([9090], FIELD),
        ([8443], FIELD),
        ([0], f"{FIELD}[0]"),
        (["8080"], f"{FIELD}[0]"),
        ([{"port": 8080}], f"{FIELD}[0]"),
        (8080, FIELD),
    ],
)
def test_T8_what_is_no_port_of_the_application_is_refused(ports: object, field: str) -> None:
    assert refusals(lambda: parsed(ports)) == {(Reason.TOPOLOGY_INVALID, field)}


def test_T8_a_port_is_said_once() -> None:
    ((reason, field),) = refusals(lambda: parsed([25, 25]))
    assert (reason, field.startswith(FIELD)) == (Reason.TOPOLOGY_INVALID, True)


def test_a_port_of_requests_has_no_header_before_them() -> None:
    http = [{"port": 80, "log": "nothing"}]
    assert parsed([25], http=http).roles["web"].proxy_protocol == (25,)
    assert refusals(lambda: parsed([80], http=http)) == {(Reason.TOPOLOGY_INVALID, FIELD)}


def test_a_port_that_a_probe_asks_has_none() -> None:
    """Whoever wants both has the application listen at one more."""
    probes = [{"port": 25, "path": "/", "target": 80}]
    assert parsed([25], probes=probes).roles["web"].proxy_protocol == (25,)
    assert refusals(lambda: parsed([80], probes=probes)) == {(Reason.TOPOLOGY_INVALID, FIELD)}

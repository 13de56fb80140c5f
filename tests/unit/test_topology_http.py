"""Which ports speak HTTP: what an owner can declare, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from support.topologies import document, payload, refusals, role

from toposeal.errors import Reason
from toposeal.topology.model import Http, Topology
from toposeal.topology.parse import parse_topology

WHOLE, FIRST = "roles.web.http", "roles.web.http[0]"
SERVED: dict[str, Any] = {"serves": [8080, 80], "ingress": [{"port": 8443, "target": 8080}]}


def parsed(*entries: object) -> Topology:
    return parse_topology(payload(document(roles={"web": role(1, http=list(entries), **SERVED)})))


def test_without_a_word_every_port_is_bytes() -> None:
    web = parse_topology(payload(document())).roles["web"]
    assert (web.http, web.speaks_http(8080), web.logs_requests(8080)) == ((), False, False)


def test_ports_are_read_in_order_each_with_what_is_logged() -> None:
    web = parsed({"port": 8080, "log": "requests"}, {"port": 80, "log": "nothing"}).roles["web"]
    assert web.http == (Http(80, logs_requests=False), Http(8080, logs_requests=True))
    assert [web.speaks_http(port) for port in (80, 8080, 8443)] == [True, True, False]
    assert [web.logs_requests(port) for port in (80, 8080, 8443)] == [False, True, False]


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"port": 9090, "log": "nothing"}, WHOLE),
        ({"port": 8443, "log": "nothing"}, WHOLE),
        ({"port": 8080}, f"{FIRST}.log"),
        ({"port": 8080, "log": "everything"}, f"{FIRST}.log"),
        ({"port": 8080, "log": True}, f"{FIRST}.log"),
        ({"port": 0, "log": "nothing"}, f"{FIRST}.port"),
        ({"log": "nothing"}, f"{FIRST}.port"),
        ({"port": 8080, "log": "nothing", "path": "/"}, f"{FIRST}.path"),
        (8080, FIRST),
    ],
)
def test_T8_what_is_no_port_of_the_application_is_refused(entry: object, field: str) -> None:
    assert refusals(lambda: parsed(entry)) == {(Reason.TOPOLOGY_INVALID, field)}


def test_T8_a_port_is_said_once() -> None:
    entries = [{"port": 8080, "log": log} for log in ("nothing", "requests")]
    assert refusals(lambda: parsed(*entries)) == {(Reason.TOPOLOGY_INVALID, WHOLE)}

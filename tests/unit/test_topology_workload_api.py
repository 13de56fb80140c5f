"""Whether an application is given an identity: said by the owner in one word, and by nobody's default."""

from __future__ import annotations

import pytest
from support.topologies import document, payload, refusals, role

from toposeal.errors import Reason
from toposeal.topology.model import Topology
from toposeal.topology.parse import parse_topology


def parsed(value: object) -> Topology:
    return parse_topology(payload(document(roles={"web": role(1, workload_api=value)})))


def test_without_a_word_no_application_has_one() -> None:
    assert {role.workload_api for role in parse_topology(payload(document())).roles.values()} == {False}


@pytest.mark.parametrize(("word", "given"), [("x509", True), ("nothing", False)])
def test_the_owner_says_what_it_is_given(word: str, given: bool) -> None:
    assert parsed(word).roles["web"].workload_api is given


@pytest.mark.parametrize("value", [True, False, 1, 0, "true", "X509", "jwt", "", None, [], {}])
def test_T9_what_only_looks_like_it_is_refused(value: object) -> None:
    assert refusals(lambda: parsed(value)) == {(Reason.TOPOLOGY_INVALID, "roles.web.workload_api")}

"""A mesh that cannot seal by the topology that it began with, and the version that mends it."""

from __future__ import annotations

from typing import Any

import pytest

from toposeal.errors import Reason
from toposeal.membership import outbox
from toposeal.membership.state import Boot
from toposeal.topology.accept import SignedTopology
from toposeal_lab.simulation.invariants import Invariants
from toposeal_lab.simulation.network import Faults, Network, signed_topology

pytestmark = pytest.mark.usefixtures("symbolic")
ROLES = {"api": (2, 2), "db": (1, 1), "web": (1, 1)}
MEMBERS = ("web", "api", "api", "db")
TIMERS: dict[str, Any] = {"ping_ms": 500, "quorum_ms": 120_000}


def version(number: int, *wrong: str) -> SignedTopology:
    return signed_topology(ROLES, version=number, wrong=wrong, **TIMERS)


def stuck(*wrong: str, seed: int = 0, faults: Faults | None = None) -> Network:
    """For half a minute: nobody serves, and nobody has fenced."""
    network = Network(version(1, *wrong), seed, faults, symbolic=True)
    Invariants(network)
    for role in MEMBERS:
        network.boot(role)
    network.run(30_000)
    assert not any(node.active or node.fenced for node in network.nodes)
    return network


@pytest.mark.parametrize("wrong", [("db",), ("api",), ("api", "db", "web")], ids=" ".join)
@pytest.mark.parametrize("told", range(len(MEMBERS)))
def test_T4_a_corrected_version_given_to_any_one_member_seals_the_mesh(
    wrong: tuple[str, ...], told: int
) -> None:
    """To one that waits for the others, or to one that its own topology refuses: nobody starts anew."""
    network = stuck(*wrong)
    refused = [node for node in network.nodes if isinstance(node.member.phase, Boot)]
    assert {node.role for node in refused} == set(wrong)
    network.push(network.nodes[told], version(2))
    network.run(45_000, network.agree)
    assert network.agree() and len(network.nodes) == len(MEMBERS)
    assert {node.member.topology.version for node in network.nodes} == {2}


@pytest.mark.parametrize("seed", range(10))
def test_it_spreads_where_messages_are_lost(seed: int) -> None:
    faults = Faults(loss=0.3, delay=(1, 300))
    network = stuck("db", "api", seed=seed, faults=faults)
    network.push(network.nodes[seed % len(MEMBERS)], version(2))
    network.run(110_000, network.agree)
    assert network.agree()


def test_without_the_announcement_silent_members_would_not_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the rule is for: whoever is silent is sent no answer."""
    monkeypatch.setattr(outbox, "_unsealed_topology", lambda member: ())
    network = stuck("db")
    network.push(network.nodes[0], version(2))
    network.run(100_000, network.agree)
    assert not network.agree() and isinstance(network.nodes[3].member.phase, Boot)


def test_who_is_never_told_fences_with_the_reason() -> None:
    network = stuck("db")
    network.run(130_000)
    (fenced,) = [node for node in network.nodes if node.fenced]
    assert fenced.role == "db" and fenced.fenced is not None
    assert fenced.fenced.reason is Reason.MEASUREMENT

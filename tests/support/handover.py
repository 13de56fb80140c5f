"""A story of more than one test: the only member of a mesh hands it over to who waits outside."""

from __future__ import annotations

from toposeal.membership.events import Leave
from toposeal.membership.sealed import SealedManifest
from toposeal_lab.simulation.invariants import Invariants
from toposeal_lab.simulation.network import Network, signed_topology
from toposeal_lab.simulation.scenario import BRISK


def handover(seed: int, loss: float = 0) -> tuple[Network, SealedManifest]:
    """Of exactly two, beside whom a third waits, one leaves for good when the owner wants one alone; then the
    other leaves too. Returns also the genesis.
    """
    network, _, genesis = _two_and_one(seed)
    first, only, _ = network.nodes
    network.run(network.now + 6_000)
    network.inject(first, Leave())
    network.run(network.now + 10_000)
    assert only.active is not None and only.active.iids == {only.member.own.iid}
    network.faults.loss = loss
    network.inject(only, Leave())
    network.run(network.now + 25_000, network.agree)
    network.run(network.now + 10_000)
    return network, genesis


def left_at_once(seed: int) -> Invariants:
    """One of the two leaves in the moment in which the owner wants one alone: whoever stays needs nobody's
    PONG, and asks for a LEAVE in the step in which it begins.
    """
    network, invariants, _ = _two_and_one(seed)
    network.inject(network.nodes[0], Leave())
    network.run(network.now + 20_000)
    return invariants


def _two_and_one(seed: int) -> tuple[Network, Invariants, SealedManifest]:
    network = Network(signed_topology({"api": (2, 2)}, 1, **BRISK), seed, symbolic=True)
    invariants = Invariants(network)
    for _ in range(2):
        network.boot("api")
    network.run(20_000, network.agree)
    genesis = network.nodes[0].active
    assert network.agree() and genesis is not None
    network.boot("api")
    network.run(network.now + 6_000)
    network.push(network.nodes[0], signed_topology({"api": (1, 1)}, 2, **BRISK))
    return network, invariants, genesis

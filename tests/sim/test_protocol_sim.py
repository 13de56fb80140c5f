"""The protocol among production machines: stories told by hand, with one fault at its worst moment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.handover import handover, left_at_once

from toposeal.errors import Reason
from toposeal.membership.events import Leave, Timer
from toposeal.membership.state import Waiting
from toposeal.topology.accept import SignedTopology
from toposeal_lab.simulation.invariants import Invariants
from toposeal_lab.simulation.network import Faults, Network, sent_kind, signed_topology

pytestmark = pytest.mark.usefixtures("symbolic")
ROLES = {"api": (2, 2), "db": (1, 1), "web": (1, 1)}
MEMBERS = ("web", "api", "api", "db")


def mesh(seed: int = 0, faults: Faults | None = None, **timers: Any) -> Network:
    network = Network(signed_topology(ROLES, **timers), seed, faults, symbolic=True)
    Invariants(network)
    return network


def booted(network: Network, *roles: str) -> Network:
    for role in roles or MEMBERS:
        network.boot(role)
    return network


@pytest.mark.parametrize("seed", range(20))
def test_a_fixed_size_application_is_active_without_waiting_for_any_timer(seed: int) -> None:
    """However the messages of the first milliseconds overtake each other."""
    network = booted(mesh(seed, Faults(delay=(1, 15), quote_ms=40)))
    network.run(60_000, network.all_active)
    assert network.all_active() and network.now < 300


def test_L4_an_active_mesh_says_nothing_but_heartbeats() -> None:
    network = booted(mesh())
    network.run(60_000)
    assert network.agree()
    before = len(network.delivered)
    network.run(660_000)
    said = [sent_kind(data) for _, _, data in list(network.delivered)[before:]]
    assert set(said) == {"heartbeat"}
    assert len(said) == 600_000 // 5_000 * 4 * 3


def test_the_last_member_may_come_much_later() -> None:
    network = booted(mesh(), *MEMBERS[:3])
    network.run(20 * 60_000)
    late = network.now
    network.boot("db")
    network.run(late + 60_000, network.all_active)
    assert network.all_active() and network.now - late < 300
    assert all(n.member.last_epoch == 1 for n in network.nodes)


@pytest.mark.parametrize("with_messages", [False, True])
@pytest.mark.parametrize("phase", ["gathering", "proposed", "committed", "sealed"])
def test_M1_a_member_dies_in_the_middle_and_its_successor_joins(phase: str, with_messages: bool) -> None:
    network = booted(mesh(attempt_ms=5_000, quote_ms=5_000, ping_ms=500))
    victim = network.nodes[1]
    victim.crash_on = (phase, with_messages)
    network.run(3_000)
    assert not victim.alive
    network.restart(victim)
    network.run(200_000, network.agree)
    survivors = [n for n in network.nodes if n.alive and n.fenced is None]
    if phase == "sealed" and with_messages:
        # Everybody else had its SEALED: the manifest is active, and the next one replaces the dead.
        assert network.agree() and {n.active.manifest.lineage for n in survivors if n.active} != {bytes(48)}
        return
    for fenced in [n for n in network.nodes if n.fenced is not None]:
        network.restart(fenced)
    network.run(400_000, lambda: all(n.active for n in network.live()))
    assert len(network.live()) == 4 and all(n.active for n in network.live())


def test_M1_a_commit_that_reached_only_some_seals_nobody() -> None:
    """The victim's COMMIT reaches one member; no other seals, and the one that could has to fence."""
    network = booted(mesh(attempt_ms=5_000, quote_ms=5_000, ping_ms=500))
    victim, lucky = network.nodes[0], network.nodes[3]

    def cut(now: int, source: int, target: int) -> bool:
        late = victim.phase in ("committed", "sealed")
        return late and source == victim.index and target != lucky.index

    network.faults.cut = cut
    network.run(2_000)
    assert {n.phase for n in network.nodes} <= {"committed", "sealed"}
    network.kill(victim)
    network.run(40_000)
    assert not any(n.active for n in network.nodes)


def test_M3_two_instances_of_a_role_for_one_never_enter_together() -> None:
    network = booted(mesh(), *MEMBERS, "db", "web")
    network.run(20_000)
    active = [n for n in network.nodes if n.active is not None]
    assert len(active) == 4
    assert {len(n.active.manifest.members) for n in active if n.active} == {4}
    assert [n.phase for n in network.nodes if n.active is None] == ["gathering", "gathering"]


def test_M4_a_complete_second_mesh_is_another_manifest_without_common_members() -> None:
    """Not preventable without an outside anchor: visible as another genesis."""
    network = mesh()
    network.faults.cut = lambda now, a, b: (a < 4) != (b < 4)
    booted(network, *MEMBERS, *MEMBERS)
    network.run(20_000)
    digests = {n.active.manifest.digest for n in network.nodes if n.active}
    assert network.all_active() and len(digests) == 2


def test_P10_two_meshes_on_one_network_do_not_mix() -> None:
    network = mesh()
    other = signed_topology(ROLES, mesh="staging")
    for role in MEMBERS:
        network.boot(role)
        network.boot(role, other)
    network.run(20_000)
    assert network.all_active()
    by_mesh = {n.active.manifest.mesh_id for n in network.nodes if n.active}
    assert len(by_mesh) == 2
    assert {len(n.active.manifest.members) for n in network.nodes if n.active} == {4}


def test_E1_E2_P4_everything_ever_said_replayed_to_a_new_boot() -> None:
    """All messages of an earlier life of the mesh, SEAL quotes included, at members of the next one."""
    network = booted(mesh())
    network.run(5_000)
    assert network.all_active()
    old = [data for _, _, data in network.delivered]
    assert {"introduction", "ping", "pong", "propose", "commit", "sealed"} <= {sent_kind(d) for d in old}
    again = mesh(seed=1)
    again.faults.replay = 0.5
    again.delivered.extend((0, target, data) for data in old for target in range(4))
    booted(again)
    again.run(20_000, again.all_active)
    assert again.all_active()
    dead = {n.member.own.iid for n in network.nodes}
    assert not dead & {e.iid for n in again.nodes if n.active for e in n.active.manifest.members}


def test_L1_a_member_far_behind_catches_up() -> None:
    """The others have failed a thousand attempts; a newcomer begins at one."""
    network = booted(mesh(ping_ms=500), *MEMBERS[:3])
    network.run(1_000)
    for node in network.nodes:
        _at_epoch(network, node.index, 1_000)
    network.run(5_000)
    network.boot("db")
    network.run(60_000, network.all_active)
    assert network.all_active()
    assert {n.member.last_epoch for n in network.nodes} == {1_000}


def _at_epoch(network: Network, index: int, epoch: int) -> None:
    node = network.nodes[index]
    node.member = replace(node.member, phase=Waiting(epoch, network.now))
    network.inject(node, Timer(network.random.randbytes(64)))


def test_R4_a_member_whose_quotes_always_fail_backs_off() -> None:
    """No hot loop: seconds, then minutes between attempts, and one SEAL quote in each."""
    network = booted(mesh())
    network.run(45)
    network.faults.quote_failure = 1.0
    network.run(3_600_000)
    for node in network.nodes:
        seals = [b for b in node.quotes if b.purpose.name == "SEAL"]
        assert 2 < len(seals) == len({b.epoch for b in seals}) < 60


def test_a_cut_in_one_direction_keeps_the_pair_out_and_heals() -> None:
    network = booted(mesh(attempt_ms=5_000, quote_ms=5_000, ping_ms=500))
    network.faults.cut = lambda now, a, b: now < 30_000 and (a, b) == (0, 1)
    network.run(29_000)
    assert not any(n.active for n in network.nodes)
    network.run(120_000, network.all_active)
    assert network.all_active()


# After the first seal.

SHOP = {"api": (1, 3), "db": (1, 2), "web": (1, 1)}
QUICK = {
    "view_ms": 500, "quote_ms": 5_000, "ping_ms": 500, "attempt_ms": 5_000,
    "heartbeat_ms": 1_000, "lease_ms": 4_000, "reattest_ms": 600_000, "quorum_ms": 20_000,
}  # fmt: skip


def shop(*roles: str, seed: int = 0, faults: Faults | None = None, **document: Any) -> Network:
    """A mesh with room, active at all of `roles`."""
    network = Network(signed_topology(SHOP, **{**QUICK, **document}), seed, faults, symbolic=True)
    Invariants(network)
    booted(network, *roles)
    network.run(10_000, network.agree)
    assert network.agree()
    return network


def epochs(network: Network) -> set[int]:
    return {n.active.manifest.epoch for n in network.live() if n.active}


@pytest.mark.parametrize("seed", range(10))
def test_a_restarted_member_is_a_new_one_and_the_others_serve_on(seed: int) -> None:
    network = shop("api", "api", "db", "web", seed=seed, faults=Faults(delay=(1, 40), loss=0.05))
    (lineage,) = {n.active.manifest.digest for n in network.nodes if n.active}
    before, dead = network.now, network.nodes[seed % 4]
    successor = network.restart(dead)
    network.run(before + 30_000, network.agree)
    assert network.agree() and network.now - before < QUICK["lease_ms"] + 8_000
    assert {n.active.manifest.lineage for n in network.live() if n.active} == {lineage}
    assert successor.member.own.iid != dead.member.own.iid
    assert network.happened["suspend"] == 0


def test_scaling_up_takes_one_round_for_all_who_come_together() -> None:
    network = shop("api", "db", "web")
    (before,) = {n.active.manifest.digest for n in network.live() if n.active}
    for role in ("api", "api", "db"):
        network.boot(role)
    network.run(network.now + 20_000, network.agree)
    assert network.agree()
    assert {n.active.manifest.previous for n in network.live() if n.active} == {before}
    assert network.happened["suspend"] == 0


def test_scaling_down_leaves_the_silent_out_after_their_lease() -> None:
    network = shop("api", "api", "api", "db", "web")
    for node in network.nodes[:2]:
        network.kill(node)
    died = network.now
    network.run(died + 20_000, network.agree)
    assert network.agree()
    assert QUICK["lease_ms"] - QUICK["heartbeat_ms"] <= network.now - died < QUICK["lease_ms"] + 8_000


def test_who_leaves_in_good_order_is_replaced_without_waiting_for_its_lease() -> None:
    """It serves until the others have sealed without it, and asks nobody twice."""
    network = shop("api", "api", "api", "db", "web")
    leaver, since = network.nodes[0], network.now
    network.inject(leaver, Leave())
    network.run(since + 1_000)
    assert leaver.alive and not leaver.suspended
    network.run(since + 10_000, lambda: not leaver.alive)
    assert network.agree() and network.now - since < QUICK["lease_ms"]
    assert network.happened["suspend"] == 0


@pytest.mark.parametrize("roles", [("api", "db", "web"), ("api", "api", "db", "web")])
def test_who_cannot_be_done_without_leaves_at_once(roles: tuple[str, ...]) -> None:
    """The last of its role, and then a mesh all of which ends together."""
    network = shop(*roles)
    since = network.now
    for node in network.nodes if len(roles) > 3 else network.nodes[-1:]:
        network.inject(node, Leave())
    network.run(since + 500)
    assert not network.nodes[-1].alive
    assert len(roles) == 3 or not network.live()


def pair(*roles: str, bounds: tuple[int, int] = (1, 2), seed: int = 3, **timers: int) -> Network:
    """A mesh of these at rest."""
    document: dict[str, Any] = {**QUICK, **timers}
    network = Network(signed_topology({"api": bounds}, **document), seed, symbolic=True)
    Invariants(network)
    booted(network, *(roles or ("api", "api")))
    network.run(20_000, network.agree)
    assert network.agree()
    return network


@pytest.mark.parametrize("seed", range(8))
def test_the_last_but_one_leaves_and_the_other_serves_on_in_the_same_lineage(seed: int) -> None:
    """It has closed before its LEAVE is said; nobody suspends, and there is no new genesis."""
    network = pair(seed=seed)
    network.faults.loss = 0.2 if seed % 2 else 0
    stays, leaves = network.nodes
    genesis = stays.active
    assert genesis is not None
    network.inject(leaves, Leave())
    network.run(network.now + 1_000)
    assert leaves.alive and not leaves.suspended
    network.run(network.now + 25_000, network.agree)
    network.run(network.now + 30_000)
    assert not leaves.alive and network.happened["left by LEAVE"] == 1
    assert stays.active is not None and stays.active.manifest.previous == genesis.manifest.digest
    assert stays.active.iids == {stays.member.own.iid} and stays.fenced is None
    assert network.happened["suspend"] == 0


def test_who_is_replaced_gives_its_place_to_who_is_there() -> None:
    """A role of exactly two: the newcomer seals with the one that stays."""
    network = pair("api", "api", bounds=(2, 2))
    before = network.nodes[0].active
    network.boot("api")
    network.run(network.now + 6_000)
    assert network.nodes[2].active is None
    network.inject(network.nodes[0], Leave())
    network.run(network.now + 20_000, network.agree)
    assert network.agree() and [n.alive for n in network.nodes] == [False, True, True]
    assert before is not None
    assert {n.active.manifest.lineage for n in network.live() if n.active} == {before.manifest.digest}
    assert network.happened["left by LEAVE"] == 1


def test_a_mesh_of_three_is_scaled_down_to_one() -> None:
    network = pair("api", "api", "api", bounds=(1, 3))
    genesis = network.nodes[0].active
    for node in network.nodes[1:]:
        network.inject(node, Leave())
    network.run(network.now + 40_000, lambda: len(network.live()) == 1 and network.agree())
    assert network.agree() and [n.alive for n in network.nodes] == [True, False, False]
    (left,) = network.live()
    assert left.active and genesis and left.active.manifest.lineage == genesis.manifest.digest
    assert network.happened["left by LEAVE"] == 1 and network.happened["suspend"] == 0


@pytest.mark.parametrize("seed", range(6))
def test_the_only_member_leaves_and_who_waits_outside_goes_on_in_the_same_lineage(seed: int) -> None:
    """It has nobody to be let go by but its successor, which needs nobody else either."""
    network, genesis = handover(seed, loss=0.2 if seed % 2 else 0)
    assert network.agree() and [n.alive for n in network.nodes] == [False, False, True]
    (successor,) = network.live()
    assert successor.active is not None and successor.active.manifest.lineage == genesis.manifest.digest
    assert network.happened["left by LEAVE"] == 2 and network.happened["suspend"] == 0


@pytest.mark.parametrize("seed", range(6))
def test_L1_who_gave_up_what_the_other_has_sealed_seals_it_anew_before_it_leaves(seed: int) -> None:
    """Its LEAVE can only be for what follows what it has sealed itself."""
    patient: dict[str, Any] = {**QUICK, "lease_ms": 60_000}
    network = pair(seed=seed, lease_ms=60_000)
    stays, leaves = network.nodes
    genesis = stays.active
    network.push(stays, signed_topology({"api": (1, 2)}, version=9, **patient))
    network.run(network.now + 10_000, lambda: leaves.phase == "committed")
    network.faults.cut = lambda now, a, b: (a, b) == (stays.index, leaves.index)
    network.run(network.now + 20_000, lambda: stays.phase == "sealed")
    network.run(network.now + 20_000, lambda: leaves.phase == "waiting")
    assert leaves.member.sealed != stays.member.sealed
    network.inject(leaves, Leave())
    network.faults.cut = None
    network.run(network.now + 30_000, lambda: not leaves.alive and network.agree())
    assert not leaves.alive and network.agree() and network.happened["left by LEAVE"] == 1
    assert stays.active is not None and genesis is not None
    assert stays.active.manifest.lineage == genesis.manifest.digest and network.happened["suspend"] == 0


def test_who_needs_a_leave_alone_asks_for_it_in_the_step_in_which_it_begins() -> None:
    """From `waiting` to `proposed`; a step that the table does not have would end the pod."""
    assert any(("Waiting", "Proposed") in left_at_once(seed).transitions for seed in range(8))


def test_a_leave_that_nobody_hears_is_a_death() -> None:
    """It is spent: what it was for has failed, and counts for nothing else."""
    network = pair()
    stays, leaves = network.nodes
    network.inject(leaves, Leave())
    network.faults.cut = lambda now, a, b: a == leaves.index and not leaves.alive
    network.run(network.now + 60_000)
    assert network.happened["left by LEAVE"] == 1
    assert stays.suspended and stays.active is not None and stays.active.manifest.is_genesis


def test_a_surplus_instance_stays_outside_and_harms_nobody() -> None:
    network = shop("api", "db", "web")
    surplus = network.boot("web")
    (epoch,) = epochs(network)
    network.run(network.now + 60_000)
    assert surplus.active is None and surplus.fenced is None
    assert epochs(network) == {epoch}


def test_a_minority_that_is_cut_off_suspends_and_comes_back_without_a_restart() -> None:
    network = shop("api", "api", "api", "db", "db", "web")
    lost = network.nodes[:2]
    network.faults.cut = lambda now, a, b: (a < 2) != (b < 2)
    network.run(network.now + 15_000)
    assert [n.suspended for n in network.nodes] == [True] * 2 + [False] * 4
    assert all(n.active and len(n.active.iids) == 4 for n in network.nodes[2:])
    network.faults.cut = lambda now, a, b: False
    network.run(network.now + 20_000, network.agree)
    assert network.agree() and [n.fenced for n in lost] == [None, None]


@pytest.mark.parametrize("rule", ["regenesis", "halt"])
def test_who_loses_the_majority_for_ever_gives_up_or_halts_as_the_topology_says(rule: str) -> None:
    network = shop("api", "db", "web", on_quorum_loss=rule)
    for node in network.nodes[:2]:
        network.kill(node)
    network.run(network.now + QUICK["lease_ms"] + QUICK["quorum_ms"] + 1_000)
    last = network.nodes[2]
    assert last.suspended
    if rule == "halt":
        assert last.fenced is None
        return
    assert last.fenced is not None and last.fenced.reason is Reason.QUORUM_LOST
    for node in list(network.nodes):
        network.restart(node)
    network.run(network.now + 20_000, network.agree)
    assert network.agree()


def test_all_are_attested_anew_in_time_and_nobody_stops_serving() -> None:
    network = shop("api", "api", "db", "web", reattest_ms=30_000)
    (epoch,) = epochs(network)
    quotes = [len(n.quotes) for n in network.nodes]
    network.run(network.now + 95_000)
    assert network.agree() and epochs(network) == {epoch + 3}
    assert [len(n.quotes) - before for n, before in zip(network.nodes, quotes, strict=True)] == [3] * 4
    assert network.happened["suspend"] == 0


@pytest.mark.parametrize("quote_ms", [40, 400, 3_000])
def test_whose_quotes_fail_is_left_out_and_let_in_again_when_they_do_not(quote_ms: int) -> None:
    """The others would go on failing with it until their seal is too old."""
    network = shop("api", "api", "db", "db", "web", reattest_ms=30_000)
    network.faults.quote_ms = quote_ms
    broken, others = network.nodes[0], network.nodes[1:]
    broken.quoteless = True
    network.run(network.now + 120_000)
    assert [node.suspended for node in others] == [False] * 4 and all(n.suspensions == 0 for n in others)
    assert all(n.active and broken.member.own.iid not in n.active.iids for n in others)
    assert broken.suspended and broken.fenced is not None  # it lost its leases, and after quorum_ms gave up
    network.restart(broken)
    network.run(network.now + 60_000, network.agree)
    assert network.agree()


def test_whose_quotes_fail_at_once_is_left_out_by_the_timers_by_default_too() -> None:
    """Well before the seal of the others is too old."""
    network = Network(signed_topology(SHOP), symbolic=True)
    Invariants(network)
    booted(network, "api", "api", "db", "db", "web")
    network.run(120_000, network.agree)
    broken, others = network.nodes[0], network.nodes[1:]
    broken.quoteless = True
    network.run(network.now + 5_400_000)
    assert all(node.suspensions == 0 for node in others)
    assert all(n.active and broken.member.own.iid not in n.active.iids for n in others)


def test_who_failed_to_quote_for_a_while_is_let_in_again() -> None:
    network = shop("api", "api", "db", "db", "web", reattest_ms=30_000, quorum_ms=200_000)
    broken = network.nodes[0]
    broken.quoteless = True
    network.run(network.now + 60_000)
    assert broken.suspended and [n.suspensions for n in network.nodes[1:]] == [0] * 4
    broken.quoteless = False
    network.run(network.now + 60_000, network.agree)
    assert network.agree() and not broken.suspended and broken.fenced is None


def test_a_seal_that_nobody_renews_ends_the_serving() -> None:
    network = shop("api", "api", "db", "web", reattest_ms=30_000)
    network.faults.quote_failure = 1.0
    network.run(network.now + 61_000)
    assert all(n.suspended for n in network.nodes)
    network.faults.quote_failure = 0
    network.run(network.now + 200_000, network.agree)
    assert network.agree()


def test_who_missed_that_a_manifest_is_active_follows_it_all_the_same() -> None:
    """It has sealed; SEALED of the others never came, and then they were further on."""
    network = shop("api", "api", "db", "web")
    late = network.nodes[0]

    def cut(now: int, source: int, target: int) -> bool:
        further = network.nodes[source].phase in ("sealed", "active")
        return target == late.index and late.phase in ("committed", "sealed") and further

    network.faults.cut = cut
    network.boot("db")
    network.run(network.now + 4_000)
    assert late.phase == "sealed"
    network.faults.cut = lambda now, a, b: False
    network.run(network.now + 20_000, network.agree)
    assert network.agree() and late.fenced is None


def test_who_has_sealed_beside_what_is_active_fences() -> None:
    """It got every COMMIT and nobody got its own: the others went on without it."""
    network = shop("api", "api", "api", "db", "web")
    alone = network.nodes[0]
    network.boot("db")
    network.faults.cut = lambda now, a, b: a == alone.index and alone.phase in ("committed", "sealed")
    network.run(network.now + 5_000, lambda: alone.phase == "sealed")
    network.faults.cut = lambda now, a, b: alone.index in (a, b)
    network.run(network.now + 15_000)
    assert alone.suspended and alone.fenced is None
    network.faults.cut = lambda now, a, b: False
    network.run(network.now + 15_000)
    assert alone.fenced is not None and alone.fenced.reason is Reason.SIBLING_ACTIVE
    network.restart(alone)
    network.run(network.now + 20_000, network.agree)
    assert network.agree()


@pytest.mark.parametrize("rule", ["regenesis", "halt"])
def test_L1_who_has_sealed_what_nobody_lives_to_make_active_gives_up_too(rule: str) -> None:
    """A newcomer has sealed its first manifest, and the others die before it hears that they have."""
    network = shop("api", "db", "web", on_quorum_loss=rule)
    newcomer = network.boot("db")
    network.faults.cut = lambda now, a, b: b == newcomer.index and network.nodes[a].phase == "sealed"
    network.run(network.now + 20_000, lambda: newcomer.phase == "sealed")
    for node in network.nodes[:3]:
        network.kill(node)
    network.run(network.now + QUICK["quorum_ms"] + 5_000)
    assert newcomer.active is None
    if rule == "halt":
        assert newcomer.fenced is None
        return
    assert newcomer.fenced is not None and newcomer.fenced.reason is Reason.QUORUM_LOST


# Topology updates.


def newer(
    roles: dict[str, tuple[int, int]] | None = None, version: int = 2, **document: Any
) -> SignedTopology:
    return signed_topology(roles or SHOP, version=version, **{**QUICK, **document})


def served(network: Network) -> set[int]:
    """Topology versions that somebody serves under."""
    return {n.active.manifest.topology_version for n in network.live() if n.active and not n.suspended}


@pytest.mark.parametrize("seed", range(10))
def test_a_topology_given_to_one_member_is_served_by_all_without_a_pause(seed: int) -> None:
    network = shop("api", "api", "db", "web", seed=seed, faults=Faults(delay=(1, 40), loss=0.1))
    lineages = {n.active.manifest.digest for n in network.live() if n.active}
    network.push(network.nodes[seed % 4], newer({**SHOP, "api": (1, 4)}))
    network.run(network.now + 30_000, lambda: served(network) == {2} and network.agree())
    assert served(network) == {2} and network.agree()
    assert {n.active.manifest.lineage for n in network.live() if n.active} == lineages
    assert network.happened["suspend"] == 0
    assert not any(n.fenced for n in network.nodes)


def test_a_newcomer_with_an_older_file_learns_the_newest_and_comes_in() -> None:
    network = shop("api", "db", "web")
    network.push(network.nodes[0], newer())
    network.run(network.now + 10_000, lambda: served(network) == {2})
    network.boot("api", network.signed)
    network.run(network.now + 20_000, lambda: len(network.live()) == 4 and network.agree())
    assert network.agree() and served(network) == {2}


def test_a_newcomer_with_a_newer_file_brings_it_to_all() -> None:
    network = shop("api", "db", "web")
    network.boot("api", newer())
    network.run(network.now + 20_000, lambda: served(network) == {2} and network.agree())
    assert served(network) == {2} and network.agree()


def test_who_slept_through_an_update_learns_it_when_it_wakes() -> None:
    network = shop("api", "api", "db", "web")
    sleeper = network.nodes[0]
    network.pause(sleeper, 15_000)
    network.push(network.nodes[1], newer())
    network.run(network.now + 14_000)
    assert served(network) == {1, 2}  # its own clock stands still too
    network.run(network.now + 30_000, network.agree)
    assert network.agree() and served(network) == {2}


def test_a_role_that_is_removed_is_cut_and_the_others_serve_on() -> None:
    network = shop("api", "api", "db", "web", topology_ms=600_000)
    gone = network.nodes[2]
    network.push(gone, newer({"api": (1, 3), "web": (1, 1)}))
    rest = [n for n in network.nodes if n is not gone]
    network.run(network.now + 10_000, lambda: all(n.active and len(n.active.iids) == 3 for n in rest))
    assert all(n.active and n.active.manifest.topology_version == 2 for n in rest)
    network.run(network.now + QUICK["lease_ms"] + 1_000)
    assert gone.suspended and network.happened["suspend"] == 1


def test_a_topology_that_cannot_be_met_suspends_after_topology_ms_and_its_pods_end_that() -> None:
    network = shop("api", "api", "db", "web")
    signed = newer({**SHOP, "cache": (1, 1)}, topology_ms=5_000)
    network.push(network.nodes[0], signed)
    network.run(network.now + 4_000)
    assert served(network) == {1}
    network.run(network.now + 3_000)
    assert served(network) == set() and network.happened["suspend"] == 4
    network.boot("cache", signed)
    network.run(network.now + 15_000, lambda: served(network) == {2} and network.agree())
    assert network.agree() and network.happened["resume"] == 4


def test_two_contents_of_one_version_seal_nothing_until_a_higher_version() -> None:
    network = shop("api", "api", "db", "web")
    network.push(network.nodes[0], newer(issued_at=1))
    network.push(network.nodes[1], newer(issued_at=2))
    network.run(network.now + 15_000)
    assert served(network) == {1} and all(n.member.blocked for n in network.live())
    network.push(network.nodes[2], newer(version=3))
    network.run(network.now + 20_000, lambda: served(network) == {3})
    assert served(network) == {3} and network.agree()


def test_L4_a_newcomer_that_may_not_commit_causes_no_rounds() -> None:
    network = shop("api", "db", "web")
    (epoch,) = epochs(network)
    newcomer = network.boot("api")
    network.run(network.now + 50)
    network.push(newcomer, newer(version=1, issued_at=1))
    network.run(network.now + 20_000)
    assert newcomer.member.blocked is not None and newcomer.phase == "gathering"
    assert epochs(network) == {epoch}

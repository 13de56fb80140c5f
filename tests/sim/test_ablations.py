"""Broken variants of the protocol, made by hand: each must be found, or a check protects nothing.

Rules that a member applies to its own manifest (5.2) cannot be broken by what peers send, since it
builds the manifest itself; tests/unit/test_membership_checks.py shows that each refuses alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.broken import (
    Patch,
    a_leave_without_fencing,
    an_older_topology_taken,
    who_was_admitted_once_stays_so,
)

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.evidence.binding import ZERO_DIGEST
from toposeal.membership import (
    candidates,
    checks,
    choosing,
    exchange,
    heads,
    heartbeats,
    leaving,
    liveness,
    machine,
    outbox,
    peers,
    rounds,
    sealing,
    timers,
)
from toposeal.membership.certificate import Certificate
from toposeal.membership.events import (
    Activate,
    Alarm,
    Announce,
    Appraise,
    Appraised,
    Leave,
    Received,
    Send,
    Timer,
)
from toposeal.membership.fetching import hold
from toposeal.membership.identity import spki_of
from toposeal.membership.leave import SignedLeave
from toposeal.membership.machine import TRANSITIONS
from toposeal.membership.sealed import SealedManifest
from toposeal.membership.state import Active, Committed, Gathering, Member, Peer, Proposed, Sealed, Waiting
from toposeal.membership.votes import SignedCommit, decision_body, parse_decision
from toposeal.verification.model import VerifiedEvidence
from toposeal_lab.simulation import network as harness
from toposeal_lab.simulation.data_plane import DataPlane
from toposeal_lab.simulation.invariants import Invariants
from toposeal_lab.simulation.keys import secret_of
from toposeal_lab.simulation.network import Faults, signed_topology
from toposeal_lab.simulation.scenario import Scenario
from toposeal_lab.simulation.violation import Violation

pytestmark = pytest.mark.usefixtures("symbolic")
SEEDS = range(40)


def propose_not_awaited(patch: Patch) -> None:
    patch.setattr(rounds, "_all_propose", lambda *_: True)


def topology_alarm_ignored(patch: Patch) -> None:
    real = rounds.evaluate

    def evaluate(member: Member, now: int) -> Any:
        after, effects = real(replace(member, blocked=None), now)
        return replace(after, blocked=member.blocked), effects

    for module in (rounds, timers):
        patch.setattr(module, "evaluate", evaluate)
    answer = liveness.attempt_open_to
    patch.setattr(
        liveness, "attempt_open_to", lambda member, peer: answer(replace(member, blocked=None), peer)
    )


def a_superseded_topology_served_for_ever(patch: Patch) -> None:
    real = heartbeats.lapses_at
    patch.setattr(heartbeats, "lapses_at", lambda member: real(replace(member, adopted=())))


def a_leave_counted_for_another_manifest(patch: Patch) -> None:
    """Whoever has left to any child of what we serve counts for all of them."""
    real = checks.commit_mismatches

    def mismatches(member: Member, attempt: Any, manifest: Any, now: int, leave: Any = None) -> Any:
        if leave is not None:
            leave = replace(leave, decision=replace(leave.decision, manifest_digest=manifest.digest))
        return real(member, attempt, manifest, now, leave)

    patch.setattr(rounds, "commit_mismatches", mismatches)
    for module in (candidates, heads):
        patch.setattr(module, "parting", lambda member, predecessor, now: choosing.leavers(member))


def a_leave_that_nobody_signed(patch: Patch) -> None:
    patch.setattr(
        leaving,
        "verify_leave",
        lambda message: SignedLeave(
            parse_decision(message.body, "leave"), message.ik_spki, message.signature
        ),
    )


def report_data_not_compared(patch: Patch) -> None:
    def appraisal(event: Appraise) -> Appraised:
        verified = VerifiedEvidence(
            "tdx", event.binding.role, event.binding, "UpToDate", (), bytes(16), 1 << 40
        )
        return Appraised(event.ticket, verified)

    patch.setattr(harness, "symbolic_appraisal", appraisal)


def commit_signatures_not_checked(patch: Patch) -> None:
    def verify(message: Any, identity: Any) -> SignedCommit:
        decision = parse_decision(message.body, "commit")
        return SignedCommit(decision, message.ik_signature, message.ca_signature, message.evidence)

    patch.setattr(sealing, "verify_commit", verify)


def propose_signature_not_checked(patch: Patch) -> None:
    patch.setattr(rounds, "verify_ik", lambda *_: None)


def one_commit_fewer_suffices(patch: Patch) -> None:
    real = sealing.on_seal_verified

    def on_seal_verified(member: Member, event: Appraised, now: int) -> Any:
        after, effects = real(member, event, now)
        phase = after.phase
        if not isinstance(phase, Committed) or len(phase.members) < max(1, len(phase.manifest.members) - 1):
            return after, effects
        members = tuple(phase.members[e.iid] for e in phase.manifest.members if e.iid in phase.members)
        return _sealed(
            after, SealedManifest(phase.manifest, after.own.topology.topology, members), now
        ), effects

    patch.setattr(sealing, "on_seal_verified", on_seal_verified)


def active_without_sealed_of_all(patch: Patch) -> None:
    def activate(member: Member, now: int) -> Any:
        phase = member.phase
        if not isinstance(phase, Sealed):
            return member, ()
        return replace(member, phase=Active(phase.sealed), serving=phase.sealed), (Activate(phase.sealed),)

    patch.setattr(sealing, "activate_if_all_sealed", activate)


def an_epoch_used_again(patch: Patch) -> None:
    def give_up(member: Member, entropy: bytes, now: int) -> Any:
        return replace(member, phase=Waiting(member.last_epoch, now + 500)), ()

    patch.setattr(timers, "_give_up", give_up)


def two_votes_in_one_epoch(patch: Patch) -> None:
    """After giving up, the member goes on with the same HELLO and may commit again."""

    def give_up(member: Member, entropy: bytes, now: int) -> Any:
        phase = member.phase
        assert isinstance(phase, (Proposed, Committed))
        return replace(member, phase=Waiting(member.last_epoch, now), last_commitment=0, last_epoch=0), ()

    patch.setattr(timers, "_give_up", give_up)


def late_seal(patch: Patch) -> None:
    """A member that gave up its commitment still seals on it when the missing COMMIT comes."""
    real, left = machine.step, {}

    def step(member: Member, event: Any, now: int) -> Any:
        after, effects = real(member, event, now)
        iid = member.own.iid
        if isinstance(member.phase, Committed) and isinstance(after.phase, Waiting):
            left[iid] = member.phase
        if iid in left and isinstance(after.phase, Gathering) and isinstance(event, Received):
            missing = [e for e in left[iid].manifest.members if e.iid not in left[iid].members]
            if len(missing) <= 1:
                members = tuple(left[iid].members.values())
                sealed = SealedManifest(left[iid].manifest, member.own.topology.topology, members)
                after = _sealed(after, sealed, now)
        return after, effects

    patch.setattr(machine, "step", step)
    anything = dict.fromkeys(TRANSITIONS, tuple(TRANSITIONS))
    patch.setattr("toposeal_lab.simulation.invariants.TRANSITIONS", anything)


def _sealed(member: Member, sealed: SealedManifest, now: int) -> Member:
    d = sealed.manifest.digest
    held = hold(member, Certificate(sealed, {}))
    return replace(held, phase=Sealed(sealed, now + 1_000), sealed=d, sealed_at=now)


def no_majority_asked_for(patch: Patch) -> None:
    for module in (choosing, checks, heads):
        patch.setattr(module, "majority", lambda path, iids: True)


def a_branch_left_for_another(patch: Patch) -> None:
    for module in (checks, heads):
        patch.setattr(module, "descends", lambda chain, digest, ancestor: True)


def leases_that_never_run_out(patch: Patch) -> None:
    patch.setattr(heartbeats, "lapses_at", lambda member: 1 << 60 if member.serving else None)


def leases_for_whoever_was_listed_once(patch: Patch) -> None:
    """As the design has it: renewed by every heartbeat of a member of the manifest that is served."""

    def renews(member: Member, peer: Peer, follows: bytes) -> bool:
        return member.serving is not None and peer.identity.iid in member.serving.iids

    patch.setattr(heartbeats, "_renews", renews)


def laggards_helped_without_limit(patch: Patch) -> None:
    def help_laggard(member: Member, sealed: Any, decision: Any, now: int) -> Any:
        votes = outbox.certificate_votes(member, sealed)
        peer = member.peers[decision.sender]
        return member, tuple(outbox.send(peer, data) for data in votes)

    patch.setattr(sealing, "_help_laggard", help_laggard)


def epochs_followed_once_only(patch: Patch) -> None:
    patch.setattr(timers, "follow", lambda member, now: member)


def role_taken_from_the_message(patch: Patch) -> None:
    def appraisal(event: Appraise) -> Any:
        verified = VerifiedEvidence(
            "tdx", event.binding.role, event.binding, "UpToDate", (), bytes(16), 1 << 40
        )
        return Appraised(event.ticket, verified)

    patch.setattr(harness, "symbolic_appraisal", appraisal)


def a_refusal_that_crashes(patch: Patch) -> None:
    def stale(field: str, found: object) -> Exception:
        return KeyError(field)

    for module in (peers, exchange, liveness, rounds, sealing):
        patch.setattr(module, "stale", stale)


def a_suspension_that_closes_nothing(patch: Patch) -> None:
    patch.setattr(DataPlane, "suspend", lambda *_: None)


def who_was_left_out_is_never_cut(patch: Patch) -> None:
    real = DataPlane._open

    def keeping(plane: DataPlane, *args: Any) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(DataPlane, "_cut", lambda *_: None)
            real(plane, *args)

    patch.setattr(DataPlane, "_open", keeping)


def every_ca_of_the_mesh_is_trusted(patch: Patch) -> None:
    patch.setattr(DataPlane, "_allowed", lambda plane, pod, ends: pod.index in plane._rules)


def every_update_cuts_everybody(patch: Patch) -> None:
    real = DataPlane._open

    def cutting(plane: DataPlane, pod: Any, sealed: SealedManifest) -> None:
        plane._cut(pod, lambda _: True)
        real(plane, pod, sealed)

    patch.setattr(DataPlane, "_open", cutting)


def a_genesis_after_a_seal(patch: Patch) -> None:
    for module in (timers, heartbeats, heads):
        patch.setattr(module, "head", lambda member, now: ZERO_DIGEST)
    patch.setattr(rounds, "commit_mismatches", lambda *_: ())


def a_private_key_in_an_introduction(patch: Patch) -> None:
    def told(effect: Any, key: bytes) -> Any:
        if not isinstance(effect, Announce):
            return effect
        return replace(effect, messages=(effect.messages[0] + key, *effect.messages[1:]))

    _telling(patch, told)


def a_private_key_in_a_message(patch: Patch) -> None:
    """In those alone that are looked at some together."""
    real = machine.step

    def step(member: Member, event: Any, now: int) -> Any:
        after, effects = real(member, event, now)
        key = secret_of(after.own.keys.ik.public_key())
        sends = [effect for effect in effects if isinstance(effect, Send)]
        if len(sends) == len(effects):
            effects = tuple(replace(send, data=send.data + key) for send in sends)
        return after, effects

    patch.setattr(machine, "step", step)


def a_private_key_in_an_alarm(patch: Patch) -> None:
    def told(effect: Any, key: bytes) -> Any:
        if not isinstance(effect, Alarm):
            return effect
        return replace(effect, mismatch=replace(effect.mismatch, found=key.hex()))

    _telling(patch, told)


def _telling(patch: Patch, told: Callable[[Any, bytes], Any]) -> None:
    real = machine.step

    def step(member: Member, event: Any, now: int) -> Any:
        after, effects = real(member, event, now)
        key = secret_of(after.own.keys.ik.public_key())
        return after, tuple(told(effect, key) for effect in effects)

    patch.setattr(machine, "step", step)


def a_fault_of_the_pod_that_is_survived(patch: Patch) -> None:
    patch.setattr(rounds, "fence", lambda member, effect: (member, ()))


# Stories. Most variants are found among the seeds; some need their own.


def any_story(seed: int) -> None:
    Scenario(seed).run()


def two_topologies(seed: int) -> None:
    """Two members under one content of version 7 have seen another before they can propose."""
    network = _network({"db": (1, 1), "web": (1, 1)}, seed)
    other = signed_topology({"db": (1, 1), "web": (1, 1)}, version=7, issued_at=1)
    network.boot("db")
    network.boot("web", other)
    network.run(500)
    network.boot("db", other)
    network.run(30_000)


def two_for_a_moment(seed: int) -> None:
    """They have said little when nobody looks any more."""
    network = _network({"db": (1, 1), "web": (1, 1)}, seed)
    network.boot("db")
    network.boot("web")
    network.run(300)


def an_older_topology_comes_again(seed: int) -> None:
    """The owner's version 8 is in force, and somebody shows version 7 again."""
    network = _roomy(seed)
    network.push(network.nodes[seed % 5], signed_topology(_ROOMY, version=8, **_BRISK))
    network.run(network.now + 10_000)
    network.push(network.nodes[0], network.signed)
    network.run(network.now + 10_000)


def a_role_without_pods(seed: int) -> None:
    """Version 8 demands a role that nobody has, so nothing can be sealed under it."""
    network = _roomy(seed)
    roles = {**_ROOMY, "cache": (1, 1)}
    network.push(network.nodes[0], signed_topology(roles, version=8, topology_ms=5_000, **_BRISK))
    network.run(network.now + 20_000)


def a_role_less(seed: int) -> None:
    """Version 8 has no place for the web, whose pods go on."""
    network = _roomy(seed)
    network.push(network.nodes[0], signed_topology({"db": (1, 4)}, version=8, **_BRISK))
    network.run(network.now + 20_000)


def corrupted_evidence(seed: int) -> None:
    network = _network({"db": (2, 2), "web": (1, 1)}, seed, Faults(corrupt=0.3))
    for role in ("db", "db", "web"):
        network.boot(role)
    network.run(60_000)


def an_impostor(seed: int) -> None:
    network = _network({"db": (1, 1), "web": (1, 1)}, seed)
    network.boot("web")
    network.boot("db", measured="web")
    network.run(30_000)


def a_member_far_behind(seed: int) -> None:
    network = _network({"db": (1, 1), "web": (2, 2)}, seed)
    for _ in range(2):
        network.boot("web")
    network.run(1_000)
    for node in network.nodes:
        node.member = replace(node.member, phase=Waiting(1_000, network.now))
        network.inject(node, Timer(network.random.randbytes(64)))
    network.run(5_000)
    network.boot("db")
    network.run(60_000, network.all_active)
    if not network.all_active():
        raise Violation("L1", "the member behind was left behind")


def _network(roles: dict[str, tuple[int, int]], seed: int, faults: Faults | None = None) -> harness.Network:
    network = harness.Network(signed_topology(roles, version=7, calls=True), seed, faults, symbolic=True)
    Invariants(network)
    return network


def a_partition(seed: int) -> None:
    """Two halves of a mesh lose each other, members die and come back on both sides, and all meet again. In
    some of them somebody is left out that would serve on: 23 is the first.
    """
    network = _roomy(seed + 23, Faults(delay=(1, 200), loss=0.1))
    network.faults.cut = lambda now, a, b: a % 2 != b % 2
    for pause in (3_000, 6_000):
        network.run(network.now + pause)
        network.restart(network.random.choice(network.live()))
    network.run(network.now + 10_000)
    network.faults.cut = lambda now, a, b: False
    network.run(network.now + 20_000)


def a_sibling(seed: int) -> None:
    """One member seals alone and is cut off; the others go on without it, and then it is back."""
    network = _roomy(seed)
    network.boot("db")
    alone = network.nodes[seed % 5]
    network.faults.cut = lambda now, a, b: a == alone.index and alone.phase in ("committed", "sealed")
    network.run(network.now + 3_000, lambda: alone.phase == "sealed")
    network.faults.cut = lambda now, a, b: alone.index in (a, b)
    network.run(network.now + 15_000)
    network.faults.cut = lambda now, a, b: False
    network.run(network.now + 15_000)


def a_frozen_member(seed: int) -> None:
    """The others go on without a pod that stands still, and is still connected."""
    network = _roomy(seed)
    network.run(network.now + 2_500)
    network.data_plane.dial()
    frozen = network.nodes[seed % 5]
    assert any(frozen.index in ends for ends in network.data_plane.channels)
    network.pause(frozen, 40_000)
    network.run(network.now + 60_000)


def two_meshes(seed: int) -> None:
    """Complete both, of one owner, and known to each other by nobody; their programs try every address."""
    network = _network({"db": (1, 1), "web": (1, 1)}, seed)
    network.faults.cut = lambda now, a, b: (a < 2) != (b < 2)
    for role in ("db", "web", "db", "web"):
        network.boot(role)
    network.run(10_000)
    network.data_plane.dial()
    assert len(network.data_plane.channels) >= 4
    network.run(20_000)


_ROOMY = {"db": (1, 4), "web": (1, 2)}
_BRISK: dict[str, Any] = {
    "calls": True, "view_ms": 300, "quote_ms": 2_000, "ping_ms": 300, "attempt_ms": 3_000,
    "heartbeat_ms": 500, "lease_ms": 2_000, "quorum_ms": 60_000,
}  # fmt: skip


def _roomy(seed: int, faults: Faults | None = None) -> harness.Network:
    """Five members agree, and there is room for one more."""
    network = harness.Network(signed_topology(_ROOMY, version=7, **_BRISK), seed, faults, symbolic=True)
    Invariants(network)
    for role in ("db", "web", "db", "web", "db"):
        network.boot(role)
    network.run(15_000, network.agree)
    return network


def a_pair(seed: int) -> harness.Network:
    network = harness.Network(signed_topology({"db": (1, 2)}, version=7, **_BRISK), seed, symbolic=True)
    Invariants(network)
    for _ in range(2):
        network.boot("db")
    network.run(15_000, network.agree)
    return network


def the_last_but_one_leaves(seed: int) -> None:
    network = a_pair(seed)
    network.inject(network.nodes[seed % 2], Leave())
    network.run(network.now + 10_000)


def the_last_but_one_leaves_in_vain(seed: int) -> None:
    """Its LEAVE comes, and then the other's quote fails."""
    network = a_pair(seed)
    leaver, other = network.nodes[seed % 2], network.nodes[1 - seed % 2]
    network.inject(leaver, Leave())
    other.quoteless = True
    network.run(network.now + 4_000)
    other.quoteless = False
    network.run(network.now + 20_000)


def somebody_speaks_for_who_leaves(seed: int) -> None:
    """A LEAVE in its name, to what is proposed, of whoever sees the proposal."""
    network = a_pair(seed)
    leaver, other = network.nodes[seed % 2], network.nodes[1 - seed % 2]
    network.inject(leaver, Leave())
    network.run(network.now + 10_000, lambda: isinstance(other.member.phase, Proposed))
    assert isinstance(other.member.phase, Proposed)
    spki = spki_of(leaver.boot.ik.public_key())
    body = decision_body(leaver.member.own.iid, other.member.phase.manifest)
    forged = wire.Leave(ik_spki=spki, body=body, signature=bytes(64))
    network.inject(other, Received(encode(wire.Envelope(leave=forged))))
    network.run(network.now + 10_000)


ABLATIONS: list[tuple[Callable[[Patch], None], Callable[[int], None], set[str]]] = [
    (propose_not_awaited, any_story, {"L4"}),
    (topology_alarm_ignored, two_topologies, {"S8"}),
    (an_older_topology_taken, an_older_topology_comes_again, {"S8"}),
    (a_superseded_topology_served_for_ever, a_role_without_pods, {"T4"}),
    (who_was_admitted_once_stays_so, a_role_less, {"T4"}),
    (report_data_not_compared, corrupted_evidence, {"S2"}),
    (commit_signatures_not_checked, corrupted_evidence, {"S2"}),
    (propose_signature_not_checked, any_story, {"S2"}),
    (one_commit_fewer_suffices, any_story, {"S2"}),
    (active_without_sealed_of_all, any_story, {"S5"}),
    (an_epoch_used_again, any_story, {"S8", "S9"}),
    (two_votes_in_one_epoch, any_story, {"S3", "S8"}),
    (late_seal, any_story, {"S3"}),
    (laggards_helped_without_limit, any_story, {"L4"}),
    (epochs_followed_once_only, a_member_far_behind, {"L1"}),
    (role_taken_from_the_message, an_impostor, {"S2"}),
    (a_refusal_that_crashes, any_story, {"S9"}),
    (no_majority_asked_for, a_partition, {"S5"}),
    (a_branch_left_for_another, a_sibling, {"S3"}),
    (leases_that_never_run_out, a_partition, {"L3"}),
    (leases_for_whoever_was_listed_once, a_partition, {"L3"}),
    (a_suspension_that_closes_nothing, any_story, {"S1"}),
    (who_was_left_out_is_never_cut, a_frozen_member, {"S4"}),
    (every_ca_of_the_mesh_is_trusted, two_meshes, {"S4"}),
    (a_genesis_after_a_seal, any_story, {"S6"}),
    (a_private_key_in_an_introduction, any_story, {"S7"}),
    (a_private_key_in_a_message, two_for_a_moment, {"S7"}),
    (a_private_key_in_an_alarm, two_topologies, {"S7"}),
    (a_fault_of_the_pod_that_is_survived, any_story, {"S9"}),
    (every_update_cuts_everybody, any_story, {"L2"}),
    (a_leave_without_fencing, the_last_but_one_leaves, {"S3"}),
    (a_leave_counted_for_another_manifest, the_last_but_one_leaves_in_vain, {"S5"}),
    (a_leave_that_nobody_signed, somebody_speaks_for_who_leaves, {"S5"}),
]
OWN_STORIES = (
    *(
        two_topologies,
        two_for_a_moment,
        corrupted_evidence,
        an_impostor,
        a_member_far_behind,
        a_partition,
        a_sibling,
    ),
    *(the_last_but_one_leaves, the_last_but_one_leaves_in_vain, somebody_speaks_for_who_leaves),
    *(a_frozen_member, two_meshes, an_older_topology_comes_again, a_role_without_pods, a_role_less),
)


@pytest.mark.parametrize(
    ("ablation", "story", "names"), ABLATIONS, ids=[ablation.__name__ for ablation, _, _ in ABLATIONS]
)
def test_a_broken_variant_is_found(
    ablation: Callable[[Patch], None], story: Callable[[int], None], names: set[str], monkeypatch: Patch
) -> None:
    ablation(monkeypatch)
    for seed in SEEDS:
        try:
            story(seed)
        except Violation as violation:
            assert violation.name in names, violation
            return
    pytest.fail(f"{len(SEEDS)} stories found nothing")


@pytest.mark.parametrize("story", OWN_STORIES)
def test_without_ablation_the_same_story_breaks_nothing(story: Callable[[int], None]) -> None:
    for seed in range(5):
        story(seed)

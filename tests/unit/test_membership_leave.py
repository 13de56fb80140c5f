"""RELEASE and LEAVE: the last but one has stopped for good, and that counts for one manifest (4.10)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.actors import Actor, Bench, kinds, of
from support.certificates import certificate, link

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import Mismatch, Reason, RemoteProtocolError
from toposeal.membership import machine, outbox
from toposeal.membership.certificate import majority
from toposeal.membership.checks import commit_mismatches, leave_mismatches
from toposeal.membership.choosing import Choice, choose
from toposeal.membership.events import Leave, Left, Quote, QuoteFailed, Send
from toposeal.membership.fetching import hold
from toposeal.membership.heads import parting
from toposeal.membership.leave import leave_message, make_leave, require_for, verify_leave
from toposeal.membership.manifest import Manifest, build_manifest
from toposeal.membership.signing import Tag
from toposeal.membership.state import Active, Attempt, Committed, Fenced, Gathering, Member, Proposed
from toposeal.membership.votes import decision_body
from toposeal.membership.waiting import waits
from toposeal_lab.simulation.network import sent_kind

TIMERS: dict[str, Any] = {
    "view_ms": 100, "ping_ms": 1_000, "heartbeat_ms": 1_000, "lease_ms": 30_000,
}  # fmt: skip
ONE = bytes([1]) * 48


class Pair:
    """Ourselves and one other, active together, both alive."""

    def __init__(self, bounds: tuple[int, int] = (1, 2)) -> None:
        self.bench = Bench({"db": bounds}, role="db", **TIMERS).gathering()
        self.other: Actor = self.bench.actor("db")
        self.bench.active(self.other)
        self.alive()
        self.genesis = self.bench.member.chain[self.bench.member.sealed]

    def alive(self) -> None:
        peer = self.bench.member.peers[self.other.iid]
        self.bench.member = self.bench.member.with_peer(replace(peer, alive_at=self.bench.now))

    def told(self) -> Manifest:
        """We leave, and the other has begun a round without us: what it proposes."""
        self.bench.event(Leave())
        return self.without_us()

    def without_us(self, epoch: int = 2) -> Manifest:
        digest = self.genesis.digest
        self.other.new_hello(epoch, sealed=digest, previous=digest)
        self.bench.receive(self.other.hello_message())
        return self.of(self.other, epoch=epoch)

    def of(self, *actors: Actor, epoch: int = 2) -> Manifest:
        own = self.bench.own.identity
        entries = [actor.hello.entry(actor.own.identity) for actor in actors]
        topology = self.bench.signed.topology
        return build_manifest(own.mesh_id, topology, epoch, entries, self.genesis.manifest)

    def proposing(self) -> Manifest:
        """The other leaves, and we propose to go on without it."""
        self.bench.receive(self.other.heartbeat(self.bench.own.iid, leaving=True))
        for _ in range(4):
            if not isinstance(self.bench.member.phase, Proposed):
                self.bench.tick()
        assert isinstance(self.bench.member.phase, Proposed), self.bench.phase
        assert self.bench.member.phase.leaver == self.other.iid
        return self.bench.member.phase.manifest


@pytest.fixture
def pair() -> Pair:
    return Pair()


def unproven(pair: Pair) -> None:
    """Nobody has told us that the other has sealed the genesis, which may thus not be active anywhere."""
    member, link = pair.bench.member, pair.genesis
    seals = {iid: seal for iid, seal in link.seals.items() if iid != pair.other.iid}
    pair.bench.member = replace(member, chain={**member.chain, link.digest: replace(link, seals=seals)})


# Who leaves.


def test_who_stays_is_sent_the_proposal_and_who_leaves_its_release() -> None:
    pair = Pair((2, 3))
    third = pair.bench.actor("db")
    pair.bench.meet(third)
    manifest = pair.of(pair.bench.ourselves(), third)
    attempt = Attempt(third.hello, bytes(32))
    for leaver, to_leaver in ((pair.other.iid, ["release"]), (None, [])):
        effects = outbox.propose(pair.bench.member, Proposed(attempt, manifest, 0, leaver))
        assert kinds(effects, third.iid) == ["propose"] and kinds(effects, pair.other.iid) == to_leaver


def test_who_is_asked_by_all_who_stay_signs_its_leave_and_is_fenced(pair: Pair) -> None:
    manifest = pair.told()
    (left,) = pair.bench.receive(pair.other.release(manifest))
    assert isinstance(left, Left) and left.replaced
    (said,) = left.farewell
    assert (said.iid, said.addresses) == (pair.other.iid, pair.other.own.addresses)
    leave = verify_leave(wire.Envelope.FromString(said.data).leave)
    require_for(leave, manifest)
    assert leave.sender == pair.bench.own.iid
    assert isinstance(pair.bench.member.phase, Fenced) and pair.bench.member.serving is None


def test_S3_after_its_leave_it_answers_nothing_and_proves_nothing(pair: Pair) -> None:
    manifest = pair.told()
    pair.bench.receive(pair.other.release(manifest))
    before = pair.bench.member
    assert pair.bench.receive(pair.other.release(pair.without_us(3))) == []
    assert pair.bench.tick(1_000) == [] and machine.deadline(pair.bench.member) is None
    assert pair.bench.member is before
    with pytest.raises(RemoteProtocolError) as refused:
        machine.live(before, bytes(32))
    assert refused.value.reason is Reason.NOT_ACTIVE


def test_P4_who_is_not_to_end_gives_no_leave(pair: Pair) -> None:
    manifest = pair.without_us()
    pair.bench.put(Active(pair.genesis.sealed))
    error = pair.bench.refuse(pair.other.release(manifest))
    assert error.reason is Reason.STALE_ATTEMPT


def test_nobody_gives_a_leave_before_all_who_stay_have_proposed_the_same() -> None:
    pair = Pair((2, 2))
    newcomer = pair.bench.actor("db")
    pair.bench.meet(newcomer)
    pair.told()
    newcomer.new_hello(2, previous=pair.genesis.digest)
    pair.bench.receive(newcomer.hello_message())
    manifest = pair.of(pair.other, newcomer)
    assert [left.farewell for left in of(pair.bench.receive(newcomer.release(manifest)), Left)] == [()]
    assert not isinstance(pair.bench.member.phase, Fenced)
    (left,) = pair.bench.receive(pair.other.release(manifest))
    assert isinstance(left, Left)
    assert {said.iid for said in left.farewell} == {newcomer.iid, pair.other.iid}


def test_P1_a_release_of_whom_the_manifest_does_not_list_is_refused() -> None:
    """It would take back, for us, what its sender proposes elsewhere."""
    pair = Pair((1, 3))
    outsider = pair.bench.actor("db")
    pair.bench.meet(outsider)
    manifest = pair.told()
    error = pair.bench.refuse(outsider.release(manifest))
    assert (error.reason, error.mismatches[0].field) == (Reason.UNKNOWN_MEMBER, "release.propose.sender")


def test_P1_a_release_says_what_its_sender_proposes(pair: Pair) -> None:
    manifest = pair.told()
    other = wire.Envelope.FromString(pair.other.release(manifest)).release
    for changed in (
        wire.Release(manifest=other.manifest, propose=pair.other.sign(Tag.COMMIT, other.propose.body)),
        wire.Release(manifest=pair.genesis.manifest.body, propose=other.propose),
    ):
        refused = pair.bench.refuse(encode(wire.Envelope(release=changed)))
        assert refused.reason in (Reason.SIGNATURE_INVALID, Reason.MANIFEST_MISMATCH)
    assert not isinstance(pair.bench.member.phase, Fenced)


Change = Callable[[Pair, Manifest, Member], tuple[Manifest, Member]]


def admitted_before(pair: Pair, member: Member) -> Member:
    """By another topology than ours."""
    peer = member.peers[pair.other.iid]
    assert peer.admitted is not None
    return member.with_peer(replace(peer, admitted=replace(peer.admitted, topology=ONE)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p, d, m: (replace(d, topology_digest=ONE), m), Reason.TOPOLOGY_MISMATCH),
        (lambda p, d, m: (replace(d, mesh_id=ONE), m), Reason.TOPOLOGY_MISMATCH),
        (
            lambda p, d, m: (d, replace(m, blocked=Mismatch(Reason.TOPOLOGY_EQUIVOCATION, "a", "b", "c"))),
            Reason.TOPOLOGY_EQUIVOCATION,
        ),
        (lambda p, d, m: (d, replace(m, last_commitment=2)), Reason.COMMIT_REPEATED),
        (lambda p, d, m: (replace(d, previous=ONE), m), Reason.MANIFEST_LINEAGE),
        (lambda p, d, m: (d, replace(m, sealed=ONE)), Reason.MANIFEST_LINEAGE),
        (lambda p, d, m: (replace(d, previous=bytes(48)), m), Reason.MANIFEST_LINEAGE),
        (
            lambda p, d, m: (replace(d, previous=bytes(48)), replace(m, sealed=bytes(48))),
            Reason.MANIFEST_LINEAGE,
        ),
        (lambda p, d, m: (replace(d, members=()), m), Reason.MANIFEST_BOUNDS),
        (lambda p, d, m: (d, admitted_before(p, m)), Reason.UNKNOWN_MEMBER),
        (
            lambda p, d, m: (replace(d, members=(replace(d.members[0], nonce=ONE[:32]),)), m),
            Reason.MANIFEST_MISMATCH,
        ),
        (lambda p, d, m: (p.of(p.other, p.bench.ourselves()), m), Reason.UNKNOWN_MEMBER),
        (lambda p, d, m: (d, m.without_peer(p.other.iid)), Reason.UNKNOWN_MEMBER),
        (lambda p, d, m: (replace(d, epoch=3), m), Reason.MANIFEST_MISMATCH),
        (lambda p, d, m: (d, replace(m, chain={})), Reason.CERTIFICATE_UNKNOWN),
    ],
)
def test_S5_each_thing_that_speaks_against_a_leave_refuses_it_alone(
    pair: Pair, change: Change, reason: Reason
) -> None:
    manifest = pair.told()
    assert leave_mismatches(pair.bench.member, manifest) == []
    changed, member = change(pair, manifest, pair.bench.member)
    assert reason in [m.reason for m in leave_mismatches(member, changed)]


def test_S5_what_speaks_against_it_changes_nothing(pair: Pair) -> None:
    manifest = pair.told()
    pair.bench.member = replace(pair.bench.member, last_commitment=2)
    assert pair.bench.refuse(pair.other.release(manifest)).reason is Reason.COMMIT_REPEATED


def test_another_hello_of_a_member_makes_it_another_manifest(pair: Pair) -> None:
    manifest = pair.told()
    pair.without_us(3)
    found = leave_mismatches(pair.bench.member, manifest)
    assert [m.reason for m in found] == [Reason.MANIFEST_MISMATCH]


def test_who_is_not_needed_gives_no_leave() -> None:
    """Of three the two others are a majority."""
    bench = Bench({"db": (1, 3)}, role="db", **TIMERS).gathering()
    others = [bench.actor("db"), bench.actor("db")]
    manifest = bench.active(*others)
    bench.event(Leave())
    for actor in others:
        actor.new_hello(2, sealed=manifest.digest, previous=manifest.digest)
        bench.receive(actor.hello_message())
    entries = [actor.hello.entry(actor.own.identity) for actor in others]
    topology = bench.signed.topology
    child = build_manifest(bench.own.identity.mesh_id, topology, 2, entries, manifest)
    assert [m.reason for m in leave_mismatches(bench.member, child)] == [Reason.NO_MAJORITY]


# Who stays.


def test_who_stays_asks_for_the_leave_and_commits_with_it_alone(pair: Pair) -> None:
    manifest = pair.proposing()
    asked = [s for s in of(pair.bench.effects, Send) if sent_kind(s.data) == "release"]
    assert {s.iid for s in asked} == {pair.other.iid}
    release = wire.Envelope.FromString(asked[0].data).release
    assert release.manifest == manifest.body
    assert of(pair.bench.effects, Quote)[-1].binding.manifest_digest != manifest.digest
    (wanted,) = [m for m in waits(pair.bench.member, pair.bench.now) if m.field.startswith("LEAVE")]
    assert wanted.found.endswith(pair.other.own.identity.ca.domain)
    effects = pair.bench.receive(pair.other.leave(manifest))
    assert isinstance(pair.bench.member.phase, Committed)
    assert [quote.binding.manifest_digest for quote in of(effects, Quote)] == [manifest.digest]
    pair.bench.appraise(pair.bench.quote(effects))
    held = pair.bench.member.chain[manifest.digest]
    assert pair.bench.phase == "active" and held.leave and held.leave.sender == pair.other.iid


def test_it_is_asked_again_until_it_has_left(pair: Pair) -> None:
    manifest = pair.proposing()
    assert "release" in kinds(pair.bench.tick(1_000), pair.other.iid)
    phase = pair.bench.member.phase
    assert isinstance(phase, Proposed) and phase.manifest is manifest
    peer = pair.bench.member.peers[pair.other.iid]
    left = make_leave(pair.other.own.keys, pair.other.own.identity, manifest)
    member = pair.bench.member.with_peer(replace(peer, left=left))
    assert kinds(outbox.propose(member, phase)) == []
    assert not [m for m in waits(member, pair.bench.now) if m.field.startswith("LEAVE")]
    assert not [m for m in waits(member.without_peer(pair.other.iid), pair.bench.now) if "LEAVE" in m.field]


def test_S5_a_leave_for_another_manifest_counts_for_nothing(pair: Pair) -> None:
    manifest = pair.proposing()
    other = pair.of(pair.other)
    assert pair.bench.refuse(pair.other.leave(other)).reason is Reason.MANIFEST_MISMATCH
    left = make_leave(pair.other.own.keys, pair.other.own.identity, other)
    phase, now = pair.bench.member.phase, pair.bench.now
    assert isinstance(phase, Proposed)
    found = commit_mismatches(pair.bench.member, phase.attempt, manifest, now, left)
    assert [m.reason for m in found] == [Reason.NO_MAJORITY]
    good = make_leave(pair.other.own.keys, pair.other.own.identity, manifest)
    assert commit_mismatches(pair.bench.member, phase.attempt, manifest, now, good) == []


def test_S5_who_has_left_to_another_manifest_leaves_to_no_second_one(pair: Pair) -> None:
    manifest = pair.proposing()
    peer = pair.bench.member.peers[pair.other.iid]
    left = make_leave(pair.other.own.keys, pair.other.own.identity, pair.of(pair.other))
    pair.bench.member = pair.bench.member.with_peer(replace(peer, left=left))
    assert pair.bench.refuse(pair.other.leave(manifest)).reason is Reason.COMMIT_REPEATED


def test_a_leave_of_whom_nobody_waits_for_is_stale(pair: Pair) -> None:
    pair.proposing()
    stranger = pair.bench.actor("db")
    pair.bench.meet(stranger)
    phase = pair.bench.member.phase
    assert isinstance(phase, Proposed)
    assert pair.bench.refuse(stranger.leave(phase.manifest)).reason is Reason.STALE_ATTEMPT


def test_a_leave_that_comes_when_its_time_is_over_is_spent(pair: Pair) -> None:
    """The attempt has failed, and the next one has another D: nobody is left who could be asked."""
    manifest = pair.proposing()
    pair.bench.receive(pair.other.leave(manifest))
    (quote,) = pair.bench.last(Quote)
    pair.bench.event(QuoteFailed(quote.binding, Mismatch(Reason.QUOTE_SOURCE, "outblob", "EIO", "a quote")))
    for _ in range(6):
        pair.bench.tick()
    pair.alive()
    pair.bench.tick()
    assert isinstance(pair.bench.member.phase, Gathering)
    assert pair.bench.refuse(pair.other.leave(manifest)).reason is Reason.STALE_ATTEMPT


def test_a_leave_goes_on_to_who_may_lack_it() -> None:
    pair = Pair((2, 2))
    newcomer = pair.bench.actor("db")
    pair.bench.meet(newcomer)
    pair.bench.receive(newcomer.heartbeat(pair.bench.own.iid))
    pair.bench.tick(1_000)
    pair.bench.receive(pair.other.heartbeat(pair.bench.own.iid, leaving=True))
    pair.bench.beat(newcomer, pair.genesis.digest)
    pair.bench.again(newcomer)
    pair.bench.tick(100)
    phase = pair.bench.member.phase
    assert isinstance(phase, Proposed) and phase.leaver == pair.other.iid
    for _ in range(2):  # it is said again and again
        pair.bench.receive(pair.other.leave(phase.manifest))
        assert isinstance(pair.bench.member.phase, Proposed)
    pair.bench.receive(newcomer.propose(phase.manifest))
    assert isinstance(pair.bench.member.phase, Committed)
    assert "leave" in kinds(pair.bench.tick(1_000), newcomer.iid)


# Whom it is asked of.

BENCH = Bench({"db": (1, 3)}, role="db")
THREE = sorted((BENCH.actor("db") for _ in range(3)), key=lambda actor: actor.iid)


def test_L1_who_is_not_known_to_have_sealed_the_predecessor_is_not_asked(pair: Pair) -> None:
    """It would have to refuse, and nobody would propose the manifest with which it could seal and leave."""
    member, genesis = pair.bench.member, pair.genesis
    for leaving in (True, False):
        peer = replace(member.peers[pair.other.iid], leaving=leaving, alive_at=pair.bench.now)
        pair.bench.member = member.with_peer(peer)
        asked = {pair.other.iid} if leaving else set()
        assert parting(pair.bench.member, genesis, pair.bench.now) == asked
        unproven(pair)
        link = pair.bench.member.chain[genesis.digest]
        assert parting(pair.bench.member, link, pair.bench.now) == set()


def test_L1_we_propose_no_leave_of_ours_for_what_follows_what_we_have_not_sealed(pair: Pair) -> None:
    member = replace(pair.bench.member, leaving=True)
    assert parting(member, pair.genesis, pair.bench.now) == {member.own.iid}
    for behind in (replace(member, sealed=ONE), replace(member, leaving=False)):
        assert parting(behind, pair.genesis, pair.bench.now) == set()
    assert parting(member, None, pair.bench.now) == set()


def chosen(there: list[int], listed: list[int], leaving: list[int], parting: list[int]) -> Choice | None:
    actors = [THREE[number] for number in there]
    path = (link(None, 1, [THREE[number] for number in listed]),)
    sets = [frozenset(THREE[number].iid for number in numbers) for numbers in (leaving, parting)]
    entries = [actor.hello.entry(actor.own.identity) for actor in actors]
    return choose(BENCH.signed.topology.roles, entries, sets[0], frozenset(), path, sets[1])


@pytest.mark.parametrize(
    ("there", "listed", "leaving", "parting", "expected", "leaver"),
    [
        ([0, 1], [0, 1], [1], [1], [0], 1),  # the last but one
        ([0], [0, 1], [1], [1], [0], 1),  # that takes no part in the round
        ([0, 1], [0, 1], [1], [], [0, 1], None),  # it cannot be asked any more
        ([0, 2], [0, 1], [1], [1], [0, 2], 1),  # and is replaced
        ([2], [0], [0], [0], [2], 0),  # so is the only one
        ([0, 1, 2], [0, 1, 2], [2], [2], [0, 1], None),  # of three nobody is asked
        ([0, 1, 2], [0, 1, 2], [1, 2], [1, 2], [0, 1], None),
        ([0, 1, 2], [0, 1], [1], [1], [0, 1, 2], None),  # with a newcomer the two are a majority, and go on
        ([0], [0, 1, 2], [1], [1], None, None),  # it takes part in a round first
        ([2], [0, 1], [0, 1], [0, 1], None, None),  # one LEAVE is not a majority of two
        ([0], [0, 1], [1], [2], None, None),  # nor is that of who was not in it
        ([0, 1], [0, 1], [2], [2], [0, 1], None),  # nor is it asked of who has no place to leave
    ],
)
def test_9_a_leave_is_asked_for_where_no_round_can_do_without(
    there: list[int],
    listed: list[int],
    leaving: list[int],
    parting: list[int],
    expected: list[int] | None,
    leaver: int | None,
) -> None:
    found = chosen(there, listed, leaving, parting)
    if expected is None:
        assert found is None
        return
    assert found is not None
    assert [entry.iid for entry in found.entries] == [THREE[number].iid for number in expected]
    assert found.leaver == (None if leaver is None else THREE[leaver].iid)


# What it counts for.


def test_9_a_leave_counts_for_what_the_manifest_follows_and_for_nothing_after_it() -> None:
    one, two, three = THREE
    genesis = link(None, 1, [one, two])
    child = link(genesis, 2, [one, three], left=two)
    assert majority((child, genesis), [one.iid, three.iid])
    assert not majority((replace(child, leave=None), genesis), [one.iid, three.iid])
    assert not majority((genesis,), [one.iid])
    assert not majority((child,), [one.iid, two.iid])


def test_a_certificate_that_comes_without_its_leave_takes_none_away() -> None:
    one, two, _ = THREE
    genesis = link(None, 1, [one, two])
    child = link(genesis, 2, [one], left=two)
    member = Bench({"db": (1, 2)}, role="db").member
    bare = replace(child, leave=None)
    assert hold(hold(member, child), bare).chain[child.digest].leave == child.leave
    assert hold(hold(member, bare), child).chain[child.digest].leave == child.leave


# The message.


def altered(change: Callable[[wire.Leave], wire.Leave]) -> wire.Leave:
    one, two, three = THREE
    manifest = link(None, 1, [two, three]).manifest
    return change(leave_message(make_leave(one.own.keys, one.own.identity, manifest)))


def resigned(tag: Tag, actor: Actor) -> Callable[[wire.Leave], wire.Leave]:
    def change(leave: wire.Leave) -> wire.Leave:
        signature = actor.own.keys.sign(tag, leave.body)
        return wire.Leave(ik_spki=leave.ik_spki, body=leave.body, signature=signature)

    return change


def other_key(leave: wire.Leave) -> wire.Leave:
    spki = altered(lambda same: same).ik_spki[:-1] + b"x"
    return wire.Leave(ik_spki=spki, body=leave.body, signature=leave.signature)


def test_what_is_signed_by_its_sender_is_taken() -> None:
    assert verify_leave(altered(lambda leave: leave)).sender == THREE[0].iid


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (resigned(Tag.COMMIT, THREE[0]), Reason.SIGNATURE_INVALID),
        (resigned(Tag.LEAVE, THREE[1]), Reason.SIGNATURE_INVALID),
        (other_key, Reason.IDENTITY_MISMATCH),
        (lambda leave: wire.Leave(ik_spki=leave.ik_spki, body=b"", signature=b""), Reason.MALFORMED),
    ],
)
def test_P1_P3_a_leave_is_signed_by_the_instance_that_it_names(
    change: Callable[[wire.Leave], wire.Leave], reason: Reason
) -> None:
    with pytest.raises(RemoteProtocolError) as refused:
        verify_leave(altered(change))
    assert refused.value.reason is reason


def test_a_leave_is_for_a_manifest_that_does_not_list_its_sender() -> None:
    one, two, _ = THREE
    manifest = certificate(link(None, 1, [one, two]).manifest, [one, two]).manifest
    left = make_leave(one.own.keys, one.own.identity, manifest)
    assert left.decision.body == decision_body(one.iid, manifest)
    with pytest.raises(RemoteProtocolError) as refused:
        require_for(left, manifest)
    assert refused.value.reason is Reason.DUPLICATE_MEMBER
    with pytest.raises(RemoteProtocolError) as other:
        require_for(left, link(None, 2, [two]).manifest)
    assert other.value.reason is Reason.MANIFEST_MISMATCH

"""Any bytes, in any phase: taken as the tables say, or refused with a typed error and nothing changed."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.actors import Actor, Bench
from support.certificates import envelope, link, part
from support.reencode import at, fields, joined, within

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import digest, encode
from toposeal.errors import LocalProtocolError, ToposealError
from toposeal.limits import MAX_EPOCH_STEP
from toposeal.membership import machine
from toposeal.membership.certificate import Certificate
from toposeal.membership.events import Fence, Leave, Received
from toposeal.membership.identity import spki_of
from toposeal.membership.machine import MESSAGES, TRANSITIONS
from toposeal.membership.manifest import Manifest, build_manifest
from toposeal.membership.signing import Tag
from toposeal.membership.state import Committed, Fenced, Fetch, Member, Phase, Proposed
from toposeal.membership.votes import decision_body
from toposeal_lab.simulation.invariants import deep_fingerprint
from toposeal_lab.simulation.network import Network, signed_topology

PHASES = ("boot", "waiting", "gathering", "proposed", "committed", "sealed", "active", "fenced")
UNSIGNED = ("introduction", "topology", "certificate")  # as a whole; what is inside them is signed
# Of messages that carry more than a body and its signature: where both are, and what it is signed as.
NESTED = {"release": ((12, 2, 1), (12, 2, 2), "propose"), "leave": ((13, 2), (13, 3), "leave")}
ROLES = {"db": (2, 2), "web": (1, 1)}
_MANIFEST = "toposeal/v1/manifest"


class Case:
    """A member in one phase, two honest peers, and one good message of every kind."""

    def __init__(self, phase: str) -> None:
        self.bench = Bench(ROLES, ping_ms=1_000)
        self.a, self.b = self.bench.actor("db"), self.bench.actor("db")
        if phase == "waiting":
            self.bench.appraise(self.bench.quote(self.bench.effects))
        elif phase != "boot":
            self.bench.gathering()
        if phase == "gathering":
            self.bench.appraise(self.bench.receive(self.a.introduction()))
        if phase in ("proposed", "committed", "sealed", "active"):
            getattr(self.bench, phase)(self.a, self.b)
        if phase == "fenced":
            self.bench.sealed(self.a, self.b)
            self.bench.tick(10_000_000)
        assert self.bench.phase == phase
        self.messages = _messages(self.bench, self.a, self.b)
        known, awaited = (self._certificate(epoch) for epoch in (1, 2))
        self.bench.hold(known)
        fetch = Fetch(awaited.digest, self.a.iid, self.bench.now, held=True)
        self.bench.member = replace(self.bench.member, fetch=fetch)
        self.messages["want"] = self.a.want(self.bench.own.iid, known.digest, first=1)
        self.messages["certificate"] = envelope(part(awaited, count=1))

    def _certificate(self, epoch: int) -> Certificate:
        """Of boots that have been."""
        return link(None, epoch, [self.bench.actor(role) for role in ("db", "db", "web")])


def _messages(bench: Bench, a: Actor, b: Actor) -> dict[str, bytes]:
    donor = Bench(ROLES).gathering()
    manifest = donor.manifest(a, b)
    found = {
        "introduction": bench.actor("db").introduction(),
        "ping": a.ping(bench.own.iid),
        "pong": a.pong(bench.own.iid, bytes([1]) * 32),
        "propose": a.propose(manifest),
        "commit": a.commit(manifest),
        "sealed": a.sealed(manifest),
        "topology": encode(wire.Envelope(topology=signed_topology(ROLES, version=8).envelope)),
        "heartbeat": a.heartbeat(bench.own.iid),
        "release": a.release(manifest),
        "leave": a.leave(manifest),
    }
    hello, epoch = a.hello, a.hello.target_epoch
    a.new_hello(epoch + 1)
    found["hello"] = a.hello_message()
    a.hello = hello
    return found


CASES = {phase: Case(phase) for phase in PHASES}
FINGERPRINTS = {phase: deep_fingerprint(case.bench.member) for phase, case in CASES.items()}


@cache
def recorded() -> tuple[bytes, ...]:
    """Every envelope of one honest run of three members."""
    network = Network(signed_topology(ROLES, version=7), seed=5)
    for role in ("web", "db", "db"):
        network.boot(role)
    network.run(1_000)
    assert network.all_active()
    return tuple(dict.fromkeys(data for _, _, data in network.delivered))


def check(phase: str, data: bytes) -> Member | None:
    """The whole property; gives the next state, None for a refusal."""
    case = CASES[phase]
    before = case.bench.member
    after: Member | None = None
    try:
        after, effects = machine.step(before, Received(data), case.bench.now)
    except ToposealError as error:
        assert not isinstance(error, LocalProtocolError) and error.mismatches
    else:
        legal = type(after.phase) is type(before.phase) or _follows(before.phase, after.phase)
        assert legal and not any(isinstance(e, Fence) for e in effects)
        assert after.last_epoch == before.last_epoch and after.last_commitment >= before.last_commitment
        assert replace(after.own, topology=before.own.topology) == before.own
        assert after.topology.version >= before.topology.version
        assert len(after.peers) <= len(before.peers) + 1
    assert deep_fingerprint(before) == FINGERPRINTS[phase]
    return after


def _follows(before: Phase, after: Phase) -> bool:
    return type(after) in TRANSITIONS[type(before)]


phases = st.sampled_from(PHASES)


@given(phases, st.binary(max_size=300))
def test_any_bytes(phase: str, data: bytes) -> None:
    check(phase, data)


@given(phases, st.sampled_from(sorted(MESSAGES)), st.data())
def test_a_bit_flipped_in_a_good_message(phase: str, kind: str, data: st.DataObject) -> None:
    good = CASES[phase].messages[kind]
    place = data.draw(st.integers(0, len(good) * 8 - 1))
    changed = bytearray(good)
    changed[place // 8] ^= 1 << place % 8
    check(phase, bytes(changed))


@given(phases, st.data())
def test_recorded_messages_cut_doubled_and_spliced(phase: str, data: st.DataObject) -> None:
    one, other = (data.draw(st.sampled_from(recorded())) for _ in range(2))
    start, end = sorted(data.draw(st.integers(0, len(one))) for _ in range(2))
    check(phase, one)
    check(phase, one[:start])
    check(phase, one[start:end])
    check(phase, one[:start] + other[start:])
    check(phase, one + other)


@given(phases, st.sampled_from(sorted(MESSAGES)), st.data())
def test_any_field_replaced_and_signed_again_by_its_author(
    phase: str, kind: str, data: st.DataObject
) -> None:
    """What only a member that lies could send: canonical, signed, and with any value in any field."""
    case = CASES[phase]
    good = case.messages[kind]
    place = wire.Envelope.DESCRIPTOR.fields_by_name[kind].number
    path: tuple[int, ...] = () if kind == "topology" else (place,) if kind in UNSIGNED else (place, 1)
    path, signature, tag = NESTED.get(kind, (path, (place, 2), kind))
    parts = fields(at(good, path))
    index = data.draw(st.integers(0, len(parts) - 1))
    number, form, value = parts[index]
    value = bytes([data.draw(st.integers(1, 127))]) if form == 0 else data.draw(_values(value))
    changed = within(good, path, joined([*parts[:index], (number, form, value), *parts[index + 1 :]]))
    if kind not in UNSIGNED:
        body = at(changed, path)
        changed = within(changed, signature, case.a.own.keys.sign(Tag[tag.upper()], body))
        if kind == "commit":
            changed = within(changed, (6, 3), case.a.own.keys.sign_ca(Tag.COMMIT, body))
    check(phase, changed)


def _values(value: bytes) -> st.SearchStrategy[bytes]:
    same_size = st.binary(min_size=len(value), max_size=len(value))
    return st.one_of(st.just(b""), st.just(bytes(len(value))), same_size, st.binary(max_size=100))


# Of two members one leaves: what each of them is asked for, and by what.


@cache
def parting() -> tuple[Bench, Actor, Manifest]:
    """We leave, and the other has begun a round without us."""
    bench = Bench({"db": (1, 2)}, role="db", lease_ms=30_000).gathering()
    other = bench.actor("db")
    first = bench.active(other)
    bench.member = bench.member.with_peer(replace(bench.member.peers[other.iid], alive_at=bench.now))
    bench.event(Leave())
    other.new_hello(2, sealed=first.digest, previous=first.digest)
    bench.receive(other.hello_message())
    entries = [other.hello.entry(other.own.identity)]
    return bench, other, build_manifest(bench.own.identity.mesh_id, bench.signed.topology, 2, entries, first)


@cache
def staying() -> tuple[Bench, Actor, Manifest]:
    """The other leaves, and we propose to go on without it."""
    bench = Bench({"db": (1, 2)}, role="db", view_ms=100, lease_ms=30_000).gathering()
    other = bench.actor("db")
    bench.active(other)
    bench.member = bench.member.with_peer(replace(bench.member.peers[other.iid], alive_at=bench.now))
    bench.receive(other.heartbeat(bench.own.iid, leaving=True))
    for _ in range(4):
        if not isinstance(bench.member.phase, Proposed):
            bench.tick()
    assert isinstance(bench.member.phase, Proposed)
    return bench, other, bench.member.phase.manifest


def outcome(bench: Bench, data: bytes) -> Member | None:
    try:
        after, _ = machine.step(bench.member, Received(data), bench.now)
    except ToposealError as error:
        assert not isinstance(error, LocalProtocolError)
        return None
    return after


@given(st.data())
def test_S5_no_release_but_that_of_the_manifest_it_knows_makes_a_member_leave(data: st.DataObject) -> None:
    bench, other, manifest = parting()
    changed = data.draw(_altered(manifest.body))
    signed = other.own.keys
    body = encode(wire.Decision(sender=other.iid, epoch=2, manifest_digest=digest(_MANIFEST, changed)))
    proposed = wire.Signed(body=body, signature=signed.sign(Tag.PROPOSE, body))
    said = encode(wire.Envelope(release=wire.Release(manifest=changed, propose=proposed)))
    after = outcome(bench, said)
    assert (after is not None and isinstance(after.phase, Fenced)) == (changed == manifest.body)


@given(st.data())
def test_S5_no_leave_but_that_for_what_it_proposes_makes_a_member_commit(data: st.DataObject) -> None:
    bench, other, manifest = staying()
    good = decision_body(other.iid, manifest)
    changed = data.draw(_altered(good))
    spki = spki_of(other.own.keys.ik.public_key())
    leave = wire.Leave(ik_spki=spki, body=changed, signature=other.own.keys.sign(Tag.LEAVE, changed))
    after = outcome(bench, encode(wire.Envelope(leave=leave)))
    assert (after is not None and isinstance(after.phase, Committed)) == (changed == good)


def _altered(good: bytes) -> st.SearchStrategy[bytes]:
    """As it is, or with a few other bytes."""

    def at(place: int, value: int) -> bytes:
        return good[:place] + bytes([value]) + good[place + 1 :]

    return st.one_of(
        st.just(good),
        st.builds(at, st.integers(0, len(good) - 1), st.integers(0, 255)),
        st.binary(max_size=200),
    )


@pytest.mark.parametrize("phase", PHASES)
def test_every_good_message_is_taken_where_the_table_says(phase: str) -> None:
    """The positive control: without it the properties above could hold by refusing everything."""
    taken = {kind for kind, data in CASES[phase].messages.items() if check(phase, data) is not None}
    listed = {kind for kind in MESSAGES if type(CASES[phase].bench.member.phase) in MESSAGES[kind]}
    always, known = {"introduction", "topology", "certificate"}, {"hello", "heartbeat", "want"}
    expected = {
        "boot": {"introduction", "topology"},
        "waiting": always,
        "gathering": {*always, *known, "ping", "propose", "commit"},
        "proposed": {*always, *known, "ping", "propose", "commit"},
        "committed": {*always, *known, "ping", "commit"},
        "sealed": {*always, *known},
        "active": {*always, *known},
        "fenced": set(MESSAGES),
    }
    assert taken == expected[phase]
    assert phase == "fenced" or taken <= listed


@settings(max_examples=30)
@given(st.lists(st.integers(0, 200), max_size=60))
def test_any_order_of_real_messages_keeps_the_epoch_bounded(order: list[int]) -> None:
    bench = Bench(ROLES).gathering()
    a, b = bench.actor("db"), bench.actor("db")
    pool = list(recorded()) + list(_messages(bench, a, b).values()) + [a.introduction(), b.introduction()]
    for index in order:
        try:
            bench.appraise(bench.receive(pool[index % len(pool)]))
        except ToposealError as error:
            assert not isinstance(error, LocalProtocolError)
    assert bench.member.last_epoch <= 1 + MAX_EPOCH_STEP

"""P11: a message has one encoding. Every other one is refused at every level, signed or not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from google.protobuf.message import Message
from support.actors import Actor, Bench
from support.certificates import envelope, link, part
from support.reencode import BYTES, VARINT, at, explicit_default, variants, within

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import Reason
from toposeal.membership.manifest import parse_manifest
from toposeal.membership.signing import Tag
from toposeal.membership.state import Fetch

SIGNED_BODY = {
    "hello": (2, 1),
    "ping": (3, 1),
    "propose": (5, 1),
    "commit": (6, 1),
    "sealed": (7, 1),
    "heartbeat": (9, 1),
    "want": (10, 1),
}
TAGS = {kind: Tag[kind.upper()] for kind in SIGNED_BODY}
ADDRESSES, MEMBERS = 7, 8  # the only lists: an element more is another value, not another encoding
INNER: dict[str, list[tuple[int, ...]]] = {
    "introduction": [(1,), (1, 4), (1, 5)],  # the message, its evidence, its HELLO
    "hello": [(2,)],
    "ping": [(3,)],
    "propose": [(5,)],
    "commit": [(6,), (6, 4)],
    "sealed": [(7,)],
    "heartbeat": [(9,)],
    "want": [(10,)],
    "certificate": [(11, 4), (11, 4, 4), (11, 4, 5), (11, 4, 5, 4)],  # of a record
}


class Mesh:
    """A member that takes every kind of message: `propose` before its commitment, the rest after it."""

    def __init__(self) -> None:
        self.before = Bench({"db": (2, 2), "web": (1, 1)}).gathering()
        self.a, self.b = self.before.actor("db"), self.before.actor("db")
        manifest = self.before.proposed(self.a, self.b)
        self.after = Bench({"db": (2, 2), "web": (1, 1)}).gathering()
        actors = [Actor(x.own, self.after.entropy) for x in (self.a, self.b)]
        for actor, known in zip(actors, (self.a, self.b), strict=True):
            actor.hello = known.hello
        committed = self.after.committed(*actors)
        assert committed.body == manifest.body
        self.newcomer = self.before.actor("web")
        three = [self.a, self.b, self.before.ourselves()]
        self.known, lacking = link(None, 1, three), link(None, 2, three)
        self.after.hold(self.known)
        fetch = Fetch(lacking.digest, self.a.iid, self.after.now, held=True)
        self.after.member = replace(self.after.member, fetch=fetch)
        self.messages = {
            "introduction": self.newcomer.introduction(),
            "ping": self.a.ping(self.before.own.iid),
            "propose": self.a.propose(manifest),
            "commit": self.a.commit(manifest),
            "sealed": self.a.sealed(manifest),
            "heartbeat": self.a.heartbeat(self.after.own.iid),
            "want": self.a.want(self.after.own.iid, self.known.digest, first=1),
            "certificate": envelope(part(lacking, count=1)),
        }
        self.a.new_hello(3)
        self.messages["hello"] = self.a.hello_message()

    def bench(self, kind: str) -> Bench:
        return self.before if kind == "propose" else self.after

    def refused(self, kind: str, data: bytes) -> Reason:
        return self.bench(kind).refuse(data).reason


MESH = Mesh()
NOT_THE_ONE = {Reason.NOT_CANONICAL, Reason.MALFORMED, Reason.TOO_LARGE}  # with a field twice


@pytest.mark.parametrize("kind", list(INNER))
def test_the_canonical_encoding_is_taken(kind: str) -> None:
    mesh = Mesh()
    mesh.bench(kind).receive(mesh.messages[kind])


@pytest.mark.parametrize("kind", list(INNER))
def test_P11_no_other_encoding_of_an_envelope_is_taken(kind: str) -> None:
    data = MESH.messages[kind]
    for path in [(), *INNER[kind]]:
        found = list(variants(at(data, path)))
        assert len(found) > 5
        for name, changed in found:
            assert MESH.refused(kind, within(data, path, changed)) in NOT_THE_ONE, (path, name)


@pytest.mark.parametrize("kind", list(SIGNED_BODY))
def test_P11_a_re_encoded_body_is_refused_even_if_its_author_signs_it(kind: str) -> None:
    data, path = MESH.messages[kind], SIGNED_BODY[kind]
    for name, body in variants(at(data, path), ADDRESSES):
        assert MESH.refused(kind, within(data, path, body)) in NOT_THE_ONE, name
        resigned = within(data, path, body)
        signature = MESH.a.own.keys.sign(TAGS[kind], body)
        resigned = within(resigned, (path[0], 2), signature)
        if kind == "commit":
            resigned = within(resigned, (6, 3), MESH.a.own.keys.sign_ca(Tag.COMMIT, body))
        assert MESH.refused(kind, resigned) in NOT_THE_ONE, name


def test_P11_a_re_encoded_identity_is_refused_even_if_its_author_signs_it() -> None:
    data, keys = MESH.messages["introduction"], MESH.newcomer.own.keys
    for name, body in variants(at(data, (1, 1))):
        resigned = within(data, (1, 1), body)
        resigned = within(resigned, (1, 2), keys.sign(Tag.IDENTITY, body))
        resigned = within(resigned, (1, 3), keys.sign_ca(Tag.IDENTITY, body))
        assert MESH.refused("introduction", resigned) in NOT_THE_ONE, name


def test_P11_a_manifest_has_one_encoding() -> None:
    body = MESH.before.manifest(MESH.a, MESH.b).body
    parse_manifest(body)
    for name, changed in variants(body, MEMBERS):
        with pytest.raises(Exception) as error:
            parse_manifest(changed)
        assert getattr(error.value, "reason", None) in NOT_THE_ONE, name


def test_P11_P6_defaults_are_never_written_out() -> None:
    """A version field that is stripped and one that is explicitly zero are both no version."""
    stripped = wire.Identity.FromString(MESH.newcomer.own.identity.body)
    stripped.ClearField("protocol")
    body = encode(stripped)
    explicit = explicit_default(body, 1, VARINT)
    assert explicit != body and wire.Identity.FromString(explicit) == stripped
    for candidate, reason in ((body, Reason.PROTOCOL_VERSION), (explicit, Reason.NOT_CANONICAL)):
        data = within(MESH.messages["introduction"], (1, 1), candidate)
        assert MESH.refused("introduction", data) is reason
    unsigned = wire.Envelope(ping=wire.Signed(body=b"x"))
    assert MESH.refused("ping", explicit_default(encode(unsigned.ping), 2, BYTES)) in NOT_THE_ONE


def test_P4_truncated_anywhere_is_refused() -> None:
    for kind, data in MESH.messages.items():
        step = max(1, len(data) // 40)
        for length in range(0, len(data), step):
            MESH.bench(kind).refuse(data[:length])


def test_two_messages_in_one_envelope_are_none() -> None:
    both = MESH.messages["ping"] + MESH.messages["hello"]
    assert MESH.refused("ping", both) is Reason.NOT_CANONICAL


def test_the_variants_of_these_tests_mean_the_same_to_a_lenient_parser() -> None:
    message: Message = wire.Hello.FromString(MESH.a.hello.body)
    same = 0
    for name, data in variants(MESH.a.hello.body, ADDRESSES):
        parsed = wire.Hello.FromString(data)
        parsed.DiscardUnknownFields()
        same += 1
        assert parsed == message, name
    assert same > 20

"""MANIFEST: one canonical body per set of members; nothing twice, nothing out of order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.actors import Bench

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import digest, encode
from toposeal.errors import Reason, RemoteProtocolError
from toposeal.limits import MAX_MESSAGE_SIZE, MAX_REPLICAS
from toposeal.membership.manifest import bounds_mismatches, build_manifest, parse_manifest

BENCH = Bench(roles={"db": (1, 2), "web": (1, 2)})
PODS = [BENCH.actor(role) for role in ("web", "db", "web", "db")]
ENTRIES = [pod.hello.entry(pod.own.identity) for pod in PODS]
MANIFEST = build_manifest(PODS[0].own.identity.mesh_id, BENCH.signed.topology, 5, ENTRIES)


def changed(change: Callable[[Any], object]) -> bytes:
    message = wire.Manifest.FromString(MANIFEST.body)
    change(message)
    return encode(message)


def setting(**values: Any) -> Callable[[Any], object]:
    def change(message: Any) -> None:
        for name, value in values.items():
            setattr(message, name, value)

    return change


def entry(index: int, **values: Any) -> Callable[[Any], object]:
    return lambda message: setting(**values)(message.members[index])


def refused(data: bytes) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as error:
        parse_manifest(data)
    return error.value


def test_the_order_of_the_candidates_does_not_matter() -> None:
    again = build_manifest(MANIFEST.mesh_id, BENCH.signed.topology, 5, reversed(ENTRIES))
    assert again.body == MANIFEST.body
    assert again.digest == digest("toposeal/v1/manifest", MANIFEST.body)
    assert [(e.role, e.iid) for e in MANIFEST.members] == sorted((e.role, e.iid) for e in ENTRIES)


def test_a_genesis_has_no_lineage_and_no_previous_whatever_its_epoch() -> None:
    assert MANIFEST.is_genesis
    assert (MANIFEST.lineage, MANIFEST.previous, MANIFEST.epoch) == (bytes(48), bytes(48), 5)


def test_an_entry_is_found_by_iid() -> None:
    assert MANIFEST.entry(PODS[0].iid) == ENTRIES[0]
    assert MANIFEST.entry(bytes(48)) is None


def test_a_successor_can_be_read_but_is_no_genesis() -> None:
    later = parse_manifest(changed(setting(previous=bytes([1]) * 48, lineage=bytes([2]) * 48)))
    assert not later.is_genesis


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (setting(protocol=2), Reason.PROTOCOL_VERSION),
        (setting(protocol=0), Reason.PROTOCOL_VERSION),
        (setting(mesh_id=bytes(47)), Reason.MALFORMED),
        (setting(topology_version=0), Reason.MALFORMED),
        (setting(topology_digest=b""), Reason.MALFORMED),
        (setting(epoch=0), Reason.MALFORMED),
        (setting(epoch=1 << 53), Reason.MALFORMED),
        (setting(lineage=b""), Reason.MALFORMED),
        (setting(previous=bytes(49)), Reason.MALFORMED),
        (setting(previous=bytes([1]) * 48), Reason.MANIFEST_INVALID),
        (setting(lineage=bytes([1]) * 48), Reason.MANIFEST_INVALID),
        (lambda m: m.ClearField("members"), Reason.MANIFEST_INVALID),
        (entry(0, role="DB"), Reason.MANIFEST_INVALID),
        (entry(0, iid=bytes(47)), Reason.MALFORMED),
        (entry(0, id_digest=bytes(47)), Reason.MALFORMED),
        (entry(0, hello_digest=bytes(47)), Reason.MALFORMED),
        (entry(0, ca_digest=bytes(47)), Reason.MALFORMED),
        (entry(0, nonce=bytes(32)), Reason.MALFORMED),
        (entry(0, aux_digest=bytes(47)), Reason.MALFORMED),
        (lambda m: m.members.reverse(), Reason.MANIFEST_INVALID),
        (lambda m: m.members[0].CopyFrom(m.members[1]), Reason.DUPLICATE_MEMBER),
    ],
)
def test_every_field_has_its_form(change: Callable[[Any], object], reason: Reason) -> None:
    assert parse_manifest(MANIFEST.body) == MANIFEST
    assert refused(changed(change)).reason is reason


@pytest.mark.parametrize("field", ["iid", "ca_digest", "nonce", "hello_digest"])
def test_K7_P3_no_value_that_tells_members_apart_occurs_twice(field: str) -> None:
    value = getattr(MANIFEST.members[-1], field)
    error = refused(changed(entry(-2, **{field: value})))
    assert error.reason is Reason.DUPLICATE_MEMBER
    assert error.mismatches[0].field == f"manifest.members.{field}"


def test_a_thousand_members_fit_and_one_more_is_refused() -> None:
    def grown(number: int) -> bytes:
        message = wire.Manifest.FromString(MANIFEST.body)
        del message.members[:]
        for index in range(number):
            unique = index.to_bytes(2, "big")
            message.members.add(
                role="db",
                iid=unique + bytes(46),
                id_digest=bytes(48),
                hello_digest=unique + bytes(46),
                ca_digest=unique + bytes(46),
                nonce=bytes(29) + unique + b"\x01",
                aux_digest=bytes(48),
            )
        return encode(message)

    largest = grown(MAX_REPLICAS)
    assert len(parse_manifest(largest).members) == MAX_REPLICAS and len(largest) < MAX_MESSAGE_SIZE
    assert refused(grown(MAX_REPLICAS + 1)).reason is Reason.MANIFEST_INVALID


def test_bounds_name_each_role_that_is_wrong_and_each_foreign_one() -> None:
    topology = Bench(roles={"cache": (1, 1), "db": (1, 1), "web": (2, 3)}).signed.topology
    web, db = ENTRIES[0], ENTRIES[1]
    found = bounds_mismatches([web, db, ENTRIES[3]], topology)
    assert [(m.reason, m.field, m.found, m.expected) for m in found] == [
        (Reason.MANIFEST_BOUNDS, "manifest.members[cache]", "0", "1 to 1"),
        (Reason.MANIFEST_BOUNDS, "manifest.members[db]", "2", "1 to 1"),
        (Reason.MANIFEST_BOUNDS, "manifest.members[web]", "1", "2 to 3"),
    ]
    other = Bench(roles={"db": (1, 2)}, role="db").signed.topology
    assert [m.reason for m in bounds_mismatches([web, db], other)] == [Reason.ROLE_UNKNOWN]
    assert bounds_mismatches(ENTRIES, BENCH.signed.topology) == []

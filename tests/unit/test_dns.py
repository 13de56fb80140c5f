"""The pod's DNS, byte by byte (N1, N3, N4)."""

from __future__ import annotations

import struct

import pytest
from support.shop import role, topology

from toposeal.dataplane.dns import MAX_ANSWER, answer, host_names, names
from toposeal.dataplane.vips import Places
from toposeal.limits import DNS_TTL
from toposeal.topology.egress import Egress

SHOP = topology(role("web", 1), role("db", 1), role("api", 2))
TABLE = names(SHOP, SHOP.roles, Places.of(SHOP))

A, NS, PTR, MX, TXT, AAAA, SRV, OPT, IXFR, AXFR, ANY = 1, 2, 12, 15, 16, 28, 33, 41, 251, 252, 255
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)


def wire(name: str) -> bytes:
    labels = [label.encode() for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def query(
    name: str | bytes,
    kind: int = A,
    *,
    domain_class: int = 1,
    flags: int = 0x0100,
    counts: tuple[int, int, int, int] = (1, 0, 0, 0),
    rest: bytes = b"",
) -> bytes:
    raw = name if isinstance(name, bytes) else wire(name)
    return struct.pack("!6H", 0x1234, flags, *counts) + raw + struct.pack("!HH", kind, domain_class) + rest


def opt(version: int = 0, size: int = 4096, data: bytes = b"", name: bytes = b"\0") -> bytes:
    return name + struct.pack("!HHBBHH", OPT, size, 0, version, 0, len(data)) + data


def with_opt(record: bytes, name: str = "db", kind: int = A) -> bytes:
    return query(name, kind, counts=(1, 0, 0, 1), rest=record)


def parsed(message: bytes | None) -> tuple[int, list[bytes], bytes]:
    """Response code, the addresses answered, and what follows them; checks all that is always so."""
    assert message is not None
    assert len(message) <= MAX_ANSWER
    ident, flags, questions, answers, authorities, additional = struct.unpack_from("!6H", message)
    assert (ident, authorities) == (0x1234, 0)
    assert flags & 0x8480 == 0x8480  # response, authoritative, recursion available
    assert flags & 0x0270 == 0  # not truncated; no reserved, authenticated or checking-disabled bit
    at = 12
    if questions:
        while message[at]:
            at += 1 + message[at]
        at += 5
    addresses = []
    for _ in range(answers):
        assert message[at : at + 12] == b"\xc0\x0c" + struct.pack("!HHIH", A, 1, DNS_TTL, 4)
        addresses.append(message[at + 12 : at + 16])
        at += 16
    assert bool(additional) == bool(message[at:])
    return flags & 0xF, addresses, message[at:]


ADDRESSES = {"api": bytes([240, 10, 0, 1]), "db": bytes([240, 10, 0, 2]), "web": bytes([240, 10, 0, 3])}


@pytest.mark.parametrize("role_name", ADDRESSES)
@pytest.mark.parametrize("form", ["{}", "{}.", "{}.shop", "{}.shop.", "{}.SHOP"])
def test_N1_names_of_the_mesh_have_their_synthetic_address(role_name: str, form: str) -> None:
    asked = form.format(role_name)
    assert parsed(answer(query(asked), TABLE)) == (NOERROR, [ADDRESSES[role_name]], b"")


def test_N1_the_case_of_the_question_is_kept() -> None:
    message = answer(query("dB.sHoP"), TABLE)
    assert parsed(message)[1] == [ADDRESSES["db"]]
    assert message is not None
    assert wire("dB.sHoP") in message


@pytest.mark.parametrize("kind", [AAAA, NS, PTR, MX, TXT, SRV, 65])
def test_N1_a_name_of_the_mesh_has_no_other_data(kind: int) -> None:
    """NODATA, not NXDOMAIN: musl asks for A and AAAA and believes either NXDOMAIN."""
    assert parsed(answer(query("db", kind), TABLE)) == (NOERROR, [], b"")


@pytest.mark.parametrize(
    "name",
    [
        "d",
        "dbx",
        "db.other",
        "db.shop.svc.cluster.local",
        "shop",
        "example.com",
        "db.db",
        "x.db.shop",
        "",
        ".",
    ],
)
def test_N1_everything_else_does_not_exist(name: str) -> None:
    assert parsed(answer(query(name), TABLE)) == (NXDOMAIN, [], b"")
    assert parsed(answer(query(name, AAAA), TABLE)) == (NXDOMAIN, [], b"")


def test_N1_a_dot_inside_a_label_is_not_a_boundary() -> None:
    assert parsed(answer(query(b"\x07db.shop\0"), TABLE))[0] == NXDOMAIN


def test_N4_a_role_without_members_has_no_name() -> None:
    table = names(SHOP, {"web"}, Places.of(SHOP))
    assert parsed(answer(query("web"), table))[0] == NOERROR
    assert parsed(answer(query("db"), table))[0] == NXDOMAIN
    assert DNS_TTL <= 5


@pytest.mark.parametrize("name", ["db", "example.com"])
def test_before_the_topology_is_known_every_name_fails_for_now(name: str) -> None:
    assert parsed(answer(query(name), None)) == (SERVFAIL, [], b"")


@pytest.mark.parametrize("kind", [249, 250, IXFR, AXFR, 253, 254, ANY])
def test_N3_transfers_and_any_are_refused(kind: int) -> None:
    assert parsed(answer(query("db", kind), TABLE)) == (REFUSED, [], b"")
    assert parsed(answer(query("db", kind), None)) == (REFUSED, [], b"")


@pytest.mark.parametrize("domain_class", [0, 3, 4, 254, 255])
def test_N3_classes_other_than_internet_are_refused(domain_class: int) -> None:
    assert parsed(answer(query("db", domain_class=domain_class), TABLE))[0] == REFUSED


@pytest.mark.parametrize("opcode", range(1, 16))
def test_N3_other_operations_are_not_implemented(opcode: int) -> None:
    message = answer(query("db", flags=opcode << 11), TABLE)
    assert parsed(message)[0] == NOTIMP
    assert message is not None
    assert len(message) == 12
    assert (message[2] >> 3) & 0xF == opcode


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (2, 0, 0, 0), (65535, 0, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0)])
def test_N3_other_than_one_question_is_malformed(counts: tuple[int, int, int, int]) -> None:
    message = answer(query("db", counts=counts), TABLE)
    assert parsed(message) == (FORMERR, [], b"")
    assert message is not None
    assert len(message) == 12


@pytest.mark.parametrize(
    "name",
    [
        b"\xc0\x0c",  # a pointer to itself
        b"\x02db\xc0\x0c",  # a pointer back
        b"\x40" + bytes(64),  # label types that were never used
        b"\x80" + bytes(64),
        b"\x3f"
        + b"a" * 63
        + b"\x3f"
        + b"b" * 63
        + b"\x3f"
        + b"c" * 63
        + b"\x3f"
        + b"d" * 63
        + b"\0",  # 257 bytes
    ],
)
def test_N3_compressed_and_overlong_names_are_malformed(name: bytes) -> None:
    assert parsed(answer(query(name), TABLE))[0] == FORMERR


def test_N3_the_longest_name_fits_into_the_answer() -> None:
    name = b"\x3f" + b"a" * 63 + b"\x3f" + b"b" * 63 + b"\x3f" + b"c" * 63 + b"\x3d" + b"d" * 61 + b"\0"
    assert len(name) == 255
    message = answer(query(name, counts=(1, 0, 0, 1), rest=opt()), TABLE)
    assert parsed(message)[0] == NXDOMAIN


@pytest.mark.parametrize("cut", range(12, 20))
def test_N3_a_cut_question_is_malformed(cut: int) -> None:
    assert parsed(answer(query("db")[:cut], TABLE))[0] == (FORMERR if cut < 20 else NOERROR)


@pytest.mark.parametrize("size", range(12))
def test_N3_less_than_a_header_deserves_no_answer(size: int) -> None:
    assert answer(query("db")[:size], TABLE) is None


def test_N3_a_response_is_never_answered() -> None:
    assert answer(query("db", flags=0x8100), TABLE) is None


def test_edns_is_answered_with_our_own_limit() -> None:
    for record in (opt(), opt(size=65535), opt(data=bytes(400))):
        rcode, addresses, extension = parsed(answer(with_opt(record), TABLE))
        assert (rcode, addresses) == (NOERROR, [ADDRESSES["db"]])
        assert extension == b"\0" + struct.pack("!HHIH", OPT, MAX_ANSWER, 0, 0)


def test_an_unknown_edns_version_is_told_so() -> None:
    rcode, addresses, extension = parsed(answer(with_opt(opt(version=1)), TABLE))
    assert (rcode, addresses) == (NOERROR, [])
    assert extension[5] == 1  # the upper bits of BADVERS, 16


@pytest.mark.parametrize(
    "record",
    [
        b"",
        opt()[:-1],
        opt() + b"\0",
        opt(name=b"\x01a\0"),
        opt(data=b"1234")[:-1],
        b"\0" + struct.pack("!HHIH", 250, 255, 0, 0),  # TSIG
        opt() + opt(),
    ],
)
def test_N3_any_other_additional_record_is_malformed(record: bytes) -> None:
    assert parsed(answer(with_opt(record), TABLE))[0] == FORMERR


def test_N3_bytes_after_the_message_are_malformed() -> None:
    assert parsed(answer(query("db", rest=b"\0"), TABLE))[0] == FORMERR
    assert parsed(answer(query("db", counts=(1, 0, 0, 2), rest=opt() + opt()), TABLE))[0] == FORMERR


def test_recursion_desired_is_echoed() -> None:
    for flags in (0x0000, 0x0100):
        message = answer(query("db", flags=flags), TABLE)
        assert message is not None
        assert message[2] & 0x01 == flags >> 8


def test_hosts_outside_are_names_of_their_own_role_alone() -> None:
    egress = (Egress(443, host="api.example.com"), Egress(25, cidr="192.0.2.0/24"))
    shop = topology(role("web", 1, egress=egress), role("db", 1))
    places = Places.of(shop)
    assert host_names(shop, "web", places) == {b"\x03api\x07example\x03com\x00": bytes((240, 10, 128, 1))}
    assert host_names(shop, "db", places) == {}

"""Any bytes are answered with bytes or not at all; nothing is raised (N3)."""

from __future__ import annotations

import struct

from hypothesis import example, given
from hypothesis import strategies as st
from support.shop import role, topology

from toposeal.dataplane.dns import MAX_ANSWER, answer, names
from toposeal.dataplane.vips import Places

SHOP = topology(role("web", 1), role("db", 1))
TABLE = names(SHOP, SHOP.roles, Places.of(SHOP))
ADDRESSES = {bytes([240, 10, 0, 1]), bytes([240, 10, 0, 2])}

labels = st.lists(st.sampled_from([b"db", b"WEB", b"shop", b"", b"a" * 63, b"x.y"]), max_size=6)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Almost a query: every field may be anything, and a byte may be changed afterwards."""
    counts = [draw(st.sampled_from([0, 1, 1, 1, 2, 65535])) for _ in range(4)]
    flags = draw(st.sampled_from([0, 0x0100, 0x0100, 0x2000, 0x8180]) | st.integers(0, 0xFFFF))
    name = b"".join(bytes([len(label)]) + label for label in draw(labels)) + draw(
        st.sampled_from([b"\0", b"\xc0\x0c"])
    )
    kind = draw(st.sampled_from([1, 28, 255, 252]) | st.integers(0, 0xFFFF))
    domain_class = draw(st.sampled_from([1, 1, 255]) | st.integers(0, 0xFFFF))
    head = struct.pack("!6H", draw(st.integers(0, 0xFFFF)), flags, *counts)
    extension = draw(st.sampled_from([b"", b"\0\0\x29\x10\0\0\0\0\0\0\0"]) | st.binary(max_size=40))
    message = bytearray(head + name + struct.pack("!HH", kind, domain_class) + extension)
    for at in draw(st.lists(st.integers(0, len(message) - 1), max_size=3)):
        message[at] = draw(st.integers(0, 255))
    return bytes(message)


@given(st.binary(max_size=600) | messages(), st.sampled_from([TABLE, None]))
@example(b"\0" * 12, TABLE)
@example(b"\0\0\1\0\0\1\0\0\0\0\0\0" + b"\x01a" * 4000, TABLE)
@example(b"\0\0\1\0\0\1\0\0\0\0\0\0" + b"\xc0\x0c" * 30000, TABLE)
def test_N3_any_bytes_are_answered_within_bounds_or_not_at_all(
    query: bytes, table: dict[bytes, bytes] | None
) -> None:
    reply = answer(query, table)
    if reply is None:
        assert len(query) < 12 or query[2] & 0x80
        return
    assert 12 <= len(reply) <= MAX_ANSWER
    assert reply[:2] == query[:2]
    assert reply[2] & 0x80
    if reply[7]:
        assert any(address in reply for address in ADDRESSES)

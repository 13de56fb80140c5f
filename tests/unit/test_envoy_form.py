"""A form is filled in with whatever strings a member has, and comes to the message itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toposeal._wire import xds_pb2 as wire
from toposeal.dataplane.envoy_chains import member_chain, withheld_chain
from toposeal.dataplane.envoy_clusters import label, place, share_cluster, trust
from toposeal.dataplane.envoy_form import filled_in, varint
from toposeal.dataplane.envoy_form_maker import made
from toposeal.dataplane.envoy_plan import Inbound, OutsideRange, Peer, PodPlan
from toposeal.errors import LocalProtocolError

text = st.text(st.characters(codec="ascii"), min_size=1, max_size=300)
peers = st.builds(
    lambda domain, spiffe, ca, more: (Peer(domain, spiffe, ca, ()), more),
    text,
    text,
    st.one_of(text, st.sampled_from([127, 128, 1100, 17_000]).map("P".__mul__)),
    st.one_of(text, st.ip_addresses().map(str)),
)
OWN = Peer("own", "spiffe://own/a", "CA", ("192.0.2.1",))
PLAN = PodPlan(1, OWN, "192.0.2.1", (), (), (), 15021, (), (), (), 0)
RANGE = OutsideRange("192.0.2.0/24", 443, ())


@given(st.lists(peers, min_size=1, max_size=4), st.integers(1, 65_535), *[st.booleans()] * 3)
@settings(max_examples=60, deadline=None)
def test_D6_what_is_filled_in_is_what_envoys_messages_say(
    members: list[tuple[Peer, str]], port: int, http: bool, headers: bool, logs: bool
) -> None:
    """All that is ever filled in, also with strings that no member has."""
    edge = Inbound(port, (), 1, False, http, headers, logs)
    encoders: list[Callable[[Peer, str], bytes]] = [
        lambda peer, cluster: bytes(member_chain(edge, peer, cluster)),
        lambda _, name: bytes(share_cluster(PLAN, edge, name)),
        lambda peer, _: bytes(label(peer)),
        lambda peer, _: bytes(trust(peer, OWN)),
        lambda _, address: bytes(place(address, port)),
        lambda _, address: bytes(withheld_chain(RANGE, address)),
    ]
    for encode in encoders:
        found = list(filled_in(made(encode), members))
        assert found == [encode(member, more) for member, more in members]


def test_a_strings_own_text_ends_nothing() -> None:
    """Not even what stands for a place while a form is made."""

    def encode(peer: Peer, more: str) -> bytes:
        words = wire.DiscoveryRequest(
            version_info=peer.domain, resource_names=[peer.spiffe, f"{more}|{more}"]
        )
        return words.SerializeToString()

    peer = Peer("\x02\x7f\x7f\x7f\x7f\x02", "\x01\x7f\x7f\x7f\x7f\x01", "", ())
    assert list(filled_in(made(encode), [(peer, "\x0a\x01")])) == [encode(peer, "\x0a\x01")]


def test_messages_are_made_as_often_for_a_thousand_members_as_for_one() -> None:
    asked: list[str] = []

    def encode(peer: Peer, more: str) -> bytes:
        asked.append(peer.domain)
        return wire.DataSource(inline_string=peer.domain).SerializeToString()

    form = made(encode)
    before = len(asked)
    assert len(list(filled_in(form, [(OWN, "")] * 1000))) == 1000
    assert len(asked) == before


@pytest.mark.parametrize(
    "encode",
    [
        lambda peer, _: wire.DataSource(inline_string=peer.domain.upper()).SerializeToString(),
        lambda peer, _: wire.DataSource(inline_string=str(len(peer.domain))).SerializeToString(),
        lambda peer, more: wire.DataSource(inline_string=more if len(more) < 9 else "x").SerializeToString(),
        lambda peer, _: wire.DataSource(inline_string=peer.domain[:3]).SerializeToString(),
        lambda peer, _: wire.Status(code=len(peer.ca_pem), message=peer.ca_pem).SerializeToString(),
    ],
    ids=["altered", "its length", "sometimes", "a part", "both"],
)
def test_what_says_more_of_a_member_than_its_strings_has_no_form(
    encode: Callable[[Peer, str], bytes],
) -> None:
    with pytest.raises(LocalProtocolError, match="another message"):
        made(encode)


@pytest.mark.parametrize(
    "encode",
    [
        lambda peer, _: b"\x0a\x05" + peer.domain.encode()[:1],
        lambda peer, _: b"\x0a" + b"\xff" * 12,
        lambda peer, _: b"\x0b" + peer.domain.encode(),
    ],
    ids=["cut short", "an endless length", "a group"],
)
def test_what_is_no_message_has_no_form(encode: Callable[[Peer, str], bytes]) -> None:
    with pytest.raises(LocalProtocolError, match="no message"):
        made(encode)


@pytest.mark.parametrize(
    ("number", "encoded"),
    [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (300, "ac02"), (16_383, "ff7f"), (16_384, "808001")],
)
def test_a_length_is_encoded_as_protobuf_does(number: int, encoded: str) -> None:
    assert varint(number).hex() == encoded
    value = wire.Status(code=number).SerializeToString()
    assert value == (b"\x08" + varint(number) if number else b"")

"""A form is filled in with strings of the same length, and comes to the message itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toposeal._wire import xds_pb2 as wire
from toposeal.dataplane.envoy_chains import member_chain
from toposeal.dataplane.envoy_clusters import _endpoint, _trust
from toposeal.dataplane.envoy_form import Form
from toposeal.dataplane.envoy_plan import Inbound, Peer
from toposeal.errors import LocalProtocolError

text = st.text(st.characters(min_codepoint=32, max_codepoint=126) | st.just("\n"), min_size=3)
peers = st.builds(
    lambda domain, spiffe, ca, more: (Peer(domain, spiffe, ca, ()), more),
    text,
    text,
    # The length's own bytes come just before the string: each of them once.
    st.one_of(text, st.integers(3, 1100).map("P".__mul__)),
    st.one_of(text, st.ip_addresses().map(str).filter(lambda address: len(address) > 2)),
)
OWN = Peer("own", "spiffe://own/a", "CA", ("192.0.2.1",))


@given(st.lists(peers, min_size=1, max_size=4), st.integers(1, 65_535), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_copy_is_what_envoys_messages_say(
    members: list[tuple[Peer, str]], port: int, http: bool, logs: bool
) -> None:
    """All that is ever copied: chains, endpoints, and whom a cluster trusts."""
    edge = Inbound(port, (), 1, False, http, logs)
    encoders: list[Callable[[Peer, str], bytes]] = [
        lambda peer, cluster: bytes(member_chain(edge, peer, cluster)),
        lambda peer, address: bytes(_endpoint(peer, address, port)),
        lambda peer, _: bytes(_trust(peer, OWN)),
    ]
    for encode in encoders:
        form = Form(encode)
        for member, more in members:
            assert form.of(member, more) == encode(member, more)


def counted(asked: list[Peer]) -> Form:
    def encode(peer: Peer, more: str) -> bytes:
        asked.append(peer)
        return peer.domain.encode()

    return Form(encode)


def test_messages_are_made_once_for_each_length() -> None:
    asked: list[Peer] = []
    form = counted(asked)
    found = [form.of(Peer(domain, "", "", ())) for domain in ("abc", "xyz", "long")]
    assert found == [b"abc", b"xyz", b"long"]
    assert [peer.domain for peer in asked] == ["\x01\x7f\x7f", "aaa", "\x01\x7f\x7f\x7f", "aaaa"]


@pytest.mark.parametrize("character", ["\x01", "\x02", "\x03", "\x04", "\x7f"])
def test_what_a_stand_in_is_made_of_is_in_no_member(character: str) -> None:
    with pytest.raises(LocalProtocolError):
        counted([]).of(Peer(f"a{character}b", "", "", ()))


def test_a_message_that_says_more_of_a_peer_than_its_strings_has_no_form() -> None:
    with pytest.raises(LocalProtocolError, match="another message"):
        Form(lambda peer, _: peer.domain.upper().encode()).of(Peer("abc", "", "", ()))


def test_a_stand_in_that_is_found_elsewhere_too_makes_no_form() -> None:
    """A domain of one byte is any tag's or length's."""
    with pytest.raises(LocalProtocolError, match="another message"):
        Form(lambda peer, _: wire.Resource(name="\x01", value=peer.domain.encode()).SerializeToString()).of(
            Peer("a", "", "", ())
        )

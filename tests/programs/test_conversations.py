"""How connections begin and end: half-closed ones, servers that speak first, very many short ones."""

from __future__ import annotations

import pytest
from support.programs import Place

MEBIBYTES = 64 << 20
MANY = 30_000
CROWD = 1_200


@pytest.mark.parametrize("size", [0, 1, MEBIBYTES])
def test_the_client_ends_its_side_first(place: Place, size: int) -> None:
    assert place.converse("half_client", size) == f"True {4 << 20}"


@pytest.mark.parametrize("size", [0, 1, MEBIBYTES])
def test_the_server_ends_its_side_first(place: Place, size: int) -> None:
    assert place.converse("half_server", size) == f"True {size}"


def test_the_server_speaks_first(place: Place) -> None:
    assert place.converse("first") == "220 ready\r\nHELO\r\n"


def test_very_many_connections_in_a_row(places: dict[str, Place]) -> None:
    """More than there are local ports, faster than TIME_WAIT ends."""
    assert places["sealed"].converse("many", MANY, timeout_s=300) == f"{MANY}: ok"


def test_very_many_connections_at_once(place: Place) -> None:
    """More than 1,024, where a cluster of Envoy's stops of itself."""
    assert place.converse("crowd", CROWD, timeout_s=120) == f"{CROWD}: ok"


@pytest.mark.parametrize("kind", ["aborted", "aborting"])
def test_a_reset_of_either_side_arrives_as_a_reset(place: Place, kind: str) -> None:
    assert place.converse(kind) == "reset"


def test_what_differs_a_port_that_no_program_has(places: dict[str, Place]) -> None:
    """Our own Envoy accepts before the other side is asked, and an end is all that it can say then."""
    assert places["direct"].converse("nobody") == "refused"
    assert places["sealed"].converse("nobody") == "accepted, then b''"


def test_what_differs_who_the_peer_seems_to_be(places: dict[str, Place]) -> None:
    """The server's own Envoy connects to it."""
    assert places["direct"].converse("peer") == places["direct"].client.ipv4
    assert places["sealed"].converse("peer") == places["sealed"].server.ipv4

"""Programs in pods that real daemons sealed: they notice nothing. `make programs` holds them to much more."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from support.daemons import ready
from support.programs import NGINX, Place, sealed, start_conversations, start_nginx, start_redis

LARGE = 64 << 20


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    ready()
    with sealed() as made:
        start_nginx(made, large=LARGE)
        start_redis(made)
        start_conversations(made)
        yield made


def test_curl_gets_a_large_file_whole(place: Place) -> None:
    url = f"http://{place.host}:{NGINX}/files/large"
    said = place.run("sh", "-c", f"curl -sS {url} | sha256sum")
    assert said.split()[0] == hashlib.sha256(bytes(LARGE)).hexdigest()


def test_redis_is_pipelined(place: Place) -> None:
    said = place.run("redis-benchmark", "-h", place.host, "-t", "set,get", "-n", "20000", "-P", "16", "--csv")
    assert [line.split(",")[0] for line in said.splitlines()] == ['"test"', '"SET"', '"GET"']


@pytest.mark.parametrize(
    ("kind", "size", "said"),
    [
        ("first", 0, "220 ready\r\nHELO\r\n"),
        ("half_client", 4 << 20, f"True {4 << 20}"),
        ("half_server", 4 << 20, f"True {4 << 20}"),
        ("many", 1_000, "1000: ok"),
    ],
)
def test_a_conversation_is_what_it_is_without_us(place: Place, kind: str, size: int, said: str) -> None:
    assert place.converse(kind, size) == said

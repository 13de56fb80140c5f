"""Connections of every kind on which nothing happens for a while: all wait at once, in both places."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from support.inside import APP_UID, python, read_line, tell
from support.programs import CONVERSATIONS, GRPC, POSTGRES, REDIS, Place

IDLE_S = 25

# A bidirectional stream: one message each way, nothing, then more; the status at the end.
_GRPC_CLIENT = """
import queue, sys
import grpc
sent = queue.Queue()
channel = grpc.insecure_channel(sys.argv[1])
stream = channel.stream_stream("/test.Echo/Stream")(iter(sent.get, None), timeout=120)
sent.put(b"before")
before = next(stream)
print("ready", flush=True)
sys.stdin.readline()
for number in range(100):
    sent.put(b"%d" % number)
    assert next(stream) == b"%d" % number
sent.put(None)
print(before.decode(), list(stream), stream.code().name, flush=True)
"""

SAID = {
    "tcp": "before after",
    "websocket": str([True] * 7),
    "grpc": "before [] OK",
    "redis": "list extra",
    "postgres": "awake",
}


def commands(place: Place) -> dict[str, list[str]]:
    database = f"postgresql://app:secret@{place.host}:{POSTGRES}/postgres?sslmode=disable"
    return {
        "tcp": python(CONVERSATIONS, "idle", place.host),
        "websocket": python(CONVERSATIONS, "web_socket", place.host),
        "grpc": [sys.executable, "-I", "-c", _GRPC_CLIENT, f"{place.host}:{GRPC}"],
        "redis": ["redis-cli", "-h", place.host, "BLPOP", "list", "0"],
        "postgres": ["psql", "-XAtq", database, "-c", f"select 'awake' from pg_sleep({IDLE_S})"],
    }


def waiting(place: Place) -> dict[str, subprocess.Popen[bytes]]:
    """Every client connected, and those that say so ready."""
    pipe = subprocess.PIPE
    found = {
        kind: place.client.spawn(argv, uid=APP_UID, stdin=pipe, stdout=pipe)
        for kind, argv in commands(place).items()
    }
    for kind in ("tcp", "websocket", "grpc"):
        assert read_line(found[kind]) == "ready", kind
    return found


@pytest.fixture(scope="module")
def said(places: dict[str, Place]) -> Iterator[dict[tuple[str, str], str]]:
    """What each client said after the silence, by place and kind."""
    clients = {name: waiting(place) for name, place in places.items()}
    time.sleep(IDLE_S)
    found = {}
    for name, place in places.items():
        assert place.run("redis-cli", "-h", place.host, "-p", str(REDIS), "RPUSH", "list", "extra") == "1\n"
        for kind, child in clients[name].items():
            if kind in ("tcp", "websocket", "grpc"):
                tell(child, "now")
            assert child.stdout is not None
            found[name, kind] = " ".join(child.stdout.read().decode().split("\n")).strip()
            child.wait(20)
    yield found


@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize("name", ["direct", "sealed"])
def test_silence_ends_nothing(said: dict[tuple[str, str], str], name: str, kind: str) -> None:
    assert said[name, kind] == SAID[kind]

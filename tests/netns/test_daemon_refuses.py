"""What a daemon does not start with: taken ports, wrong directories, wrong arguments. The pod stays closed.

All the daemons of one group start at once, each in a pod of its own; the tests look at how they ended.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.daemons import CLOSED, START_S, Daemon, World, ready, rules_stand, world
from support.inside import APP_UID

from toposeal.limits import DNS_PORT, INBOUND_PORT, OUTBOUND_PORT, PEER_PORT

MAIN = "web"


@pytest.fixture(scope="module")
def made() -> Iterator[World]:
    """A mesh of which no more than one member is ever started: nothing can seal."""
    ready()
    with world({MAIN: "web", "db": "db"}) as made:
        yield made


@dataclass(frozen=True)
class Squatter:
    """What an application took before the daemon came."""

    port: int
    address: str
    kind: socket.SocketKind = socket.SOCK_STREAM

    def __str__(self) -> str:
        return f"{'udp' if self.kind == socket.SOCK_DGRAM else 'tcp'} {self.address} {self.port}"


SQUATTERS = (
    Squatter(PEER_PORT, "0.0.0.0"),
    Squatter(PEER_PORT, "::"),
    Squatter(PEER_PORT, "127.0.0.1"),
    Squatter(OUTBOUND_PORT, "127.0.0.1"),
    Squatter(OUTBOUND_PORT, "::1"),
    Squatter(INBOUND_PORT, "0.0.0.0"),
    Squatter(INBOUND_PORT, "::"),
    Squatter(DNS_PORT, "127.0.0.1", socket.SOCK_DGRAM),
    Squatter(DNS_PORT, "::1"),
)

# Takes a port as an application can: any flag that helps to share it, IPv6 alone where that is its family.
TAKE = """
import socket, sys, time
port, address, kind = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
taken = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
if ":" in address:
    taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
taken.bind((address, port))
if kind == socket.SOCK_STREAM:
    taken.listen()
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def squatted(made: World) -> dict[Squatter, Daemon]:
    from support.inside import spawn_python

    started = {}
    for squatter in SQUATTERS:
        member = started[squatter] = made.spare(MAIN)
        words = (str(squatter.port), squatter.address, str(int(squatter.kind)))
        spawn_python(member.pod, TAKE, *words, uid=APP_UID)
        made.start(member.name)
    wait_for_all(started.values())
    return started


def wait_for_all(members: Iterable[Daemon]) -> None:
    """Until all have ended, or the time is over: their tests then fail one by one."""
    end = time.monotonic() + START_S
    while any(member.code is None for member in members) and time.monotonic() < end:
        time.sleep(0.05)


@pytest.mark.parametrize("squatter", SQUATTERS, ids=str)
def test_I3_a_taken_port_ends_the_daemon_with_a_reason(
    squatted: dict[Squatter, Daemon], squatter: Squatter
) -> None:
    member = squatted[squatter]
    assert member.code == 5
    reason, place = member.reason()
    assert reason in ("firewall", "envoy_rejected", "envoy_failed")
    assert str(squatter.port) in str(member.events("fence")[0])
    assert_closed(member)
    assert member.events("quote") == []
    assert "Traceback" not in member.stderr


def assert_closed(member: Daemon) -> None:
    """Rules stand, no Envoy runs, its directory holds nothing but the closed files."""
    assert rules_stand(member.pod)
    assert not any(event.get("state") == "open" for event in member.events("gate"))
    xds = Path(member.layout.xds)
    found = member.files() if xds.is_dir() else {}
    assert found == {name: CLOSED[name] for name in found}

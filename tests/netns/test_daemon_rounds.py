"""A sealed mesh goes on living: real daemons and Envoys while members come, die, sleep and come back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from support.daemons import END_S, SEAL_S, Daemon, World, eventually, ready, world
from support.held import Held, echo, hold
from support.inside import APP_UID, run_python

PORT = 8080
# A lease is longer than a busy machine keeps a daemon waiting. What comes of quorum_ms, the simulation shows.
TIMERS = {
    "view_ms": 1_000, "quote_ms": 20_000, "ping_ms": 1_000, "attempt_ms": 20_000,
    "heartbeat_ms": 500, "lease_ms": 8_000, "quorum_ms": 120_000,
}  # fmt: skip
LEASE_S = TIMERS["lease_ms"] / 1000
PODS = {"web": "web", "db-1": "db", "db-2": "db", "db-3": "db"}


@pytest.fixture(scope="module")
def mesh() -> Iterator[World]:
    ready()
    with world(PODS, replicas=3, least=1, timers=TIMERS) as made:
        for name in PODS:
            made.start(name)
        for member in made.members.values():
            member.wait("gate", SEAL_S, state="open")
        eventually(lambda: (len({epoch(m) for m in living(made)}) == 1 and epochs(made)) or None, SEAL_S)
        yield made


def living(mesh: World) -> list[Daemon]:
    return [member for member in mesh.members.values() if member.started and member.code is None]


def epoch(member: Daemon) -> int:
    """Of the manifest that the gate serves."""
    found = [event["epoch"] for event in member.events("gate") if event.get("state") == "open"]
    return int(str(found[-1])) if found else 0


def epochs(mesh: World) -> set[int]:
    return {epoch(member) for member in living(mesh)}


def address(mesh: World) -> str:
    """Where programs of `web` find the role `db`."""
    asked = "import socket; print(socket.gethostbyname('db'))"
    return run_python(mesh["web"].pod, asked, uid=APP_UID).strip()


def held_by(mesh: World, names: set[str]) -> dict[str, Held]:
    """A connection of web's to each of these members."""
    found: dict[str, Held] = {}
    host = address(mesh)
    for _ in range(200):
        connection = hold(mesh["web"].pod, host, PORT)
        if connection is not None:
            found.setdefault(connection.said, connection)
        if names <= set(found):
            return found
    raise AssertionError(f"only {set(found)} answer")


def test_M1_a_member_that_is_killed_is_replaced_and_no_survivor_loses_a_connection(mesh: World) -> None:
    before = max(epochs(mesh))
    with echo(mesh["db-1"].pod, PORT, "db-1"), echo(mesh["db-2"].pod, PORT, "db-2"):
        connections = held_by(mesh, {"db-1", "db-2"})
        os.kill(mesh["db-3"].pid, signal.SIGKILL)
        mesh["db-3"].ended()
        spare = mesh.spare("db-3")
        mesh.start(spare.name)
        spare.wait("gate", SEAL_S, state="open")
        eventually(lambda: (len(epochs(mesh)) == 1 and min(epochs(mesh)) > before) or None, SEAL_S)
        with echo(spare.pod, PORT, "spare"):
            held_by(mesh, {"spare"})["spare"].close()
        assert all(connection.answers() for connection in connections.values())
        for connection in connections.values():
            connection.close()


def test_a_member_that_sleeps_past_its_lease_is_left_out_and_comes_back(mesh: World) -> None:
    sleeper, before = mesh["db-1"], max(epochs(mesh))
    os.kill(sleeper.pid, signal.SIGSTOP)
    others = [member for member in living(mesh) if member is not sleeper]
    eventually(lambda: (min(epoch(member) for member in others) > before) or None, SEAL_S)
    left_out = max(epoch(member) for member in others)
    os.kill(sleeper.pid, signal.SIGCONT)
    sleeper.wait("suspend", END_S)
    eventually(lambda: (len(epochs(mesh)) == 1 and min(epochs(mesh)) > left_out) or None, SEAL_S)
    assert sleeper.events("fence") == []


def test_M2_who_has_lost_the_majority_stops_serving(mesh: World) -> None:
    web = mesh["web"]
    host = address(mesh)
    for member in living(mesh):
        if member is not web:
            os.kill(member.pid, signal.SIGKILL)
    web.wait("suspend", LEASE_S + END_S)
    eventually(lambda: web.events("gate")[-1]["state"] == "suspended" or None)
    assert hold(web.pod, host, PORT) is None
    assert web.code is None

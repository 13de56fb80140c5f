"""E16: a daemon whose pod has another way to a quote asks for none itself and ends; one beside it goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from support.daemons import START_S, Daemon, World, ready, rules_stand, world
from support.inside import APP_UID, spawn_python

CLEAN, DIRECTORY, PORT = "clean", "directory", "port"
LISTEN = """
import socket, time
taken = socket.create_server(("127.0.0.1", 8006))
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def made() -> Iterator[World]:
    """Three members of a mesh that waits for more; all start at once."""
    ready()
    with world({CLEAN: "web", DIRECTORY: "db", PORT: "db"}, replicas=3) as made:
        os.chmod(made.directory / "tsm" / DIRECTORY, 0o777)
        spawn_python(made[PORT].pod, LISTEN, uid=APP_UID)
        for name in (CLEAN, DIRECTORY, PORT):
            made.start(name)
        yield made


def refused(member: Daemon) -> str:
    """The interface that the fence event names; nothing was asked for, and nothing is open."""
    assert member.ended(START_S) == 5
    reason, field = member.reason()
    assert reason == "quote_access"
    assert member.events("quote") == []
    assert rules_stand(member.pod)
    assert "Traceback" not in member.stderr
    return str(field)


def test_E16_a_report_directory_for_everybody_ends_the_daemon(made: World) -> None:
    assert refused(made[DIRECTORY]) == str(made.directory / "tsm" / DIRECTORY)


def test_E16_an_attestation_agents_port_ends_the_daemon(made: World) -> None:
    assert refused(made[PORT]) == "port 8006"


def test_E16_a_pod_without_either_quotes(made: World) -> None:
    made[CLEAN].wait("quote", START_S)
    assert made[CLEAN].code is None

"""R5: the host gives the daemon's process too little of something. It ends with a reason, or stays closed."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from support.daemons import END_S, Daemon, World, command_name, ready, rules_stand, world

# Each is too little at another moment: for the interpreter, for its libraries, for the daemon's sockets, for
# its threads, of which the limit counts all of the user.
TOO_LITTLE = {
    "12 descriptors": "--nofile=12:12",
    "24 descriptors": "--nofile=24:24",
    "64 MiB": f"--as={64 << 20}",
    "256 MiB": f"--as={256 << 20}",
    "1 process": "--nproc=1:1",
}


@pytest.fixture(scope="module")
def mesh() -> Iterator[World]:
    ready()
    with world({"web": "web", "db-1": "db"}) as made:
        made.start("db-1")
        yield made


@pytest.mark.parametrize("kind", TOO_LITTLE)
def test_R5_too_little_of_something_ends_the_daemon_closed(mesh: World, kind: str) -> None:
    """Where a library aborts, the signal is the reason."""
    before = len(mesh["web"].journal())
    member = mesh.start("web", before=("prlimit", TOO_LITTLE[kind]))
    code = member.ended(END_S)
    fences = [event["reason"] for event in member.journal()[before:] if event["event"] == "fence"]
    assert code == -signal.SIGABRT or (code != 0 and (fences or member.stderr)), (code, fences)
    assert_closed(member)


def assert_closed(member: Daemon) -> None:
    assert rules_stand(member.pod)
    assert "open" not in [event["state"] for event in member.events("gate")]
    assert [pid for pid in member.pod.processes() if command_name(pid) == "envoy"] == []

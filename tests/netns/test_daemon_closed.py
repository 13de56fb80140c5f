"""Daemons that have not sealed yet, harmed at every point of their start: the pod is closed at each.

All start at once, each in a pod of its own; the tests harm them and look at how they end.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.daemons import (
    FILES,
    START_S,
    Daemon,
    World,
    command_name,
    eventually,
    gone,
    kinds,
    ready,
    rules_stand,
    world,
)

from toposeal.limits import PEER_PORT
from toposeal_lab.pods import NODE_IPV4
from toposeal_lab.timeline import boottime

GATHERING, UNBORN = ("envoy",), ("unborn", "unborn-flush")  # the latter have no address yet
SILENT = ("silent", "silent-stop")  # their resolver never answers
NOTICED_S = 4.0  # before an Envoy would be found silent, or the resolver given up
STOPPED_AFTER = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0, 1.2)  # seconds
PEERS = ",".join(f"peer-{number}.test:{PEER_PORT}" for number in range(12))


@pytest.fixture(scope="module")
def made() -> Iterator[World]:
    ready()
    with world({"web": "web", "db": "db"}) as made, a_silent_resolver(made):
        for name in (*GATHERING, *UNBORN, *SILENT):
            member = made.add(name, "web")
            member.tee = "web"
            if name in UNBORN:
                member.pod.run(["ip", "addr", "flush", "dev", "eth0"])
            made.start(name, changed={"peers": PEERS} if name in SILENT else None)
        for name in (*GATHERING, *SILENT):
            made[name].wait("phase", START_S, phase="gathering")
        for name in UNBORN:
            made[name].wait("gate", START_S, state="closed")
        yield made


def a_silent_resolver(made: World) -> socket.socket:
    """Where every pod's resolv.conf points: takes queries and answers none."""
    with made.node.host().inside():
        taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        taken.bind((NODE_IPV4, 53))
    return taken


def assert_closed(member: Daemon) -> None:
    assert rules_stand(member.pod)
    assert [pid for pid in member.pod.processes() if not gone(pid)] == []
    assert member.stderr == ""
    assert member.files() == FILES


@pytest.mark.parametrize("name", [*GATHERING, UNBORN[0]])
def test_D7_S9_fault_16_an_envoy_that_dies_before_the_seal_ends_the_daemon(made: World, name: str) -> None:
    """Wherever the daemon waits: for peers, or for an address."""
    member = made[name]
    before = boottime()
    os.kill(kinds(member)["envoy"], signal.SIGKILL)
    assert member.ended() == 5
    assert member.reason()[0] == "envoy_failed"
    assert member.wait("fence", 1) - before < NOTICED_S
    assert_closed(member)


@pytest.mark.parametrize("name", [UNBORN[1], SILENT[0]])
def test_I6_rules_are_watched_before_the_seal_too(made: World, name: str) -> None:
    """Also without an address, and also while untrusted DNS holds every thread that asks it."""
    member = made[name]
    if name in SILENT:
        eventually(lambda: threads(member) > len(PEERS.split(",")) or None)  # one waits for each name
    member.pod.run(["nft", "flush", "ruleset"])
    harmed = boottime()
    eventually(lambda: rules_stand(member.pod) or None, 5)
    mended = boottime() - harmed
    fenced = member.wait("fence", 5) - harmed
    print(f"{name}: rules back after {mended:.3f} s, fenced after {fenced:.3f} s")
    assert (mended < 1, fenced < 1) == (True, True)
    assert member.ended() == 5
    assert member.reason()[0] == "firewall_changed"
    assert_closed(member)


def test_sigterm_does_not_wait_for_a_silent_resolver(made: World) -> None:
    member = made[SILENT[1]]
    before = time.monotonic()
    os.kill(member.pid, signal.SIGTERM)
    assert member.ended() == 0
    assert time.monotonic() - before < NOTICED_S
    assert_closed(member)


def test_S9_a_host_that_reads_no_log_does_not_stop_the_watches(made: World) -> None:
    """The journal goes into a pipe that is full from the start."""
    member = made.spare("web")
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while os.write(writing, b"\n" * 4096):
            pass
    os.set_blocking(writing, True)
    daemon = member.pod.spawn(made.command(member.name), stdout=writing, stderr=subprocess.DEVNULL)
    envoy = eventually(lambda: envoy_of(member), START_S)
    eventually(lambda: Path(member.layout.attestation).exists() or None, START_S)  # everything has started
    os.kill(envoy, signal.SIGKILL)
    assert daemon.wait(START_S) == 5
    assert rules_stand(member.pod)
    assert member.files() == FILES
    os.close(reading)
    os.close(writing)


def threads(member: Daemon) -> int:
    return len(os.listdir(f"/proc/{member.pid}/task"))


def envoy_of(member: Daemon) -> int | None:
    found = [pid for pid in member.pod.processes() if command_name(pid) == "envoy"]
    return found[0] if found else None


def test_fault_20_sigterm_at_any_moment_of_the_start_leaves_the_pod_closed(made: World) -> None:
    """Before the rules there is nothing to close; from then on they stand, and nothing else runs."""
    members = [made.spare("web") for _ in STOPPED_AFTER]
    for member in members:
        made.start(member.name)
    started = time.monotonic()
    for member, after in zip(members, STOPPED_AFTER, strict=True):
        time.sleep(max(0.0, started + after - time.monotonic()))
        os.kill(member.pid, signal.SIGTERM)
    for member in members:
        assert member.ended() in (0, -signal.SIGTERM)
        eventually(lambda m=member: m.pod.processes() == [] or None)  # type: ignore[misc]
        assert rules_stand(member.pod) or not member.directory.exists()
        assert not Path(member.layout.xds).is_dir() or member.files() in ({}, FILES)
        assert "Traceback" not in member.stderr

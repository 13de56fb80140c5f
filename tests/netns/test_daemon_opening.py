"""From the seal to the open gate: what has to be true on the way, and who can stand in it.

Two meshes: in one every replica of `db` is harmed before the seal, in the other both members are born
under a flood and with an evil peer, one without IPv6, the other before it has an address.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.daemons import (
    FETCH,
    FILES,
    OPEN_FILES,
    PORT,
    SEAL_S,
    SERVE,
    START_S,
    Daemon,
    World,
    eventually,
    fill,
    gone,
    kinds,
    ready,
    rules_stand,
    status,
    world,
)
from support.inside import APP_UID, PYTHON, run_python, spawn_python

from toposeal.host.throwaway import make_throwaway
from toposeal.limits import PEER_PORT
from toposeal_lab.member import Event
from toposeal_lab.pods import NODE_IPV4

HARMED = {
    "stopped": "envoy_failed",  # an Envoy that hangs
    "probe": "probe_failed",  # everything is acknowledged, and nothing comes through
}


CRAMPED = ("full", "inodes")  # no room for a file: opening needs none


def use_up_inodes(directory: Path) -> None:
    with suppress(OSError):
        for number in range(1000):
            (directory / f"empty-{number}").touch()


def harm(member: Daemon) -> None:
    match member.name:
        case "stopped":
            os.kill(kinds(member)["envoy"], signal.SIGSTOP)
        case "full":
            fill(member.directory / "filler")
        case "inodes":
            use_up_inodes(member.directory)
        case "probe":
            Path(member.layout.probe).unlink()


@pytest.fixture(scope="module")
def harmed() -> Iterator[World]:
    """Every `db` is harmed while it waits for web; then web, which has started, gets its addresses and all of
    them seal: before a stopped Envoy is noticed, which takes some seconds.
    """
    ready()
    with world({**dict.fromkeys((*HARMED, *CRAMPED), "db"), "web": "web"}) as made:
        made.tmpfs("full", "size=256k")
        made.tmpfs("inodes", "nr_inodes=40")
        made["web"].pod.run(["ip", "addr", "flush", "dev", "eth0"])
        for name in made.members:
            made.start(name)
        made["web"].wait("gate", START_S, state="closed")
        for name in (*HARMED, *CRAMPED):
            made[name].wait("phase", START_S, phase="gathering")
        for name in (*CRAMPED, *HARMED):
            harm(made[name])
        give_addresses(made["web"])
        made["web"].wait("gate", SEAL_S, state="open")
        yield made


@pytest.mark.parametrize("name", HARMED)
def test_D7_fault_16_a_pod_that_cannot_open_fences_and_stays_closed(harmed: World, name: str) -> None:
    member = harmed[name]
    assert member.ended() == 5
    sealed = member.wait("phase", 1, phase="active")
    reason, field = member.reason()
    assert reason == HARMED[name], field
    print(f"{name}: {field}, {member.wait('fence', 1) - sealed:.2f} s after the seal")
    assert [event["state"] for event in member.events("gate")] == ["closed"]
    assert member.files() == FILES
    assert [pid for pid in member.pod.processes() if not gone(pid)] == []
    assert rules_stand(member.pod)
    assert member.stderr == ""


def test_a_member_whose_peers_could_not_open_is_open_itself(harmed: World) -> None:
    """Positive control: the same seal opens a pod that nothing is wrong with."""
    assert harmed["web"].code is None
    assert "probe" in harmed["web"].chains()["in"]


@pytest.mark.parametrize("name", CRAMPED)
def test_F6_fault_15_a_pod_without_room_for_a_file_opens_all_the_same(harmed: World, name: str) -> None:
    """Nothing that opens is a file."""
    member = harmed[name]
    member.wait("gate", SEAL_S, state="open")
    assert member.files() == OPEN_FILES
    assert "probe" in member.chains()["in"]


@dataclass
class Born:
    """Both members with their memory before, and what the strangers did meanwhile."""

    world: World
    flood: subprocess.Popen[bytes]
    evil: subprocess.Popen[bytes]
    before: dict[str, int]
    waited: Sequence[Event]


@pytest.fixture(scope="module")
def born() -> Iterator[Born]:
    ready()
    with world({"web": "web", "db": "db"}) as made:
        web, db = made["web"], made["db"]
        web.pod.run(["sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"])
        db.pod.run(["ip", "addr", "flush", "dev", "eth0"])
        evil = outside(made, "evil_peer.py", NODE_IPV4, str(PEER_PORT), str(a_certificate(made)))
        for name in made.members:
            peers = f"{NODE_IPV4}:{PEER_PORT},{made.arguments(name)['peers']}"
            made.start(name, changed={"peers": peers})
            spawn_python(made[name].pod, SERVE, str(PORT), uid=APP_UID)
        web.wait("phase", START_S, phase="gathering")
        db.wait("gate", START_S, state="closed")
        before = {name: resident(member) for name, member in made.members.items()}
        targets = [member.pod.ipv4 for member in made.members.values()]
        flood = outside(made, "peer_flood.py", str(PEER_PORT), *targets)
        waited = list(db.events("phase"))
        give_addresses(db)
        for member in made.members.values():
            member.wait("gate", SEAL_S, state="open")
        yield Born(made, flood, evil, before, waited)


def outside(made: World, program: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start one of our strangers on the node, where the untrusted network is."""
    path = str(Path(__file__).parents[1] / "support" / program)
    command = [PYTHON, "-I", path, *arguments]
    child = made.node.host().spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    return child


def a_certificate(made: World) -> Path:
    """With its key, as any peer shows one."""
    identity = make_throwaway()
    path = made.directory / "evil.pem"
    path.write_bytes(identity.certificate_pem + identity.key_pem)
    return path


def give_addresses(member: Daemon) -> None:
    ipv4, ipv6 = member.pod.addresses
    for words in (f"addr add {ipv4}/24 dev eth0", f"-6 addr add {ipv6}/64 dev eth0 nodad"):
        member.pod.run(["ip", *words.split()])


def resident(member: Daemon) -> int:
    """MiB of the daemon alone."""
    return int(status(member.pid)["VmRSS"].split()[0]) >> 10


def test_P9_strangers_that_stall_do_not_keep_two_members_from_sealing(born: Born) -> None:
    for name, member in born.world.members.items():
        after = resident(member)
        print(f"{name}: {born.before[name]} MiB before, {after} MiB under the flood")
        assert member.code is None
        assert after - born.before[name] < 60
        assert member.stderr == ""


def test_P9_the_strangers_did_what_they_say(born: Born) -> None:
    """Positive control."""
    flood, _ = born.flood.communicate(timeout=10)
    evil, _ = born.evil.communicate(timeout=10)
    print(flood.decode(), evil.decode())
    assert flood.count(b":") == 9
    assert evil.count(b":") >= 3


def test_a_daemon_waits_closed_for_its_addresses(born: Born) -> None:
    assert born.waited == []
    (found,) = [event["phase"] for event in born.world["db"].events("phase") if event["phase"] == "boot"]
    assert found == "boot"


def test_fault_24_a_pod_without_ipv6_seals_and_serves(born: Born) -> None:
    web = born.world["web"].pod
    eventually(lambda: run_python(web, FETCH, "db", str(PORT), uid=APP_UID) == "PLAIN\n" or None)

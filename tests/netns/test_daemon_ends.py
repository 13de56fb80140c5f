"""How a sealed member ends, and that every end is a closed pod: killed, stopped, its rules or files harmed;
and how its Envoy does, which the member survives.

One mesh for the whole file: `web` and as many replicas of `db` as there are ends, each of which spends one.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.daemons import (
    END_S,
    FETCH,
    FILES,
    OPEN_FILES,
    PORT,
    SEAL_S,
    SERVE,
    Daemon,
    World,
    command_name,
    eventually,
    fill,
    gone,
    kinds,
    ready,
    rules_stand,
    seen_closed,
    world,
)
from support.inside import APP_UID, MARKER, run_python, spawn_python
from support.keys import of_envoy

from toposeal_lab.capture import Wire
from toposeal_lab.pods import NODE_IPV4, NODE_IPV6
from toposeal_lab.timeline import boottime

LEAF_MS = 12_000  # renewed after 6 s
VICTIMS = 9
FULL, BROKEN = "db-1", "db-2"  # one with little room for its files, one with a defect

# The watch of addresses dies as a programming error would, once the file `now` is there.
DEFECT = """
import asyncio, os, sys
sys.argv[0] = "toposeal-lab"
from toposeal.host import netlink
async def watch_addresses(known, on_change):
    while not os.path.exists("now"):
        await asyncio.sleep(0.05)
    raise ZeroDivisionError("canary of a traceback")
netlink.watch_addresses = watch_addresses
from toposeal_lab.cli import entry
sys.exit(entry())
"""

# One try of everything that an application has: TCP, UDP, both families, to the node and to a role.
LEAK = """
import socket, sys
marker = sys.argv[1].encode()
for address in sys.argv[2:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        sock = socket.socket(family, kind)
        sock.settimeout(0.2)
        try:
            sock.connect((address, 9))
            sock.send(marker)
        except OSError:
            pass
"""


@dataclass
class Mesh:
    """The sealed mesh and who of it has not been harmed yet."""

    world: World
    unharmed: list[str]

    def victim(self) -> Daemon:
        return self.world[self.unharmed.pop()]


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    ready()
    names = [f"db-{number + 1}" for number in range(VICTIMS)]
    with world({"web": "web", **dict.fromkeys(names, "db")}, leaf_ms=LEAF_MS) as made:
        made.tmpfs(FULL, "size=512k,nr_inodes=64")
        for name, member in made.members.items():
            made.start(name, program=("-I", "-c", DEFECT) if name == BROKEN else ("-I", "-m", "toposeal_lab"))
            spawn_python(member.pod, SERVE, str(PORT), uid=APP_UID)
        for member in made.members.values():
            member.wait("gate", SEAL_S, state="open")
        yield Mesh(made, [name for name in names if name not in (FULL, BROKEN)])


def assert_serves(mesh: Mesh) -> None:
    """An application of web reaches `db`; where replicas are dead, not always at the first try."""
    web = mesh.world["web"].pod
    eventually(lambda: run_python(web, FETCH, "db", str(PORT), uid=APP_UID) == "PLAIN\n" or None)


def assert_closed(mesh: Mesh, member: Daemon) -> None:
    """Rules stand, Envoy has gone, nothing comes in, nothing goes out."""
    envoys = [pid for pid in member.pod.processes() if command_name(pid) == "envoy" and not gone(pid)]
    assert envoys == []
    assert rules_stand(member.pod)
    assert inbound(mesh, member) == set()
    assert leaked(mesh, member) == 0


def inbound(mesh: Mesh, member: Daemon) -> set[bytes]:
    """What the untrusted outside gets from the application's port, and from Envoy's."""
    found = set()
    with mesh.world.node.host().inside():
        for address in member.pod.addresses:
            for port in (PORT, 15006, 15001):
                with suppress(OSError), socket.create_connection((address, port), 0.1) as sock:
                    sock.settimeout(0.1)
                    found.add(sock.recv(100))
    return found


def leaked(mesh: Mesh, member: Daemon) -> int:
    """Frames with the marker on the member's wire while its application tries to send it."""
    with Wire(mesh.world.node, member.pod) as wire:
        targets = (NODE_IPV4, NODE_IPV6, "240.10.0.1")
        run_python(member.pod, LEAK, MARKER.decode(), *targets, uid=APP_UID)
        capture = wire.stop(settle=0.05)
    assert capture.lost == 0
    return capture.carrying(MARKER)


def test_the_mesh_serves_and_the_outside_gets_nothing(mesh: Mesh) -> None:
    """Positive control of every end below."""
    assert_serves(mesh)
    victim = mesh.world[mesh.unharmed[0]]
    assert run_python(victim.pod, FETCH, victim.pod.ipv4, str(PORT), uid=APP_UID).strip() == "PLAIN"
    assert inbound(mesh, victim) == set()
    assert leaked(mesh, victim) == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_D7_F3_fault_19_a_killed_envoy_closes_its_member_until_another_serves(
    mesh: Mesh, number: signal.Signals
) -> None:
    """The member stays sealed: nothing of the protocol happens again, and it is fit for the ends below."""
    member = mesh.world[mesh.unharmed[0 if number is signal.SIGKILL else 1]]
    before, secret = boottime(), of_envoy(kinds(member)["envoy"])
    with seen_closed(member):
        os.kill(kinds(member)["envoy"], number)
    closed = member.wait("gate", END_S, state="restarting")
    opened = eventually(lambda: reopened(member))
    print(f"closed {closed - before:.3f} s, open again {opened - before:.3f} s after Envoy was killed")
    assert of_envoy(kinds(member)["envoy"]) != secret
    assert_serves(mesh)
    assert (member.code, member.events("fence")) == (None, [])
    assert_no_core(mesh)


def reopened(member: Daemon) -> float | None:
    """When the last gate event, if it says so, said open."""
    last = member.events("gate")[-1]
    return float(str(last["t"])) if last["state"] == "open" else None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_D7_I2_F3_fault_19_a_killed_daemon_takes_envoy_along(mesh: Mesh, number: int) -> None:
    victim = mesh.victim()
    envoy = kinds(victim)["envoy"]
    os.kill(victim.pid, number)
    assert victim.ended() == -number
    eventually(lambda: gone(envoy) or None)
    assert_closed(mesh, victim)
    assert_no_core(mesh)


def assert_no_core(mesh: Mesh) -> None:
    """Where the processes run everybody may write, and the kernel's pattern is a name in that place."""
    assert list((mesh.world.directory / "cwd").glob("core*")) == []


def test_F3_a_process_without_the_limit_would_have_left_a_core(mesh: Mesh) -> None:
    """Positive control: the same place, the same signal."""
    if Path("/proc/sys/kernel/core_pattern").read_text().strip() not in ("core", "core.%p"):
        pytest.skip("this machine keeps cores elsewhere")
    place = mesh.world.directory / "cwd"
    pod = mesh.world["web"].pod
    child = pod.spawn(["prlimit", "--core=unlimited", "env", f"--chdir={place}", "sleep", "60"])
    eventually(lambda: command_name(child.pid) == "sleep" or None)
    os.kill(child.pid, signal.SIGSEGV)
    child.wait()
    cores = list(place.glob("core*"))
    for core in cores:
        core.unlink()
    assert cores != []


def test_fault_20_signals_that_mean_nothing_do_nothing_and_sigterm_comes_in_storms(mesh: Mesh) -> None:
    victim = mesh.victim()
    for number in (
        signal.SIGHUP,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGQUIT,
        signal.SIGALRM,
        signal.SIGPIPE,
    ):
        os.kill(victim.pid, number)
    time.sleep(0.3)
    assert victim.code is None
    before = boottime()
    for _ in range(50):
        with suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGTERM)
        time.sleep(0.001)
    assert victim.ended() == 0
    print(f"stopped in {boottime() - before:.3f} s")
    assert victim.events("fence") == []
    assert victim.files() == FILES
    assert_closed(mesh, victim)


ALTERED = ("insert", "rule", "inet", "toposeal", "egress", "accept")
CHANGES = {
    "flush": ("flush", "ruleset"),
    "delete": ("delete", "table", "inet", "toposeal"),
    "altered": ALTERED,
}


@pytest.mark.parametrize("change", CHANGES)
def test_I6_fault_17_changed_rules_are_back_and_the_member_fenced_within_a_second(
    mesh: Mesh, change: str
) -> None:
    victim = mesh.victim()
    with Wire(mesh.world.node, victim.pod) as wire:
        flood = spawn_python(victim.pod, FLOOD, NODE_IPV4, MARKER.decode(), uid=APP_UID)
        victim.pod.run(["nft", *CHANGES[change]])
        harmed = boottime()
        eventually(lambda: rules_stand(victim.pod) or None, 2)
        mended = boottime()
        capture = wire.stop(settle=0.05)
    flood.kill()
    fenced = victim.wait("fence", 2)
    print(
        f"{change}: rules back {mended - harmed:.3f} s, fenced {fenced - harmed:.3f} s after the change; "
        f"{capture.carrying(MARKER)} datagrams of a flood got out"
    )
    assert (mended - harmed < 1, fenced - harmed < 1) == (True, True)
    assert victim.reason()[0] == "firewall_changed"
    assert victim.ended() == 5
    assert victim.files() == FILES
    assert_closed(mesh, victim)


# As fast as it goes, for ever: whatever gap there is, something falls into it.
FLOOD = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print("ready", flush=True)
while True:
    try:
        sock.sendto(sys.argv[2].encode(), (sys.argv[1], 9))
    except OSError:
        pass
"""


def test_I6_fault_17_20_a_change_while_the_daemon_is_stopped_is_seen_when_it_goes_on(mesh: Mesh) -> None:
    """A stopped daemon watches nothing, but its Envoy serves on under the rules that stand."""
    victim = mesh.victim()
    os.kill(victim.pid, signal.SIGSTOP)
    try:
        assert_serves(mesh)
        victim.pod.run(["nft", *ALTERED])
        assert not rules_stand(victim.pod)
    finally:
        os.kill(victim.pid, signal.SIGCONT)
    resumed = boottime()
    assert victim.ended() == 5
    assert victim.reason()[0] == "firewall_changed"
    assert victim.wait("fence", 1) - resumed < 1
    assert_closed(mesh, victim)


def test_F6_fault_15_a_full_tmpfs_does_not_stop_a_renewal(mesh: Mesh) -> None:
    """Nothing of a leaf is a file."""
    member = mesh.world[FULL]
    envoy = kinds(member)["envoy"]
    filler = member.directory / "filler"
    fill(filler)
    before = of_envoy(envoy)
    eventually(lambda: of_envoy(envoy) != before or None, 2 * LEAF_MS / 1000)
    assert member.events("alarm") == []
    assert member.files() == OPEN_FILES
    assert_serves(mesh)
    filler.unlink()
    assert member.events("fence") == []


def test_S9_F4_a_task_that_dies_closes_the_pod_and_its_text_is_not_told(mesh: Mesh) -> None:
    member = mesh.world[BROKEN]
    (mesh.world.directory / "cwd" / "now").touch()
    assert member.ended() == 5
    (event,) = member.events("fence")
    assert (event["reason"], str(event["found"]).split(":")[0]) == (
        "internal",
        "ZeroDivisionError at <string>",
    )
    assert "canary of a traceback" not in f"{member.journal()}{member.stderr}"
    assert member.stderr == ""
    assert member.files() == FILES
    assert_closed(mesh, member)


def test_whoever_is_left_still_serves(mesh: Mesh) -> None:
    """Last: of all replicas only the one with little room is left, and web finds it."""
    assert {name for name, member in mesh.world.members.items() if member.code is None} == {"web", FULL}
    assert_serves(mesh)
    assert mesh.world["web"].stderr == ""

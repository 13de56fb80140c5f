"""What a daemon does not start with: taken ports, wrong directories, wrong arguments. The pod stays closed.

All the daemons of one group start at once, each in a pod of its own; the tests look at how they ended.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.daemons import (
    FILES,
    START_S,
    Daemon,
    World,
    cmdline,
    command_name,
    environ,
    kinds,
    ready,
    rules_stand,
    status,
    world,
)
from support.inside import APP_UID, DAEMON_UID, ENVOY_UID, spawn_python

from toposeal.dataplane.layout import layout_under
from toposeal.host.privileges import CAPABILITIES
from toposeal.host.xds_files import prepare
from toposeal.limits import DNS_PORT, INBOUND_PORT, OUTBOUND_PORT, PEER_PORT

MAIN = "web"
ALL_START_S = 2 * START_S  # a dozen of daemons that start at once


@pytest.fixture(scope="module")
def made() -> Iterator[World]:
    """A mesh of which no more than one member is ever started: nothing can seal."""
    ready()
    with world({MAIN: "web", "db": "db"}, timers={"quorum_ms": 1_000}) as made:
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
    end = time.monotonic() + ALL_START_S
    for member in members:
        with suppress(subprocess.TimeoutExpired):
            member.ended(max(0.0, end - time.monotonic()))


@pytest.mark.parametrize("squatter", SQUATTERS, ids=str)
def test_I3_a_taken_port_ends_the_daemon_with_a_reason(
    squatted: dict[Squatter, Daemon], squatter: Squatter
) -> None:
    member = squatted[squatter]
    assert member.code == 5
    reason, _ = member.reason()
    assert reason in ("firewall", "envoy_rejected", "envoy_failed")
    assert str(squatter.port) in str(member.events("fence")[0])
    assert_closed(member)
    assert member.events("quote") == []
    assert "Traceback" not in member.stderr


Setup = Callable[[World, Daemon], None]


def nothing(made: World, member: Daemon) -> None:
    """The directory is the daemon's to make."""


@dataclass(frozen=True, eq=False)
class Case:
    """Arguments that replace the right ones, what is done before, and how that ends."""

    name: str
    code: int
    said: str
    arguments: Mapping[str, str | None] = field(default_factory=dict)
    before: Setup = nothing

    def __str__(self) -> str:
        return self.name


USAGE = (
    Case("no role", 1, "role: found nothing", {"role": None}),
    Case("a role that nobody declared", 1, "role_unknown", {"role": "api"}),
    Case("the role of another pod", 5, "role_mismatch", {"role": "db"}),
    Case("another mesh", 2, "topology_mesh", {"mesh": "other"}),
    Case("a topology below the measured version", 4, "topology_rollback", {"min-version": "2"}),
    Case("peers without a port", 1, "peers", {"peers": "db,web"}),
    Case("a state directory with ..", 1, "state_dir", {"state-dir": "/run/../etc"}),
    Case("no quotes", 5, "quote_source", {"tsm": "/nonexistent"}),
)


def foreign(made: World, member: Daemon) -> None:
    member.directory.mkdir(mode=0o755)
    os.chown(member.directory, APP_UID, APP_UID)


def linked(made: World, member: Daemon) -> None:
    elsewhere = member.directory.with_name(f"{member.name}.elsewhere")
    elsewhere.mkdir()
    member.directory.symlink_to(elsewhere)


def linked_inside(made: World, member: Daemon) -> None:
    linked_to = member.directory.with_name(f"{member.name}.elsewhere")
    linked_to.mkdir()
    member.directory.mkdir()
    (member.directory / "xds").symlink_to(linked_to)


def foreign_inside(made: World, member: Daemon) -> None:
    (member.directory / "xds").mkdir(parents=True)
    os.chown(member.directory / "xds", APP_UID, APP_UID)


def occupied(made: World, member: Daemon) -> None:
    (member.directory / "xds" / "bootstrap.json").mkdir(parents=True)


def on_disk(made: World, member: Daemon) -> None:
    """Whatever /var/tmp is on: a disk that the host sees."""
    member.directory = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="toposeal-test-"))
    member.layout = layout_under(str(member.directory))


DIRECTORIES = (
    Case("F1 not a tmpfs", 5, "expected tmpfs", before=on_disk),
    Case("F2 another owner", 5, "found owner 1000", before=foreign),
    Case("F2 a symbolic link", 5, "state_dir", before=linked),
    Case("F2 a symbolic link inside", 5, "state_dir", before=linked_inside),
    Case("F2 another owner inside", 5, "found owner 1000", before=foreign_inside),
    Case("F2 a directory in the place of a file", 5, "state_dir", before=occupied),
)


@pytest.fixture(scope="module")
def ended(made: World) -> Iterator[dict[Case, Daemon]]:
    """One daemon for each case, all at once."""
    started = {case: made.spare(MAIN) for case in (*USAGE, *DIRECTORIES)}
    for case, member in started.items():
        case.before(made, member)
        made.start(member.name, changed=case.arguments)
    wait_for_all(started.values())
    yield started
    for member in started.values():
        if member.directory.is_relative_to("/var/tmp"):
            shutil.rmtree(member.directory)


def said(member: Daemon) -> str:
    """What it complained of, wherever: before the daemon proper starts there is no journal."""
    return member.stderr + "".join(f"{event}" for event in member.events("fence"))


@pytest.mark.parametrize("case", USAGE, ids=str)
def test_a_wrong_argument_ends_with_its_code_and_a_closed_pod(ended: dict[Case, Daemon], case: Case) -> None:
    member = ended[case]
    assert (member.code, case.said in said(member)) == (case.code, True), said(member)
    assert_closed(member)
    assert len(said(member).splitlines()) == 1


@pytest.mark.parametrize("case", DIRECTORIES, ids=str)
def test_F1_F2_a_wrong_directory_is_refused(ended: dict[Case, Daemon], case: Case) -> None:
    member = ended[case]
    assert (member.code, case.said in said(member)) == (case.code, True), said(member)
    assert_closed(member)
    assert len(said(member).splitlines()) == 1
    elsewhere = member.directory.with_name(f"{member.name}.elsewhere")
    assert not elsewhere.exists() or list(elsewhere.iterdir()) == []


def test_arguments_that_do_not_exist_are_refused_before_anything(made: World) -> None:
    for option in ("--insecure", "--rol=web"):
        member = made.start(made.spare(MAIN).name, option)
        assert member.ended() == 1
        assert option.partition("=")[0] in member.stderr


# The worst case of F2: no mask, and files of the application where the daemon's come to lie.
UNMASKED = "import os, sys; os.umask(0); from toposeal_lab.cli import entry; sys.exit(entry())"


def planted(member: Daemon) -> Path:
    """Wide open directories of root, a file of the application under Envoy's name, hard linked."""
    xds = member.directory / "xds"
    xds.mkdir(parents=True)
    for path in (member.directory, xds):
        path.chmod(0o777)
    target = member.directory.with_name(f"{member.name}.target")
    target.write_text("theirs")
    os.chown(target, APP_UID, APP_UID)
    os.link(target, xds / "bootstrap.json")
    (xds / "stale.json").write_text("old")
    return target


def mode(path: Path) -> tuple[str, int, int]:
    found = path.lstat()
    return oct(found.st_mode & 0o7777), found.st_uid, found.st_gid


def test_F2_wrong_modes_are_repaired_and_files_replaced(made: World) -> None:
    member = made.spare(MAIN)
    target = planted(member)
    made.start(member.name, program=("-I", "-c", UNMASKED))
    member.wait("phase", START_S, phase="gathering")
    assert member.files() == FILES
    assert target.read_text() == "theirs"
    place = member.directory
    assert mode(place) == ("0o751", DAEMON_UID, ENVOY_UID)
    for path in (place / "xds", place / "sockets"):
        assert mode(path) == ("0o750", DAEMON_UID, ENVOY_UID)
    assert mode(place / "envoy") == ("0o770", DAEMON_UID, ENVOY_UID)
    for path in (place / "xds").iterdir():
        assert mode(path) == ("0o640", DAEMON_UID, ENVOY_UID)
    for path in (place / "sockets").iterdir():
        assert mode(path) == ("0o660", DAEMON_UID, ENVOY_UID)
    assert mode(place / "envoy" / "admin.sock") == ("0o600", ENVOY_UID, ENVOY_UID)
    restart(made, member)


def restart(made: World, member: Daemon) -> None:
    """A successor finds the sockets of the first, and that is no reason to fail."""
    os.kill(member.pid, signal.SIGTERM)
    assert member.ended() == 0
    again = made.start(member.name)
    again.wait("phase", START_S, phase="gathering")
    os.kill(again.pid, signal.SIGTERM)
    assert again.ended() == 0
    assert member.stderr == ""


def test_T11_started_as_the_daemons_user_the_environment_is_dropped_all_the_same(made: World) -> None:
    member = made.spare(MAIN)
    prepare(str(member.directory), owner=DAEMON_UID, group=ENVOY_UID)
    keep = ",".join(f"+{name}" for name in CAPABILITIES)
    user = ["setpriv", f"--reuid={DAEMON_UID}", f"--regid={DAEMON_UID}", "--clear-groups"]
    user += [f"--inh-caps=-all,{keep}", f"--ambient-caps=-all,{keep}", "--"]
    environment = {"SSLKEYLOGFILE": "/tmp/keylog", "TOPOSEAL_ROLE": "db", "LD_BIND_NOW": "1"}
    made.start(member.name, before=user, program=("-m", "toposeal_lab"), environment=environment)
    member.wait("phase", START_S, phase="gathering")
    assert b"\0-I\0" in cmdline(member.pid)
    assert [environ(pid) for pid in kinds(member).values()] == [b""] * 3
    assert {status(pid)["NoNewPrivs"] for pid in kinds(member).values()} == {"1"}
    member.stop()


def assert_closed(member: Daemon) -> None:
    """Rules stand, nothing of the daemon runs, its directory holds nothing but what Envoy starts with."""
    assert rules_stand(member.pod)
    assert member.events("gate") in ([], member.events("gate")[:1])
    assert not any(event["state"] == "open" for event in member.events("gate"))
    assert {command_name(pid) for pid in member.pod.processes()} <= {"python3"}  # a squatter
    xds = Path(member.layout.xds)
    found = member.files() if xds.is_dir() and not any(path.is_dir() for path in xds.iterdir()) else {}
    assert found == {name: FILES[name] for name in found}

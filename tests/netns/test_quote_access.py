"""E16: whoever else could ask for a quote is found, with real files, sockets, devices and processes."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest
from support.tdx import HOST, WEB
from support.tsm import served

from toposeal.errors import Mismatch, PodError, Reason
from toposeal.host import quote_access
from toposeal.host.child import confined
from toposeal.host.configfs_tsm import ConfigfsTsm
from toposeal.host.privileges import CAPABILITIES
from toposeal.host.quote_access import Interfaces, check
from toposeal.limits import DAEMON_UID, STRANGER_UID
from toposeal_lab.measurements_fs import FOLDER, RTMR3
from toposeal_lab.pods import Pod
from toposeal_lab.tsm import ReportDirectory
from toposeal_lab.tsm_faults import Faults
from toposeal_lab.tsm_providers import TdxProvider

APPLICATION = 1000
FULL = os.makedev(1, 7)  # a device that everybody has and nobody holds
HOLD = """
import os, sys
held = [os.open(path, os.O_RDONLY) for path in sys.argv[1:]]
print("ready", flush=True)
sys.stdin.read()
"""
# As the daemon is: its own user, its capabilities, and closed to its equals.
AS_DAEMON = """
import json, sys
from toposeal.host.privileges import harden
from toposeal.host.quote_access import Interfaces, check
harden()
told = json.loads(sys.argv[1])
found = check(Interfaces(**{n: tuple(v) if isinstance(v, list) else v for n, v in told.items()}))
print(json.dumps([[m.reason.value, m.field, m.found, m.expected] for m in found]))
"""


@dataclass(frozen=True)
class Guest:
    """A guest with one interface of each kind, all of them the daemon's alone; tests open one."""

    folder: Path
    report_dir: Path
    device: Path
    register: Path
    socket: Path

    def interfaces(self, *ports: int) -> Interfaces:
        return Interfaces(
            report_dir=str(self.report_dir),
            devices=(str(self.device), str(self.folder / "absent")),
            registers=(str(self.register),),
            sockets=(str(self.socket), str(self.folder / "absent.sock")),
            ports=ports,
        )

    def check(self) -> tuple[Mismatch, ...]:
        return check(self.interfaces())

    def found(self) -> list[str]:
        """What is wrong, without the name of what it is wrong with."""
        mismatches = self.check()
        assert {each.reason for each in mismatches} <= {Reason.QUOTE_ACCESS}
        return [each.found for each in mismatches]


@pytest.fixture
def guest() -> Iterator[Guest]:
    directories = {"pod": ReportDirectory(TdxProvider(HOST, WEB), Faults())}
    with ExitStack() as stack:
        mount = stack.enter_context(served(directories))
        # Where everybody may go: what keeps the stranger out has to be the interface itself.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="toposeal-access-")))
        folder.chmod(0o755)
        device, path = folder / "tdx_guest", folder / "agent.sock"
        os.mknod(device, stat.S_IFCHR | 0o600, FULL)
        server = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
        server.bind(str(path))
        server.listen()
        path.chmod(0o600)
        yield Guest(folder, mount / "pod", device, mount / FOLDER / "pod" / RTMR3, path)


@contextmanager
def holding(*paths: Path, uid: int = APPLICATION, enter: tuple[str, ...] = ()) -> Iterator[int]:
    """Another process, of `uid` without capabilities, that has `paths` open; its pid."""
    user = (
        "setpriv",
        f"--reuid={uid}",
        f"--regid={uid}",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
    )
    command = [*enter, *user, "/usr/bin/python3", "-c", HOLD, *map(str, paths)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.kill()


def test_E16_a_guest_whose_interfaces_are_the_daemons_alone_passes(guest: Guest) -> None:
    assert guest.check() == ()
    assert ConfigfsTsm(str(guest.report_dir)).report(bytes(64), 5.0).outblob
    assert guest.check() == ()


def test_E16_a_guest_without_any_interface_passes(guest: Guest) -> None:
    nothing = str(guest.folder / "nothing")
    assert check(Interfaces(nothing, (nothing,), (nothing,), (nothing,), ())) == ()
    below = f"{guest.socket}/below"
    assert check(Interfaces(below, (below,), (below,), (below,), ())) == ()


def test_E16_the_machine_that_tests_gives_no_quotes() -> None:
    """The production list, where there is no TEE: absent is nobody's, and every entry is tried."""
    assert check() == ()
    told = Interfaces()
    assert told.report_dir == "/sys/kernel/config/tsm/report"
    assert {"/dev/tdx_guest", "/dev/sev-guest"} <= set(told.devices)
    assert 8006 in told.ports


def test_E16_a_report_directory_for_everybody_is_refused(guest: Guest) -> None:
    os.chmod(guest.report_dir, 0o757)
    assert guest.check() == (
        Mismatch(
            Reason.QUOTE_ACCESS,
            str(guest.report_dir),
            "an ordinary user: making an entry: possible",
            "nobody but the daemon",
        ),
    )
    assert os.listdir(guest.report_dir) == []


def test_E16_a_report_directory_of_a_user_or_a_group_is_refused(guest: Guest) -> None:
    os.chown(guest.report_dir, APPLICATION, 0)
    assert guest.found() == [f"owner {APPLICATION}"]
    os.chown(guest.report_dir, 0, APPLICATION)
    assert guest.found() == []
    os.chmod(guest.report_dir, 0o775)
    assert guest.found() == [f"group {APPLICATION}, mode 0775"]


def test_E16_an_entry_that_a_stranger_may_write_is_refused(guest: Guest) -> None:
    entry = guest.report_dir / "left"
    entry.mkdir()
    assert guest.found() == []
    os.chown(entry / "inblob", STRANGER_UID, 0)
    assert guest.found() == ["an ordinary user: writing to left: possible"]
    entry.rmdir()


@pytest.mark.parametrize(
    ("mode", "ways"),
    [(0o604, ["read"]), (0o602, ["write"]), (0o606, ["read", "write", "read and write"])],
)
def test_E16_a_device_for_everybody_is_refused(guest: Guest, mode: int, ways: list[str]) -> None:
    guest.device.chmod(mode)
    assert guest.found() == [f"an ordinary user: opening to {way}: possible" for way in ways]


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o660])
def test_E16_a_device_of_a_group_is_refused(guest: Guest, mode: int) -> None:
    guest.device.chmod(mode)
    for group in (0, APPLICATION):
        os.chown(guest.device, 0, group)
        assert guest.found() == [f"group {group}, mode {mode:04o}"]


def test_E16_group_root_is_not_root(guest: Guest) -> None:
    """A container that is given a user and no group runs in group 0, without any capability."""
    guest.device.chmod(0o660)
    user = ("setpriv", f"--reuid={APPLICATION}", "--regid=0", "--clear-groups", "--inh-caps=-all")
    opening = f"open({str(guest.device)!r}, 'r+b', buffering=0)"
    subprocess.run([*user, "/usr/bin/python3", "-c", opening], check=True)
    assert guest.found() == ["group 0, mode 0660"]
    guest.device.chmod(0o600)
    os.chmod(guest.socket, 0o660)
    assert guest.found() == ["group 0, mode 0660"]
    os.chmod(guest.socket, 0o600)
    os.chmod(guest.report_dir, 0o775)
    assert guest.found() == ["group 0, mode 0775"]


def test_E16_a_device_without_its_driver_is_no_refusal(guest: Guest) -> None:
    """A driver can come later; what counts is that the file lets a stranger as far as to it."""
    guest.device.unlink()
    os.mknod(guest.device, stat.S_IFCHR | 0o600, os.makedev(241, 77))
    assert guest.found() == []
    guest.device.chmod(0o604)
    assert guest.found() == ["an ordinary user: opening to read: ENXIO, which is no refusal"]


def test_E16_an_access_control_list_is_refused(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As udev gives one to whoever sits at the machine."""
    monkeypatch.setattr(os, "getxattr", lambda path, name: b"" if path == str(guest.device) else _no_list())
    assert guest.found() == ["an access control list"]


def _no_list() -> bytes:
    raise OSError(61, "ENODATA")


def test_E16_a_register_that_others_may_extend_is_refused(guest: Guest) -> None:
    assert stat.S_IMODE(guest.register.stat().st_mode) == 0o644
    guest.register.chmod(0o646)
    assert guest.found() == ["an ordinary user: opening to write: possible"]


def test_E16_an_agents_socket_for_everybody_is_refused(guest: Guest) -> None:
    guest.socket.chmod(0o606)
    assert guest.found() == ["an ordinary user: connecting: possible"]


def test_E16_a_socket_that_nobody_serves_is_none(guest: Guest) -> None:
    guest.socket.unlink()
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(guest.socket))
    guest.socket.chmod(0o606)
    assert guest.found() == []


def test_E16_a_socket_of_another_type_counts_as_reached(guest: Guest) -> None:
    guest.socket.unlink()
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as server:
        server.bind(str(guest.socket))
        guest.socket.chmod(0o606)
        assert guest.found() == ["an ordinary user: connecting: EPROTOTYPE, which is no refusal"]


def test_E16_a_device_that_another_process_holds_is_found(guest: Guest) -> None:
    """Opened before its mode was changed, or handed on by someone."""
    with holding(guest.device, uid=0) as pid:
        assert guest.found() == [f"process {pid}, user 0: has it open"]
    other = guest.folder / "elsewhere"
    os.mknod(other, stat.S_IFCHR | 0o666, FULL)
    with holding(other) as pid:
        assert f"process {pid}, user {APPLICATION}: has it open" in guest.found()


def test_E16_an_entry_that_another_process_holds_is_found(guest: Guest) -> None:
    entry = guest.report_dir / "theirs"
    entry.mkdir()
    with holding(entry / "outblob") as pid:
        assert guest.found() == [f"process {pid}, user {APPLICATION}: has it open"]
    with holding(guest.report_dir) as pid:
        assert guest.found() == [f"process {pid}, user {APPLICATION}: has it open"]
    entry.rmdir()


def test_E16_what_lies_beside_an_interface_is_none(guest: Guest) -> None:
    with holding(guest.folder, guest.register):
        assert guest.found() == []


def test_E16_another_container_of_root_with_an_interface_is_found(guest: Guest) -> None:
    """Same network, mounts of its own: as the pod's other containers are, if their processes can be seen."""
    with holding(uid=0, enter=("unshare", "--mount")) as pid:
        found = guest.found()
        assert found == [f"process {pid}, user 0: has it in its mounts"] * 3
    with holding(uid=APPLICATION, enter=("unshare", "--mount")):
        assert guest.found() == []
    with holding(uid=0, enter=("unshare", "--mount", "--net")):
        assert guest.found() == []


def test_E16_an_interface_that_only_another_container_has_is_found(guest: Guest) -> None:
    """The daemon's own container has none: it quotes through configfs."""
    empty = guest.folder / "dev"
    empty.mkdir()
    make = f'mount -t tmpfs none {empty} && mknod -m 0666 {empty}/tdx_guest c 1 7 && exec "$@"'
    with holding(uid=APPLICATION, enter=("unshare", "--mount", "sh", "-c", make, "sh")) as pid:
        wanted = replace(guest.interfaces(), devices=(str(empty / "tdx_guest"),))
        assert [each.found for each in check(wanted)] == [
            f"process {pid}, user {APPLICATION}: has it in its mounts"
        ]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0", "::", "own"])
def test_E16_an_agents_port_is_refused_at_whatever_address(
    guest: Guest, pods: tuple[Pod, Pod], address: str
) -> None:
    pod = pods[0]
    host = pod.ipv4 if address == "own" else address
    with pod.inside():
        assert as_daemon(pod, guest.interfaces(8006)) == []
        with closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as server:
            server.bind((host, 8006))
            server.listen()
            found = as_daemon(pod, guest.interfaces(8006))
        assert {field for _, field, _, _ in found} == {"port 8006"}
        assert any("listening at" in how for _, _, how, _ in found)
        assert as_daemon(pod, guest.interfaces(8006)) == []


def test_E16_the_daemon_itself_can_tell(guest: Guest, pods: tuple[Pod, Pod]) -> None:
    """Its own user with its own capabilities is enough for the test, and not taken for somebody else."""
    assert as_daemon(pods[0], guest.interfaces()) == []
    os.chmod(guest.report_dir, 0o757)
    guest.device.chmod(0o604)
    found = as_daemon(pods[0], guest.interfaces())
    assert [field for _, field, _, _ in found] == [str(guest.report_dir), str(guest.device)]
    os.chmod(guest.report_dir, 0o755)
    guest.device.chmod(0o600)
    os.chown(guest.device, DAEMON_UID, DAEMON_UID)
    assert as_daemon(pods[0], guest.interfaces()) == []


def test_E16_the_daemon_sees_its_equals(guest: Guest, pods: tuple[Pod, Pod]) -> None:
    """A process of the same user in the same pod with an interface open."""
    os.chown(guest.device, DAEMON_UID, DAEMON_UID)
    with holding(guest.device, uid=DAEMON_UID) as pid:
        found = as_daemon(pods[0], guest.interfaces())
        assert [how for _, _, how, _ in found] == [f"process {pid}, user {DAEMON_UID}: has it open"]


def as_daemon(pod: Pod, interfaces: Interfaces) -> list[list[str]]:
    caps = ",".join(f"+{name}" for name in CAPABILITIES)
    user = (f"--reuid={DAEMON_UID}", f"--regid={DAEMON_UID}", "--clear-groups", "--no-new-privs")
    become = ("setpriv", *user, f"--inh-caps=-all,{caps}", f"--ambient-caps=-all,{caps}", "--")
    told = json.dumps(asdict(interfaces))
    done = pod.run([*become, sys.executable, "-I", "-c", AS_DAEMON, told])
    found: list[list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    "command",
    [
        ("/bin/false",),
        ("/bin/true",),
        ("/bin/echo", "[]"),
        ("/bin/echo", '{"reached": 1}'),
        ("/bin/echo", '{"reached": [1]}'),
        ("/bin/echo", '{"reached": [["a"]]}'),
        ("/bin/sh", "-c", "head -c 100000 /dev/zero"),
        ("/bin/sh", "-c", "exec sleep 60"),
        ("/nonexistent",),
    ],
)
def test_E16_a_test_that_fails_is_a_refusal(
    guest: Guest, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr(quote_access, "COMMAND", command)
    monkeypatch.setattr(quote_access, "_TIMEOUT_S", 1)
    with pytest.raises(PodError) as caught:
        guest.check()
    assert caught.value.reason is Reason.QUOTE_ACCESS


def test_E16_a_stranger_who_stays_somebody_else_answers_nothing(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_application(command: tuple[str, ...], **_: object) -> list[str]:
        return confined(command, uid=APPLICATION, capabilities=("dac_override",))

    monkeypatch.setattr(quote_access, "confined", as_application)
    with pytest.raises(PodError) as caught:
        guest.check()
    assert caught.value.reason is Reason.QUOTE_ACCESS


def test_E16_what_cannot_be_judged_is_refused(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.stat

    def failing(path: str | int, **options: bool) -> os.stat_result:
        if path == str(guest.device):
            raise PermissionError(13, "Permission denied")
        return real(path, **options)

    monkeypatch.setattr(os, "stat", failing)
    assert guest.found() == ["cannot be judged: Permission denied"]


def test_E16_it_does_not_delay_the_start(guest: Guest) -> None:
    """Some ten milliseconds of each of two processes; a limit that a busy machine keeps too."""
    before = os.times()
    guest.check()
    after = os.times()
    assert sum(after[:4]) - sum(before[:4]) < 1.0

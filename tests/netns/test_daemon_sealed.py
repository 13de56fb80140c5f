"""A sealed mesh of real daemons, one of them started in a hostile environment: what each process may do,
what it was given, and where keys are.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.daemons import (
    CLOSED,
    FILES,
    OPEN_FILES,
    SEAL_S,
    Daemon,
    World,
    cmdline,
    environ,
    eventually,
    kinds,
    ready,
    status,
    world,
)
from support.inside import APP_UID, DAEMON_UID, ENVOY_UID, python, run_python
from support.keys import MARKERS, Key, admin, found_in_files, found_in_memory, of_envoy

from toposeal.tracing.lines import read_lines
from toposeal.tracing.spans import pods
from toposeal_lab.pods import NODE_IPV4

ROLES = {"web": "web", "db-1": "db"}
LEAF_MS = 10_000  # renewed after 5 s
PROXY_PORT = 3128
# net_admin, dac_override, setuid, setgid, kill, chown: host/privileges.py, and nothing else.
DAEMON_CAPABILITIES = 1 << 12 | 1 << 1 | 1 << 7 | 1 << 6 | 1 << 5 | 1 << 0
DAC_OVERRIDE = 1 << 1


@dataclass
class Sealed:
    """The mesh, what web's processes were before the seal, and who used the proxy."""

    world: World
    canary: Path
    began: float
    before: dict[str, set[str]]  # filter chains by listener
    proxied: list[object] = field(default_factory=list)
    environs: dict[str, bytes] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def web(self) -> Daemon:
        return self.world["web"]

    def ca_key(self) -> Key:
        """Of web, which leaks it to this test."""
        return Key.of_pem("CA", (self.world.directory / "insider.pem").read_text())


@pytest.fixture(scope="module")
def sealed() -> Iterator[Sealed]:
    """web has a hostile environment and leaks its CA key to this test; db-1 is as in production."""
    ready()
    began = time.time() - 1
    with world(ROLES, leaf_ms=LEAF_MS) as made, a_proxy(made) as proxied:
        canary = made.directory / "canary"
        canary.mkdir()
        canary.chmod(0o777)
        insider = str(made.directory / "insider.pem")
        web = made.start("web", "--insider", insider, environment=hostile(canary))
        web.wait("phase", SEAL_S, phase="gathering")
        eventually(lambda: kinds(web).get("renderer"))
        mesh = Sealed(made, canary, began, web.chains(), proxied)
        for kind, pid in kinds(web).items():
            mesh.environs[kind] = environ(pid)
            mesh.libraries[kind] = Path(f"/proc/{pid}/maps").read_text()
            mesh.statuses[kind] = status(pid)
        made.start("db-1")
        for member in made.members.values():
            member.wait("gate", SEAL_S, state="open")
        yield mesh


@contextmanager
def a_proxy(made: World) -> Iterator[list[object]]:
    """Listens where the hostile environment sends connections; yields who came."""
    with made.node.host().inside():
        listener = socket.create_server((NODE_IPV4, PROXY_PORT))
    came: list[object] = []

    def accept() -> None:
        while True:
            try:
                client, address = listener.accept()
            except OSError:
                return
            came.append(address)
            client.close()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield came
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def preload() -> str:
    """A library of the C library's own package that nothing here uses."""
    return str(next(Path("/lib").glob("*-linux-gnu/libBrokenLocale.so.1")))


def hostile(canary: Path) -> dict[str, str]:
    """Every variable that could steer Python, the loader, TLS, gRPC, proxies or ourselves."""
    code = f"import os; open({str(canary)!r} + f'/python-{{os.getpid()}}-{{os.getuid()}}', 'w').close()\n"
    for name in ("sitecustomize", "usercustomize", "startup", "grpc", "toposeal"):
        (canary / f"{name}.py").write_text(code)
    (canary / "openssl.cnf").write_text("openssl_conf = missing\n")
    for name in ("nft", "setpriv", "envoy", "iptables-legacy-restore"):
        (canary / name).write_text(f"#!/bin/sh\ntouch {canary}/path-$$\n")
        (canary / name).chmod(0o755)
    proxy = f"http://{NODE_IPV4}:{PROXY_PORT}"
    proxies = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "grpc_proxy")
    ours = {"ROLE": "db", "MESH": "evil", "MIN_VERSION": "0", "INSECURE": "1", "STATE_DIR": "/tmp"}
    return {
        **dict.fromkeys(proxies, proxy),
        **{f"TOPOSEAL_{name}": value for name, value in ours.items()},
        "PYTHONPATH": str(canary),
        "PYTHONSTARTUP": str(canary / "startup.py"),
        "PYTHONINSPECT": "1",
        "PYTHONDEVMODE": "1",
        "PYTHONASYNCIODEBUG": "1",
        "LD_PRELOAD": preload(),
        "LD_LIBRARY_PATH": str(canary),
        "SSLKEYLOGFILE": str(canary / "keylog"),
        "OPENSSL_CONF": str(canary / "openssl.cnf"),
        "GRPC_VERBOSITY": "DEBUG",
        "GRPC_TRACE": "all",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(canary / "keylog"),
        "ENVOY_UID": "0",
        "PATH": f"{canary}:/usr/sbin:/usr/bin:/sbin:/bin",
    }


def left(canary: Path) -> set[str]:
    """What somebody who believed the environment has left."""
    return {
        path.name.partition("-")[0]
        for path in canary.iterdir()
        if not path.suffix and path.stat().st_size == 0
    }


def test_F5_the_hostile_environment_works_on_others(sealed: Sealed, tmp_path: Path) -> None:
    """Positive control: a Python that is not isolated runs the code and writes TLS secrets."""
    environment = hostile(tmp_path)
    code = "import ssl; ssl.create_default_context(); print(open('/proc/self/maps').read())"
    del environment["PYTHONINSPECT"]
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "python" in left(tmp_path)
    assert (tmp_path / "keylog").exists()
    assert Path(preload()).name in done.stdout


def test_T11_F5_the_environment_changes_nothing(sealed: Sealed) -> None:
    web = sealed.web
    assert sealed.environs == {"daemon": b"", "envoy": b"", "renderer": b""}
    assert not any(Path(preload()).name in text for text in sealed.libraries.values())
    assert left(sealed.canary) == set()
    assert not (sealed.canary / "keylog").exists()
    assert sealed.proxied == []
    (start,) = web.events("start")
    assert (start["role"], start["mesh"], start["version"]) == ("web", "shop", 1)
    assert web.stderr == ""
    assert web.chains() != CLOSED


def test_F5_no_process_has_an_environment_when_sealed(sealed: Sealed) -> None:
    for member in sealed.world.members.values():
        for pid in member.processes():
            assert environ(pid) == b""


def test_before_the_seal_envoy_ran_exactly_the_closed_state(sealed: Sealed) -> None:
    assert sealed.before == CLOSED
    assert {"sentinel", "probe"} < sealed.web.chains()["in"]


@pytest.mark.parametrize(
    ("kind", "uid", "capabilities"),
    [
        ("daemon", DAEMON_UID, DAEMON_CAPABILITIES),
        ("envoy", ENVOY_UID, 0),
        ("renderer", DAEMON_UID, DAC_OVERRIDE),
    ],
)
def test_F3_users_and_capabilities_are_as_documented(
    sealed: Sealed, kind: str, uid: int, capabilities: int
) -> None:
    found = sealed.statuses[kind]
    assert found["Uid"].split() == found["Gid"].split() == [str(uid)] * 4
    assert found["Groups"] == ""
    assert {int(found[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Amb")} == {capabilities}
    assert found["NoNewPrivs"] == "1"


def test_F3_no_process_may_dump_core(sealed: Sealed) -> None:
    """A limit of 0 does not hold where core_pattern is a pipe; 1 is what the kernel takes for never."""
    for member in sealed.world.members.values():
        assert set(kinds(member)) == {"daemon", "envoy"}
        for pid in kinds(member).values():
            (limit,) = [
                line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if "core" in line
            ]
            assert limit.split()[4:6] == ["1", "1"]


def test_the_logs_of_all_members_are_one_trace(sealed: Sealed) -> None:
    logs = ["\n".join(map(json.dumps, member.journal())) for member in sealed.world.members.values()]
    found = [pod for log in logs for pod in pods(read_lines(log))]
    genesis = [pod.rounds[0] for pod in found]
    assert [pod.role for pod in found] == list(ROLES.values())
    assert len({pod.member for pod in found}) == len({one.manifest for one in genesis}) + 1 == 2
    for one in genesis:
        assert len(one.manifest) == 96
        names = [part.name for part in one.parts]
        assert [names[0], names[-1]] == ["boot", "opening"]
        # A member that hears of the others late passes "proposed" or "sealed" within one step.
        assert {"gathering", "committed", "quote join", "quote seal"} < {*names}
        assert max(part.end for part in one.parts) == one.whole.end


# Everything that another process can read of one, without and with ptrace.
INTRUDER = """
import ctypes, errno, json, os, sys
pid, found, libc = int(sys.argv[1]), {}, ctypes.CDLL(None, use_errno=True)
def attempt(name, function):
    try:
        function()
        found[name] = "open"
    except OSError as error:
        found[name] = errno.errorcode[error.errno]
def call(*arguments):
    if libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "syscall")
attempt("mem", lambda: open(f"/proc/{pid}/mem", "rb"))
attempt("environ", lambda: open(f"/proc/{pid}/environ", "rb").read())
attempt("maps", lambda: open(f"/proc/{pid}/maps").read())
attempt("fd", lambda: os.listdir(f"/proc/{pid}/fd"))
attempt("pidfd_getfd", lambda: call(438, os.pidfd_open(pid), 0, 0))
attempt("ptrace", lambda: call(101, 0x4206, pid, 0, 0))
print(json.dumps(found))
"""


def intrude(sealed: Sealed, pid: int, uid: int) -> set[str]:
    return set(json.loads(run_python(sealed.web.pod, INTRUDER, str(pid), uid=uid)).values())


@pytest.mark.parametrize("uid", [APP_UID, DAEMON_UID])
def test_F3_nobody_reads_a_process_that_holds_keys(sealed: Sealed, uid: int) -> None:
    own = sealed.web.pod.spawn(["sleep", "60"], uid=uid)
    try:
        eventually(lambda: cmdline(own.pid).startswith(b"sleep") or None)
        assert intrude(sealed, own.pid, uid) == {"open"}  # positive control
        for pid in kinds(sealed.web).values():
            assert intrude(sealed, pid, uid) <= {"EACCES", "EPERM"}
    finally:
        own.kill()
        own.wait()


def test_F3_the_daemon_is_not_dumpable(sealed: Sealed) -> None:
    """Its equals may not read it either: the kernel gives such a process's files to root."""
    for member in sealed.world.members.values():
        assert os.stat(f"/proc/{member.pid}/mem").st_uid == 0


def everything_said(sealed: Sealed) -> bytes:
    """All that leaves the pod on purpose: journal, complaints, command lines, environments."""
    said = json.dumps([event for _, event in sealed.world.heard]).encode("ascii")
    for member in sealed.world.members.values():
        said += member.stderr.encode()
        for pid in member.processes():
            said += cmdline(pid) + environ(pid)
    return said


def assert_kept(sealed: Sealed, keys: list[Key]) -> None:
    """None of `keys` is in any file, but the insider's in its own, nor is it said anywhere."""
    world = sealed.world
    places = [world.directory / "state", world.directory / "cwd", world.directory / "canary", Path("/tmp")]
    places += [Path("/var/tmp"), Path("/dev/shm")]
    assert found_in_files(keys, places, sealed.began) == []
    said = everything_said(sealed)
    assert [key.name for key in keys if key.inside(said)] == []
    assert not any(marker in said for marker in MARKERS)


def assert_files_are_envoys(member: Daemon) -> None:
    assert member.files() == OPEN_FILES
    for path in Path(member.layout.xds).iterdir():
        found = path.stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (DAEMON_UID, ENVOY_UID, 0o640)
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", member.layout.xds], capture_output=True, text=True, check=True
    )
    assert kind.stdout.strip() == "tmpfs"


def test_F1_F4_K6_private_keys_are_in_no_file(sealed: Sealed) -> None:
    """They are in the memory of Envoy, where this one was found, and of the daemon, if Envoy asks again."""
    for member in sealed.world.members.values():
        key = eventually(lambda m=member: of_both(m))  # type: ignore[misc]
        assert_files_are_envoys(member)
        assert_kept(sealed, [key])


def of_both(member: Daemon) -> Key | None:
    """What Envoy's memory and the daemon's hold, which is the positive control of the needles; one that is
    replaced just now is forgotten.
    """
    found = kinds(member)
    key = of_envoy(found["envoy"])
    return key if found_in_memory(key, found["daemon"]) else None


def test_K6_the_ca_key_is_in_the_daemons_memory_alone(sealed: Sealed) -> None:
    key, found = sealed.ca_key(), kinds(sealed.web)
    assert_kept(sealed, [key])
    assert found_in_memory(key, found["daemon"])  # positive control of the search
    assert not found_in_memory(key, found["envoy"])


@pytest.mark.parametrize("target", ["/config_dump?include_eds", "/certs", "/listeners?format=json", "/stats"])
def test_F4_K6_envoys_admin_shows_no_key(sealed: Sealed, target: str) -> None:
    for member in sealed.world.members.values():
        answer = admin(member.layout.admin, target)
        assert not of_envoy(kinds(member)["envoy"]).inside(answer)
        assert b"PRIVATE KEY" not in answer
        if "config_dump" in target:
            assert answer.count(b"[redacted]") == 2


def test_D5_only_envoys_user_reaches_its_admin_and_its_configuration(sealed: Sealed) -> None:
    code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    layout = sealed.web.layout
    for path in (layout.admin, layout.discovery, layout.attestation, layout.probe):
        done = sealed.web.pod.run(python(code, path), uid=APP_UID, check=False)
        assert b"PermissionError" in done.stderr


def test_F4_K6_a_new_leaf_leaves_nothing_of_the_old_one(sealed: Sealed) -> None:
    web = sealed.web
    envoy = kinds(web)["envoy"]
    first = of_envoy(envoy)
    eventually(lambda: of_envoy(envoy) != first or None, 2 * LEAF_MS / 1000)
    assert_kept(sealed, [first, of_envoy(envoy)])
    assert_files_are_envoys(web)
    assert web.events("alarm") == []


def test_D7_F4_sigterm_ends_with_0_and_leaves_no_key(sealed: Sealed) -> None:
    """Last in this file: web ends."""
    web, envoy = sealed.web, kinds(sealed.web)["envoy"]
    keys = [of_envoy(envoy)]
    os.kill(web.pid, signal.SIGTERM)
    assert web.ended() == 0
    assert web.journal()[-1]["event"] == "stop"
    assert web.files() == FILES
    assert not Path(f"/proc/{envoy}").exists()
    assert found_in_files(keys, [web.directory], 0) == []
    assert web.stderr == ""

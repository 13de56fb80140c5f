"""Real daemons in pods, on a simulated platform: one small mesh of two roles, and hands to harm it with.

`web` calls `db`; of `db` there are as many replicas as a test file has uses for.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from support.keys import admin
from toposeal.dataplane.envoy_closed import bootstrap
from toposeal.dataplane.firewall import Backend
from toposeal.dataplane.layout import BOOTSTRAP_FILE, CLOSED_MARK, ENVOY_LAYOUT, OPEN_MARK
from toposeal.errors import PodError
from toposeal.host import firewall
from toposeal.limits import PEER_PORT
from toposeal.topology.dsse import decode_envelope, sign
from toposeal.topology.owner import OwnerRoot, spki
from toposeal.topology.strict_json import canonical
from toposeal_lab.member import Event, Member
from toposeal_lab.pods import Node, Pod
from toposeal_lab.rundir import run_directory
from toposeal_lab.scenario import Declaration, public_files
from toposeal_lab.simtdx import LabPki, lab_measurements
from toposeal_lab.tsm_config import TdxTee, TsmConfig
from toposeal_lab.tsm_mount import mounted

MESH, PORT, ATTESTATION_PORT = "shop", 8080, 8444
START_S, SEAL_S, END_S = 90.0, 180.0, 60.0  # after which it never happens, however busy the machine
# All that is in the directory that Envoy starts in.
FILES = {BOOTSTRAP_FILE: bootstrap(ENVOY_LAYOUT), CLOSED_MARK: b""}
OPEN_FILES = {BOOTSTRAP_FILE: bootstrap(ENVOY_LAYOUT), OPEN_MARK: b""}
CLOSED = {"in": {"sentinel"}, "out": {"sentinel"}}
_LAB = ("-I", "-m", "toposeal_lab")
T = TypeVar("T")

SERVE = """
import socket, sys
sock = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    client = sock.accept()[0]
    client.sendall(b"PLAIN")
    client.close()
"""

FETCH = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2) as sock:
        print(sock.recv(100).decode())
except OSError as error:
    print(error)
"""


class Daemon(Member):
    """A member whose process a test may harm; `tee` is whose simulated platform it has."""

    tee = ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def stderr(self) -> str:
        return self._errors.read_text(errors="replace")

    def ended(self, timeout_s: float | None = END_S) -> int:
        """As of any member, and not for ever."""
        return super().ended(timeout_s)

    def child(self, name: str, timeout_s: float = START_S) -> int:
        """The process id of the one child called `name`."""
        return eventually(lambda: self._child(name), timeout_s)

    def files(self) -> dict[str, bytes]:
        """What the xDS directory holds."""
        found = {}
        for path in sorted(Path(self.layout.xds).iterdir()):
            with suppress(FileNotFoundError):
                found[path.name] = path.read_bytes()
        return found

    def chains(self) -> dict[str, set[str]]:
        """What Envoy runs: names of filter chains by listener, in its own words."""
        dump = json.loads(admin(self.layout.admin, "/config_dump?resource=dynamic_listeners"))
        active = [entry["active_state"]["listener"] for entry in dump["configs"]]
        return {found["name"]: {chain["name"] for chain in found["filter_chains"]} for found in active}

    def reason(self) -> tuple[object, object]:
        """Reason and field of the one fence event."""
        (event,) = self.events("fence")
        return event["reason"], event["field"]

    def _child(self, name: str) -> int | None:
        found = [pid for pid in self.processes()[1:] if command_name(pid) == name]
        assert len(found) <= 1, found
        return found[0] if found else None


@dataclass
class World:
    """Pods, owner's files and daemons that are not started yet."""

    directory: Path
    node: Node
    vendor: LabPki
    key: Ed25519PrivateKey  # the owner's
    members: dict[str, Daemon] = field(default_factory=dict)
    heard: list[tuple[str, Event]] = field(default_factory=list)

    def __getitem__(self, name: str) -> Daemon:
        return self.members[name]

    def start(self, name: str, *more: str, **how: Any) -> Daemon:
        """Start one daemon; `more` and `how` as in `command`."""
        member = self.members[name]
        member.start(self.command(name, *more, **how))
        return member

    def command(
        self,
        name: str,
        *more: str,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = _LAB,
        before: Sequence[str] = (),
        changed: Mapping[str, str | None] | None = None,
    ) -> list[str]:
        """What runs one daemon: `changed` replaces an argument, None leaves it out; `before` is a command
        that starts the interpreter.
        """
        given = {**self.arguments(name), **(changed or {})}
        words = [word for key, value in given.items() if value is not None for word in (f"--{key}", value)]
        settings = [f"{key}={value}" for key, value in (environment or {}).items()]
        place = ["env", f"--chdir={self.directory / 'cwd'}", *settings]
        return [*place, *before, sys.executable, *program, "run", *words, *more]

    def arguments(self, name: str) -> dict[str, str | None]:
        member = self.members[name]
        return {
            "anchors": str(self.directory / "root.der"),
            "tsm": str(self.directory / "tsm" / (member.tee or name)),
            "role": member.role,
            "mesh": MESH,
            "owner": str(self.directory / "owner.json"),
            "topology": str(self.directory / "topology.json"),
            "min-version": "1",
            "peers": ",".join(f"{peer.pod.ipv4}:{PEER_PORT}" for peer in self.members.values()),
            "state-dir": str(member.directory),
            "collateral": str(self.directory / "collateral.json"),
        }

    def signed(self, version: int, change: Callable[[dict[str, Any]], object]) -> Path:
        """Another version of the owner's declaration, as `topology sign` would leave it."""
        document = json.loads(decode_envelope((self.directory / "topology.json").read_bytes()).payload)
        document["version"] = version
        change(document)
        path = self.directory / f"topology-{version}.json"
        path.write_bytes(sign(canonical(document), [self.key]))
        path.chmod(0o644)
        return path

    def spare(self, tee: str) -> Daemon:
        """One more pod, with the platform of `tee`; nobody expects it."""
        name = f"spare-{len(self.members)}"
        member = self.add(name, self.members[tee].role)
        member.tee = tee
        return member

    def add(self, name: str, role: str) -> Daemon:
        member = Daemon(self.node.pod(name), role, self.directory / "state" / name, self._hear)
        self.members[name] = member
        return member

    def _hear(self, name: str, event: Event) -> None:
        self.heard.append((name, event))

    def tmpfs(self, name: str, options: str) -> None:
        """Give the member a tmpfs of its own, such as one that is soon full."""
        directory = self.members[name].directory
        directory.mkdir(mode=0o755)
        mount = ["mount", "-t", "tmpfs", "-o", f"mode=755,nosuid,nodev,{options}", "test", str(directory)]
        subprocess.run(mount, check=True)


@contextmanager
def world(
    roles: Mapping[str, str],
    *,
    replicas: int | None = None,
    leaf_ms: int = 600_000,
    ports: Sequence[int] = (PORT,),
    web: Mapping[str, object] | None = None,
    least: int | None = None,
    timers: Mapping[str, int] | None = None,
    measured: Mapping[str, str] | None = None,
) -> Iterator[World]:
    """Pods named and of roles as in `roles`; `db` serves `ports`, `web` has more fields. With `replicas` the
    topology wants another number of `db`, with `least` no fewer than that. `timers` are the topology's.
    Pods in `measured` have another image than that of their role.
    """
    key = Ed25519PrivateKey.generate()
    now = int(time.time())
    vendor = LabPki.create(now)
    images = {**roles, **(measured or {})}
    tees = {n: TdxTee(lab_measurements(i, MESH), secrets.token_bytes(16)) for n, i in images.items()}
    with ExitStack() as stack:
        directory = stack.enter_context(run_directory())
        (directory / "state").mkdir(mode=0o755)
        (directory / "cwd").mkdir()
        (directory / "cwd").chmod(0o777)
        stack.enter_context(mounted(TsmConfig(vendor, tees), directory))
        node = stack.enter_context(Node())
        made = World(directory, node, vendor, key)
        count = sum(role == "db" for role in roles.values()) if replicas is None else replicas
        for name, data in public_files(
            declare(now - 60, count, leaf_ms, 1, ports, web, least, timers, key), vendor
        ).items():
            (directory / name).write_bytes(data)
            (directory / name).chmod(0o644)
        for name, role in roles.items():
            made.add(name, role)
        yield made


def declare(
    issued_at: int,
    replicas: int,
    leaf_ms: int,
    version: int = 1,
    ports: Sequence[int] = (PORT,),
    web: Mapping[str, object] | None = None,
    least: int | None = None,
    timers: Mapping[str, int] | None = None,
    key: Ed25519PrivateKey | None = None,
) -> Declaration:
    """The owner's topology of both roles, signed with `key`, or with one that nobody keeps."""
    key = key or Ed25519PrivateKey.generate()
    root = OwnerRoot.of([([spki(key.public_key())], 1)])
    document = {
        "mesh": MESH,
        "version": version,
        "issued_at": issued_at,
        "owner_root": root.digest.hex(),
        "attestation_port": ATTESTATION_PORT,
        # Whom a test kills stays listed for as long as it lasts, unless it says otherwise.
        "timers": {"leaf_lifetime_ms": leaf_ms, "lease_ms": 600_000, **(timers or {})},
        "tdx": {"tcb_status": ["UpToDate"], "advisories": [], "min_tcb_evaluation": 1},
        "roles": {
            "web": {**role("web", 1, [], [{"role": "db", "port": port} for port in ports]), **(web or {})},
            "db": {
                **role("db", replicas, list(ports), []),
                "replicas": {"min": replicas if least is None else least, "max": replicas},
            },
        },
    }
    return Declaration(root, sign(canonical(document), [key]))


def role(name: str, replicas: int, serves: list[int], calls: list[dict[str, object]]) -> dict[str, object]:
    return {
        "replicas": {"min": replicas, "max": replicas},
        "tdx": [lab_measurements(name, MESH).reference()],
        "platforms": "any",
        "serves": serves,
        "calls": calls,
        "ingress": [],
    }


def eventually(found: Callable[[], T | None], timeout_s: float = END_S) -> T:
    """What `found` returns once it is not None, or a failure."""
    end = time.monotonic() + timeout_s
    while (value := found()) is None:
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)
    return value


def ready() -> None:
    """Skip where pods cannot be made."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")


@contextmanager
def seen_closed(member: Daemon) -> Iterator[None]:
    """That meanwhile the pod is seen behind its rules without Envoy and key, however soon another serves."""
    with ThreadPoolExecutor(1) as watcher:
        seen = watcher.submit(eventually, lambda: closed(member) or None, SEAL_S)
        yield
        seen.result()
    assert rules_stand(member.pod)


def closed(member: Daemon) -> bool:
    """Whether no Envoy runs and the xDS directory holds no key."""
    return "envoy" not in kinds(member) and member.files() == FILES


def kinds(member: Daemon) -> dict[str, int]:
    """Process ids by what they are: daemon, envoy, renderer. The short-lived nft is none of them."""
    found = {"daemon": member.pid}
    for pid in member.processes()[1:]:
        if command_name(pid) == "envoy":
            found["envoy"] = pid
        elif b"render_child" in cmdline(pid):
            found["renderer"] = pid
    return found


def cmdline(pid: int) -> bytes:
    return _proc(pid, "cmdline")


def environ(pid: int) -> bytes:
    return _proc(pid, "environ")


def _proc(pid: int, name: str) -> bytes:
    """Nothing for a process that has gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""


def fill(path: Path) -> None:
    """Until the file system has no room for one byte more."""
    with path.open("wb", buffering=0) as file:
        for piece in (1 << 12, 1):
            with suppress(OSError):
                while file.write(bytes(piece)):
                    pass


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists() or status(pid)["State"].startswith("Z")


def status(pid: int) -> dict[str, str]:
    """/proc/PID/status."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {"State": "Z (gone)"}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def command_name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def rules_stand(pod: Pod) -> bool:
    with pod.inside(), suppress(PodError):
        firewall.check(Backend.NFT)
        return True
    return False

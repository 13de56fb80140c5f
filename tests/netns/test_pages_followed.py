"""README.md, docs/verify.md, docs/monitoring.md and docs/troubleshooting.md as somebody follows them.

Each command as it stands there, against real daemons and Envoys of three roles on a simulated platform.
`toposeal` is the production command under the simulated vendor's root. Names that the pages make up are in
/etc/hosts.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.daemons import ATTESTATION_PORT, MESH, SEAL_S, START_S, World, eventually, ready, role, world
from support.inside import APP_UID
from support.pages import Shown, filled, followed, missing

from toposeal_lab.pods import SEARCH_PATH, Pod

PODS = {"web": "web", "api": "api", "api-2": "api", "db": "db"}
INGRESS, APPLICATION = 8443, 8081
BOOTED = 1_700_000_000  # of a guest, in a log
TIMERS = {"ping_ms": 1_000, "heartbeat_ms": 500, "lease_ms": 60_000}
README, VERIFY = followed("README.md"), followed("docs/verify.md")
MONITORING, TROUBLE = followed("docs/monitoring.md"), followed("docs/troubleshooting.md")
COMMAND = """#!{python} -I
import sys
from pathlib import Path
from toposeal.cli.main import entry
from toposeal.verification.model import TrustAnchors
sys.exit(entry(anchors=TrustAnchors(Path({root!r}).read_bytes())))
"""
DAEMON = """#!/bin/sh
shift
exec {python} -I -m toposeal_lab run --anchors {root} --tsm {tsm} --state-dir {state} "$@"
"""


class Reader:
    """Somebody at a shell outside, in a folder with the owner's files, and one at each pod's."""

    def __init__(self, mesh: World) -> None:
        self.mesh, self.folder = mesh, mesh.directory / "cwd"
        self.values: dict[str, str] = {}  # what a page makes up or abbreviates, and what is so here
        self.done: list[Shown] = []
        self._bin = self._program("outside", COMMAND)

    def follow(self, each: Shown) -> str:
        """Run it to its end; what it printed, in which are the page's lines."""
        done = self._outside(self._said(each))
        printed = done.stdout.decode() + done.stderr.decode()
        absent = missing(like(each), printed)
        assert (done.returncode, absent) == (0, []), f"{each.command}\n{printed}"
        return done.stdout.decode()

    def serve(self, each: Shown, until: str) -> list[str]:
        """Start it, to be ended with the mesh, and wait for a line that begins with `until`."""
        command = f"exec {self._said(each)}"
        pipe = subprocess.PIPE
        process = self._host().spawn(self._shell(self._bin, command), stdout=pipe, stderr=subprocess.STDOUT)
        lines: list[str] = []
        found = threading.Event()

        def read() -> None:
            for line in process.stdout or ():
                lines.append(line.decode())
                if lines[-1].startswith(until):
                    found.set()

        threading.Thread(target=read, daemon=True).start()
        assert found.wait(START_S), lines
        absent = missing(like(each), "".join(lines))
        assert absent == [], lines
        return lines

    def start(self, each: Shown, name: str) -> None:
        """Run the daemon's command in its pod, with the role that this one has."""
        member = self.mesh[name]
        program = self._program(
            name, DAEMON, tsm=str(self.mesh.directory / "tsm" / name), state=str(member.directory)
        )
        command = self._said(each).replace("--role web", f"--role {member.role}")
        member.start(self._shell(program, f"exec {command}"))

    def _said(self, each: Shown) -> str:
        if each not in self.done:
            self.done.append(each)
        return filled(each.command, self.values)

    def _outside(self, command: str) -> subprocess.CompletedProcess[bytes]:
        return self._host().run(self._shell(self._bin, command), check=False, timeout=60)

    def _host(self) -> Pod:
        return self.mesh.node.host()

    def _shell(self, folder: Path, command: str) -> Sequence[str]:
        path = f"PATH={folder}:{SEARCH_PATH}"
        return ["env", f"--chdir={self.folder}", path, "sh", "-c", command]

    def _program(self, name: str, text: str, **more: str) -> Path:
        folder = self.mesh.directory / "bin" / name
        folder.mkdir(parents=True)
        root = str(self.mesh.directory / "root.der")
        program = folder / "toposeal"
        program.write_text(text.format(python=sys.executable, root=root, **more))
        program.chmod(0o755)
        return folder


def like(each: Shown) -> tuple[str, ...]:
    """Its lines, with anything for names, machines, addresses and epochs: those are another's."""
    made_up = re.compile(r"[0-9a-f]{32}|\b10\.0\.0\.\d+|(?<=epoch )\d+")
    return tuple(made_up.sub("...", line) for line in each.lines)


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    ready()
    with world(PODS, timers=TIMERS) as mesh:
        made = Reader(mesh)
        hosts = [f"{mesh['web'].pod.ipv4} shop.example web"]
        hosts += [f"{mesh[name].pod.ipv4} {mesh[name].role}" for name in ("api", "api-2", "db")]
        for pod in (mesh.node.host(), *(member.pod for member in mesh.members.values())):
            pod.write_etc("hosts", "127.0.0.1 localhost\n" + "\n".join(hosts) + "\n")
        (made.folder / "collateral.json").write_bytes((mesh.directory / "collateral.json").read_bytes())
        yield made


def topology(version: int, api: int) -> str:
    """What the owner writes, with so many replicas of api."""
    roles = {
        "web": role("web", 1, [APPLICATION], [{"role": "api", "port": 8080}]),
        "api": role("api", api, [8080], [{"role": "db", "port": 6379}]),
        "db": role("db", 1, [6379], []),
    }
    roles["web"] |= {"ingress": [{"port": INGRESS, "target": APPLICATION}]}
    return yaml.safe_dump(
        {
            "mesh": MESH,
            "version": version,
            "issued_at": "2026-01-01T00:00:00Z",
            "attestation_port": ATTESTATION_PORT,
            "timers": TIMERS,
            "tdx": {"tcb_status": ["UpToDate"], "advisories": [], "min_tcb_evaluation": 1},
            "roles": roles,
        }
    ).replace("'2026-01-01T00:00:00Z'", "2026-01-01T00:00:00Z")


def named(commands: Sequence[Shown], beginning: str) -> Shown:
    """The one command of a page that begins so."""
    (found,) = [each for each in commands if each.command.startswith(beginning)]
    return found


def sign(reader: Reader, version: int, api: int, out: str) -> None:
    """Another version, by README's own line for the first."""
    (reader.folder / "topology.yaml").write_text(topology(version, api))
    signing = named(README, "toposeal topology sign")
    reader.follow(Shown("sh", signing.command.replace("--out topology.json", f"--out {out}")))


def test_a_mesh_is_declared_started_and_corrected_before_it_seals(reader: Reader) -> None:
    """README: the owner's part and the pods'. Troubleshooting: version 2 wants an api more than there are."""
    (reader.folder / "topology.yaml").write_text(topology(2, 3))
    for beginning in ("toposeal topology keygen", "toposeal topology check", "toposeal topology sign"):
        reader.follow(named(README, beginning))
    reader.values["10.0.0.7"] = reader.mesh["web"].pod.ipv4
    for name in PODS:
        reader.start(named(README, "toposeal run"), name)
    asking = named(TROUBLE, "toposeal status --peer")
    eventually(lambda: waits(reader, asking), START_S)
    line = "waits: roles.api: found 2 within reach, expected at least 3 [manifest_bounds]"
    assert line in reader.follow(asking)
    assert "manifest_bounds" in reader.follow(named(README, "toposeal status --peer"))
    sign(reader, 3, 2, "topology-2.json")
    assert "accepted: version 3" in reader.follow(named(TROUBLE, "toposeal topology push"))
    for name in PODS:
        reader.mesh[name].wait("gate", SEAL_S, state="open")


def waits(reader: Reader, asking: Shown) -> str | None:
    """Its words, once the web waits for an api more."""
    with_word = Shown(asking.kind, f"{asking.command.partition('#')[0]} || true")
    said = reader.follow(with_word)
    return said if "found 2 within reach" in said else None


def test_the_mesh_is_verified_pinned_and_connected_to(reader: Reader) -> None:
    """Verify: every line of it. README: the same with its own arguments."""
    serving = [sys.executable, "-I", "-m", "http.server", str(APPLICATION), "--bind", "::"]
    reader.mesh["web"].pod.spawn(serving, uid=APP_UID, cwd=reader.folder / "..", stderr=subprocess.DEVNULL)
    said = reader.follow(named(VERIFY, "toposeal verify"))
    (name,) = re.findall(r"\(web (m-[0-9a-f]{32})\)", said)
    (written,) = {match for each in VERIFY for match in re.findall(r"m-[0-9a-f]{32}", each.command)}
    reader.values[written] = name
    pinned = named(VERIFY, "curl --cacert")
    eventually(lambda: page(reader, pinned))
    assert "<title>" in reader.follow(pinned)
    reader.serve(named(VERIFY, "toposeal connect"), "listening on")
    assert "<title>" in reader.follow(named(VERIFY, "curl http"))
    reader.values |= {"--ca-out pins.pem": "--ca-out again.pem", "--local 8080": "--local 8082"}
    reader.follow(named(README, "toposeal verify"))
    reader.serve(named(README, "toposeal connect"), "listening on")
    assert (reader.folder / "again.pem").read_bytes() == (reader.folder / "pins.pem").read_bytes()


def page(reader: Reader, asking: Shown) -> str | None:
    """What the application answers, once it listens."""
    said = reader.follow(Shown(asking.kind, f"{asking.command} || true"))
    return said or None


def test_what_it_is_and_was_is_asked_for(reader: Reader) -> None:
    """README: a newer version. Monitoring: status and traces. Verify: history, online and off."""
    (reader.folder / "topology-2.json").unlink()
    sign(reader, 4, 2, "topology-2.json")
    assert "accepted: version 4" in reader.follow(named(README, "toposeal topology push"))
    asking = named(VERIFY, "toposeal verify")
    told = filled(asking.command, {"--min-version 3 --ca-out pins.pem": "--min-version 4 --json"})
    sealed = eventually(lambda: verdict(reader, told), SEAL_S)
    reader.values["4f0c..."] = str(sealed["manifest_digest"])
    reader.values |= {"MEMBER:PORT": f"shop.example:{ATTESTATION_PORT}", "MEMBER": "shop.example"}
    assert "topology version 4" in reader.follow(named(MONITORING, "toposeal status https"))
    assert "not attested" in reader.follow(named(MONITORING, "toposeal status --peer"))
    online, offline = (each for each in VERIFY if each.command.startswith("toposeal history"))
    for said in (reader.follow(online), reader.follow(offline)):
        assert len(re.findall(r"^  epoch \d+ ", said, re.M)) == 2 and "the genesis" in said
    for name in ("web", "db"):
        (reader.folder / f"{name}.log").write_text(log(reader, name))
    one, two = (each for each in MONITORING if each.command.startswith("toposeal trace"))
    for each in (one, two):
        reader.follow(each)
        spans = json.loads((reader.folder / "spans.json").read_text())
        assert len(spans["resourceSpans"]) == (1 if each is one else 2)


def verdict(reader: Reader, asking: str) -> dict[str, Any] | None:
    """Of `verify --json`, once the newer version is sealed."""
    said: dict[str, Any] = json.loads(reader.follow(Shown("sh", f"{asking} || true")))
    return said if said["verified"] else None


def log(reader: Reader, name: str) -> str:
    """As kubectl gives it."""
    lines = []
    for event in reader.mesh[name].journal():
        when = datetime.fromtimestamp(BOOTED + float(str(event["t"])), UTC)
        lines.append(f"{when:%Y-%m-%dT%H:%M:%S.%fZ} {json.dumps(event)}\n")
    return "".join(lines)


def test_nothing_of_the_pages_is_left_out(reader: Reader) -> None:
    """Whatever this file is to run, it has run."""
    wanted = {each.command for each in (*README, *VERIFY, *MONITORING, *TROUBLE)}
    assert wanted <= {each.command for each in reader.done}

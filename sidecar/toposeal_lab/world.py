"""The lab's world: simulated vendor, owner's files, pods on a bridge, and how a member is started.

Made in one go and removed in one go; the attacks of the demo and the benchmarks share it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from toposeal.limits import PEER_PORT
from toposeal_lab import apps
from toposeal_lab.measurements_fs import FOLDER as MEASUREMENTS
from toposeal_lab.member import Listener, Member
from toposeal_lab.pods import Node, Pod
from toposeal_lab.rundir import run_directory
from toposeal_lab.scenario import AMD_ROOT, MESH, VERSION, Cast, Declaration, declare, public_files
from toposeal_lab.simtdx import LabPki
from toposeal_lab.tees import TeeChoice, lab_tees
from toposeal_lab.tsm_config import TsmConfig
from toposeal_lab.tsm_mount import mounted

INSIDER = "web"  # the member whose CA key the attackers hold
_SIGNED_BEFORE_S = 60  # clocks of verifiers may be a little behind


class World:
    """Everything but the daemons, which `start` starts one by one."""

    def __init__(
        self,
        directory: Path,
        node: Node,
        vendor: LabPki,
        declaration: Declaration,
        listener: Listener,
        files: Mapping[str, bytes],
        cast: Cast,
        sign: Callable[[Cast], Declaration],
    ) -> None:
        self.directory = directory
        self.node = node
        self.vendor = vendor
        self.declaration = declaration
        self.outside = node.host()
        self._cast, self._sign = cast, sign
        states = directory / "state"
        states.mkdir(mode=0o755)
        self.members = {
            name: Member(node.pod(name), role, states / name, listener) for name, role in cast.members.items()
        }
        for name, content in files.items():
            path = self.file(name)
            path.write_bytes(content)
            path.chmod(0o644)

    def start(self, name: str) -> Member:
        """Start the daemon of one member; its process begins now."""
        member = self.members[name]
        member.start(self._daemon(member))
        return member

    def start_app(self, name: str) -> None:
        """Start the program of one member's pod."""
        member = self.members[name]
        apps.start_app(member.pod, member.role, self.directory / f"app-{name}")

    def add_pod(self, name: str) -> Pod:
        """One more pod on the same bridge: no sidecar, no rules."""
        return self.node.pod(name)

    def file(self, name: str) -> Path:
        """A file of the world, or a path for one."""
        return self.directory / name

    def verify_command(self, url: str, *more: str) -> list[str]:
        """The outside verifier under the lab's roots, with JSON output."""
        flags = ["--owner", str(self.file("owner.json")), "--mesh", MESH, "--min-version", str(VERSION)]
        return [*self._toposeal("verify"), url, *flags, "--json", *more]

    def newer(self, version: int, calls: Mapping[str, tuple[tuple[str, int], ...]]) -> Path:
        """A file with another version of the same owner's topology, in which roles have these calls too."""
        path = self.file(f"topology-{version}.json")
        path.write_bytes(self._sign(replace(self._cast, version=version, calls=calls)).envelope)
        return path

    def push_command(self, url: str, file: Path) -> list[str]:
        """What gives a running member a newer topology."""
        program = [sys.executable, "-I", "-m", "toposeal", "topology", "push"]
        return [*program, url, "--file", str(file), "--json"]

    def insider_key(self) -> Path:
        """Where the compromised member leaves its CA key."""
        return self.file("insider.pem")

    def _daemon(self, member: Member) -> list[str]:
        peers = ",".join(f"{m.pod.ipv4}:{PEER_PORT}" for m in self.members.values())
        flags = {
            "--tsm": self.directory / "tsm" / member.name,
            "--measurements": self.directory / "tsm" / MEASUREMENTS / member.name,
            "--role": member.role,
            "--mesh": MESH,
            "--owner": self.file("owner.json"),
            "--topology": self.file("topology.json"),
            "--min-version": VERSION,
            "--peers": peers,
            "--state-dir": member.directory,
            "--collateral": self.file("collateral.json"),
        }
        insider = ["--insider", str(self.insider_key())] if member.name == INSIDER else []
        words = [word for flag, value in flags.items() for word in (flag, str(value))]
        return [*self._toposeal("run"), *insider, *words]

    def _toposeal(self, command: str) -> list[str]:
        """`-I`: what runs does not depend on where the lab was started."""
        program = [sys.executable, "-I", "-m", "toposeal_lab", command]
        amd = ["--amd-anchors", str(self.file(AMD_ROOT))] if self.file(AMD_ROOT).exists() else []
        return [*program, "--anchors", str(self.file("root.der")), *amd]


@contextmanager
def world(
    listener: Listener, choice: TeeChoice = TeeChoice.TDX, quote_delay_ms: int = 0, cast: Cast | None = None
) -> Iterator[World]:
    """A fresh world of `cast`, by default the shop's, while the block runs. Raises UsageError where the
    machine cannot have one.

    What runs in pods ends first, then the simulated platform, then the directory that held both.
    """
    now = int(time.time())
    vendor, amd = LabPki.create(now), choice.amd(now)
    cast = cast or Cast()
    tees = lab_tees(cast.members, MESH, choice, amd)
    with ExitStack() as stack:
        directory = stack.enter_context(run_directory())
        os.chmod(directory, 0o755)  # noqa: S103 - every user of every pod reads its public files
        stack.enter_context(mounted(TsmConfig(vendor, tees, quote_delay_ms), directory))
        node = stack.enter_context(Node())
        key = Ed25519PrivateKey.generate()

        def sign(cast: Cast) -> Declaration:
            return declare(now - _SIGNED_BEFORE_S, key, choice, cast)

        declaration = sign(cast)
        files = public_files(declaration, vendor, amd)
        yield World(directory, node, vendor, declaration, listener, files, cast, sign)

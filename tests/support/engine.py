"""A Docker engine of the test's own and one project on it; nothing is left on the machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "toposeal-lab"
PROJECT = "shop"


class Engine:
    """docker and compose against one engine; `lab` is the folder that platform and sidecars share."""

    def __init__(self, socket: Path, lab: Path) -> None:
        self.lab = lab
        self._environment = {**os.environ, "DOCKER_HOST": f"unix://{socket}", "TOPOSEAL_LAB_DIR": str(lab)}
        v2 = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        self._compose = ["docker", "compose"] if v2.returncode == 0 else ["docker-compose"]

    @property
    def program(self) -> str:
        """Compose, as a shell calls it."""
        return " ".join(self._compose)

    def run(self, *argv: str, check: bool = True, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Any command of ours against this engine."""
        done = subprocess.run(
            argv,
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def compose(self, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.run(*self._compose, "-p", PROJECT, *argv, **options)

    def shell(self, service: str, script: str, user: str = "1000") -> subprocess.CompletedProcess[str]:
        """A script in the running container of `service`; its exit code is the caller's to judge."""
        return self.compose("exec", "-T", "-u", user, service, "sh", "-c", script, check=False)

    def client(self, script: str) -> subprocess.CompletedProcess[str]:
        """A script in a fresh container on the mesh's network: an outsider with the public files."""
        return self.run(
            *("docker", "run", "--rm", "--network", f"{PROJECT}_shop", "--cap-drop", "ALL"),
            *("-v", f"{self.lab}:/lab:ro", IMAGE, "sh", "-c", script),
            check=False,
        )

    def inspect(self, service: str) -> dict[str, Any]:
        name = self.compose("ps", "-q", service).stdout.strip()
        assert name, f"{service} has no container"
        found: list[dict[str, Any]] = json.loads(self.run("docker", "inspect", name).stdout)
        return found[0]

    def wait_healthy(self, *services: str, timeout_s: float = 60) -> None:
        end = time.monotonic() + timeout_s
        while any(self.inspect(service)["State"]["Health"]["Status"] != "healthy" for service in services):
            assert time.monotonic() < end, self.compose("logs", "--tail", "30").stdout
            time.sleep(0.3)


@contextmanager
def engine() -> Iterator[Engine]:
    """An engine with the base and the lab image; needs root, dockerd and mmdebstrap."""
    # /tmp: the path of a Unix socket is short.
    directory = Path(tempfile.mkdtemp(prefix="toposeal-engine-", dir="/tmp"))
    lab = directory / "lab"
    lab.mkdir()
    made = Engine(directory / "engine" / "docker.sock", lab)
    try:
        # What the platform mounts below has to reach the sidecars: systemd shares every mount, others do not.
        made.run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(lab))
        made.run("mount", "--make-shared", str(lab))
        made.run("images/engine", "start", str(directory / "engine"))
        made.run("images/base")
        yield made
    finally:
        made.run("images/engine", "stop", str(directory / "engine"), check=False)
        made.run("umount", "--recursive", "--lazy", str(lab), check=False)
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def project(made: Engine) -> Iterator[Engine]:
    """docker-compose.yml, built and up."""
    made.compose("build")
    try:
        up = made.compose("up", "-d", check=False, timeout_s=180)
        assert up.returncode == 0, up.stderr + made.compose("logs", "--no-color", "--tail", "20").stdout
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", "1", check=False)

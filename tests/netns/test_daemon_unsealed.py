"""A mesh that cannot seal says why, and seals when its owner has corrected the topology: nobody starts anew.

Real daemons, closed Envoys and rules; the operator stands outside and reaches the peer ports alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.daemons import (
    ATTESTATION_PORT,
    SEAL_S,
    START_S,
    World,
    eventually,
    ready,
    rules_stand,
    world,
)
from support.held import echo, hold
from support.inside import APP_UID, run_python

from toposeal_lab.simtdx import lab_measurements

PODS = {"web": "web", "db-1": "db", "db-2": "db"}
TIMERS = {
    "ping_ms": 1_000, "quote_ms": 20_000, "attempt_ms": 20_000, "quorum_ms": 600_000,
    "heartbeat_ms": 500, "lease_ms": 8_000,
}  # fmt: skip
PORT = 8080
NOBODY = "ee" * 48  # what no guest measures


@pytest.fixture
def mesh() -> Iterator[World]:
    """Version 1 has a mistake in the reference value of db; every pod has started with it."""
    ready()
    with world(PODS, timers=TIMERS) as made:
        made.signed(1, wrong_reference).rename(made.directory / "topology.json")
        for name in PODS:
            made.start(name)
        yield made


def wrong_reference(document: dict[str, Any]) -> None:
    document["roles"]["db"]["tdx"][0]["mrtd"] = NOBODY


def corrected(mesh: World, version: int) -> Path:
    def correct(document: dict[str, Any]) -> None:
        document["roles"]["db"]["tdx"] = [lab_measurements("db", "shop").reference()]

    return mesh.signed(version, correct)


def outside(mesh: World, *command: str) -> tuple[int, str]:
    """What an operator outside does: exit code, and what it reads."""
    words = (sys.executable, "-I", "-m", "toposeal", *command)
    with mesh.node.host().inside():
        done = subprocess.run(words, capture_output=True, timeout=60)
    return done.returncode, (done.stdout + done.stderr).decode()


def trust(mesh: World) -> tuple[str, ...]:
    return ("--owner", str(mesh.directory / "owner.json"), "--mesh", "shop")


def status(mesh: World, name: str) -> dict[str, Any] | None:
    """Of a member whose gate is closed; None before it has anything to say."""
    code, said = outside(mesh, "status", "--peer", mesh[name].pod.ipv4, "--json")
    assert code in (0, 3), said
    found: dict[str, Any] | None = json.loads(said) if code == 0 else None
    return found


def waiting(mesh: World, name: str, reason: str) -> dict[str, Any]:
    """Its status once it waits for that."""

    def found() -> dict[str, Any] | None:
        said = status(mesh, name)
        return said if said and reason in [wait["reason"] for wait in said["waits"]] else None

    return eventually(found, START_S)


@pytest.mark.parametrize("told", ["web", "db-1"])
def test_T4_a_mesh_with_a_wrong_reference_value_says_so_and_seals_by_the_next_version(
    mesh: World, told: str
) -> None:
    # Each says what it waits for; nothing of it is a verdict.
    refused = waiting(mesh, "db-1", "measurement")
    assert (refused["phase"], refused["serving"], refused["attested"]) == ("boot", None, False)
    assert refused["waits"][0]["field"] == "quote.mrtd" and refused["waits"][0]["expected"] == NOBODY
    alone = waiting(mesh, "web", "manifest_bounds")
    assert (alone["phase"], alone["version"]) == ("gathering", 1)
    assert alone["waits"][0]["field"] == "roles.db"
    code, said = outside(mesh, "status", "--peer", mesh["web"].pod.ipv4)
    assert code == 0 and said.startswith("not attested:"), said

    # The gate is closed: the attestation port answers nobody, and the rules stand.
    code, said = outside(mesh, "status", f"https://{mesh['web'].pod.ipv4}:{ATTESTATION_PORT}")
    assert code == 3, said
    assert all(rules_stand(mesh[name].pod) for name in PODS)

    # What the owner did not sign, and what is not newer, changes nothing.
    second, peer = corrected(mesh, 2), ("--peer", mesh[told].pod.ipv4)
    forged = mesh.directory / "forged.json"
    envelope = json.loads(second.read_bytes())
    envelope["signatures"][0]["sig"] = "A" * 86 + "=="
    forged.write_text(json.dumps(envelope))
    code, said = outside(mesh, "topology", "push", "--file", str(forged), *peer)
    assert code == 2, said
    code, said = outside(mesh, "topology", "push", "--file", str(mesh.directory / "topology.json"), *peer)
    assert code == 0 and "already known: version 1" in said, said

    # One member is told the next version.
    code, said = outside(mesh, "topology", "push", "--file", str(second), *peer)
    assert code == 0 and "accepted: version 2" in said, said
    for name in PODS:
        mesh[name].wait("gate", SEAL_S, state="open")
        mesh[name].wait("topology", START_S, version=2)
        assert mesh[name].events("start")[1:] == [] and mesh[name].code is None
    sealed = status(mesh, "web")
    assert sealed is not None and sealed["serving"]["version"] == 2 and sealed["waits"] == []
    with echo(mesh["db-1"].pod, PORT, "db-1"), echo(mesh["db-2"].pod, PORT, "db-2"):
        asked = "import socket; print(socket.gethostbyname('db'))"
        host = run_python(mesh["web"].pod, asked, uid=APP_UID).strip()
        held = eventually(lambda: hold(mesh["web"].pod, host, PORT), SEAL_S)
        assert held.answers() and held.said in ("db-1", "db-2")
        held.close()

    # Suspended, it still says why, and takes what its owner signs.
    for name in ("db-1", "db-2"):
        os.kill(mesh[name].pid, signal.SIGKILL)
    mesh["web"].wait("suspend", SEAL_S)
    suspended = waiting(mesh, "web", "no_majority")
    assert suspended["suspended"] and suspended["serving"]["version"] == 2
    peer = ("--peer", mesh["web"].pod.ipv4)
    code, said = outside(mesh, "topology", "push", "--file", str(corrected(mesh, 3)), *peer)
    assert code == 0 and "accepted: version 3" in said, said
    code, said = outside(mesh, "history", f"https://{mesh['web'].pod.ipv4}:{ATTESTATION_PORT}", *trust(mesh))
    assert code == 3, said

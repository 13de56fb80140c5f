"""A newer topology reaches a mesh that serves: real daemons and Envoys, none of them restarted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.daemons import (
    ATTESTATION_PORT,
    END_S,
    SEAL_S,
    Daemon,
    World,
    eventually,
    ready,
    role,
    world,
)
from support.held import Held, echo, hold
from support.inside import APP_UID, run_python

from toposeal.host.asking import ask_history
from toposeal.outside.endpoint import Endpoint
from toposeal.outside.history import Step, read_history, told
from toposeal_lab.simtdx import lab_measurements

OLD, NEW = 8080, 8081  # ports that db serves; web calls the second from version 2 to version 3
TIMERS = {
    "view_ms": 1_000, "quote_ms": 20_000, "ping_ms": 1_000, "attempt_ms": 20_000,
    "heartbeat_ms": 500, "lease_ms": 8_000, "quorum_ms": 120_000,
}  # fmt: skip
# `batch` is a role that comes with version 2, `db-next` has an image that version 3 admits besides.
PODS = {"web": "web", "db-1": "db", "db-2": "db", "batch": "batch", "db-next": "db"}
FIRST = ("web", "db-1", "db-2")

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def mesh() -> Iterator[World]:
    ready()
    images = {"db-next": "db-next"}
    with world(PODS, replicas=3, least=1, timers=TIMERS, measured=images) as made:
        for name in FIRST:
            made.start(name)
        for name in FIRST:
            made[name].wait("gate", SEAL_S, state="open")
        eventually(lambda: len(set(map(epoch, map(made.__getitem__, FIRST)))) == 1 or None, SEAL_S)
        yield made


def epoch(member: Daemon) -> int:
    """Of the manifest that the gate serves."""
    found = [event["epoch"] for event in member.events("gate") if event.get("state") == "open"]
    return int(str(found[-1])) if found else 0


def push(mesh: World, name: str, path: Path) -> tuple[int, str]:
    """What an owner outside does: exit code, and what it reads."""
    return outside(mesh, name, "topology", "push", "--file", str(path))


def past(mesh: World, name: str) -> tuple[Step, ...]:
    """What this member says that its manifest descends from, back from what its status names."""
    _, said = outside(mesh, name, "status", "--json")
    with mesh.node.host().inside():
        data = ask_history(Endpoint.parse(f"https://{mesh[name].pod.ipv4}:{ATTESTATION_PORT}"))
    history = told(read_history(data, bytes.fromhex(json.loads(said)["serving"]["digest"])))
    assert history.whole
    return history.steps


def outside(mesh: World, name: str, *command: str) -> tuple[int, str]:
    """Exit code and words of `toposeal`, asked about this member."""
    url = f"https://{mesh[name].pod.ipv4}:{ATTESTATION_PORT}"
    command = (sys.executable, "-I", "-m", "toposeal", *command, url)
    with mesh.node.host().inside():
        done = subprocess.run(command, capture_output=True, timeout=60)
    return done.returncode, (done.stdout + done.stderr).decode()


def served(mesh: World, before: dict[str, int], *names: str) -> None:
    """All of these serve a later manifest, and the same one."""

    def found() -> bool | None:
        now = {epoch(mesh[name]) for name in names}
        return (len(now) == 1 and min(now) > max(before.values())) or None

    eventually(found, SEAL_S)


def epochs(mesh: World) -> dict[str, int]:
    return {name: epoch(member) for name, member in mesh.members.items() if member.started}


def address(mesh: World, caller: str) -> str:
    """Where programs of `caller` find the role `db`."""
    asked = "import socket; print(socket.gethostbyname('db'))"
    return run_python(mesh[caller].pod, asked, uid=APP_UID).strip()


def dial(mesh: World, caller: str, port: int, *answers: str) -> Held:
    """A connection of `caller` to one of the `answers` of db."""
    host = address(mesh, caller)

    def found() -> Held | None:
        held = hold(mesh[caller].pod, host, port)
        if held is not None and held.said not in answers:
            held.close()
            return None
        return held

    return eventually(found, SEAL_S)


def second_port(document: dict[str, Any]) -> None:
    document["roles"]["db"]["serves"] = [OLD, NEW]
    document["roles"]["web"]["calls"] = [{"role": "db", "port": OLD}, {"role": "db", "port": NEW}]


def with_batch(document: dict[str, Any]) -> None:
    """Its name comes before all others, so an address by order of names would move those of db and web."""
    second_port(document)
    batch = role("batch", 1, [], [{"role": "db", "port": OLD}])
    document["roles"]["batch"] = {**batch, "replicas": {"min": 0, "max": 1}}


def two_images(document: dict[str, Any]) -> None:
    with_batch(document)
    document["roles"]["db"]["tdx"].append(lab_measurements("db-next", "shop").reference())


def first_roles(document: dict[str, Any]) -> None:
    document["roles"]["db"]["tdx"].append(lab_measurements("db-next", "shop").reference())


def test_T4_M1_a_mesh_follows_its_owner_from_version_to_version(mesh: World) -> None:
    with ExitStack() as stack:
        for name in ("db-1", "db-2", "db-next"):
            for port in (OLD, NEW):
                stack.enter_context(echo(mesh[name].pod, port, name))
        old = dial(mesh, "web", OLD, "db-1", "db-2")
        resolved = address(mesh, "web")

        # Version 2: an edge and a role more. One member is told.
        before, first = epochs(mesh), mesh.directory / "topology.json"
        second = mesh.signed(2, with_batch)
        code, said = push(mesh, "db-1", second)
        assert code == 0 and said.startswith("accepted: version 2"), said
        served(mesh, before, *FIRST)
        for name in FIRST:
            mesh[name].wait("topology", END_S, version=2)
        new = dial(mesh, "web", NEW, "db-1", "db-2")
        assert old.answers()
        assert address(mesh, "web") == resolved

        # Each of them says so to whoever asks.
        for name in FIRST:
            code, said = outside(mesh, name, "status", "--json")
            status = json.loads(said)
            assert code == 0 and status["version"] == status["serving"]["version"] == 2
            assert [m["role"] for m in status["serving"]["members"]] == ["db", "db", "web"]
            assert (status["suspended"], status["verified"]) == (False, False)

        # What is known, what is older, and what nobody signed.
        code, said = push(mesh, "web", second)
        assert code == 0 and said.startswith("already known: version 2"), said
        code, said = push(mesh, "web", first)
        assert code == 4 and "[topology_rollback]" in said, said
        forged = mesh.directory / "forged.json"
        envelope = json.loads(second.read_bytes())
        envelope["payload"] = json.loads(mesh.signed(3, with_batch).read_bytes())["payload"]
        forged.write_text(json.dumps(envelope))
        code, said = push(mesh, "web", forged)
        assert code == 2, said

        # The new role comes, with a file of version 2.
        before = epochs(mesh)
        mesh.start("batch", changed={"topology": str(second)})
        mesh["batch"].wait("gate", SEAL_S, state="open")
        served(mesh, before, *FIRST, "batch")
        theirs = dial(mesh, "batch", OLD, "db-1", "db-2")

        # Version 3: another image of db beside the old one.
        before = epochs(mesh)
        code, said = push(mesh, "web", mesh.signed(3, two_images))
        assert code == 0, said
        served(mesh, before, *FIRST, "batch")
        before = epochs(mesh)
        mesh.start("db-next", changed={"topology": str(mesh.directory / "topology-3.json")})
        served(mesh, before, *FIRST, "batch", "db-next")
        assert all(held.answers() for held in (old, new, theirs))

        # Version 4: neither the second port nor batch. What they had is cut, and nothing else.
        before = epochs(mesh)
        code, said = push(mesh, "db-2", mesh.signed(4, first_roles))
        assert code == 0, said
        served(mesh, before, *FIRST, "db-next")
        eventually(lambda: new.ended)
        eventually(lambda: theirs.ended)
        assert old.answers()
        steps = past(mesh, "web")
        assert (steps[0].version, steps[-1].version, steps[-1].left) == (4, 1, ())
        assert [step.version for step in steps] == sorted((step.version for step in steps), reverse=True)
        assert {one.role for step in steps for one in step.left} == {"batch"}
        mesh["batch"].wait("suspend", SEAL_S)
        assert mesh["batch"].events("fence") == []
        assert all(mesh[name].events("start")[1:] == [] and mesh[name].code is None for name in FIRST)
        assert old.answers()
        for held in (old, new, theirs):
            held.close()

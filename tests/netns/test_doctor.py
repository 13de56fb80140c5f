"""`toposeal doctor` in real pods: whole before and while the daemon runs, and it sees rules that are gone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from support.daemons import START_S, World, ready, world

from toposeal.limits import PEER_PORT


@pytest.fixture
def mesh() -> Iterator[World]:
    """One pod whose peer never comes."""
    ready()
    with world({"web": "web"}, replicas=1) as made:
        yield made


def examined(made: World, *more: str, whole: bool, **changed: str) -> dict[str, dict[str, Any]]:
    """The findings by check, and an exit code that says the same."""
    given = {**made.arguments("web"), **changed}
    words = [w for key, value in given.items() if value and key != "anchors" for w in (f"--{key}", value)]
    argv = [sys.executable, "-I", "-m", "toposeal_lab", "doctor", *words, "--json", *more]
    done = made["web"].pod.run(argv, check=False)
    rows = {row["check"]: row for row in json.loads(done.stdout)["findings"]}
    missing = {check: row for check, row in rows.items() if row["state"] == "missing"}
    assert (done.returncode == 0, missing == {}) == (whole, whole), missing
    return rows


def test_a_pod_with_all_that_is_needed_and_one_whose_rules_were_flushed(mesh: World) -> None:
    pod = mesh["web"].pod
    bare = examined(mesh, whole=False)
    assert [check for check, row in bare.items() if row["state"] != "ok"] == ["rules"]
    pod.run([sys.executable, "-I", "-m", "toposeal", "firewall", "apply"])
    rows = examined(mesh, "--quote", whole=True)
    assert {row["state"] for row in rows.values()} == {"ok"}
    assert rows["quotes"]["found"].startswith("tdx_guest, a report of ")
    assert rows["ports"]["found"] == "free"
    pod.run(["nft", "flush", "chain", "inet", "toposeal", "egress"])
    altered = examined(mesh, whole=False)["rules"]
    assert (altered["state"], altered["reason"]) == ("missing", "firewall")
    assert "egress" in altered["found"]
    pod.run(["nft", "flush", "ruleset"])
    assert examined(mesh, whole=False)["rules"]["state"] == "missing"


def test_beside_a_running_daemon_everything_is_its_own(mesh: World) -> None:
    member = mesh.start("web")
    member.wait("phase", START_S, phase="gathering")
    rows = examined(mesh, whole=True)
    assert rows["ports"]["found"] == "held by the sidecar"
    assert rows["route"]["found"].endswith("dev lo")
    assert rows["state directory"]["found"].endswith("on a tmpfs")
    member.pod.run(["ip", "route", "del", "240.10.0.0/16"])
    assert examined(mesh, whole=False)["route"]["state"] == "missing"


def test_a_stranger_at_the_peer_port_and_a_role_that_nobody_declared(mesh: World) -> None:
    code = f"import socket; s = socket.create_server(('', {PEER_PORT})); print('on', flush=True); s.accept()"
    listener = mesh["web"].pod.spawn([sys.executable, "-c", code], uid=1000, stdout=-1)
    assert listener.stdout is not None and listener.stdout.readline() == b"on\n"
    rows = examined(mesh, whole=False, role="cache")
    assert f"tcp port {PEER_PORT}: found user 1000" in rows["ports"]["found"]
    assert rows["role"]["reason"] == "role_unknown"

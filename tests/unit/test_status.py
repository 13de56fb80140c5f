"""What a member tells anybody of itself, and how strictly that is read."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.actors import Bench
from support.tls import tls_server

from toposeal.cli.main import entry
from toposeal.errors import NetworkError
from toposeal.host.attestation_server import AttestationServer, Parts
from toposeal.outside.pushed import Pushed
from toposeal.outside.status import STATUS_TYPE, Status, read_status, status_of

ROLES = {"db": (1, 1), "web": (1, 1)}


@pytest.fixture
def active() -> Bench:
    bench = Bench(ROLES).gathering()
    bench.active(bench.actor("db"))
    return bench


def said(bench: Bench) -> Status:
    return status_of(bench.member, bench.now)


def test_an_active_member_names_what_it_serves_and_its_leases(active: Bench) -> None:
    status = said(active)
    assert (status.role, status.phase, status.epoch, status.version) == ("web", "active", 1, 7)
    assert status.serving is not None and not status.suspended and status.waits == ()
    assert status.serving.lineage == status.serving.digest == active.member.sealed.hex()
    leases = {m.role: m.lease_ms for m in status.serving.members}
    assert leases["web"] is None and leases["db"] is not None and leases["db"] > 0
    assert "serves epoch 1 under topology version 7" in status.as_text()
    active.now += 10_000_000
    again = said(active)
    assert again.serving is not None and {m.lease_ms for m in again.serving.members} == {None, 0}


def test_a_later_manifest_has_the_lineage_of_its_genesis() -> None:
    bench = Bench(ROLES).gathering()
    actor = bench.actor("db")
    bench.active(actor)
    genesis = bench.member.sealed.hex()
    bench.active(actor)
    serving = said(bench).serving
    assert serving is not None and serving.lineage == genesis != serving.digest


def test_a_member_that_waits_says_for_what() -> None:
    status = said(Bench(ROLES).gathering())
    assert status.serving is None and status.epoch == 1
    assert status.as_text().split("\n")[1:] == [
        "serves nothing",
        "waits: roles.db: found 0 within reach, expected at least 1 [manifest_bounds]",
    ]


def test_nothing_but_what_is_listed_is_said(active: Bench) -> None:
    """No address, no key, no evidence."""
    document = said(active).as_json()
    assert set(document) == {
        "name", "role", "phase", "epoch", "version", "suspended", "serving", "waits"
    }  # fmt: skip
    assert set(document["serving"]) == {"epoch", "digest", "lineage", "version", "members"}
    assert set(document["serving"]["members"][0]) == {"name", "role", "lease_ms"}


def test_what_is_written_is_read_back(active: Bench) -> None:
    for bench in (active, Bench(ROLES).gathering()):
        status = said(bench)
        assert read_status(json.dumps(status.as_json()).encode()) == status


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("name"),
        lambda d: d.update(more=1),
        lambda d: d.update(name=1),
        lambda d: d.update(epoch="1"),
        lambda d: d.update(version=-1),
        lambda d: d.update(suspended=0),
        lambda d: d.update(serving=[]),
        lambda d: d.update(waits={}),
        lambda d: d.update(waits=[{"reason": "because", "field": "", "found": "", "expected": ""}]),
        lambda d: d.update(waits=[{"reason": "internal", "field": 1, "found": "", "expected": ""}]),
        lambda d: d["serving"].update(digest=None),
        lambda d: d["serving"].update(members=[1]),
        lambda d: d["serving"]["members"][0].update(lease_ms=True),
        lambda d: d["serving"]["members"][0].update(role=None),
    ],
)
def test_a_strange_status_is_none(change: Callable[[dict[str, Any]], object], active: Bench) -> None:
    document = json.loads(json.dumps(said(active).as_json()))
    change(document)
    with pytest.raises(NetworkError):
        read_status(json.dumps(document).encode())


def test_bytes_that_are_no_object_are_no_status() -> None:
    for body in (b"", b"[]", b"<html>", b"\xff"):
        with pytest.raises(NetworkError):
            read_status(body)


def no_history() -> Callable[[], bytes]:
    raise AssertionError("no history was asked for")


def served(tmp_path: Path, status: Status, request: bytes) -> bytes:
    path = str(tmp_path / "attestation.sock")

    async def go() -> bytes:
        async def never(nonce: bytes) -> Parts:
            raise AssertionError("no document was asked for")

        def no_push(envelope: bytes) -> Pushed:
            raise AssertionError("nothing was pushed")

        server = AttestationServer(never, no_push, lambda: status, no_history)
        await server.start(path, os.getgid())
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(request)
        answered = await reader.read()
        writer.close()
        server.close()
        return answered

    return asyncio.run(go())


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_reads_what_the_server_writes(
    as_json: bool, active: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = said(active)
    with tls_server(
        tmp_path, lambda tls: tls.sendall(served(tmp_path, status, server.requests[0]))
    ) as server:
        assert entry(["status", server.url, *(["--json"] if as_json else [])]) == 0
    out = capsys.readouterr().out
    if as_json:
        document = json.loads(out)
        assert document.pop("verified") is document.pop("attested") is False and document == json.loads(
            json.dumps(status.as_json())
        )
    else:
        assert out.split("\n")[0] == "unverified, the word of who answered:"
        assert "lease" in out and "(itself)" in out


def test_a_host_that_speaks_something_else_is_a_network_error(tmp_path: Path) -> None:
    answered = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi"
    with tls_server(tmp_path, lambda tls: tls.sendall(answered)) as server:
        assert entry(["status", server.url]) == 3


def test_an_answer_that_ends_before_what_it_announces_is_a_network_error(
    active: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where what came would do: whoever cuts it decides how much of an answer is read."""
    body = json.dumps(said(active).as_json()).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {STATUS_TYPE}\r\nContent-Length: {len(body) + 1}\r\n\r\n"
    with tls_server(tmp_path, lambda tls: tls.sendall(head.encode() + body)) as server:
        assert entry(["status", server.url]) == 3
    assert "1 more" in capsys.readouterr().err

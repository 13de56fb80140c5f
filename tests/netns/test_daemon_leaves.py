"""The last but one of a mesh is told to end: real daemons and Envoys, and the other serves on alone."""

from __future__ import annotations

import os
import signal

from support.daemons import END_S, SEAL_S, Daemon, World, eventually, ready, world
from support.held import echo, hold
from support.inside import APP_UID, run_python

PORT = 8080
TIMERS = {
    "view_ms": 2_000, "quote_ms": 20_000, "ping_ms": 1_000, "attempt_ms": 20_000,
    "heartbeat_ms": 500, "lease_ms": 15_000, "quorum_ms": 60_000,
}  # fmt: skip


def test_the_last_but_one_ends_and_the_other_serves_on_in_its_lineage() -> None:
    """Nobody suspends and nobody fences: who has sealed is in one lineage until its process ends. Who comes
    later is let in by the one that stayed, and is called as before.
    """
    ready()
    with world({"web": "web", "db-1": "db"}, replicas=1, least=0, timers=TIMERS) as mesh:
        web, leaver = mesh.start("web"), mesh.start("db-1")
        together = eventually(lambda: _same(web, leaver), SEAL_S)
        assert leaver.child("envoy")
        os.kill(leaver.pid, signal.SIGTERM)
        leaver.wait("leave", END_S)
        assert leaver.processes()[1:] == []  # its Envoy has ended before its LEAVE is said
        alone = eventually(lambda: _epoch(web) if _epoch(web) > together else None, END_S)
        assert leaver.ended() == 0
        spare = mesh.spare("db-1")
        mesh.start(spare.name)
        assert eventually(lambda: _same(web, spare), SEAL_S) > alone
        with echo(spare.pod, PORT, "spare"):
            _call(mesh, "spare")
        assert web.events("suspend") == web.events("fence") == leaver.events("fence") == []
        assert web.code is None and len(web.events("start")) == 1


def _call(mesh: World, said: str) -> None:
    asked = "import socket; print(socket.gethostbyname('db'))"
    host = run_python(mesh["web"].pod, asked, uid=APP_UID).strip()
    connection = eventually(lambda: hold(mesh["web"].pod, host, PORT), END_S)
    assert connection.said == said and connection.answers()
    connection.close()


def _epoch(member: Daemon) -> int:
    found = [event for event in member.events("gate") if event.get("state") == "open"]
    return int(str(found[-1]["epoch"])) if found else 0


def _same(one: Daemon, other: Daemon) -> int | None:
    epoch = _epoch(one)
    return epoch if epoch and epoch == _epoch(other) else None

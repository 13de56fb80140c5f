"""An Envoy of an open gate that is killed, stopped or stuck: closed meanwhile, then it serves again, so many
times and no more.

One pod for the whole file, with a budget of three restarts; each test spends one of its Envoys.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from support.daemons import command_name, eventually, gone
from support.datapath import Hand, application, in_background
from support.envoy import Opened, mesh_member, pod_view, running_gate, state_directory
from support.forge import TestMember
from support.inside import lockdown
from support.keys import admin
from support.shop import role, topology

from toposeal.dataplane.envoy_closed import bootstrap
from toposeal.dataplane.layout import BOOTSTRAP_FILE, CLOSED_MARK, ENVOY_LAYOUT
from toposeal.dataplane.view import Layout
from toposeal.errors import Reason
from toposeal.gate.machine import State
from toposeal.host import netlink
from toposeal.host.envoy import Envoy
from toposeal.topology.model import Call
from toposeal_lab.pods import Node, Pod

WEB, DB = TestMember("web"), TestMember("db")
PORT, RESTARTS, PAUSE_MS, STUCK_MS = 8080, 3, 50, 1500
PAIR = topology(role("web", 1, calls=(Call("db", PORT),)), role("db", 1, serves=(PORT,)))
PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207  # linux/ptrace.h
WALL = 0x4000_0000  # linux/wait.h

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@dataclass
class Sealed:
    """One open gate, in a pod of its own, and a peer that calls it."""

    pod: Pod
    caller: Hand
    opened: Opened
    closed: dict[str, bytes]
    admitted: threading.Event  # whether another Envoy may start

    @property
    def state(self) -> State:
        return self.opened.gate.state

    def call(self) -> bytes:
        return self.caller.call(self.pod.ipv4, PORT)

    def envoys(self) -> list[int]:
        return [pid for pid in self.pod.processes() if command_name(pid) == "envoy" and not gone(pid)]

    def secret(self) -> str:
        """The certificate for outside clients that Envoy has been given: each time another."""
        dump = json.loads(admin(self.opened.layout.admin, "/config_dump?resource=dynamic_active_secrets"))
        (found,) = [entry["secret"] for entry in dump["configs"] if entry["name"] == "ingress"]
        return str(found["tls_certificate"]["certificate_chain"])


@pytest.fixture(scope="module")
def db() -> Iterator[Sealed]:
    """Looks at Envoy are more frequent here, pauses shorter, no shorter than a busy machine makes them: what
    is shown is the order of things.
    """
    with pytest.MonkeyPatch.context() as patch, Node() as node, state_directory() as state:
        patch.setattr("toposeal.host.envoy.ENVOY_WATCH", 100)
        patch.setattr("toposeal.host.envoy_admin.ENVOY_ADMIN_TIMEOUT", 1000)
        patch.setattr("toposeal.dataplane.envoy_closed.ENVOY_STUCK", STUCK_MS)
        patch.setattr("toposeal.gate.restarts.MAX_ENVOY_RESTARTS", RESTARTS)
        patch.setattr("toposeal.gate.restarts.RESTART_PAUSE", PAUSE_MS)
        pod = node.pod("db")
        lockdown(pod)
        hand = Hand(node.host(), WEB.chain_pem, WEB.key_pem, WEB.domain)
        files = {BOOTSTRAP_FILE: bootstrap(ENVOY_LAYOUT), CLOSED_MARK: b""}
        sealed = Sealed(pod, hand, cast(Opened, None), files, threading.Event())
        patch.setattr(Envoy, "start", admitted_by(sealed.admitted, Envoy.start))
        sealed.admitted.set()

        async def run(ready: Callable[[], None], done: asyncio.Event) -> None:
            with pod.inside():
                await netlink.route_synthetic_addresses()
                async with running_gate(state) as sealed.opened:
                    own = mesh_member(DB, *pod.addresses)
                    await sealed.opened.open(pod_view(PAIR, own, [own, mesh_member(WEB, "10.77.0.99")]), DB)
                    ready()
                    await done.wait()

        with in_background(run), application(pod, PORT, b"served"):
            yield sealed


def admitted_by(
    admitted: threading.Event, start: Callable[[str, Layout], Awaitable[Envoy]]
) -> Callable[[str, Layout], Awaitable[Envoy]]:
    async def wait_and_start(binary: str, layout: Layout) -> Envoy:
        while not admitted.is_set():
            await asyncio.sleep(0.01)
        return await start(binary, layout)

    return wait_and_start


@contextmanager
def one_alone(db: Sealed) -> Iterator[None]:
    """No other Envoy serves while somebody looks."""
    db.admitted.clear()
    try:
        yield
    finally:
        db.admitted.set()


def assert_closed(db: Sealed) -> None:
    """No Envoy, no key, and the kernel refuses whoever knocks."""
    assert (db.envoys(), db.opened.files(), db.call()) == ([], db.closed, b"")
    with db.caller.place.inside(), pytest.raises(ConnectionRefusedError):
        socket.create_connection((db.pod.ipv4, PORT), 1)


def assert_serves_again(db: Sealed, old: int, secret: str) -> None:
    eventually(lambda: (db.envoys() not in ([], [old]) and db.state is State.OPEN) or None)
    assert db.call() == b"served"
    assert db.secret() != secret
    assert db.opened.faults == []


def test_D7_fault_16_19_a_killed_envoy_is_closed_without_keys_and_then_serves_again(db: Sealed) -> None:
    (old,), secret = db.envoys(), db.secret()
    assert db.call() == b"served"
    with one_alone(db):
        os.kill(old, signal.SIGKILL)
        eventually(lambda: db.state is State.RESTARTING or None)
        assert_closed(db)
    assert_serves_again(db, old, secret)


def test_D7_fault_20_a_stopped_envoy_serves_nobody_is_noticed_and_replaced(
    db: Sealed, capfd: pytest.CaptureFixture[str]
) -> None:
    (old,), secret = db.envoys(), db.secret()
    with one_alone(db):
        os.kill(old, signal.SIGSTOP)
        assert db.call() == b""
    assert_serves_again(db, old, secret)
    assert "silent, and killed" in capfd.readouterr().out


def test_D7_an_envoy_whose_worker_is_stuck_ends_itself_and_is_replaced(
    db: Sealed, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its main thread goes on answering the daemon meanwhile."""
    (old,), secret = db.envoys(), db.secret()
    with one_alone(db):
        freeze(worker(old))
        assert db.call() == b""
    assert_serves_again(db, old, secret)
    assert f"ended with {-signal.SIGABRT}" in capfd.readouterr().out


def worker(pid: int) -> int:
    """The thread that carries connections."""
    threads = {path.name: path for path in Path(f"/proc/{pid}/task").iterdir()}
    (found,) = [int(n) for n, p in threads.items() if (p / "comm").read_text().startswith("wrk")]
    return found


def freeze(thread: int) -> None:
    """One thread alone stands still, as in a loop that never ends; whoever traces it has to bury it too."""
    frozen = threading.Event()

    def trace() -> None:
        libc = ctypes.CDLL(None)
        if libc.ptrace(PTRACE_SEIZE, thread, None, None) == 0:
            libc.ptrace(PTRACE_INTERRUPT, thread, None, None)
            frozen.set()
            while os.WIFSTOPPED(os.waitpid(thread, WALL)[1]):
                pass

    threading.Thread(target=trace, daemon=True).start()
    assert frozen.wait(2)


def test_D7_fault_16_an_envoy_that_ends_once_too_often_fences(db: Sealed) -> None:
    """Last: the fourth end of three that are forgiven."""
    (old,) = db.envoys()
    os.kill(old, signal.SIGSEGV)
    eventually(lambda: db.opened.faults or None)
    (fault,) = db.opened.faults
    assert (db.state, fault.reason) == (State.FENCED, Reason.ENVOY_FAILED)
    assert fault.found == f"ended with {-signal.SIGSEGV}, 4 in an hour"
    time.sleep(PAUSE_MS * 2**RESTARTS / 1000)
    assert_closed(db)

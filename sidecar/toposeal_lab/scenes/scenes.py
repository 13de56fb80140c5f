"""The scenes: each begins with pods that are not there yet, and shows what `docs/adr/0026` promises."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from toposeal_lab.checks import CheckFailed, expect
from toposeal_lab.member import Member
from toposeal_lab.scenario import HTTP_PORT, REDIS_PORT
from toposeal_lab.scenes.load import load
from toposeal_lab.scenes.mesh import SETTLE_S, START_S, Mesh, epoch, eventually, opened
from toposeal_lab.timeline import boottime

_CUT_S = 11.0  # the drain time and one more
_ASKED = b"GET / HTTP/1.1\r\nhost: api\r\n\r\n"


def restart(mesh: Mesh) -> None:
    """A pod dies with its virtual machine, and its replacement is a member of its own."""
    four = ("web", "api-1", "api-2", "db")
    _seal(mesh, *four)
    before = mesh.iids()
    with _undisturbed(mesh):
        mesh.checks.check("api-2's machine dies; api-3 takes its place", lambda: _replaced(mesh, before))
        mesh.checks.check("web reaches the replacement by name", lambda: mesh.answers_of("api-3"))


def scale(mesh: Mesh) -> None:
    """Three members become six, and three again."""
    few, more = ("web", "api-1", "db"), ("api-2", "api-3", "api-4")
    _seal(mesh, *few)
    with _undisturbed(mesh):
        mesh.checks.check("three come at once: six members", lambda: _grown(mesh, few, more))
        mesh.checks.check("web reaches one that has come", lambda: mesh.answers_of(more[-1]))
        mesh.checks.check("they are told to end: three members", lambda: _shrunk(mesh, few, more))


def partition(mesh: Mesh) -> None:
    """One member is cut off. It stops serving, the others go on, and it comes back."""
    four, rest = ("web", "api-1", "api-2", "db"), ("web", "api-1", "db")
    _seal(mesh, *four)
    with _undisturbed(mesh):
        mesh.checks.check("api-2's network goes away: it stops serving", lambda: _cut_off(mesh, "api-2"))
        mesh.checks.check("the others go on without it", lambda: mesh.settled(*rest))
        mesh.checks.check("its network is back, and so is api-2", lambda: _joined(mesh, "api-2", four))


def evict(mesh: Mesh) -> None:
    """The host freezes a daemon, whose Envoy would serve on: the others leave it out and cut it."""
    four, rest = ("web", "api-1", "api-2", "db"), ("web", "api-1", "db")
    _seal(mesh, *four)
    with _undisturbed(mesh), held(mesh, "api-2") as connection:
        mesh.checks.check("web holds a connection to api-2", connection.alive)
        mesh.checks.check("the host freezes api-2's daemon: it is left out", lambda: _frozen(mesh, rest))
        mesh.checks.check("web's connection to it is cut", lambda: connection.was_cut(mesh["web"]))
        mesh.checks.check("web never reaches it again", lambda: _unreachable(mesh, "api-2"))


SCENES: Mapping[str, Callable[[Mesh], None]] = {
    "restart": restart,
    "scale": scale,
    "partition": partition,
    "evict": evict,
}


def _seal(mesh: Mesh, *names: str) -> None:
    mesh.checks.check(f"{len(names)} members seal", lambda: mesh.seal(*names))
    if not mesh.checks.ok:
        raise CheckFailed("without a mesh there is no scene")


@contextmanager
def _undisturbed(mesh: Mesh) -> Iterator[None]:
    """While the block runs, api-1 asks db, both of which stay."""
    host = mesh.address("api-1", "db")
    with load(mesh["api-1"].pod, host, REDIS_PORT) as traffic:
        yield

    def nothing_lost() -> str:
        lost = f"{traffic.failed} of {traffic.requests} requests failed, {traffic.cut} connections were cut"
        expect(traffic.requests > 100 and not traffic.failed and not traffic.cut, lost, "none")
        return f"{traffic.requests} requests of api-1 to db: none failed, no connection was cut"

    mesh.checks.check("nothing between those that stay was lost", nothing_lost)


def _replaced(mesh: Mesh, before: set[str]) -> str:
    mesh["api-2"].pod.kill_all()
    mesh.come("api-3")
    mesh["api-3"].wait("gate", SETTLE_S, state="open")
    told = mesh.settled("web", "api-1", "api-3", "db")
    came, gone = mesh.iids() - before, before - mesh.iids()
    expect((len(came), len(gone)) == (1, 1), (len(came), len(gone)), "one new identity and one less")
    return f"{told}; three members kept their identities, one is new"


def _grown(mesh: Mesh, few: tuple[str, ...], more: tuple[str, ...]) -> str:
    mesh.come(*more)
    for name in more:
        mesh[name].wait("gate", SETTLE_S, state="open")
    return mesh.settled(*few, *more)


def _shrunk(mesh: Mesh, few: tuple[str, ...], more: tuple[str, ...]) -> str:
    for name in more:
        os.kill(mesh[name].processes()[0], signal.SIGTERM)
    eventually(lambda: all(mesh[name].code is not None for name in more), "an end of each")
    codes = [mesh[name].code for name in more]
    expect(codes == [0] * len(more), codes, "every exit 0")
    return f"{mesh.settled(*few)}; each served until the others were active without it"


def _cut_off(mesh: Mesh, name: str) -> str:
    _link(mesh, name, "down")
    at = boottime()
    suspended = mesh[name].wait("gate", SETTLE_S, state="suspended")
    return f"{name} suspends itself {suspended - at:.1f} s later"


def _joined(mesh: Mesh, name: str, all_of_them: tuple[str, ...]) -> str:
    _link(mesh, name, "up")
    eventually(lambda: opened(mesh[name]) is not None, f"an open gate of {name}")
    return mesh.settled(*all_of_them)


def _link(mesh: Mesh, name: str, state: str) -> None:
    mesh.world.outside.run(["ip", "link", "set", mesh[name].pod.interface, state])


def _frozen(mesh: Mesh, rest: tuple[str, ...]) -> str:
    os.kill(mesh["api-2"].processes()[0], signal.SIGSTOP)
    return mesh.settled(*rest)


def _unreachable(mesh: Mesh, name: str) -> str:
    try:
        answered = mesh.answers_of(name, tries=20)
    except CheckFailed as failure:
        return f"20 calls: {failure}"
    raise CheckFailed(answered)


class HeldConnection:
    """A program's connection from web to one member of api."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._ended: float | None = None
        threading.Thread(target=self._read, daemon=True).start()

    def alive(self) -> str:
        expect(self._ended is None, "it has ended", "a connection that stays")
        return "an idle one, kept alive"

    def was_cut(self, caller: Member) -> str:
        after = self.cut_after(caller)
        expect(after <= _CUT_S, f"{after:.3f} s", f"at most {_CUT_S} s")
        return f"{1000 * after:.0f} ms after the manifest without api-2 was active at {caller.name}"

    def cut_after(self, caller: Member) -> float:
        """Seconds from the moment at which the manifest that `caller` serves by now was active there. Raises
        CheckFailed.
        """
        eventually(lambda: self._ended is not None, "the end of the connection", START_S)
        active = caller.wait("phase", START_S, phase="active", epoch=epoch(caller))
        if self._ended is None:
            raise CheckFailed("the connection has not ended")
        return self._ended - active

    def _read(self) -> None:
        with suppress(OSError):
            while self._connection.recv(4096):
                pass
        self._ended = boottime()


@contextmanager
def held(mesh: Mesh, name: str) -> Iterator[HeldConnection]:
    """Kept by a program of web, with `name` at its other end."""
    address = (mesh.address("web", "api"), HTTP_PORT)
    for _ in range(100):
        with mesh["web"].pod.inside():
            connection = socket.create_connection(address, START_S)
        connection.sendall(_ASKED)
        if f"api {name}:".encode() in connection.recv(4096):
            connection.settimeout(None)
            try:
                yield HeldConnection(connection)
            finally:
                connection.close()
            return
        connection.close()
    raise CheckFailed(f"{name} never answered")

"""A connection that a program keeps while its other end is left out of the mesh."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from toposeal_lab.checks import CheckFailed, expect
from toposeal_lab.member import Member
from toposeal_lab.scenario import HTTP_PORT
from toposeal_lab.scenes.mesh import START_S, Mesh, epoch, eventually
from toposeal_lab.timeline import boottime

_CUT_S = 11.0  # the drain time and one more
_ASKED = b"GET / HTTP/1.1\r\nhost: api\r\n\r\n"


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

"""The application's own identity, where its role asks for it: minted, renewed at half life, told on a socket.

Its key is in this process and in the application, and in no file. Envoy has another, and takes none of these.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from toposeal.dataplane.view import PodView
from toposeal.dataplane.workload import AppSvid, asks_for_identity, told
from toposeal.host.entropy import new_key, random_bytes
from toposeal.host.journal import clock_ms
from toposeal.host.workload_server import WorkloadServer
from toposeal.membership.state import Own
from toposeal.pki.mint import mint_app_svid, serial_number
from toposeal.pki.rotation import LeafSchedule, schedule


class AppIdentity:
    """Told to the application of `own` at the socket `path` while the pod is open. `run` once: it listens and
    renews.
    """

    def __init__(self, own: Own, path: str) -> None:
        self._own, self._path = own, path
        self._server = WorkloadServer()
        self._listens = False
        self._view: PodView | None = None
        self._svid: AppSvid | None = None
        self._schedule: LeafSchedule | None = None
        self._changed = asyncio.Event()

    def entitle(self, view: PodView | None) -> None:
        """The pod is open for `view` from now on, or, with None, for nobody: then nothing is told, and what
        is told next is of another key. Raises PodError(ENTROPY).
        """
        self._view = view if view is not None and asks_for_identity(view) else None
        if self._view is None:
            self._svid = self._schedule = None
            self._server.offer(None)
        else:
            self._tell(self._view)
        self._changed.set()

    async def run(self) -> None:
        """For ever. Raises PodError. The socket is there from the start where the role asks then, so that an
        application that is faster than the seal has somebody to ask; else from when a later topology asks.
        """
        if self._own.topology.topology.roles[self._own.identity.role].workload_api:
            await self._listen()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._changed.wait()
            self._changed.clear()
            if self._view is not None:
                await self._listen()
                self._renew(self._view)

    async def close(self) -> None:
        self.entitle(None)
        await self._server.stop()

    async def _listen(self) -> None:
        if not self._listens:
            self._listens = True
            await self._server.start(self._path)

    def _pause_s(self) -> float | None:
        """Until the SVID is due; for ever while there is none."""
        return None if self._schedule is None else max(self._schedule.due_at - clock_ms(), 0) / 1000

    def _renew(self, view: PodView) -> None:
        if self._schedule is not None and self._schedule.due_at <= clock_ms():
            self._svid = None
            self._tell(view)

    def _tell(self, view: PodView) -> None:
        """With the SVID that there is, or a new one."""
        if self._svid is None:
            lifetime_ms = view.topology.timers.leaf_lifetime_ms
            self._svid, self._schedule = _new_svid(self._own, lifetime_ms), schedule(clock_ms(), lifetime_ms)
        self._server.offer(told(view, self._svid))


def _new_svid(own: Own, lifetime_ms: int) -> AppSvid:
    """With a fresh key, valid for `lifetime_ms` from now."""
    key, serial = new_key(), serial_number(random_bytes(20))
    certificate = mint_app_svid(
        own.keys.ca,
        own.identity.ca.der,
        own.identity.role,
        key,
        serial,
        int(time.time()),
        lifetime_ms // 1000,
    )
    return AppSvid(certificate, key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))

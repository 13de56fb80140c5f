"""Envoy's admin interface: GET over its Unix socket, bounded, nothing else (D5)."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

from toposeal.errors import PodError, Reason
from toposeal.limits import ENVOY_ADMIN_TIMEOUT, MAX_ADMIN_ANSWER

_WARMING = r"^listener_manager\.total_listeners_warming$|^cluster_manager\.warming_clusters$"


class EnvoyAdmin:
    """One request per connection. Raises PodError(ENVOY_FAILED) when Envoy gives no usable answer."""

    def __init__(self, socket_path: str) -> None:
        self._path = socket_path

    async def server_info(self) -> dict[str, Any]:
        """Among others `version` and `state`."""
        return await self._get("/server_info")

    async def answers(self) -> bool:
        """Whether Envoy gives any answer at all in ENVOY_ADMIN_TIMEOUT."""
        try:
            async with asyncio.timeout(ENVOY_ADMIN_TIMEOUT / 1000):
                await self._exchange("/ready")
        except (OSError, TimeoutError, EOFError, ValueError, asyncio.LimitOverrunError):
            return False
        return True

    async def is_warming(self) -> bool:
        """Whether Envoy still prepares a listener or a cluster that it has acknowledged."""
        return any((await self.stats(_WARMING, "Gauges")).values())

    async def stats(self, names: str, kind: str = "All") -> dict[str, int | str]:
        """Counters, gauges and texts whose names the regular expression `names` finds. Envoy looks through
        those of one `kind` alone, where it is given, as Envoy spells it.
        """
        answer = await self._get(f"/stats?format=json&type={kind}&filter={quote(names)}")
        return {entry["name"]: entry["value"] for entry in answer["stats"] if "name" in entry}

    async def _get(self, target: str) -> dict[str, Any]:
        try:
            async with asyncio.timeout(ENVOY_ADMIN_TIMEOUT / 1000):
                answer = json.loads(await self._exchange(target))
        except (OSError, TimeoutError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            found = f"{type(error).__name__} {error}"
            raise PodError.of(Reason.ENVOY_FAILED, "envoy.admin", found, "an answer") from error
        if not isinstance(answer, dict):
            raise PodError.of(Reason.ENVOY_FAILED, "envoy.admin", type(answer).__name__, "an object")
        return answer

    async def _exchange(self, target: str) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self._path, limit=MAX_ADMIN_ANSWER)
        try:
            writer.write(f"GET {target} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n".encode("ascii"))
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.read(MAX_ADMIN_ANSWER)
            while more := await reader.read(MAX_ADMIN_ANSWER):
                body += more
                if len(body) > MAX_ADMIN_ANSWER:
                    raise ValueError(f"more than {MAX_ADMIN_ANSWER} bytes")
        finally:
            writer.close()
        return _body(head, body)


def _body(head: bytes, body: bytes) -> bytes:
    """The content of a 200, chunked or not. Raises ValueError."""
    status, *fields = head.lower().split(b"\r\n")
    if not status.startswith(b"http/1.1 200 "):
        raise ValueError(f"status {status!r}")
    if b"transfer-encoding: chunked" not in fields:
        return body
    content = b""
    while True:
        size, separator, rest = body.partition(b"\r\n")
        length = int(size, 16)
        if not separator or length > len(rest):
            raise ValueError("a chunk ends early")
        if length == 0:
            return content
        content += rest[:length]
        body = rest[length + 2 :]

"""Takes a topology that somebody posts, within limits; whether it counts the owner's signatures say.

Whoever reaches the port may post. What is answered is one of a few fixed words, and a number.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from http import HTTPStatus

from toposeal.errors import Reason, ToposealError
from toposeal.host.document_server import Build, ReadBody, refusal, response
from toposeal.host.http_request import body_size
from toposeal.limits import MAX_TOPOLOGY_PUSH, TOPOLOGY_PUSHES_AT_ONCE, TOPOLOGY_PUSHES_PER_SECOND
from toposeal.outside.pushed import PUSH_TYPE, Pushed

_STATUS_OF = {
    Reason.NOT_ACTIVE: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
}


class TopologyPushes:
    """`push` decides about one envelope. Raises ToposealError where it is refused."""

    def __init__(self, push: Callable[[bytes], Pushed]) -> None:
        self._push = push
        self._next_at, self._under_way = 0.0, 0

    async def answer(self, head: bytes, body: ReadBody) -> Build:
        """What builds the response to a POST with this head. Nothing is read that is not wanted."""
        size = body_size(head, MAX_TOPOLOGY_PUSH)
        if isinstance(size, HTTPStatus):
            return partial(refusal, size)
        now = asyncio.get_running_loop().time()
        if now < self._next_at or self._under_way >= TOPOLOGY_PUSHES_AT_ONCE:
            return partial(_refused, Reason.RATE_LIMITED)
        self._next_at = now + 1 / TOPOLOGY_PUSHES_PER_SECOND
        self._under_way += 1
        try:
            pushed = self._push(await body(size))
        except ToposealError as error:
            return partial(_refused, error.reason)
        finally:
            self._under_way -= 1
        return partial(_response, HTTPStatus.OK, pushed.as_json())


def _refused(reason: Reason) -> bytes:
    return _response(_STATUS_OF.get(reason, HTTPStatus.UNPROCESSABLE_ENTITY), {"refused": reason.value})


def _response(status: HTTPStatus, said: dict[str, object]) -> bytes:
    return response(status, json.dumps(said).encode("ascii"), PUSH_TYPE)

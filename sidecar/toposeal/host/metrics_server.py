"""Serves figures and health as HTTP/1.1 on a Unix socket, behind Envoy, which lets these two requests through
and few of them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus

from toposeal.dataplane.metrics import HEALTH_PATH, METRICS_PATH, METRICS_TYPE
from toposeal.errors import ToposealError
from toposeal.host.document_server import Build, DocumentServer, ReadBody, refusal, response
from toposeal.limits import MAX_METRICS_REQUESTS

Text = Callable[[], Awaitable[bytes]]
Healthy = Callable[[], bool]

_REQUEST = re.compile(
    rf"GET ({re.escape(METRICS_PATH)}|{re.escape(HEALTH_PATH)}) HTTP/1\.[01]".encode("ascii")
)


class MetricsServer(DocumentServer):
    """`text` gives the figures; what it refuses with ToposealError becomes 503: then there are none. Health
    is 200 or 503, and nothing more.
    """

    def __init__(self, text: Text, healthy: Healthy) -> None:
        super().__init__(partial(_answer, text, healthy), MAX_METRICS_REQUESTS)


async def _answer(text: Text, healthy: Healthy, head: bytes, _: ReadBody) -> Build:
    """Nothing of the request but its first line is looked at."""
    asked = _REQUEST.fullmatch(head.partition(b"\r\n")[0])
    if asked is None:
        return partial(refusal, HTTPStatus.NOT_FOUND)
    if asked[1] == HEALTH_PATH.encode("ascii"):
        if healthy():
            return partial(response, HTTPStatus.OK, b"OK\n", "text/plain")
        return partial(refusal, HTTPStatus.SERVICE_UNAVAILABLE)
    try:
        return partial(response, HTTPStatus.OK, await text(), METRICS_TYPE)
    except ToposealError:
        return partial(refusal, HTTPStatus.SERVICE_UNAVAILABLE)

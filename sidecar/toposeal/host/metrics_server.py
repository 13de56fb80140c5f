"""Serves figures as HTTP/1.1 on a Unix socket, behind Envoy, which lets one request through and few of it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus

from toposeal.dataplane.metrics import METRICS_PATH, METRICS_TYPE
from toposeal.errors import ToposealError
from toposeal.host.document_server import Build, DocumentServer, ReadBody, refusal, response
from toposeal.limits import MAX_METRICS_REQUESTS

Text = Callable[[], Awaitable[bytes]]

_REQUEST = re.compile(rf"GET {re.escape(METRICS_PATH)} HTTP/1\.[01]".encode("ascii"))


class MetricsServer(DocumentServer):
    """`text` gives the figures. What it refuses with ToposealError becomes 503: then there are none."""

    def __init__(self, text: Text) -> None:
        super().__init__(partial(_figures, text), MAX_METRICS_REQUESTS)


async def _figures(text: Text, head: bytes, _: ReadBody) -> Build:
    """Nothing of the request but its first line is looked at."""
    if _REQUEST.fullmatch(head.partition(b"\r\n")[0]) is None:
        return partial(refusal, HTTPStatus.NOT_FOUND)
    try:
        return partial(response, HTTPStatus.OK, await text(), METRICS_TYPE)
    except ToposealError:
        return partial(refusal, HTTPStatus.SERVICE_UNAVAILABLE)

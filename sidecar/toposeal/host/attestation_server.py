"""Serves attestation documents on the daemon's socket, and takes topologies there; it proves nothing itself.

Exact targets. How many quotes the requests cost is the answerer's to limit (V10).
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from http import HTTPStatus

from toposeal.errors import QuoteSourceError, Reason, ToposealError
from toposeal.host.document_server import Build, DocumentServer, ReadBody, refusal, response, response_head
from toposeal.host.topology_pushes import TopologyPushes
from toposeal.limits import MAX_LIVE_NONCES
from toposeal.outside.endpoint import (
    ATTESTATION_PATH,
    ATTESTATION_TYPE,
    HISTORY_PATH,
    STATUS_PATH,
    TOPOLOGY_PATH,
)
from toposeal.outside.history import HISTORY_TYPE
from toposeal.outside.pushed import Pushed
from toposeal.outside.status import STATUS_TYPE, Status

Parts = Callable[[], Iterator[bytes]]  # the same each time
Answer = Callable[[bytes], Awaitable[Parts]]
Push = Callable[[bytes], Pushed]
TellStatus = Callable[[], Status]
TellHistory = Callable[[], Callable[[], bytes]]  # made when there is room for it, as documents are

_MAX_CONNECTIONS = MAX_LIVE_NONCES
_POST = f"POST {TOPOLOGY_PATH} ".encode("ascii")
_GET = re.compile(rf"GET ({re.escape(STATUS_PATH)}|{re.escape(HISTORY_PATH)}) HTTP/1\.[01]".encode("ascii"))
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) ([!-~]{1,512}) HTTP/1\.[01]")
_TARGET = re.compile(rf"{re.escape(ATTESTATION_PATH)}\?nonce=([0-9a-f]{{64}})".encode("ascii"))
_STATUS_OF = {
    Reason.NOT_ACTIVE: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
}


class AttestationServer(DocumentServer):
    """`answer` waits for the evidence on a nonce of 32 bytes, and gives what then makes the document.

    It refuses with ToposealError: NOT_ACTIVE and a failing quote source become 503. `push` is given what
    somebody posts as a topology, `status` and `history` say what whoever asks may know.
    """

    def __init__(self, answer: Answer, push: Push, status: TellStatus, history: TellHistory) -> None:
        self._pushes, self._status, self._history = TopologyPushes(push), status, history
        super().__init__(partial(self._answer_one, answer), _MAX_CONNECTIONS)

    async def _answer_one(self, answer: Answer, head: bytes, body: ReadBody) -> Build:
        if head.startswith(_POST):
            return await self._pushes.answer(head, body)
        asked = _GET.fullmatch(head.partition(b"\r\n")[0])
        if asked is not None:
            return self._tell(asked[1].decode("ascii"))
        return await _attest(answer, head)

    def _tell(self, path: str) -> Build:
        try:
            if path == HISTORY_PATH:
                made = self._history()
                return lambda: response(HTTPStatus.OK, made(), HISTORY_TYPE)
            said = json.dumps(self._status().as_json()).encode("ascii")
        except ToposealError:
            return partial(refusal, HTTPStatus.SERVICE_UNAVAILABLE)
        return partial(response, HTTPStatus.OK, said, STATUS_TYPE)


async def _attest(answer: Answer, head: bytes) -> Build:
    nonce = _parse_request(head)
    if isinstance(nonce, HTTPStatus):
        return partial(refusal, nonce)
    try:
        document = await answer(nonce)
    except ToposealError as error:
        return partial(refusal, _status_of(error))
    return partial(_in_parts, document)


def _in_parts(document: Parts) -> Iterator[bytes]:
    """Made twice, for its length first: many who read slowly then cost a part each, whatever its size."""
    size = sum(map(len, document()))
    yield response_head(HTTPStatus.OK, size, ATTESTATION_TYPE)
    yield from document()


def _parse_request(head: bytes) -> bytes | HTTPStatus:
    """The nonce that a well-formed request asks for, or the status of the refusal."""
    line = _REQUEST_LINE.fullmatch(head.partition(b"\r\n")[0])
    if line is None:
        return HTTPStatus.BAD_REQUEST
    method, target = line.groups()
    if target.partition(b"?")[0] != ATTESTATION_PATH.encode("ascii"):
        return HTTPStatus.NOT_FOUND
    if method != b"GET":
        return HTTPStatus.METHOD_NOT_ALLOWED
    exact = _TARGET.fullmatch(target)
    return HTTPStatus.BAD_REQUEST if exact is None else bytes.fromhex(exact[1].decode("ascii"))


def _status_of(error: ToposealError) -> HTTPStatus:
    if isinstance(error, QuoteSourceError):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return _STATUS_OF.get(error.reason, HTTPStatus.INTERNAL_SERVER_ERROR)

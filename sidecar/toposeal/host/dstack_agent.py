"""What dstack's guest agent is asked, and where its answer has the quote.

`GetQuote` hands 64 bytes of report data to the hardware as they are. Its older `TdxQuote` hashes them behind
`app-data:`, and what dstack quotes by itself is hashed behind other words: neither can be our report data.
Source: dstack, guest-agent (agent_rpc.proto, rpc_service.rs) and sdk/curl/api.md.
"""

from __future__ import annotations

import binascii
import http.client
import json
import socket
from typing import cast

from toposeal.host.agent_quotes import AgentQuotes
from toposeal.host.bounded_http import BoundedStream, read_body, remaining
from toposeal.host.tee_report import refusal
from toposeal.limits import MAX_AGENT_ANSWER
from toposeal.strict_json import JsonError, read

SOCKET = "/var/run/dstack.sock"
_OK = 200


def dstack_agent(path: str = SOCKET) -> AgentQuotes:
    return AgentQuotes(path, ask)


def ask(connection: socket.socket, report_data: bytes, end: float) -> bytes:
    """As AgentQuotes wants it."""
    connection.settimeout(remaining(end))
    connection.sendall(_request(report_data))
    stream = BoundedStream(connection, end)
    with http.client.HTTPResponse(cast(socket.socket, stream), method="POST") as response:
        response.begin()
        if response.status != _OK:
            # 500 and more is also said of a busy driver.
            raise refusal("agent.status", response.status, _OK, retry=response.status >= 500)
        return _quote(read_body(response, stream, MAX_AGENT_ANSWER))


def _request(report_data: bytes) -> bytes:
    body = json.dumps({"report_data": report_data.hex()})
    return (
        "POST /GetQuote HTTP/1.1\r\n"
        "Host: dstack\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"Connection: close\r\n\r\n{body}"
    ).encode("ascii")


def _quote(body: bytes) -> bytes:
    try:
        said = read(body)
    except JsonError as error:
        raise refusal("agent.answer", error, "JSON") from error
    text = said.get("quote") if isinstance(said, dict) else None
    if text == "":
        raise refusal("agent.answer.quote", "nothing", "TDX: dstack gives no other quote here")
    try:
        return binascii.unhexlify(text if isinstance(text, str) else "-")
    except ValueError as error:
        raise refusal("agent.answer.quote", str(text)[:80], "a quote in hex digits") from error

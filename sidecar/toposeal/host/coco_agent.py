"""What Confidential Containers' attestation agent is asked, and where its answer has the quote.

Over its own socket, ttrpc, which its guest can give to the daemon alone; never over its REST server, which
answers every container of the pod, so that no member asks for a quote where it runs (quote_access).
Sources: guest-components (attestation-agent.proto; attester/src/tdx: the report data is taken as it is),
containerd/ttrpc (PROTOCOL.md, request.proto).
"""

from __future__ import annotations

import base64
import binascii
import socket
import struct

from google.protobuf.message import DecodeError

from toposeal._wire import agent_pb2 as wire
from toposeal.host.agent_quotes import AgentQuotes
from toposeal.host.bounded_http import remaining
from toposeal.host.tee_report import refusal
from toposeal.limits import MAX_AGENT_ANSWER
from toposeal.strict_json import JsonError, read

SOCKET = "/run/confidential-containers/attestation-agent/attestation-agent.sock"
_SERVICE, _METHOD = "attestation_agent.AttestationAgentService", "GetEvidence"
_HEADER = struct.Struct("!IIBB")  # length of the data, stream, kind, flags
_REQUEST, _RESPONSE, _STREAM = 1, 2, 1
_NANOSECONDS = 1_000_000_000


def coco_agent(path: str = SOCKET) -> AgentQuotes:
    return AgentQuotes(path, ask)


def ask(connection: socket.socket, report_data: bytes, end: float) -> bytes:
    """As AgentQuotes wants it."""
    patience = remaining(end)
    asked = wire.Request(
        service=_SERVICE,
        method=_METHOD,
        payload=wire.GetEvidenceRequest(RuntimeData=report_data).SerializeToString(),
        timeout_nano=int(patience * _NANOSECONDS),
    ).SerializeToString()
    connection.settimeout(patience)
    connection.sendall(_HEADER.pack(len(asked), _STREAM, _REQUEST, 0) + asked)
    return _quote(_answered(connection, end))


def _answered(connection: socket.socket, end: float) -> bytes:
    length, stream, kind, _ = _HEADER.unpack(_exactly(connection, _HEADER.size, end))
    if (stream, kind) != (_STREAM, _RESPONSE):
        raise refusal("agent.frame", f"kind {kind} of stream {stream}", "the response to our request")
    if length > MAX_AGENT_ANSWER:
        raise refusal("agent.frame", f"{length} bytes", f"at most {MAX_AGENT_ANSWER}")
    data = _exactly(connection, length, end)
    try:
        response = wire.Response.FromString(data)
        evidence: bytes = wire.GetEvidenceResponse.FromString(response.payload).Evidence
    except DecodeError as error:
        raise refusal("agent.response", data[:80], "a response of ttrpc") from error
    if response.status.code:
        # It says INTERNAL whatever happened, a busy driver too.
        found = f"status {response.status.code}: {response.status.message}"
        raise refusal("agent.status", found, "evidence", retry=True)
    return evidence


def _quote(evidence: bytes) -> bytes:
    """Of what its TDX attester says: beside the quote there is at most a log, which nobody needs here."""
    try:
        said = read(evidence)
    except JsonError as error:
        raise refusal("agent.evidence", error, "JSON") from error
    if isinstance(said, dict) and "attestation_report" in said:
        # Fields, not the bytes that were signed: how they are put together again is a library's affair.
        raise refusal("agent.evidence", "an SNP report in pieces", "TDX: ask configfs-tsm on SNP")
    text = said.get("quote") if isinstance(said, dict) else None
    try:
        return base64.b64decode(text if isinstance(text, str) else "-", validate=True)
    except (binascii.Error, ValueError) as error:
        raise refusal("agent.evidence.quote", str(text)[:80], "a quote in base64") from error


def _exactly(connection: socket.socket, size: int, end: float) -> bytes:
    data = bytearray()
    while len(data) < size:
        connection.settimeout(remaining(end))
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionResetError(f"the end after {len(data)} of {size} bytes")
        data += piece
    return bytes(data)

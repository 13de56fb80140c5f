"""What Envoy says of a request at a port that logs them, as one typed value. No IO.

A line is one JSON object of the access log of such a port (envoy_logs). Of what the request carried it has
the method and the path without its query, which the owner has said may be told; no other byte.
"""

from __future__ import annotations

from dataclasses import dataclass

from toposeal.dataplane.log_line import fields_of
from toposeal.errors import printable

_METHOD, _PATH = 16, 160  # characters

CALLER = "peer"  # the one name that the chain lets in: a certificate may have others beside it
# Name in the line -> what Envoy puts there. The address is the connection's: headers say whatever they like.
FIELDS = {
    CALLER: "",
    "chain": "%FILTER_CHAIN_NAME%",
    "duration": "%DURATION%",
    "flags": "%RESPONSE_FLAGS%",
    "method": f"%REQ(:METHOD):{_METHOD}%",
    "path": f"%PATH(NQ:PATH):{_PATH}%",
    "protocol": "%PROTOCOL%",
    "received": "%BYTES_RECEIVED%",
    "sent": "%BYTES_SENT%",
    "source": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
    "status": "%RESPONSE_CODE%",
    "waited": "%RESPONSE_DURATION%",
}
# No text within a string can look like it: a quote in there is escaped.
_MARK = b'"method":'


@dataclass(frozen=True)
class Request:
    """Every text is printable ASCII, and empty where Envoy says nothing; so is every number 0."""

    chain: str
    peer: str  # SPIFFE ID of the member that called, proven by its certificate; empty for ingress
    source: str
    protocol: str
    method: str
    path: str  # without its query
    status: int  # 0 without an answer
    flags: str  # Envoy's words for what went wrong, or -
    received: int  # bytes of bodies
    sent: int
    duration_ms: int
    waited_ms: int  # until the first byte of the answer


def is_request(line: bytes) -> bool:
    """Whether a line of Envoy's is of a request, without a look at what it says."""
    return _MARK in line


def parse_request(line: bytes) -> Request | None:
    """One line of the access log; None for anything else. Never raises."""
    found = fields_of(line, FIELDS)
    if found is None:
        return None
    said = {name: value if isinstance(value, str) else "" for name, value in found.items()}
    number = {name: value if type(value) is int else 0 for name, value in found.items()}
    return Request(
        chain=printable(said["chain"]),
        peer=printable(said["peer"]),
        source=printable(said["source"]),
        protocol=printable(said["protocol"]),
        method=printable(said["method"]),
        path=printable(said["path"]),
        status=number["status"],
        flags=printable(said["flags"]),
        received=number["received"],
        sent=number["sent"],
        duration_ms=number["duration"],
        waited_ms=number["waited"],
    )

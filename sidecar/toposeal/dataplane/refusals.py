"""What Envoy says of a connection that it refused, as one typed value. No IO.

A line is one JSON object of the access log of both listeners (envoy_closed); only connections that failed
have one. No byte of an application is in it; names and reasons in it may be a stranger's, so they are made
printable before anybody sees them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from toposeal.dataplane.log_line import fields_of
from toposeal.errors import printable

# Name in the line -> what Envoy puts there.
FIELDS = {
    "chain": "%FILTER_CHAIN_NAME%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "destination": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
    "flags": "%RESPONSE_FLAGS%",
    "sni": "%REQUESTED_SERVER_NAME%",
    "source": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
    "timeout": "%CONNECTION_TERMINATION_DETAILS%",
    "upstream": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "upstream_host": "%UPSTREAM_HOST%",
}
_NOISE = re.compile(
    r"TLS_error|:?TLS_error_end|\|?(error:)?[0-9a-f]{8,9}:|SSL_routines:OPENSSL_internal:|^[:|]+"
)
_DETAIL = 160  # characters


class Kind(StrEnum):
    """Why, as far as Envoy tells."""

    NO_CERTIFICATE = "no_certificate"
    EXPIRED = "expired"  # or not valid yet
    WRONG_NAME = "wrong_name"  # the CA is the member's, the URI is not
    UNTRUSTED = "untrusted"  # not signed by the one CA that is trusted there
    WRONG_USE = "wrong_use"  # a certificate for the other side of a connection
    TIMEOUT = "timeout"  # a handshake that was begun
    TLS = "tls"  # every other failure of a handshake: version, no TLS at all
    NO_ROUTE = "no_route"  # nothing is declared for this destination, port or client
    TOO_MANY = "too_many"  # the client has as many connections as it may (dataplane.shares)
    UNREACHABLE = "unreachable"  # the other end does not answer
    OTHER = "other"


# In this order: what OpenSSL says of a certificate is more than that the handshake failed.
_SIGNS = (
    (Kind.NO_CERTIFICATE, "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
    (Kind.EXPIRED, "certificate_has_expired"),
    (Kind.EXPIRED, "certificate_is_not_yet_valid"),
    (Kind.WRONG_NAME, "verify_SAN_list"),
    (Kind.WRONG_NAME, "SAN_matcher"),
    (Kind.WRONG_NAME, "permitted_subtree_violation"),
    (Kind.UNTRUSTED, "local_issuer_certificate"),
    (Kind.UNTRUSTED, "self-signed"),
    (Kind.UNTRUSTED, "certificate_chain_too_long"),
    (Kind.WRONG_USE, "certificate_purpose"),
    (Kind.TIMEOUT, "transport socket timeout"),
)


@dataclass(frozen=True)
class Refusal:
    """Everything but `kind` is printable ASCII, and empty where Envoy says nothing."""

    kind: Kind
    detail: str  # in OpenSSL's and Envoy's words
    chain: str  # of filters: the edge that was asked for, where there is one
    sni: str
    source: str
    destination: str
    upstream: str  # the endpoint that failed, on an outbound connection


def parse_refusal(line: bytes) -> Refusal | None:
    """One line of the access log; None for anything else. Never raises."""
    found = fields_of(line, FIELDS)
    if found is None:
        return None
    said = {name: value if isinstance(value, str) else "" for name, value in found.items()}
    failure = said["downstream"] or said["upstream"] or said["timeout"]
    return Refusal(
        kind=_kind(failure, said["flags"]),
        detail=printable(_plain(failure) or said["flags"], _DETAIL),
        chain=printable(said["chain"]),
        sni=printable(said["sni"]),
        source=printable(said["source"]),
        destination=printable(said["destination"]),
        upstream=printable(said["upstream_host"]),
    )


def _plain(failure: str) -> str:
    return " ".join(_NOISE.sub("", failure).lstrip(":|").replace("_", " ").split())


def _kind(failure: str, flags: str) -> Kind:
    """What follows are the names in the certificate: whoever made it chose them."""
    words = failure.partition("certificate_SANs_are")[0]
    for kind, sign in _SIGNS:
        if sign in words:
            return kind
    if "TLS_error" in failure:
        return Kind.TLS
    if "NR" in flags:
        return Kind.NO_ROUTE
    if "UO" in flags:
        return Kind.TOO_MANY
    if "UF" in flags or "UH" in flags:
        return Kind.UNREACHABLE
    return Kind.OTHER

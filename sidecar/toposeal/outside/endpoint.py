"""Where a member serves its attestation document, under which names (PROTOCOL.md 8). No IO."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from toposeal.errors import Reason, UsageError
from toposeal.limits import PEER_PORT

ATTESTATION_PATH = "/.well-known/toposeal/attestation"
TOPOLOGY_PATH = "/.well-known/toposeal/topology"  # POST: a newer signed topology
STATUS_PATH = "/.well-known/toposeal/status"
HISTORY_PATH = "/.well-known/toposeal/history"
ATTESTATION_ALPN = "toposeal-attest/1"  # tells an ingress port that the document is meant
ATTESTATION_TYPE = "application/vnd.toposeal.attestation.v1+protobuf"

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*|(?=.*:)[0-9A-Fa-f:.]+", re.ASCII)
_HOST_PORT = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<name>[^:]*)):(?P<port>[0-9]{1,5})", re.ASCII)
_MAX_HOST = 253
_HTTPS_PORT = 443


@dataclass(frozen=True)
class Endpoint:
    """Whom to ask for a document: the name that the request carries, and where to connect."""

    host: str  # DNS name or IP literal, without brackets
    port: int
    dial: tuple[str, int]

    @classmethod
    def parse(cls, url: str, connect: str | None = None) -> Endpoint:
        """`https://HOST[:PORT]` with at most the well-known path; `connect` is HOST:PORT to dial instead.

        Raises UsageError. Plain HTTP is refused like any other scheme.
        """
        own = _parse_url(url)
        return cls(*own, dial=own if connect is None else _parse_host_port(connect, "connect"))

    @classmethod
    def parse_target(cls, text: str) -> Endpoint:
        """`HOST:PORT` of an ingress port, IPv6 addresses in brackets. Raises UsageError."""
        own = _parse_host_port(text, "target")
        return cls(*own, dial=own)

    @classmethod
    def parse_peer(cls, text: str) -> Endpoint:
        """`HOST[:PORT]` of a peer port, IPv6 addresses in brackets. Raises UsageError."""
        has_port = ":" in text.rpartition("]")[2]
        own = _parse_host_port(text if has_port else f"{text}:{PEER_PORT}", "peer")
        return cls(*own, dial=own)

    @classmethod
    def of_member(cls, domain: str, address: str, port: int) -> Endpoint:
        """Where a verified member says that it is: nobody else can answer as `domain`, and who does is
        checked by its answer."""
        return cls(domain, port, dial=(address, port))

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        return f"{_bracketed(self.host)}:{self.port}"

    @property
    def url(self) -> str:
        """Where its attestation document is asked for."""
        return f"https://{self.authority}"

    @property
    def dial_host(self) -> str:
        """The host that is connected to, as a HOST:PORT has it."""
        return _bracketed(self.dial[0])


def attestation_target(nonce: bytes) -> str:
    """The request target that asks for a LIVE quote on `nonce`, 32 bytes."""
    return f"{ATTESTATION_PATH}?nonce={nonce.hex()}"


def _parse_url(url: str) -> tuple[str, int]:
    if not (url.isascii() and url.isprintable()):  # urlsplit would silently drop tabs and newlines
        raise _usage("url", url, "printable ASCII")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _usage("url", url, "https://HOST:PORT") from error
    more = "?" in url or "#" in url or "@" in parts.netloc
    if parts.scheme != "https" or more or parts.path not in ("", "/", ATTESTATION_PATH):
        raise _usage("url", url, "https://HOST:PORT and nothing more")
    return _host(host, "url"), _port(_HTTPS_PORT if port is None else port, "url")


def _parse_host_port(text: str, name: str) -> tuple[str, int]:
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        raise _usage(name, text, "HOST:PORT")
    return _host(match["v6"] or match["name"] or "", name), _port(int(match["port"]), name)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _host(text: str, name: str) -> str:
    if len(text) > _MAX_HOST or not _HOST.fullmatch(text):
        raise _usage(f"{name}.host", text, "a DNS name or an IP address")
    return text


def _port(port: int, name: str) -> int:
    if not 1 <= port <= 65535:
        raise _usage(f"{name}.port", port, "1 to 65535")
    return port


def _usage(name: str, found: object, expected: str) -> UsageError:
    return UsageError.of(Reason.USAGE, name, found, expected)

"""GET from a vendor's service over HTTPS: bounded in size, time and attempts; what it says is not judged.

Nothing depends on the transport but that somebody answers: everything that these services say is signed
by the vendor, and is checked against the built-in roots before use. Whoever breaks this link can withhold
collateral, or give older that is in force and not below the marks. TLS is verified all the same.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from toposeal.errors import NetworkError, Reason, UsageError, printable
from toposeal.evidence.pcs_answers import Answer
from toposeal.host.bounded_http import BoundedStream, connect, read_body, refusal, remaining
from toposeal.host.files import read_once
from toposeal.limits import (
    MAX_VENDOR_ANSWER,
    MAX_VENDOR_HEADER,
    MAX_VENDOR_PAUSE,
    MAX_VENDOR_URL,
    VENDOR_ATTEMPTS,
    VENDOR_BACKOFF,
    VENDOR_TIMEOUT,
)

_OK = 200
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})  # statuses that another attempt can change
_SECONDS = re.compile(r"[0-9]{1,6}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}|[0-9A-Fa-f:.]{2,45}", re.ASCII)
_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*", re.ASCII)
_MAX_CA_FILE = 256 << 10


@dataclass(frozen=True)
class Service:
    """Where a service is: `https://HOST[:PORT][/PATH]`; `ca`: its own roots, PEM, not the system's."""

    host: str
    port: int
    path: str
    ca: str | None = None

    @classmethod
    def parse(cls, url: str, ca_file: str | None = None) -> Service:
        """Raises UsageError for any other URL, and for a file of roots that cannot be read."""
        try:
            parts = urlsplit(url) if len(url) <= MAX_VENDOR_URL else urlsplit("")
            host, port = parts.hostname or "", 443 if parts.port is None else parts.port
        except ValueError as error:
            raise _usage(url) from error
        plain = not (parts.query or parts.fragment or parts.username or parts.password)
        path = parts.path.rstrip("/")
        place = _HOST.fullmatch(host) and _PATH.fullmatch(path)
        if parts.scheme != "https" or not plain or not place or port == 0:
            raise _usage(url)
        ca = None if ca_file is None else read_once(ca_file, _MAX_CA_FILE).decode("ascii", "replace")
        if ca == "":  # which the ssl module takes for the system's
            raise UsageError.of(Reason.USAGE, "roots of a service", "an empty file", "certificates in PEM")
        service = cls(host, port, path, ca)
        service.context()
        return service

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or later, the server's name verified. Raises UsageError for roots that are none."""
        try:
            if self.ca is not None and not self.ca.isascii():
                raise ValueError("bytes that are no text")
            context = ssl.create_default_context(cadata=self.ca)
        except (ssl.SSLError, ValueError) as error:
            raise UsageError.of(Reason.USAGE, "roots of a service", error, "certificates in PEM") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


class _Refused(NetworkError):
    """An answer of another status than 200."""

    def __init__(self, status: int, pause: float | None) -> None:
        error = refusal("http.status", status, "200, without a detour")
        super().__init__(*error.mismatches)
        self.status = status
        self.pause = pause  # seconds that the service asks for


def get(
    service: Service, target: str, timeout_s: float = VENDOR_TIMEOUT / 1000, attempts: int = VENDOR_ATTEMPTS
) -> Answer:
    """GET `target` (path and query, without the service's own path), blocking.

    `timeout_s` bounds each attempt; the resolver has its own limits. Between attempts it waits longer each
    time, with jitter, and as long as Retry-After asks within MAX_VENDOR_PAUSE. Raises NetworkError.
    """
    for attempt in Retrying(
        stop=stop_after_attempt(attempts), wait=_pause, retry=retry_if_exception(_may_pass), reraise=True
    ):
        with attempt:
            return _attempt(service, target, timeout_s)
    raise refusal("http", "no attempt", "an answer")


def absent(error: NetworkError) -> bool:
    """Whether the service has answered that there is no such thing."""
    return isinstance(error, _Refused) and error.status in (404, 410)


def _may_pass(error: BaseException) -> bool:
    """Not a certificate that does not verify, nor a status that says no."""
    if isinstance(error, _Refused):
        return error.status in _AGAIN
    return isinstance(error, NetworkError) and not isinstance(error.__cause__, ssl.SSLCertVerificationError)


def _pause(state: RetryCallState) -> float:
    outcome = state.outcome
    error = None if outcome is None else outcome.exception()
    asked = error.pause if isinstance(error, _Refused) and error.pause is not None else 0.0
    first, longest = VENDOR_BACKOFF / 1000, MAX_VENDOR_PAUSE / 1000
    own = wait_exponential(multiplier=first, max=longest)(state) + wait_random(0, first)(state)
    return max(own, min(asked, longest))


def _attempt(service: Service, target: str, timeout_s: float) -> Answer:
    try:
        addresses = socket.getaddrinfo(service.host, service.port, type=socket.SOCK_STREAM)
        deadline = time.monotonic() + timeout_s
        context = service.context()
        with (
            connect(addresses, deadline) as plain,
            context.wrap_socket(plain, server_hostname=service.host) as tls,
        ):
            tls.settimeout(remaining(deadline))
            tls.sendall(_request(service, target))
            return _receive(tls, deadline)
    except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: a chunk below 0
        found = f"{type(error).__name__}: {error}"
        raise refusal(f"connection to {service.authority}", found, "an answer in time") from error


def _request(service: Service, target: str) -> bytes:
    return (
        f"GET {service.path}{target} HTTP/1.1\r\n"
        f"Host: {service.authority}\r\n"
        "Accept: */*\r\n"
        "Accept-Encoding: identity\r\n"
        "User-Agent: toposeal\r\n"
        "Connection: close\r\n\r\n"
    ).encode("ascii")


def _receive(tls: ssl.SSLSocket, deadline: float) -> Answer:
    """One response of status 200: no redirect is followed and nothing is decompressed."""
    stream = BoundedStream(tls, deadline, MAX_VENDOR_HEADER)
    with http.client.HTTPResponse(cast(socket.socket, stream), method="GET") as response:
        response.begin()
        if response.status != _OK:
            raise _Refused(response.status, _asked_pause(response.getheader("retry-after")))
        coding = response.getheader("content-encoding", "identity")
        if coding != "identity":
            raise refusal("http.content-encoding", coding, "identity")
        body = read_body(response, stream, MAX_VENDOR_ANSWER)
        return Answer({name.lower(): value for name, value in response.getheaders()}, body)


def _asked_pause(value: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is passed over."""
    return float(value) if value is not None and _SECONDS.fullmatch(value) else None


def _usage(url: str) -> UsageError:
    return UsageError.of(Reason.USAGE, "service", printable(url), "https://HOST[:PORT][/PATH]")

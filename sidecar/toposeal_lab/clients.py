"""Clients of the lab's own: raw and TLS connections from inside any pod, honest or not.

Nothing is verified here on purpose: these are the attackers' hands, and what they show is what the
other side lets them have.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
from dataclasses import dataclass

from toposeal_lab.pods import Pod

_TIMEOUT_S = 3.0
_ANSWER_SIZE = 4096


@dataclass(frozen=True)
class Credential:
    """A certificate chain with its key, PEM."""

    chain: str
    key: str


@dataclass(frozen=True)
class Outcome:
    """What came back: bytes, or the error that ended it; both are empty when the peer just closed."""

    answer: bytes
    error: str = ""

    def __str__(self) -> str:
        if self.answer:
            return f"answer {self.answer[:60]!r}"
        return self.error or "closed without an answer"


def exchange(
    pod: Pod,
    address: tuple[str, int],
    request: bytes,
    server_name: str | None = None,
    credential: Credential | None = None,
) -> Outcome:
    """Connect from `pod`, in TLS 1.3 when `server_name` is given, send `request`, return the first answer."""
    try:
        with pod.inside():
            plain = socket.create_connection(address, _TIMEOUT_S)
        with plain:
            if server_name is None:
                return Outcome(_ask(plain, request))
            with client_context(credential).wrap_socket(plain, server_hostname=server_name) as tls:
                return Outcome(_ask(tls, request))
    except ssl.SSLEOFError:
        return Outcome(b"", "TLS connection closed without an answer")
    except ssl.SSLError as error:
        return Outcome(b"", f"TLS {error.reason}".lower().replace("_", " "))
    except OSError as error:
        return Outcome(b"", type(error).__name__)


def client_context(credential: Credential | None) -> ssl.SSLContext:
    """TLS 1.3, no verification of the server, `credential` shown when it asks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return with_credential(context, credential)


def server_context(credential: Credential) -> ssl.SSLContext:
    """TLS 1.3, any client; the client's certificate is not asked for."""
    return with_credential(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), credential)


def with_credential(context: ssl.SSLContext, credential: Credential | None) -> ssl.SSLContext:
    """`context` for TLS 1.3 with `credential`; the ssl module takes certificates from files alone."""
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if credential is not None:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(credential.chain + credential.key)
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _ask(connection: socket.socket, request: bytes) -> bytes:
    connection.settimeout(_TIMEOUT_S)
    connection.sendall(request)
    return connection.recv(_ANSWER_SIZE)

"""A real TLS server in a thread, whose one handler writes whatever a test wants a stranger to send."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Handler = Callable[[ssl.SSLSocket], None]


@dataclass
class TlsServer:
    """Where it listens, and what it saw of its callers."""

    port: int
    url: str
    requests: list[bytes] = field(default_factory=list)
    alpn: list[str | None] = field(default_factory=list)
    versions: list[str | None] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)  # of the handler; the block raises them


@contextlib.contextmanager
def tls_server(
    directory: Path, handler: Handler, versions: ssl.TLSVersion | None = None
) -> Iterator[TlsServer]:
    """Serve `handler`, called once per connection after one request was read, until the block ends."""
    context = _context(directory)
    if versions is not None:
        context.maximum_version = versions
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = TlsServer(port, f"https://127.0.0.1:{port}")
        stopping = threading.Event()
        thread = threading.Thread(target=_accept, args=(listener, context, handler, server, stopping))
        thread.start()
        try:
            yield server
        finally:
            stopping.set()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                pass  # wakes accept()
            thread.join(10)
    if server.failures:
        raise server.failures[0]


def answer(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """A response as a member gives it; `headers` replace those of the same name."""
    fields = {
        "content-type": "application/vnd.toposeal.attestation.v1+protobuf",
        "content-length": str(len(body) if length is None else length),
    }
    fields |= {name.lower(): value for name, value in (h.split(": ") for h in headers)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value != "none")
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


def _accept(
    listener: socket.socket,
    context: ssl.SSLContext,
    handler: Handler,
    server: TlsServer,
    stopping: threading.Event,
) -> None:
    while True:
        plain, _ = listener.accept()
        if stopping.is_set():
            plain.close()
            return
        with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as tls:
            tls.settimeout(5)
            server.alpn.append(tls.selected_alpn_protocol())
            server.versions.append(tls.version())
            server.requests.append(_read_head(tls))
            _handle(handler, tls, server)


def _handle(handler: Handler, tls: ssl.SSLSocket, server: TlsServer) -> None:
    try:
        handler(tls)
    except OSError:
        raise  # the caller hung up, which many tests want
    except Exception as error:
        server.failures.append(error)


def _read_head(tls: ssl.SSLSocket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and (more := tls.recv(4096)):
        head += more
    return head


def _context(directory: Path) -> ssl.SSLContext:
    """A throw-away certificate that nobody can verify."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nobody")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    certificate = (
        builder.not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    pem = directory / "server.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.set_alpn_protocols(["toposeal-attest/1"])
    return context

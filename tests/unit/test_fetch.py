"""host.fetch against a real TLS server that behaves as badly as a stranger can."""

from __future__ import annotations

import gzip
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.tls import answer, tls_server

from toposeal.errors import NetworkError, Reason
from toposeal.host.fetch import fetch_document
from toposeal.limits import MAX_DOCUMENT_SIZE
from toposeal.outside.endpoint import Endpoint

NONCE = bytes(range(32))


def fetch_from(tmp_path: Path, handler: Callable[[ssl.SSLSocket], None], timeout_s: float = 5.0) -> bytes:
    with tls_server(tmp_path, handler) as server:
        return fetch_document(Endpoint.parse(server.url), NONCE, timeout_s)


def refusal_from(
    tmp_path: Path, handler: Callable[[ssl.SSLSocket], None], timeout_s: float = 5.0
) -> NetworkError:
    with pytest.raises(NetworkError) as caught:
        fetch_from(tmp_path, handler, timeout_s)
    assert caught.value.reason is Reason.NETWORK
    return caught.value


def test_a_document_is_fetched_and_V2_nothing_but_the_nonce_is_sent(tmp_path: Path) -> None:
    with tls_server(tmp_path, lambda tls: tls.sendall(answer(b"document"))) as server:
        assert fetch_document(Endpoint.parse(server.url), NONCE) == b"document"
    assert server.alpn == ["toposeal-attest/1"]
    assert server.versions == ["TLSv1.3"]
    assert server.requests == [
        b"GET /.well-known/toposeal/attestation?nonce=" + NONCE.hex().encode() + b" HTTP/1.1\r\n"
        b"Host: 127.0.0.1:" + str(server.port).encode() + b"\r\n"
        b"Accept: application/vnd.toposeal.attestation.v1+protobuf\r\n"
        b"Accept-Encoding: identity\r\n"
        b"Connection: close\r\n\r\n"
    ]


def test_a_document_of_the_largest_size_is_fetched_whole(tmp_path: Path) -> None:
    document = os.urandom(MAX_DOCUMENT_SIZE)
    assert fetch_from(tmp_path, lambda tls: tls.sendall(answer(document)), 20) == document


def test_a_chunked_document_from_a_proxy_in_between_is_fetched(tmp_path: Path) -> None:
    body = b"4\r\ndocu\r\n4\r\nment\r\n0\r\n\r\n"
    response = answer(body, "Content-Length: none", "Transfer-Encoding: chunked")
    assert fetch_from(tmp_path, lambda tls: tls.sendall(response)) == b"document"


def test_connect_dials_elsewhere_and_keeps_the_name(tmp_path: Path) -> None:
    with tls_server(tmp_path, lambda tls: tls.sendall(answer(b"document"))) as server:
        endpoint = Endpoint.parse("https://shop.example:8443", f"127.0.0.1:{server.port}")
        assert fetch_document(endpoint, NONCE) == b"document"
    assert b"\r\nHost: shop.example:8443\r\n" in server.requests[0]


def test_V7_an_announced_length_of_10_GB_is_refused_unread(tmp_path: Path) -> None:
    error = refusal_from(tmp_path, lambda tls: tls.sendall(answer(b"", length=10 << 30)))
    assert error.mismatches[0].field == "http.content-length"


@pytest.mark.parametrize("framing", ["Transfer-Encoding: chunked", "Connection: close"])
def test_V7_an_endless_body_is_cut_at_the_cap(tmp_path: Path, framing: str) -> None:
    sent = 0

    def endless(tls: ssl.SSLSocket) -> None:
        nonlocal sent
        tls.sendall(answer(b"", "Content-Length: none", framing))
        block = bytes(1 << 20)
        while True:
            tls.sendall(b"100000\r\n" + block + b"\r\n")
            sent += len(block)

    error = refusal_from(tmp_path, endless, 20)
    assert error.mismatches[0].field in ("http.body", "http")
    assert sent < 3 * MAX_DOCUMENT_SIZE


@pytest.mark.parametrize(
    "flood",
    [
        b"HTTP/1.1 200 OK\r\n" + b"x-filler: 0123456789\r\n" * 90 + b"x-long: " + b"a" * 60_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 4_000,
        b"HTTP/1.1 200 " + b"OK" * 40_000,
    ],
    ids=["fields", "continue", "status line"],
)
def test_V7_a_header_without_end_is_cut_at_the_cap(tmp_path: Path, flood: bytes) -> None:
    error = refusal_from(tmp_path, lambda tls: tls.sendall(flood))
    assert error.mismatches[0].field == "http"


def test_V7_a_compressed_body_is_refused_not_inflated(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(1 << 20))
    error = refusal_from(tmp_path, lambda tls: tls.sendall(answer(bomb, "Content-Encoding: gzip")))
    assert error.mismatches[0].field == "http.content-encoding"


def drip(data: bytes) -> Callable[[ssl.SSLSocket], None]:
    def handler(tls: ssl.SSLSocket) -> None:
        for byte in data:
            tls.sendall(bytes([byte]))
            time.sleep(0.02)

    return handler


@pytest.mark.parametrize(
    "data", [answer(b""), answer(b"", length=10_000) + bytes(10_000)], ids=["header", "body"]
)
def test_V7_a_slow_drip_ends_at_the_total_deadline(tmp_path: Path, data: bytes) -> None:
    started = time.monotonic()
    error = refusal_from(tmp_path, drip(data * 10), 0.5)
    assert time.monotonic() - started < 4
    assert "TimeoutError" in error.mismatches[0].found


def test_V7_a_server_that_never_shakes_hands_ends_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(NetworkError):
            fetch_document(Endpoint.parse(f"https://127.0.0.1:{silent.getsockname()[1]}"), NONCE, 0.3)
        assert time.monotonic() - started < 2


def test_V7_a_handshake_that_drips_ends_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip_a_record() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"\x16\x03\x03\x40\x00")
                for _ in range(40):
                    try:
                        connection.sendall(b"\x02")
                    except OSError:
                        return
                    time.sleep(0.05)

        thread = threading.Thread(target=drip_a_record)
        thread.start()
        started = time.monotonic()
        with pytest.raises(NetworkError):
            fetch_document(Endpoint.parse(f"https://127.0.0.1:{listener.getsockname()[1]}"), NONCE, 0.4)
        assert time.monotonic() - started < 1.5
        thread.join(5)


@pytest.mark.parametrize(
    "status", ["301 Moved Permanently", "307 Temporary Redirect", "503 Unavailable", "204 No"]
)
def test_V7_no_redirect_is_followed_and_no_other_status_taken(tmp_path: Path, status: str) -> None:
    redirect = answer(b"", "Location: /x", status=status)
    with (
        tls_server(tmp_path, lambda tls: tls.sendall(redirect)) as server,
        pytest.raises(NetworkError) as caught,
    ):
        fetch_document(Endpoint.parse(server.url), NONCE)
    assert caught.value.mismatches[0].field == "http.status"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("response", "field"),
    [
        (answer(b"<html>", "Content-Type: text/html"), "http.content-type"),
        (answer(b"<html>", "Content-Type: none"), "http.content-type"),
        (b"", "connection"),
        (b"SSH-2.0-OpenSSH\r\n", "connection"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "connection"),
        (answer(b"zz\r\n", "Content-Length: none", "Transfer-Encoding: chunked"), "connection"),
        (answer(b"-5\r\nx", "Content-Length: none", "Transfer-Encoding: chunked"), "connection"),
    ],
    ids=["html", "no type", "nothing", "not http", "bad status", "bad chunk", "negative chunk"],
)
def test_what_is_not_a_document_is_a_network_error(tmp_path: Path, response: bytes, field: str) -> None:
    assert refusal_from(tmp_path, lambda tls: tls.sendall(response)).mismatches[0].field == field


@pytest.mark.parametrize("body", [b"", b"half"])
def test_a_body_that_ends_early_is_a_network_error(tmp_path: Path, body: bytes) -> None:
    refusal_from(tmp_path, lambda tls: tls.sendall(answer(body, length=8)))


def test_terminal_escapes_of_a_server_are_made_harmless(tmp_path: Path) -> None:
    error = refusal_from(tmp_path, lambda tls: tls.sendall(answer(b"", "Content-Type: \x1b[2Jx")))
    assert "\x1b" not in str(error)


def test_TLS_1_2_is_refused(tmp_path: Path) -> None:
    with (
        tls_server(tmp_path, lambda tls: tls.sendall(answer(b"")), ssl.TLSVersion.TLSv1_2) as server,
        pytest.raises(NetworkError),
    ):
        fetch_document(Endpoint.parse(server.url), NONCE)


def test_nobody_listening_and_names_that_do_not_resolve_are_network_errors() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for url in (f"https://127.0.0.1:{port}", "https://no-such-host.invalid"):
        with pytest.raises(NetworkError):
            fetch_document(Endpoint.parse(url), NONCE, 1)


def test_the_next_address_is_tried_when_the_first_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo
    with tls_server(tmp_path, lambda tls: tls.sendall(answer(b"document"))) as server:
        both = real("127.0.0.1", 1, type=socket.SOCK_STREAM) + real(
            "127.0.0.1", server.port, type=socket.SOCK_STREAM
        )
        with monkeypatch.context() as patched:
            patched.setattr(socket, "getaddrinfo", lambda *_, **__: both)
            assert fetch_document(Endpoint.parse(server.url), NONCE) == b"document"


def test_a_deadline_that_is_over_is_a_network_error(tmp_path: Path) -> None:
    refusal_from(tmp_path, lambda tls: None, 0.0)

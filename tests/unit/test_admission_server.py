"""The webhook over real HTTPS: a pod goes in, a patch comes out; too much, too slow or odd is ended."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support.admission import patched, pods, review
from support.injection import injection
from support.webhook import Files, make_files

from toposeal.errors import UsageError
from toposeal.host import admission_server
from toposeal.host.admission_server import AdmissionServer
from toposeal.kubernetes.admission import answer
from toposeal.kubernetes.webhook import ADMISSION_PATH
from toposeal.limits import MAX_ADMISSION_REVIEW

ANSWER = partial(answer, injection=injection())


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return make_files(tmp_path)


def served(
    files: Files,
    ask: Callable[[int], None],
    told: list[str] | None = None,
    answered: Callable[[bytes], bytes] = ANSWER,
) -> None:
    """`ask`, with the port, in a thread, while the server listens."""

    async def go() -> None:
        stop, ports = asyncio.Event(), asyncio.Queue[int]()
        tell = print if told is None else told.append
        server = AdmissionServer(answered, files.certificate, files.key, tell)
        serving = asyncio.create_task(server.serve("127.0.0.1", 0, stop, ports.put_nowait))
        try:
            await asyncio.to_thread(ask, await ports.get())
        finally:
            stop.set()
            await serving

    asyncio.run(go())


def connect(files: Files, port: int) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=files.ca)
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    return context.wrap_socket(plain, server_hostname="localhost")


def post(
    files: Files, port: int, body: bytes, path: str = f"{ADMISSION_PATH}?timeout=10s"
) -> tuple[int, bytes]:
    context = ssl.create_default_context(cafile=files.ca)
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=20)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        got = connection.getresponse()
        return got.status, got.read()
    finally:
        connection.close()


def status(files: Files, port: int, request: bytes) -> bytes:
    """The first line of the answer."""
    with connect(files, port) as tls:
        tls.sendall(request)
        return tls.makefile("rb").readline()


def test_a_pod_gets_what_inject_gives_it(files: Files) -> None:
    pod = pods()["web"]

    def ask(port: int) -> None:
        code, said = post(files, port, review(pod))
        assert code == 200
        assert patched(pod, said)["spec"]["initContainers"][0]["name"] == "toposeal-lockdown"

    served(files, ask)


def test_the_largest_request_is_read_and_a_large_answer_arrives_whole(files: Files) -> None:
    """Also at a reader that pauses: what the kernel does not take at once is not lost at the end."""
    sizes: list[int] = []
    large = b"x" * (8 << 20)

    def echo(data: bytes) -> bytes:
        sizes.append(len(data))
        return large

    def ask(port: int) -> None:
        head = f"POST {ADMISSION_PATH} HTTP/1.1\r\nContent-Length: {MAX_ADMISSION_REVIEW}\r\n\r\n"
        with connect(files, port) as tls:
            tls.sendall(head.encode() + bytes(MAX_ADMISSION_REVIEW))
            time.sleep(0.5)
            assert tls.makefile("rb").read().endswith(b"\r\n\r\n" + large)

    served(files, ask, answered=echo)
    assert sizes == [MAX_ADMISSION_REVIEW]


def test_what_is_no_review_is_a_bad_request(files: Files) -> None:
    def ask(port: int) -> None:
        assert post(files, port, b"{}")[0] == 400
        assert post(files, port, review(pods()["web"]), "/other")[0] == 404
        assert post(files, port, review(pods()["web"]))[0] == 200

    served(files, ask)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"GET /admit HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /admit HTTP/1.1\r\nHost: a\r\n\r\n", b"411"),
        (b"POST /admit HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_ADMISSION_REVIEW + 1), b"413"),
        (b"POST /admit HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", b"400"),
        (b"POST /admit HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"POST /admit HTTP/1.1\r\nA: " + b"a" * 20000 + b"\r\n\r\n", b"431"),
    ],
)
def test_a_request_is_counted_before_it_is_read(files: Files, request_: bytes, code: bytes) -> None:
    served(files, lambda port: _expect(status(files, port, request_).split(b" ")[1], code))


def _expect(found: bytes, expected: bytes) -> None:
    assert found == expected


def test_whoever_is_silent_or_one_too_many_is_ended(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_server, "ADMISSION_TIMEOUT", 4_000)
    monkeypatch.setattr(admission_server, "MAX_ADMISSION_REQUESTS", 2)

    def ask(port: int) -> None:
        silent = [connect(files, port) for _ in range(2)]
        silent[0].sendall(b"POST /admit HTTP/1.1\r\nContent-Length: 9\r\n\r\n")
        with pytest.raises((OSError, http.client.HTTPException)):
            post(files, port, review(pods()["web"]))
        for each in silent:
            with each:
                _ended(each)
        assert post(files, port, review(pods()["web"]))[0] == 200

    served(files, ask)


def _ended(tls: ssl.SSLSocket) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLEOFError):  # which is an end too
        assert tls.recv(1) == b""


def test_only_the_newest_tls_is_spoken(files: Files) -> None:
    def ask(port: int) -> None:
        context = ssl.create_default_context(cafile=files.ca)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_connection(("127.0.0.1", port)) as plain, pytest.raises((ssl.SSLError, OSError)):
            context.wrap_socket(plain, server_hostname="localhost")

    served(files, ask)


def test_a_renewed_certificate_is_used_and_a_wrong_one_is_told(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission_server, "ADMISSION_RELOAD", 50)
    told: list[str] = []

    def ask(port: int) -> None:
        connect(files, port).close()
        Path(files.key).write_text("no key")
        _until(lambda: bool(told))
        connect(files, port).close()
        make_files(tmp_path)
        _until(lambda: _taken(port))

    def _taken(port: int) -> bool:
        try:
            connect(files, port).close()
        except ssl.SSLCertVerificationError:
            return False
        return True

    served(files, ask, told)
    assert "a certificate and its key" in told[0]


def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_is_no_certificate_or_no_free_port_is_a_usage_error(files: Files, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="its key"):
        AdmissionServer(ANSWER, str(tmp_path / "none"), files.key, print)
    with pytest.raises(UsageError, match="its key"):
        AdmissionServer(ANSWER, files.certificate, files.ca, print)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = AdmissionServer(ANSWER, files.certificate, files.key, print)
        with pytest.raises(UsageError, match="a free one"):
            asyncio.run(server.serve("127.0.0.1", taken.getsockname()[1], asyncio.Event(), print))

"""host.vendor_http against the lab's real HTTPS server, which behaves as badly as a service can."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from toposeal.errors import NetworkError, Reason, UsageError
from toposeal.host import bounded_http, vendor_http
from toposeal.host.vendor_http import Service, absent, get
from toposeal.limits import MAX_VENDOR_ANSWER, MAX_VENDOR_HEADER
from toposeal_lab.vendor_service import Fault, VendorService, vendor_service


@pytest.fixture(scope="module")
def running() -> Iterator[VendorService]:
    with vendor_service() as service:
        service.answers["/thing"] = ({"X-Chain": "a%0Ab"}, b"answer")
        yield service


@pytest.fixture
def server(running: VendorService, monkeypatch: pytest.MonkeyPatch) -> VendorService:
    monkeypatch.setattr(vendor_http, "VENDOR_BACKOFF", 1)
    running.faults.clear()
    running.requests.clear()
    return running


def refusal(server: VendorService, target: str = "/thing", timeout_s: float = 5) -> NetworkError:
    with pytest.raises(NetworkError) as caught:
        get(server.service, target, timeout_s, attempts=2)
    assert caught.value.reason is Reason.NETWORK
    return caught.value


def test_an_answer_has_its_headers_in_lower_case_and_its_body_whole(server: VendorService) -> None:
    answer = get(server.service, "/thing")
    assert (answer.body, answer.headers["x-chain"]) == (b"answer", "a%0Ab")
    assert server.requests == ["/thing"]


def test_a_service_may_live_under_a_path(server: VendorService) -> None:
    server.answers["/under/a/path/thing"] = ({}, b"there")
    service = Service.parse(f"{server.url}/under/a/path/", server.ca_file)
    assert get(service, "/thing").body == b"there"


@pytest.mark.parametrize("status", [429, 503, 500, 504])
def test_R4_a_busy_service_is_asked_again(server: VendorService, status: int) -> None:
    server.faults["/thing"] = Fault(status=status, times=2)
    assert get(server.service, "/thing").body == b"answer"
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 301, 302, 204])
def test_V7_a_no_and_a_redirect_are_final(server: VendorService, status: int) -> None:
    server.faults["/thing"] = Fault(status=status, headers={"Location": f"{server.url}/elsewhere"})
    error = refusal(server)
    assert (error.mismatches[0].field, absent(error)) == ("http.status", status in (404, 410))
    assert len(server.requests) == 1


def test_R4_it_gives_up_after_its_attempts(server: VendorService) -> None:
    server.faults["/thing"] = Fault(status=503)
    assert not absent(refusal(server))
    assert len(server.requests) == 2


def test_R4_retry_after_is_honoured_within_a_bound(
    server: VendorService, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waited.append)
    for asked in ("7", "999999", "Wed, 21 Oct 2026 07:28:00 GMT", "-1"):
        server.faults["/thing"] = Fault(status=429, headers={"Retry-After": asked}, times=1)
        assert get(server.service, "/thing").body == b"answer"
    assert waited[0] == 7
    assert waited[1] == 30
    assert max(waited[2:]) < 3


def test_R4_pauses_grow_and_differ(server: VendorService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vendor_http, "VENDOR_BACKOFF", 1_000)
    waited: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waited.append)
    server.faults["/thing"] = Fault(status=503)
    with pytest.raises(NetworkError):
        get(server.service, "/thing", 5, attempts=4)
    assert len(waited) == 3
    assert all(2**n <= pause <= 2**n + 1 for n, pause in enumerate(waited))


def test_V7_an_answer_above_the_bound_is_cut(server: VendorService) -> None:
    server.faults["/thing"] = Fault(body=bytes(MAX_VENDOR_ANSWER + 1))
    assert refusal(server).mismatches[0].field == "http.body"
    server.faults["/thing"] = Fault(body=bytes(MAX_VENDOR_ANSWER))
    assert len(get(server.service, "/thing").body) == MAX_VENDOR_ANSWER


def test_V7_a_header_above_the_bound_is_cut(server: VendorService) -> None:
    long = {f"x-{number}": "a" * 8_000 for number in range(1 + MAX_VENDOR_HEADER // 8_000)}
    server.faults["/thing"] = Fault(headers=long)
    assert refusal(server).mismatches[0].field == "http"


def test_V7_a_body_that_ends_early_is_refused(server: VendorService) -> None:
    server.faults["/thing"] = Fault(body=b"x" * 1_000, cut=1)
    assert refusal(server).reason is Reason.NETWORK


def test_V7_a_compressed_body_is_refused_not_inflated(server: VendorService) -> None:
    server.faults["/thing"] = Fault(headers={"Content-Encoding": "gzip"})
    assert refusal(server).mismatches[0].field == "http.content-encoding"


def test_V7_a_slow_service_does_not_outlast_the_deadline(server: VendorService) -> None:
    server.faults["/thing"] = Fault(delay_s=1.5)
    start = time.monotonic()
    assert "TimeoutError" in str(refusal(server, timeout_s=0.3))
    assert time.monotonic() - start < 1.4


def test_V7_a_chunk_of_a_negative_size_is_a_network_error(
    server: VendorService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anything else than NetworkError would end the task that fetches, and the daemon with it (S9)."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nx"
    monkeypatch.setattr(
        bounded_http.BoundedStream, "makefile", lambda *_: io.BufferedReader(io.BytesIO(chunked))
    )
    assert "ValueError" in str(refusal(server))


def test_nobody_there_is_a_network_error(server: VendorService) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    gone = Service.parse(f"https://127.0.0.1:{port}", server.ca_file)
    with pytest.raises(NetworkError, match="ConnectionRefusedError"):
        get(gone, "/thing", attempts=2)
    with pytest.raises(NetworkError):
        get(Service("no such name", 443, ""), "/thing", attempts=1)


def test_a_private_ca_has_to_be_given_and_the_name_to_be_right(server: VendorService) -> None:
    stranger = Service.parse(server.url)
    start = time.monotonic()
    with pytest.raises(NetworkError, match="CERTIFICATE_VERIFY_FAILED"):
        get(stranger, "/thing")
    assert time.monotonic() - start < 2  # another attempt would not change it
    other_name = Service.parse(server.url.replace("127.0.0.1", "localhost"), server.ca_file)
    with pytest.raises(NetworkError, match="CERTIFICATE_VERIFY_FAILED"):
        get(other_name, "/thing")


def test_no_attempt_is_a_refusal_too(server: VendorService, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_at_all(**_: object) -> Iterator[object]:
        yield from ()

    monkeypatch.setattr(vendor_http, "Retrying", none_at_all)
    with pytest.raises(NetworkError, match="no attempt"):
        get(server.service, "/thing")


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("https://api.trustedservices.intel.com", "api.trustedservices.intel.com", ""),
        ("https://pccs:8081/", "pccs:8081", ""),
        ("https://[::1]:8081/a/b/", "[::1]:8081", "/a/b"),
        ("https://pccs:443", "pccs", ""),
    ],
)
def test_a_url_is_taken_apart(url: str, authority: str, path: str) -> None:
    service = Service.parse(url)
    assert (service.authority, service.path, service.ca) == (authority, path, None)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "pccs:8081",
        "http://pccs:8081",
        "ftp://pccs",
        "https://",
        "https://user@pccs",
        "https://user:secret@pccs",
        "https://pccs/?x=1",
        "https://pccs/#x",
        "https://pccs:0x50",
        "https://pccs:70000",
        "https://pccs:0",
        "https://pccs:00/path",
        "https://[::1]:0",
        "https://[::1",
        "https://pc cs",
        "https://pccs/a b",
        "https://pccs/a\r\nX: y",
        "https://pccs/" + "a" * 600,
    ],
)
def test_V9_any_other_url_is_the_callers_mistake(url: str) -> None:
    with pytest.raises(UsageError):
        Service.parse(url)


@pytest.mark.parametrize("content", [b"", b"no certificate", b"\xff"])
def test_V9_roots_that_are_none_are_the_callers_mistake(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "roots.pem"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        Service.parse("https://pccs:8081", str(path))

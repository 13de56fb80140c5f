"""Envoy's admin interface, version floor, binary and log, without an Envoy."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from toposeal.errors import PodError, Reason
from toposeal.host import envoy_admin
from toposeal.host.envoy import _essence, _kept, check_version, find_envoy
from toposeal.host.envoy_admin import EnvoyAdmin

SHA = "9e5580933739775e8bce696a57a2e1bc99368f23"


def version(number: str, kind: str = "RELEASE", library: str = "BoringSSL") -> str:
    return f"{SHA}/{number}/Clean/{kind}/{library}"


@pytest.mark.parametrize("number", ["1.37.6", "1.37.7", "1.38.4", "1.39.1", "1.40.0", "1.41.3", "2.0.0"])
def test_D7_versions_with_the_fixes_are_admitted(number: str) -> None:
    check_version(version(number))


@pytest.mark.parametrize(
    "text",
    [
        *(version(n) for n in ("1.35.99", "1.36.9", "1.36.10", "1.37.5", "1.38.3", "1.39.0", "0.99.99")),
        version("1.40.0-dev"),
        version("1.40.0", kind="DEBUG"),
        version("1.40.0", library="OpenSSL"),
        version("1.40"),
        version("1.40.0") + " ",
        "x" + version("1.40.0"),
        "",
        "None",
    ],
)
def test_D7_other_versions_are_refused(text: str) -> None:
    with pytest.raises(PodError) as caught:
        check_version(text)
    assert caught.value.reason is Reason.ENVOY_FAILED


def test_the_binary_is_the_wheels_or_the_composed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.access(find_envoy(None), os.X_OK)
    assert find_envoy("/opt/envoy") == "/opt/envoy"
    monkeypatch.setitem(sys.modules, "envoy", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PodError, match="wheel"):
        find_envoy(None)


def test_F4_of_a_file_that_envoy_cannot_parse_no_line_is_kept() -> None:
    """Envoy logs the whole of what it could not parse."""
    log = [
        b"[2026-11-22 00:06:36.036][1][warning][config] [a/b.cc:81] config update failure: {",
        b'  "private_key": "-----BEGIN PRIVATE KEY-----"',
        b"}",
    ]
    assert [text.encode() for line in log for text in _kept(line)] == log[:1]


def test_F4_of_what_envoy_refuses_nothing_is_kept_from_its_log() -> None:
    """Its words may repeat the whole resource."""
    line = b'[2026-11-22 00:06:36.036][1][warning][config] [a/b.cc:81] gRPC config for x rejected: bad "KEY'
    assert _kept(line + b' rejected: KEY"\n')[0].endswith("gRPC config for x")


def test_a_message_is_told_without_its_prefix() -> None:
    prefix = "[2026-11-22 00:06:36.036][1][warning][config] [a/b.cc:81] "
    assert _essence(prefix + "no  such\tfield") == "no such field"


@pytest.fixture
def path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        yield str(Path(directory, "admin.sock"))


def ask(path: str, answer: bytes, hang: bool = False) -> bool:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        assert request.startswith(b"GET /stats?format=json&type=Gauges&filter=")
        writer.write(answer)
        if hang:
            await asyncio.sleep(5)
        writer.close()

    async def run() -> bool:
        server = await asyncio.start_unix_server(serve, path)
        try:
            return await EnvoyAdmin(path).is_warming()
        finally:
            server.close()

    return asyncio.run(run())


STATS = b'{"stats": [{"name": "a", "value": 0}, {"name": "b", "value": 1}, {"histograms": {}}]}'
OK = b"HTTP/1.1 200 OK\r\n"


def chunked(*chunks: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return OK + b"transfer-encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [OK + b"\r\n" + STATS, chunked(STATS), chunked(STATS[:7], STATS[7:])],
    ids=["whole", "one", "two"],
)
def test_stats_are_read_chunked_or_not(path: str, answer: bytes) -> None:
    assert ask(path, answer)


def test_nothing_is_prepared_when_both_counts_are_0(path: str) -> None:
    assert not ask(path, OK + b"\r\n" + STATS.replace(b"1", b"0"))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 503 Service Unavailable\r\n\r\n" + STATS,
        b"nonsense",
        OK + b"\r\n{",
        OK + b"\r\n[]",
        chunked(STATS)[:-20],
        OK + b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
        OK + b"\r\n" + b" " * 300 + STATS,
    ],
    ids=["empty", "503", "nonsense", "half", "list", "short chunk", "no size", "too much"],
)
def test_an_answer_that_cannot_be_used_is_a_fault(
    path: str, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envoy_admin, "MAX_ADMIN_ANSWER", 256)
    with pytest.raises(PodError) as caught:
        ask(path, answer)
    assert caught.value.reason is Reason.ENVOY_FAILED


def test_silence_is_a_fault(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envoy_admin, "ENVOY_ADMIN_TIMEOUT", 50)
    with pytest.raises(PodError, match="Timeout"):
        ask(path, b"", hang=True)


def test_no_socket_is_a_fault(path: str) -> None:
    with pytest.raises(PodError, match="No such file"):
        asyncio.run(EnvoyAdmin(path).server_info())

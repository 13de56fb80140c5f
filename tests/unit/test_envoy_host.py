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
from toposeal.host import envoy as envoy_module
from toposeal.host import envoy_admin
from toposeal.host.envoy import _FIRST_LINE, _essence, check_version, find_envoy
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
    """Envoy logs the whole file then, private key included."""
    log = [
        b"[2026-11-22 00:06:36.036][1][warning][config] [a/b.cc:81] Filesystem config update failure: {",
        b'  "private_key": "-----BEGIN PRIVATE KEY-----"',
        b"}",
    ]
    assert [line for line in log if _FIRST_LINE.match(line)] == log[:1]


def test_a_message_is_told_without_its_prefix_and_from_both_ends() -> None:
    prefix = "[2026-11-22 00:06:36.036][1][warning][config] [a/b.cc:81] "
    assert _essence(prefix + "Filesystem config update rejected: no  such\tfield") == "no such field"
    said = _essence(prefix + "start " + "x" * 500 + " no such field: 'bogus'")
    assert said.startswith("start ")
    assert said.endswith("no such field: 'bogus'")
    assert len(said) <= 160


@pytest.fixture
def path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        yield str(Path(directory, "admin.sock"))


def ask(path: str, answer: bytes, hang: bool = False) -> dict[str, int | str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        assert request.startswith(b"GET /stats?format=json&filter=")
        writer.write(answer)
        if hang:
            await asyncio.sleep(5)
        writer.close()

    async def run() -> dict[str, int | str]:
        server = await asyncio.start_unix_server(serve, path)
        try:
            return await EnvoyAdmin(path).update_stats()
        finally:
            server.close()

    return asyncio.run(run())


STATS = b'{"stats": [{"name": "a", "value": 1}, {"name": "b", "value": "x"}, {"histograms": {}}]}'
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
    assert ask(path, answer) == {"a": 1, "b": "x"}


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


def test_an_update_counts_when_versions_agree_and_nothing_is_prepared() -> None:
    expected = {"lds.version_text": "2"}
    assert envoy_module._taken({"lds.version_text": "2", "x_warming": 0}, expected)
    assert not envoy_module._taken({"lds.version_text": "1"}, expected)
    assert not envoy_module._taken({"lds.version_text": "2", "x_warming": 1}, expected)
    assert not envoy_module._taken({}, expected)


def test_a_refusal_is_a_counter_that_moved() -> None:
    before = {"lds.update_rejected": 1, "cds.update_failure": 0}
    assert envoy_module._refusals(before) == envoy_module._refusals({**before, "sds.id.update_rejected": 0})
    assert envoy_module._refusals(before) != envoy_module._refusals({**before, "sds.id.update_rejected": 1})
    assert envoy_module._refusals(before) != envoy_module._refusals({**before, "lds.update_rejected": 2})

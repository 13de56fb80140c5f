"""Quotes from agents of the guest, over real sockets: as their sources say, and as a broken one could answer.

Neither agent itself was ever run here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from support.agents import (
    Handle,
    Quote,
    coco,
    dstack,
    field,
    frame,
    http,
    raw,
    request_of,
    serving,
    status,
    ttrpc,
)
from support.snp import chip
from support.tdx import BINDING, HOST, WEB, context, topology

from toposeal.daemon.pod_evidence import PodEvidence
from toposeal.daemon.runtime_events import RuntimeEvents
from toposeal.errors import QuoteSourceError, Reason, UsageError
from toposeal.evidence.tdx_quote import parse_tdx_quote
from toposeal.gate.doctor import Fine, Wrong
from toposeal.host import doctor_looks, quote_sources
from toposeal.host.agent_quotes import AgentQuotes
from toposeal.host.coco_agent import coco_agent
from toposeal.host.configfs_tsm import ConfigfsTsm
from toposeal.host.dstack_agent import dstack_agent
from toposeal.host.endorsements import Endorser
from toposeal.host.quote_access import Interfaces
from toposeal.host.quote_sources import NAMES, quote_source
from toposeal.host.rtmr import Rtmr3
from toposeal.host.tee_report import TDX_GUEST
from toposeal.limits import MAX_AGENT_ANSWER, MAX_TDX_QUOTE_SIZE
from toposeal.verification.appraise import appraise
from toposeal_lab.tsm_providers import TdxProvider

REPORT_DATA = bytes(range(64))
DEADLINE, SHORT = 5.0, 0.4
TDX = TdxProvider(HOST, WEB)
GENUINE = TDX.report(REPORT_DATA, 0).outblob
MAKERS: dict[str, Callable[[str], AgentQuotes]] = {"coco-aa": coco_agent, "dstack": dstack_agent}
AGENTS: dict[str, Callable[[Quote], Handle]] = {"coco-aa": coco, "dstack": dstack}
both = pytest.mark.parametrize("name", AGENTS)


def quoted(report_data: bytes) -> bytes:
    return raw(report_data, TDX)


def refused(source: AgentQuotes, deadline: float = DEADLINE) -> QuoteSourceError:
    with pytest.raises(QuoteSourceError) as caught:
        source.report(REPORT_DATA, deadline)
    return caught.value


def refusal_of(name: str, path: Path, handle: Handle, deadline: float = DEADLINE) -> QuoteSourceError:
    with serving(path / "agent.sock", handle):
        return refused(MAKERS[name](str(path / "agent.sock")), deadline)


def at(error: QuoteSourceError) -> str:
    (mismatch,) = error.mismatches
    assert mismatch.reason is Reason.QUOTE_SOURCE
    return mismatch.field.removeprefix("quote_source.")


@both
def test_an_agent_brings_the_quote_of_exactly_what_it_was_asked(name: str, tmp_path: Path) -> None:
    with serving(tmp_path / "agent.sock", AGENTS[name](quoted)) as seen:
        report = MAKERS[name](str(tmp_path / "agent.sock")).report(REPORT_DATA, DEADLINE)
    assert (report.provider, report.auxblob, seen) == (TDX_GUEST, b"", [0])
    assert parse_tdx_quote(report.outblob).report_data == REPORT_DATA


@both
def test_a_quote_that_came_from_an_agent_is_judged_as_any_other(name: str, tmp_path: Path) -> None:
    class NoGpus:
        def collect(self, nonce: bytes, deadline_s: float) -> tuple[()]:
            return ()

    events = RuntimeEvents(Rtmr3(str(tmp_path / "measurements")), None)
    with serving(tmp_path / "agent.sock", AGENTS[name](quoted)):
        source = MAKERS[name](str(tmp_path / "agent.sock"))
        pod = PodEvidence(source, Endorser(chip().vendor.anchors()), NoGpus(), events)
        evidence = pod.quote(BINDING, DEADLINE)
    verified = appraise(evidence, BINDING, topology(), context())
    assert verified.role == "web"


MAPPED: dict[str, Quote] = {
    "hashed": lambda data: hashlib.sha512(data).digest(),
    "behind a word": lambda data: hashlib.sha512(b"app-data:" + data).digest(),
    "cut": lambda data: data[:48],
    "of somebody else": lambda data: bytes(64),
}


@both
@pytest.mark.parametrize("mapping", MAPPED)
def test_E15_report_data_that_an_agent_has_made_another_is_refused(
    name: str, mapping: str, tmp_path: Path
) -> None:
    """At once, and once: it would be so again."""
    handle = AGENTS[name](lambda data: quoted(MAPPED[mapping](data)))
    with serving(tmp_path / "agent.sock", handle) as seen:
        error = refused(MAKERS[name](str(tmp_path / "agent.sock")))
    assert (at(error), error.retry, seen) == ("quote.report_data", False, [0])
    assert REPORT_DATA.hex() in str(error)


NO_QUOTES = {"another format": b"x" * 2000, "cut": GENUINE[:-200], "too large": bytes(MAX_TDX_QUOTE_SIZE + 1)}


@both
@pytest.mark.parametrize("kind", NO_QUOTES)
def test_E15_what_is_no_quote_is_refused(name: str, kind: str, tmp_path: Path) -> None:
    error = refusal_of(name, tmp_path, AGENTS[name](lambda _: NO_QUOTES[kind]))
    assert (at(error), error.retry) == ("quote", False)


def answering(response: bytes, **header: int) -> Handle:
    """With this response of ttrpc, whatever the request."""

    def handle(connection: socket.socket) -> None:
        stream, _ = request_of(connection)
        connection.sendall(frame(header.pop("stream", stream), response, **header))

    return handle


def evident(said: object) -> Handle:
    return ttrpc(lambda _: said if isinstance(said, bytes) else json.dumps(said).encode())


COCO_BROKEN: dict[str, tuple[Handle, str]] = {
    "no JSON": (evident(b"quote"), "agent.evidence"),
    "a list": (evident([GENUINE.hex()]), "agent.evidence.quote"),
    "no quote": (evident({"cc_eventlog": None}), "agent.evidence.quote"),
    "no base64": (evident({"quote": "&"}), "agent.evidence.quote"),
    "base64 with line ends": (
        evident({"quote": base64.encodebytes(GENUINE).decode()}),
        "agent.evidence.quote",
    ),
    "beyond ASCII": (evident({"quote": "\u00e9"}), "agent.evidence.quote"),
    "an SNP report in fields": (evident({"attestation_report": {"version": 3}}), "agent.evidence"),
    "two quotes": (evident(b'{"quote": "", "quote": ""}'), "agent.evidence"),
    "no message": (answering(b"\xff\xff\xff"), "agent.response"),
    "no message within": (answering(field(2, b"\xff\xff")), "agent.response"),
    "an empty message": (answering(b""), "agent.evidence"),
    "another stream": (answering(b"", stream=3), "agent.frame"),
    "data, not a response": (answering(b"", kind=3), "agent.frame"),
    "a huge frame": (answering(b"", length=0xFFFFFFFF), "agent.frame"),
    "a frame too large": (answering(b"", length=MAX_AGENT_ANSWER + 1), "agent.frame"),
}


@pytest.mark.parametrize("kind", COCO_BROKEN)
def test_what_the_attestation_agent_must_not_answer_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    handle, place = COCO_BROKEN[kind]
    error = refusal_of("coco-aa", tmp_path, handle)
    assert (at(error), error.retry) == (place, False)


def said(value: object, status_line: str = "200 OK") -> Handle:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return http(status_line, f"content-length: {len(body)}", body=body)


def greeting(words: bytes) -> Handle:
    """Of somebody else, once it was asked: who ends a connection with a request unread resets it."""

    def handle(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(words)

    return handle


ENDLESS = b"x" * (2 * MAX_AGENT_ANSWER)
DSTACK_BROKEN: dict[str, tuple[Handle, str]] = {
    "no JSON": (said(b"quote"), "agent.answer"),
    "a list": (said([GENUINE.hex()]), "agent.answer.quote"),
    "no quote": (said({"event_log": "[]"}), "agent.answer.quote"),
    "a quote of another kind": (said({"quote": ""}), "agent.answer.quote"),
    "no hex digits": (said({"quote": "0x00"}), "agent.answer.quote"),
    "hex with spaces": (said({"quote": "00 00"}), "agent.answer.quote"),
    "a number": (said({"quote": 7}), "agent.answer.quote"),
    "a refusal": (said({"error": "Report data is too long"}, "400 Bad Request"), "agent.status"),
    "a detour": (http("302 Found", "location: http://other/", "content-length: 0"), "agent.status"),
    "no HTTP": (greeting(b"SSH-2.0\r\n\r\n"), "agent"),
    "headers without end": (http("200 OK", "x: " + "y" * 60_000), "agent"),
    "many headers": (http("200 OK", *["x: y"] * 200), "agent"),
    "a body without end": (http("200 OK", "transfer-encoding: identity", body=ENDLESS), "agent"),
    "a body too large": (http("200 OK", f"content-length: {len(ENDLESS)}", body=ENDLESS), "agent"),
    "less than announced": (http("200 OK", "content-length: 99", body=b"{}"), "agent"),
    "a chunk below 0": (http("200 OK", "transfer-encoding: chunked", body=b"-5\r\n"), "agent"),
}


@pytest.mark.parametrize("kind", DSTACK_BROKEN)
def test_what_dstacks_agent_must_not_answer_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    handle, place = DSTACK_BROKEN[kind]
    error = refusal_of("dstack", tmp_path, handle)
    assert (at(error), error.retry) == (place, False)


def silent(connection: socket.socket) -> None:
    while connection.recv(65_536):
        pass


def trickling(start: bytes) -> Handle:
    """A byte at a time of an answer that begins well and would never be complete."""

    def handle(connection: socket.socket) -> None:
        connection.recv(65_536)
        for byte in start + b"x" * 1000:
            connection.sendall(bytes([byte]))
            time.sleep(0.02)

    return handle


SLOW: list[tuple[str, Handle]] = [
    ("coco-aa", silent),
    ("dstack", silent),
    ("coco-aa", trickling(frame(1, b"", length=1000))),
    ("dstack", trickling(b"HTTP/1.1 200 OK\r\nx: ")),
]


@pytest.mark.parametrize(("name", "handle"), SLOW)
def test_fault_11_an_agent_that_takes_long_is_left_at_the_deadline(
    name: str, handle: Handle, tmp_path: Path
) -> None:
    began = time.monotonic()
    error = refusal_of(name, tmp_path, handle, SHORT)
    assert time.monotonic() - began < SHORT + 1
    assert (at(error) in ("agent", "quote"), error.retry) == (True, True)


def at_second(name: str, first: Handle) -> Handle:
    """`first`, and the agent itself from the second connection on."""
    asked, well = count(), AGENTS[name](quoted)
    return lambda connection: (well if next(asked) else first)(connection)


def _hangs_up(connection: socket.socket) -> None:
    connection.recv(1)


BUSY: list[tuple[str, Handle]] = [
    ("coco-aa", answering(field(1, status(13, b"[ERROR:attestation-agent] get evidence failed")))),
    ("coco-aa", _hangs_up),
    ("dstack", said({"error": "Failed to get quote"}, "500 Internal Server Error")),
    ("dstack", _hangs_up),
]


@pytest.mark.parametrize(("name", "first"), BUSY)
def test_fault_11_an_agent_whose_driver_is_busy_is_asked_again(
    name: str, first: Handle, tmp_path: Path
) -> None:
    with serving(tmp_path / "agent.sock", at_second(name, first)) as seen:
        report = MAKERS[name](str(tmp_path / "agent.sock")).report(REPORT_DATA, DEADLINE)
    assert (parse_tdx_quote(report.outblob).report_data, seen) == (REPORT_DATA, [0, 1])


@both
def test_an_agent_that_is_not_there_is_told_at_once_and_one_that_starts_is_waited_for(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / "agent.sock"
    absent = refused(MAKERS[name](str(path)))
    assert (at(absent), absent.retry, str(path) in str(absent)) == ("agent", False, True)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))  # and nobody listens
        starting = refused(MAKERS[name](str(path)), SHORT)
    assert (at(starting), starting.retry) == ("agent", True)


def test_report_data_of_another_size_is_a_defect_of_whoever_asks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="63 bytes"):
        dstack_agent(str(tmp_path / "agent.sock")).report(bytes(63), DEADLINE)


def test_each_source_is_the_one_that_was_named(tmp_path: Path) -> None:
    assert isinstance(quote_source("configfs-tsm", str(tmp_path)), ConfigfsTsm)
    sources = {name: quote_source(name, str(tmp_path)) for name in AGENTS}
    assert {name: source._path for name, source in sources.items()} == {  # type: ignore[attr-defined]
        "coco-aa": "/run/confidential-containers/attestation-agent/attestation-agent.sock",
        "dstack": "/var/run/dstack.sock",
    }
    assert {source._path for source in sources.values()} <= set(Interfaces().sockets)  # type: ignore[attr-defined]
    assert set(AGENTS) | {"configfs-tsm"} == set(NAMES)
    for other in ("", "auto", "CONFIGFS-TSM"):
        with pytest.raises(UsageError, match="one of configfs-tsm, coco-aa, dstack"):
            quote_source(other, str(tmp_path))


def test_none_takes_the_place_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that would answer is not asked by whoever asks the kernel, nor the other way round."""
    (tmp_path / "report").mkdir()
    with serving(tmp_path / "agent.sock", dstack(quoted)) as seen:
        monkeypatch.setattr(quote_sources, "dstack_agent", lambda: dstack_agent(str(tmp_path / "agent.sock")))
        monkeypatch.setattr(quote_sources, "coco_agent", lambda: coco_agent(str(tmp_path / "none.sock")))
        for name in ("configfs-tsm", "coco-aa"):
            with pytest.raises(QuoteSourceError):
                quote_source(name, str(tmp_path / "report")).report(REPORT_DATA, DEADLINE)
        assert seen == []
        assert quote_source("dstack", str(tmp_path / "report")).report(REPORT_DATA, DEADLINE).outblob


def test_doctor_looks_at_the_source_that_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "agent.sock")
    monkeypatch.setattr(quote_sources, "dstack_agent", lambda: dstack_agent(path))
    with serving(tmp_path / "agent.sock", dstack(quoted)) as seen:
        found = doctor_looks.quotes("dstack", str(tmp_path), ask=False)
        assert found == Fine(f"somebody listens at {path}; no report was asked for")
        found = doctor_looks.quotes("dstack", str(tmp_path), ask=True)
        assert found == Fine(f"tdx_guest, a report of {len(GENUINE)} bytes")
        assert len(seen) == 2
    assert isinstance(doctor_looks.quotes("dstack", str(tmp_path), ask=False), Wrong)
    assert isinstance(doctor_looks.quotes("tpm", str(tmp_path), ask=False), Wrong)

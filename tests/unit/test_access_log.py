"""Refusals and requests in the journal: all are counted, few are told, and nothing stops the reading."""

from __future__ import annotations

import asyncio
import json

import pytest

from toposeal.dataplane.refusals import FIELDS
from toposeal.dataplane.requests import FIELDS as REQUEST_FIELDS
from toposeal.host import access_log
from toposeal.host.access_log import AccessLog
from toposeal.limits import MAX_LOG_LINE, MAX_REFUSALS_PER_SECOND, MAX_TOLD_REQUESTS_PER_SECOND

LINE = json.dumps({**dict.fromkeys(FIELDS), "flags": "NR", "source": "10.0.0.9:1"}).encode() + b"\n"


_REQUEST = {**dict.fromkeys(REQUEST_FIELDS), "method": "GET", "path": "/a", "status": 200}
REQUEST = json.dumps(_REQUEST, separators=(",", ":")).encode() + b"\n"


def read(*chunks: bytes, pause_s: float = 0) -> AccessLog:
    """A log that has read `chunks`, with a pause before the last."""

    async def run() -> AccessLog:
        stream, log = asyncio.StreamReader(), AccessLog()
        reading = asyncio.create_task(log.read(stream))
        for chunk in chunks[:-1]:
            stream.feed_data(chunk)
            await asyncio.sleep(0.001)
        await asyncio.sleep(pause_s)
        stream.feed_data(chunks[-1])
        stream.feed_eof()
        await reading
        return log

    return asyncio.run(run())


def said(capfd: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


def test_a_refusal_becomes_an_event(capfd: pytest.CaptureFixture[str]) -> None:
    assert read(LINE[:30], LINE[30:]).total == 1
    (event,) = said(capfd)
    assert (event["event"], event["kind"], event["source"]) == ("refused", "no_route", "10.0.0.9:1")


def test_a_flood_is_counted_and_not_told(capfd: pytest.CaptureFixture[str]) -> None:
    log = read(*[LINE * 1000] * 10)
    assert log.total == 10_000
    assert log.told == {"no_route": MAX_REFUSALS_PER_SECOND}
    untold = 10_000 - MAX_REFUSALS_PER_SECOND
    assert log.counted() == {"no_route": MAX_REFUSALS_PER_SECOND, "untold": untold}
    events = said(capfd)
    assert len(events) == MAX_REFUSALS_PER_SECOND + 1
    assert events[-1]["event"] == "refused_more"
    assert events[-1]["count"] == 10_000 - MAX_REFUSALS_PER_SECOND


def test_the_next_turn_has_an_allowance_of_its_own(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "_TURN_S", 0.01)
    read(LINE * (MAX_REFUSALS_PER_SECOND + 5), LINE, pause_s=0.1)
    events = [event["event"] for event in said(capfd)]
    assert events == ["refused"] * MAX_REFUSALS_PER_SECOND + ["refused_more", "refused"]


@pytest.mark.parametrize("text", [b"nonsense\n", b"x" * (MAX_LOG_LINE + 1) + b"\n"], ids=["nonsense", "long"])
def test_what_is_no_refusal_is_counted_alone(text: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    assert read(text, LINE).total == 2
    assert [event["event"] for event in said(capfd)] == ["refused", "refused_more"]


def test_a_line_without_an_end_takes_no_memory(capfd: pytest.CaptureFixture[str]) -> None:
    assert read(*[b"x" * 60_000] * 50, b"\n" + LINE).total == 2
    assert [event["event"] for event in said(capfd)] == ["refused", "refused_more"]


def test_requests_have_an_allowance_of_their_own(capfd: pytest.CaptureFixture[str]) -> None:
    """Neither a flood of requests nor one of refusals hides the other."""
    log = read(*[REQUEST * 500, LINE * 500] * 2)
    assert log.total == 1000
    events = said(capfd)
    counts = {name: len([e for e in events if e["event"] == name]) for name in ("request", "refused")}
    assert counts == {"request": MAX_TOLD_REQUESTS_PER_SECOND, "refused": MAX_REFUSALS_PER_SECOND}
    first = next(event for event in events if event["event"] == "request")
    assert (first["method"], first["path"], first["status"], first["peer"]) == ("GET", "/a", 200, "")
    more = {event["event"]: event["count"] for event in events[-2:]}
    assert more == {
        "request_more": 1000 - MAX_TOLD_REQUESTS_PER_SECOND,
        "refused_more": 1000 - MAX_REFUSALS_PER_SECOND,
    }


def test_what_only_looks_like_a_request_is_counted_alone(capfd: pytest.CaptureFixture[str]) -> None:
    assert read(b'{"method":1}\n').total == 0
    assert [event["event"] for event in said(capfd)] == ["request_more"]

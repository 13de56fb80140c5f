"""Logs of sidecars as spans: whatever stands in a log, and what a round consisted of."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toposeal.tracing.lines import Line, boot_time, read_lines
from toposeal.tracing.otlp import resource_spans
from toposeal.tracing.spans import Note, Pod, Span, pods

BOOT = 1_700_000_000 * 10**9
MS = 10**6


def event(t: float, name: str, **values: Any) -> str:
    return json.dumps({"t": t, "event": name, **values})


def phase(t: float, name: str, epoch: int, **values: Any) -> str:
    return event(t, "phase", phase=name, epoch=epoch, **values)


GENESIS = [
    event(10, "start", role="web", mesh="shop", version=1),
    event(10.1, "member", member="m-0.shop"),
    phase(10.2, "boot", 0),
    event(10.25, "quote", purpose="join", ms=40),
    phase(10.3, "gathering", 1),
    event(10.35, "refused", reason="debug_mode", field="tdx.attributes", found="1", expected="0"),
    phase(10.4, "proposed", 1),
    phase(10.5, "committed", 1),
    event(10.6, "quote", purpose="seal", ms=40),
    phase(10.7, "sealed", 1, manifest="aa"),
    phase(10.8, "active", 1, manifest="aa"),
    event(10.9, "gate", state="open", epoch=1),
]


def ns(t: float) -> int:
    return round(t * 1000) * MS


def read(lines: list[str]) -> list[Pod]:
    return list(pods(read_lines("\n".join(lines))))


def test_a_round_is_its_phases_its_quotes_and_the_opening() -> None:
    (pod,) = read(GENESIS)
    assert (pod.mesh, pod.role, pod.member, pod.booted_at) == ("shop", "web", "m-0.shop", None)
    (one,) = pod.rounds
    assert one.whole == Span("round", ns(10.2), ns(10.9))
    assert sorted((part.name, part.start, part.end) for part in one.parts) == sorted(
        [
            ("boot", ns(10.2), ns(10.3)),
            ("quote join", ns(10.21), ns(10.25)),
            ("gathering", ns(10.3), ns(10.4)),
            ("proposed", ns(10.4), ns(10.5)),
            ("committed", ns(10.5), ns(10.7)),
            ("quote seal", ns(10.56), ns(10.6)),
            ("sealed", ns(10.7), ns(10.8)),
            ("opening", ns(10.8), ns(10.9)),
        ]
    )
    assert one.notes == (Note(ns(10.35), "refused", "debug_mode", "tdx.attributes"),)
    assert (one.epoch, one.manifest) == (1, "aa")


def test_a_phase_comes_before_a_quote_that_begins_with_it() -> None:
    """A quote is told by its end and its time, and cut where the round begins."""
    at = next(number for number, line in enumerate(GENESIS) if '"join"' in line)
    quote = json.loads(GENESIS[at])
    early = json.dumps({**quote, "ms": quote["ms"] + 1_000})
    (pod,) = read([*GENESIS[:at], early, *GENESIS[at + 1 :]])
    one = pod.rounds[0]
    assert [part.name for part in one.parts[:2]] == ["boot", "quote join"]
    assert one.parts[0].start == one.parts[1].start == one.whole.start


def test_a_phase_that_took_no_time_comes_before_the_one_after_it() -> None:
    """Times are whole milliseconds, and a member may pass a phase in less."""
    sealed = next(number for number, line in enumerate(GENESIS) if '"sealed"' in line)
    passed = [*GENESIS[:sealed], phase(10.8, "sealed", 1, manifest="aa"), *GENESIS[sealed + 1 :]]
    (pod,) = read(passed)
    (one,) = pod.rounds
    assert [part.name for part in one.parts[-4:]] == ["committed", "quote seal", "sealed", "opening"]
    assert one.parts[-2].start == one.parts[-2].end == one.parts[-1].start


def test_a_later_round_is_another_and_one_that_still_runs_is_not_told() -> None:
    later = [
        phase(20, "gathering", 2),
        phase(20.5, "active", 2, manifest="bb"),
        phase(30, "gathering", 3),  # no gate line: Envoy refused what came of the round before
        phase(30.5, "active", 3, manifest="cc"),
        event(30.6, "gate", state="open", epoch=3),
        phase(40, "gathering", 4),
    ]
    (pod,) = read(GENESIS + later)
    assert [(one.epoch, one.manifest, one.whole.end) for one in pod.rounds] == [
        (1, "aa", ns(10.9)),
        (2, "bb", ns(20.5)),
        (3, "cc", ns(30.6)),
    ]


def test_a_round_that_brought_no_manifest_has_none() -> None:
    """Back to the manifest that is served: nothing came of it; and the end of a member is a round's end."""
    lines = [phase(20, "gathering", 2), phase(21, "active", 1, manifest="aa")]
    fenced = [
        phase(30, "gathering", 2),
        event(31, "fence", reason="internal", field="x"),
        phase(31, "fenced", 0),
    ]
    (pod,) = read(GENESIS + lines + fenced)
    assert [(one.manifest, one.whole.end) for one in pod.rounds] == [
        ("aa", ns(10.9)),
        ("", ns(21)),
        ("", ns(31)),
    ]
    assert [note.event for note in pod.rounds[2].notes] == ["fence"]


def test_a_gate_that_is_suspended_in_the_meantime_ends_the_round_without_an_opening() -> None:
    (pod,) = read([*GENESIS[:-1], event(11, "gate", state="suspended", epoch=1)])
    assert [part.name for part in pod.rounds[0].parts if part.name == "opening"] == []


def test_each_start_is_another_pod() -> None:
    first, second = read([*GENESIS, *GENESIS])
    assert first == second
    assert next(iter(read(GENESIS[:5] + GENESIS))).rounds == ()


@pytest.mark.parametrize(
    "line",
    [
        '2023-11-14T22:13:30.250000001Z stdout F {"t": 10, "event": "stop"}',
        '2023-11-14T22:13:30.250000001Z {"t": 10, "event": "stop"}',
        '2023-11-15T00:13:30.250000001+02:00 stderr F {"t": 10, "event": "stop"}',
        '{"log": "{\\"t\\": 10, \\"event\\": \\"stop\\"}\\n", "stream": "stdout", "time": '
        '"2023-11-14T22:13:30.250000001Z"}',
    ],
)
def test_times_of_container_runtimes_are_read(line: str) -> None:
    (found,) = read_lines(line)
    assert (found.since_boot, found.event) == (ns(10), "stop")
    assert found.read_at == BOOT + ns(10.25) + 1
    assert boot_time([found]) == BOOT + ns(0.25) + 1


def test_the_line_that_was_read_soonest_tells_the_boot() -> None:
    lines = [Line(ns(1), 5 * 10**9, "a", {}), Line(ns(2), None, "b", {}), Line(ns(3), 6 * 10**9, "c", {})]
    assert boot_time(lines) == 3 * 10**9
    assert boot_time(lines[1:2]) is None
    assert boot_time([Line(ns(10), 1, "a", {})]) == 0


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Traceback",
        "[]",
        "[" * 100_000,
        '{"event": "stop"}',
        '{"t": "1", "event": "stop"}',
        '{"t": true, "event": "stop"}',
        '{"t": 1, "event": 2}',
        '{"t": -1, "event": "stop"}',
        '{"t": 1e300, "event": "stop"}',
        '{"t": NaN, "event": "stop"}',
        '{"log": 1, "time": "2023-11-14T22:13:30Z"}',
        '{"log": "{", "time": "2023-11-14T22:13:30Z"}',
        '2023-99-14T22:13:30Z {"t": 1, "event": "stop"}',
    ],
)
def test_what_is_no_line_of_ours_is_passed_over(line: str) -> None:
    assert list(read_lines(f"{line}\n{event(1, 'stop')}\n")) == list(read_lines(event(1, "stop")))


def test_values_of_other_kinds_are_none() -> None:
    (line,) = read_lines(event(1, "phase", phase=3, epoch="1", manifest="\x1b", ok=True, less=-1))
    assert (line.text("phase"), line.text("none"), line.text("manifest")) == ("", "", "\\u{1b}")
    assert (line.number("epoch"), line.number("ok"), line.number("less"), line.number("none")) == (0, 0, 0, 0)


def test_otlp_names_the_trace_by_its_manifest() -> None:
    (pod,) = read(GENESIS)
    other = Pod("shop", "api", "m-1.shop", pod.rounds)
    ours, theirs = (resource_spans(one, BOOT)["scopeSpans"][0]["spans"] for one in (pod, other))
    assert {span["traceId"] for span in ours} == {span["traceId"] for span in theirs}
    identifiers = [span["spanId"] for span in (*ours, *theirs)]
    assert len({*identifiers}) == len(identifiers) == 2 * (1 + 8)
    root, *parts = ours
    assert {span["parentSpanId"] for span in parts} == {root["spanId"]}
    assert (root["status"], root["startTimeUnixNano"]) == ({"code": 1}, str(BOOT + ns(10.2)))
    assert root["attributes"] == [
        {"key": "toposeal.epoch", "value": {"intValue": "1"}},
        {"key": "toposeal.manifest", "value": {"stringValue": "aa"}},
    ]
    assert [span["name"] for span in parts][:2] == ["boot", "quote join"]
    assert root["events"][0]["attributes"][0] == {
        "key": "toposeal.reason",
        "value": {"stringValue": "debug_mode"},
    }


def test_otlp_of_a_round_without_a_manifest_is_a_trace_of_its_own_and_an_error() -> None:
    lines = [phase(20, "gathering", 2), phase(21, "active", 1, manifest="aa")]
    (pod,) = read(GENESIS + lines)
    spans = resource_spans(pod, BOOT)["scopeSpans"][0]["spans"]
    roots = [span for span in spans if "parentSpanId" not in span]
    assert [span["status"]["code"] for span in roots] == [1, 2]
    assert roots[0]["traceId"] != roots[1]["traceId"]


_TEXT = st.one_of(
    st.text(max_size=20),
    st.sampled_from(GENESIS),
    st.tuples(st.just("2023-11-14T22:13:30Z "), st.sampled_from(GENESIS)).map("".join),
)


@given(st.lists(_TEXT, max_size=30))
def test_C2_no_log_breaks_it_and_spans_end_after_they_begin(lines: list[str]) -> None:
    for pod in read(lines):
        spans = resource_spans(pod, BOOT)["scopeSpans"][0]["spans"]
        assert json.dumps(spans).isascii()

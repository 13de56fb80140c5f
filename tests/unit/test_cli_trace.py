"""`toposeal trace`, and its output in the types of OpenTelemetry's own collector."""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status, TracesData

from toposeal.cli import trace
from toposeal.cli.main import entry

TIME = "2023-11-14T22:13:30.25Z "
LINES = [
    '{"t": 10, "event": "start", "role": "web", "mesh": "shop", "version": 1}',
    '{"t": 10, "event": "member", "member": "m-0.shop"}',
    '{"t": 10, "event": "phase", "phase": "boot", "epoch": 0}',
    '{"t": 10.1, "event": "refused", "reason": "debug_mode", "field": "tdx.attributes"}',
    '{"t": 11, "event": "phase", "phase": "active", "epoch": 1, "manifest": "aa"}',
    '{"t": 12, "event": "gate", "state": "open", "epoch": 1}',
]
TIMED = "".join(f"{TIME}{line}\n" for line in LINES)
PLAIN = "\n".join(LINES)


def file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "log"
    path.write_text(text)
    return str(path)


def as_protobuf(text: str) -> TracesData:
    """OTLP's JSON has identifiers in hexadecimal where protobuf's has base64; else they are the same."""

    def with_base64(value: Any) -> Any:
        if isinstance(value, list):
            return [with_base64(one) for one in value]
        if not isinstance(value, dict):
            return value
        return {
            k: base64.b64encode(bytes.fromhex(v)).decode()
            if k.endswith(("traceId", "panId"))
            else with_base64(v)
            for k, v in value.items()
        }

    return ParseDict(with_base64(json.loads(text)), TracesData())


def test_opentelemetrys_types_read_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry(["trace", file(tmp_path, TIMED)]) == 0
    (found,) = as_protobuf(capsys.readouterr().out).resource_spans
    attributes = {one.key: one.value.string_value for one in found.resource.attributes}
    assert attributes == {
        "service.name": "toposeal",
        "service.instance.id": "m-0.shop",
        "toposeal.mesh": "shop",
        "toposeal.role": "web",
    }
    spans = found.scope_spans[0].spans
    assert [(span.name, span.end_time_unix_nano - span.start_time_unix_nano) for span in spans] == [
        ("round", 2 * 10**9),
        ("boot", 10**9),
        ("opening", 10**9),
    ]
    assert {len(span.trace_id) for span in spans} == {16}
    assert {len(span.span_id) for span in spans} == {8}
    assert [span.parent_span_id for span in spans] == [b"", spans[0].span_id, spans[0].span_id]
    assert {span.kind for span in spans} == {Span.SPAN_KIND_INTERNAL}
    assert (spans[0].status.code, [one.name for one in spans[0].events]) == (
        Status.STATUS_CODE_OK,
        ["refused"],
    )
    assert (
        spans[0].start_time_unix_nano == 1_700_000_008_250_000_000
    )  # read at the latest: the line of the gate


def test_a_log_without_times_needs_the_boot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file(tmp_path, PLAIN)
    assert entry(["trace", path]) == 1
    assert "--boot" in capsys.readouterr().err
    assert entry(["trace", "--boot", "1700000000", path]) == 0
    (found,) = as_protobuf(capsys.readouterr().out).resource_spans
    assert found.scope_spans[0].spans[0].start_time_unix_nano == 1_700_000_010 * 10**9


@pytest.mark.parametrize("boot", ["", "-1", "1.5", "1" * 11, "٣"])
def test_a_boot_that_is_no_time_is_refused(tmp_path: Path, boot: str) -> None:
    assert entry(["trace", f"--boot={boot}", file(tmp_path, PLAIN)]) == 1


@pytest.mark.parametrize(
    "text", ["", "\n", "Traceback\n", '{"level": "info", "msg": "of another program"}\n']
)
def test_a_file_that_is_no_log_of_a_sidecar_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert entry(["trace", file(tmp_path, text)]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "no line of a sidecar" in captured.err


def test_several_logs_and_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TIMED.encode() + b"\xff\n")))
    assert entry(["trace", file(tmp_path, TIMED), "-"]) == 0
    first, second = as_protobuf(capsys.readouterr().out).resource_spans
    assert first == second


def test_more_than_one_reads_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trace, "MAX_LOG_SIZE", 10)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"." * 11)))
    assert (entry(["trace", file(tmp_path, TIMED)]), entry(["trace", "-"])) == (1, 1)
    assert "too_large" in capsys.readouterr().err

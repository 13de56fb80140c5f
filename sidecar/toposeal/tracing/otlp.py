"""Spans as OTLP's JSON: what OpenTelemetry collectors read from files. No IO.

Source: OpenTelemetry Protocol 1.x, "JSON Protobuf Encoding": names in lowerCamelCase, 64-bit numbers as
strings, identifiers in hexadecimal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from toposeal.tracing.spans import Note, Pod, Round, Span

_INTERNAL = 1  # Span.SpanKind
_OK, _ERROR = 1, 2  # Status.StatusCode
_TRACE_DIGITS, _SPAN_DIGITS = 32, 16


def resource_spans(pod: Pod, booted_at: int) -> dict[str, Any]:
    """`ResourceSpans` of one run, whose guest booted at `booted_at` (ns since 1970).

    The rounds that members made for one manifest are of one trace, which is named by it.
    """
    resource = {
        "service.name": "toposeal",
        "service.instance.id": pod.member,
        "toposeal.mesh": pod.mesh,
        "toposeal.role": pod.role,
    }
    spans = [span for one in pod.rounds for span in _spans(one, pod, booted_at)]
    scope = {"scope": {"name": "toposeal"}, "spans": spans}
    return {"resource": {"attributes": _attributes(resource)}, "scopeSpans": [scope]}


def _spans(one: Round, pod: Pod, booted_at: int) -> Iterator[dict[str, Any]]:
    whose = pod.mesh, pod.role, pod.member, str(booted_at + one.whole.start)
    trace = _identifier(_TRACE_DIGITS, *((one.manifest,) if one.manifest else whose))
    root = _identifier(_SPAN_DIGITS, trace, *whose)
    yield {
        **_span(trace, root, one.whole, booted_at),
        "attributes": _attributes({"toposeal.epoch": one.epoch, "toposeal.manifest": one.manifest}),
        "events": [_event(note, booted_at) for note in one.notes],
        "status": {"code": _OK if one.manifest else _ERROR},
    }
    for number, part in enumerate(one.parts):
        own = _identifier(_SPAN_DIGITS, root, str(number))
        yield {**_span(trace, own, part, booted_at), "parentSpanId": root}


def _span(trace: str, own: str, span: Span, booted_at: int) -> dict[str, Any]:
    return {
        "traceId": trace,
        "spanId": own,
        "name": span.name,
        "kind": _INTERNAL,
        "startTimeUnixNano": str(booted_at + span.start),
        "endTimeUnixNano": str(booted_at + span.end),
    }


def _event(note: Note, booted_at: int) -> dict[str, Any]:
    attributes = {"toposeal.reason": note.reason, "toposeal.field": note.field}
    return {
        "timeUnixNano": str(booted_at + note.at),
        "name": note.event,
        "attributes": _attributes(attributes),
    }


def _attributes(values: Mapping[str, str | int]) -> list[dict[str, Any]]:
    """Without those that are empty."""
    return [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
        for key, value in values.items()
        if value != ""
    ]


def _identifier(digits: int, *names: str) -> str:
    """The same for the same names, in any log."""
    text = "".join(f"{len(name)}:{name}" for name in names)
    return hashlib.sha256(text.encode()).hexdigest()[:digits]

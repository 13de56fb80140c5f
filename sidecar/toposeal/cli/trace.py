"""`toposeal trace`: rounds as OpenTelemetry spans, from logs."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from toposeal.errors import Reason, UsageError, printable
from toposeal.limits import MAX_LOG_SIZE

_STDIN = "-"


def register(subparsers: Any) -> None:
    """Add `trace`."""
    parser = subparsers.add_parser(
        "trace",
        help="turn logs of sidecars into OpenTelemetry spans of their rounds",
        description="Read logs of sidecars and print what each of their rounds consisted of as OTLP JSON, "
        "for a collector's file receiver. Logs come from the host: a trace is a hint and proves nothing.",
        epilog="Exit codes: 0 done, 1 usage.",
    )
    add = parser.add_argument
    add(
        "file",
        metavar="FILE",
        nargs="+",
        help="a log with times, as CRI, Docker or kubectl logs --timestamps give it; - for standard input",
    )
    add(
        "--boot",
        metavar="SECONDS",
        help="for logs without times: when the guest booted, in seconds since 1970",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from toposeal.tracing.lines import read_lines
    from toposeal.tracing.otlp import resource_spans
    from toposeal.tracing.spans import pods

    given = None if args.boot is None else _boot(args.boot)
    found = []
    for path in args.file:
        told = list(pods(read_lines(_text(path))))
        if not told:
            raise UsageError.of(Reason.USAGE, path, "no line of a sidecar", "its log")
        for pod in told:
            booted_at = pod.booted_at if given is None else given
            if booted_at is None:
                expected = "lines with the time when they were read, or --boot"
                raise UsageError.of(Reason.USAGE, path, "no time", expected)
            found.append(resource_spans(pod, booted_at))
    print(json.dumps({"resourceSpans": found}))
    return 0


def _boot(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise UsageError.of(Reason.USAGE, "--boot", printable(text), "whole seconds since 1970")
    return int(text) * 10**9


def _text(path: str) -> str:
    from toposeal.host.files import read_once

    data = sys.stdin.buffer.read(MAX_LOG_SIZE + 1) if path == _STDIN else read_once(path, MAX_LOG_SIZE)
    if len(data) > MAX_LOG_SIZE:
        raise UsageError.of(Reason.TOO_LARGE, "standard input", f"more than {MAX_LOG_SIZE} bytes", "less")
    return data.decode("utf-8", "replace")

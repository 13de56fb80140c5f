"""The format of a log is told by its bytes, and never taken for a quote or a report."""

from __future__ import annotations

import pytest
from support.snp import WEB, chip
from support.tdx import HOST
from support.tdx import WEB as TDX_WEB

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.event_log import LogKind
from toposeal.evidence.log_reader import log_kind, read_event_log
from toposeal_lab.eventlogs import (
    agent_event,
    agent_text,
    boot_events,
    ccel,
    ccel_table,
    dstack_event,
    dstack_log,
)

LOGS = {
    LogKind.CCEL: [ccel(boot_events())],
    LogKind.DSTACK: [dstack_log([dstack_event("a", b"b")]), b"\n [ ]"],
    LogKind.AAEL: [agent_text(["a b c"])[0], agent_event("a", "b", "c").encode()],
}


def test_every_format_is_told_and_read() -> None:
    for kind, files in LOGS.items():
        for data in files:
            assert log_kind(data) is kind
            assert read_event_log(data).kind is kind


def test_anything_else_is_refused() -> None:
    report = bytearray(chip().report(bytes(64), WEB))
    report[4] = 6  # the guest's version number stands where a log has its type
    for data in (b"", b"{}", ccel_table(), HOST.quote(bytes(64), TDX_WEB), bytes(report), b"INIT"):
        assert log_kind(data) is None
        with pytest.raises(EvidenceError) as caught:
            read_event_log(data)
        assert caught.value.reason is Reason.EVENT_LOG

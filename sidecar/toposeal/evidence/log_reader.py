"""Which format does an event log have? Told by its first bytes, then read by that format's parser. No IO."""

from __future__ import annotations

from toposeal.evidence.aael import INIT, parse_aael
from toposeal.evidence.dstack_log import parse_dstack_log
from toposeal.evidence.event_log import EV_EVENT_TAG, EventLog, LogKind, refusal
from toposeal.evidence.tcg_log import SPEC_ID, SPEC_ID_OFFSET, parse_tcg_log

_PARSERS = {
    LogKind.CCEL: parse_tcg_log,
    LogKind.DSTACK: parse_dstack_log,
    LogKind.AAEL: parse_aael,
}
_BLANK = b" \t\r\n"
# Type, one digest, SHA-384: behind the index of a TCG_PCR_EVENT2. No guest policy of AMD's reads so.
_TAGGED = EV_EVENT_TAG.to_bytes(4, "little") + b"\1\0\0\0" + b"\x0c\0"


def log_kind(data: bytes) -> LogKind | None:
    """The format that `data` starts as, or None. No quote, report or table starts so."""
    if data.startswith(INIT) or data[4 : 4 + len(_TAGGED)] == _TAGGED:
        return LogKind.AAEL
    if data.startswith(SPEC_ID, SPEC_ID_OFFSET):
        return LogKind.CCEL
    return LogKind.DSTACK if data.lstrip(_BLANK).startswith(b"[") else None


def read_event_log(data: bytes) -> EventLog:
    """Parse a log of any format. Raises EvidenceError(EVENT_LOG)."""
    kind = log_kind(data)
    if kind is None:
        raise refusal("kind", data[:8], "a log of CCEL, dstack or the attestation agent")
    return _PARSERS[kind](data)

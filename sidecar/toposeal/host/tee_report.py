"""What a source of quotes brings, and what each is held to: a report that parses, of our report data."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Protocol

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential

from toposeal.errors import EvidenceError, QuoteSourceError, Reason
from toposeal.evidence.snp_report import parse_snp_report
from toposeal.evidence.tdx_quote import parse_tdx_quote
from toposeal.limits import MAX_TDX_QUOTE_SIZE, REPORT_DATA_SIZE

TDX_GUEST: Literal["tdx_guest"] = "tdx_guest"
SEV_GUEST: Literal["sev_guest"] = "sev_guest"
ProviderName = Literal["tdx_guest", "sev_guest"]
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 5.0  # seconds; a quote in flight takes the host up to 30


@dataclass(frozen=True)
class TeeReport:
    """What one request brought. `outblob` is padded as the host pads it; `auxblob`, SNP's GHCB certificate
    table, is the host's word alone and empty where there is none, as always on TDX."""

    provider: ProviderName
    outblob: bytes  # 1 to 8192 bytes from tdx_guest, 1184 from sev_guest
    auxblob: bytes  # up to 32 KiB


class QuoteSource(Protocol):
    """Whom the daemon asks for reports, one at a time. Blocks up to `deadline_s` seconds, and a moment.

    Raises QuoteSourceError; its `retry` says whether a later call can help.
    """

    def report(self, report_data: bytes, deadline_s: float) -> TeeReport:
        """The report for exactly `report_data` (64 bytes)."""

    def provider(self, deadline_s: float) -> str:
        """Who would answer; no report is asked for."""


def expect_report_data(
    provider: ProviderName, blob: bytes, report_data: bytes, field: str, *, retry: bool
) -> None:
    """A report of something else is never handed on, whoever brought it (E15). `field` is what a refusal
    calls it, `retry` whether another attempt may bring ours. Raises QuoteSourceError.
    """
    if provider == TDX_GUEST and len(blob) > MAX_TDX_QUOTE_SIZE:
        expected = f"at most {MAX_TDX_QUOTE_SIZE}: a larger one is DICE, not a DCAP quote of version 4 or 5"
        raise refusal(field, f"{len(blob)} bytes", expected)
    try:
        found = _REPORT_DATA[provider](blob)
    except EvidenceError as error:
        raise refusal(field, error, f"a report of {provider}", retry) from error
    if found != report_data:
        raise refusal(f"{field}.report_data", found, report_data, retry)


_REPORT_DATA: Mapping[ProviderName, Callable[[bytes], bytes]] = MappingProxyType(
    {
        TDX_GUEST: lambda blob: parse_tdx_quote(blob).report_data,
        SEV_GUEST: lambda blob: parse_snp_report(blob).report_data,
    }
)


def check_size(report_data: bytes) -> None:
    """Raises ValueError: whoever asks for anything else has a defect."""
    if len(report_data) != REPORT_DATA_SIZE:
        raise ValueError(f"report_data has {len(report_data)} bytes, not {REPORT_DATA_SIZE}")


def until(end: float, attempt: Callable[[], TeeReport]) -> TeeReport:
    """Repeat `attempt` with growing pauses while its failures are transient and `end`, on the monotonic
    clock, is not reached."""

    def late(state: RetryCallState) -> bool:
        return time.monotonic() + state.upcoming_sleep >= end

    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, QuoteSourceError) and error.retry),
        wait=wait_exponential(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT),
        stop=late,
        reraise=True,
    )
    return retrying(attempt)


def refusal(field: str, found: object, expected: object, retry: bool = False) -> QuoteSourceError:
    made = QuoteSourceError.of(Reason.QUOTE_SOURCE, f"quote_source.{field}", found, expected)
    made.retry = retry
    return made

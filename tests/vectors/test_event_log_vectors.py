"""Genuine event logs replay to the registers of the genuine quotes that came with them, and to no others."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from toposeal.cli.main import entry
from toposeal.errors import EvidenceError
from toposeal.evidence.event_log import EventLog
from toposeal.evidence.tcg_log import parse_ccel_table
from toposeal.evidence.tdx_quote import TdxQuote, parse_tdx_quote
from toposeal.verification.event_log import compare, read_logs

CCEL, DSTACK = "v4-gcp-cos113-ccel", "v4-dstack-rtmr3-log"
LOG_FILES = {CCEL: "ccel_data.bin", DSTACK: "eventlog.json"}


@dataclass(frozen=True)
class Vector:
    folder: Path
    manifest: dict[str, Any]

    def path(self, name: str) -> str:
        return str(self.folder / name)

    @property
    def log(self) -> bytes:
        return Path(self.path(LOG_FILES[self.manifest["name"]])).read_bytes()

    @property
    def quote(self) -> TdxQuote:
        return parse_tdx_quote((self.folder / "quote.bin").read_bytes())


@pytest.fixture
def vectors(shared_vectors: Path) -> dict[str, Vector]:
    entries = json.loads((shared_vectors / "manifest.json").read_text())
    return {
        each["name"]: Vector(shared_vectors / each["dir"], each) for each in entries if each["kind"] == "tdx"
    }


def logs(data: bytes) -> tuple[EventLog, ...]:
    return read_logs([data])


def test_a_firmwares_log_replays(vectors: dict[str, Vector]) -> None:
    wanted = dict(vectors[CCEL].manifest["ccel"])
    assert wanted.pop("file") == LOG_FILES[CCEL]
    assert compare(vectors[CCEL].quote, logs(vectors[CCEL].log)).summary() == {"ccel": wanted}


def test_dstacks_log_replays(vectors: dict[str, Vector]) -> None:
    found = compare(vectors[DSTACK].quote, logs(vectors[DSTACK].log)).summary()
    assert found == {"eventlog": vectors[DSTACK].manifest["eventlog"]}


def test_dstacks_runtime_digests_are_computed_and_not_taken(vectors: dict[str, Vector]) -> None:
    """The application that is measured is the one beside the log."""
    events = json.loads(vectors[DSTACK].log)
    for event in events:
        if event["imr"] == 3:
            del event["digest"]
    assert compare(vectors[DSTACK].quote, logs(json.dumps(events).encode())).equal
    composed = (vectors[DSTACK].folder / "app-compose.json").read_bytes()
    named = {event.name: event.data for event in logs(vectors[DSTACK].log)[0].events}
    assert named["compose-hash"] == hashlib.sha256(composed).digest()


def test_no_log_replays_beside_the_quote_of_another_guest(vectors: dict[str, Vector]) -> None:
    for name in LOG_FILES:
        for other, vector in vectors.items():
            if other not in (name, "v4-spr-e4-unsupported-tcb"):  # whose publisher marked it
                assert not compare(vector.quote, logs(vectors[name].log)).equal


def test_the_table_points_to_a_log_of_that_size(vectors: dict[str, Vector]) -> None:
    table = parse_ccel_table(Path(vectors[CCEL].path("ccel_table.bin")).read_bytes())
    assert table.log_area_minimum_length == len(vectors[CCEL].log)


@pytest.mark.parametrize("offset", range(0, 18101, 97))
def test_a_changed_digest_or_structure_never_replays(vectors: dict[str, Vector], offset: int) -> None:
    """A byte of what an event tells may differ; then the event is not marked as proven by its digest."""
    whole = vectors[CCEL].log[:18105]
    data = bytearray(whole)
    data[offset] ^= 1
    try:
        found = logs(bytes(data))
    except EvidenceError:
        return
    pairs = list(zip(found[0].events, logs(whole)[0].events, strict=True))
    changed = [new for new, old in pairs if new.data != old.data]
    if compare(vectors[CCEL].quote, found).equal:
        assert not any(event.measured for event in changed)


def test_the_command_says_what_the_manifest_says(
    vectors: dict[str, Vector], capsys: pytest.CaptureFixture[str]
) -> None:
    vector = vectors[CCEL]
    verdict = next(each for each in vector.manifest["verdicts"] if each["tcb_status"] == "UpToDate")
    arguments = ["--collateral", vector.path(verdict["collateral"]), "--at", verdict["reference_time_iso"]]
    logged = ["--event-log", vector.path(LOG_FILES[CCEL])]
    code = entry(["evidence", "verify", vector.path("quote.bin"), *arguments, *logged, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (code, found["authentic"], found["acceptable"]) == (0, True, True)
    assert found["fields"] == vector.manifest["expected_fields"]
    assert found["ccel"] == {k: v for k, v in vector.manifest["ccel"].items() if k != "file"}
    assert len(found["event_log"]) == vector.manifest["ccel"]["events"]


def test_dstacks_quote_without_collateral_stays_unauthentic(
    vectors: dict[str, Vector], capsys: pytest.CaptureFixture[str]
) -> None:
    vector = vectors[DSTACK]
    logged = ["--event-log", vector.path(LOG_FILES[DSTACK])]
    code = entry(["evidence", "verify", vector.path("quote.bin"), *logged, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (code, found["authentic"], found["acceptable"]) == (2, False, False)
    assert found["fields"] == vector.manifest["expected_fields"]
    assert found["eventlog"] == vector.manifest["eventlog"]
    assert "event_log" not in found


def test_a_log_of_another_guest_is_refused_by_name(
    vectors: dict[str, Vector], capsys: pytest.CaptureFixture[str]
) -> None:
    vector = vectors[CCEL]
    verdict = next(each for each in vector.manifest["verdicts"] if each["tcb_status"] == "UpToDate")
    arguments = ["--collateral", vector.path(verdict["collateral"]), "--at", verdict["reference_time_iso"]]
    logged = ["--event-log", vectors[DSTACK].path(LOG_FILES[DSTACK])]
    assert entry(["evidence", "verify", vector.path("quote.bin"), *arguments, *logged]) == 2
    assert capsys.readouterr().out.count("[event_log_replay]") == 4


def test_the_example_of_the_page_is_what_is_printed(
    vectors: dict[str, Vector], capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text()
    example = page.split("$ toposeal evidence show ccel_data.bin\n")[1].split("```")[0].splitlines()
    assert entry(["evidence", "show", vectors[CCEL].path(LOG_FILES[CCEL])]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line for line in example if line != "..." and line not in shown] == []


def test_reading_and_replaying_is_quick(vectors: dict[str, Vector]) -> None:
    for name in LOG_FILES:
        fastest = min(_seconds(vectors[name]) for _ in range(5))
        assert fastest < 0.02


def _seconds(vector: Vector) -> float:
    start = time.perf_counter()
    compare(vector.quote, logs(vector.log))
    return time.perf_counter() - start

"""`--event-log` and `show` of a log: what is printed, what is refused, and what is not told too early."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.evidence_cli import Run, in_folder
from support.snp import WEB as SNP_WEB
from support.snp import chip
from support.tdx import HOST, NOW, PKI, WEB

from toposeal.evidence import rtmr
from toposeal_lab.eventlogs import (
    EV_IPL,
    Event,
    agent_event,
    agent_text,
    boot_events,
    ccel,
    ccel_table,
    dstack_event,
    dstack_log,
    registers,
)

AT = ("--at", str(NOW))
TDX = ("--collateral", "collateral", *AT)
BOOT, RUNTIME = boot_events(), [agent_event("domain", "operation", "content")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    text, digests = agent_text(["domain operation content"])
    first, second, third, _ = registers(BOOT)
    later = (first, second, third, rtmr.replay(rtmr.ZERO, digests))
    files = {
        "quote": HOST.quote(bytes(64), replace(WEB, rtmr=registers(BOOT))),
        "debug": HOST.quote(
            bytes(64), replace(WEB, rtmr=registers(BOOT), td_attributes=b"\1\0\0\x10\0\0\0\0")
        ),
        "later": HOST.quote(bytes(64), replace(WEB, rtmr=later)),
        "longer": HOST.quote(bytes(64), replace(WEB, rtmr=registers(BOOT + RUNTIME))),
        "collateral": PKI.collateral(),
        "log": ccel(BOOT),
        "other": ccel([*BOOT[:-1], Event(3, EV_IPL, b"debug")]),
        "cut": ccel(BOOT)[:100],
        "table": ccel_table(),
        "text": text,
        "binary": RUNTIME[0].encode(),
        "dstack": dstack_log([dstack_event("app-id", b"\1")]),
        "empty": b"[]",
        "report": chip().report(bytes(64), SNP_WEB),
        "vcek": chip().certificate,
        "chain": chip().chain,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `toposeal evidence ARGUMENTS` in `folder` under the lab's roots: exit code, stdout, stderr."""
    return in_folder(folder, {}, monkeypatch, capsys)


def verdict(run: Run, *arguments: str) -> tuple[int, dict[str, Any]]:
    code, out, _ = run("verify", *arguments, "--json")
    found: dict[str, Any] = json.loads(out)
    assert found["acceptable"] == (not found["reasons"]) == (code == 0)
    return code, found


def reasons(found: dict[str, Any]) -> list[str]:
    return [reason.rsplit("[", 1)[1].rstrip("]") for reason in found["reasons"]]


def test_a_log_that_replays_is_told(run: Run) -> None:
    code, found = verdict(run, "quote", *TDX, "--event-log", "log")
    assert (code, found["ccel"]["events"], found["ccel"]["matches"]) == (0, 5, [0, 1, 2, 3])
    assert [row["rtmr"] for row in found["event_log"]] == [0, 0, 1, None, 2]
    assert found["event_log"][1] == {
        "rtmr": 0,
        "eventType": "EV_SEPARATOR",
        "digest": BOOT[1].digest.hex(),
        "eventSize": 4,
        "event": "00000000",
        "measured": True,
        "text": "00000000",
    }
    code, out, err = run("verify", "quote", *TDX, "--event-log", "log")
    assert (code, err) == (0, "")
    assert "note: 5 events of ccel replay to the registers of the quote" in out


def test_without_a_log_nothing_is_said_of_one(run: Run) -> None:
    found = verdict(run, "quote", *TDX)[1]
    assert not {"ccel", "eventlog", "aael", "event_log"} & found.keys()
    assert "replay" not in run("verify", "quote", *TDX)[1]


def test_a_log_of_another_boot_makes_the_verdict_refused(run: Run) -> None:
    code, found = verdict(run, "quote", *TDX, "--event-log", "other")
    assert (code, found["authentic"], reasons(found)) == (2, True, ["event_log_replay"])
    assert (found["ccel"]["matches"], "event_log" in found) == ([0, 1, 3], False)
    code, out, _ = run("verify", "quote", *TDX, "--event-log", "other")
    assert (code, "quote.rtmr2" in out, "replay to the registers" in out) == (2, True, False)


def test_events_are_not_told_where_registers_prove_nothing(run: Run) -> None:
    """Of a guest that its host may debug, or a quote that nobody vouches for."""
    code, found = verdict(run, "debug", *TDX, "--event-log", "log")
    assert (code != 0, found["ccel"]["matches"], "event_log" in found) == (True, [0, 1, 2, 3], False)
    code, found = verdict(run, "quote", *AT, "--event-log", "log")
    assert (code, found["authentic"], "event_log" in found) == (2, False, False)
    assert reasons(found) == ["collateral_missing"]


def test_a_log_that_cannot_be_read_is_a_refusal(run: Run) -> None:
    code, found = verdict(run, "quote", *TDX, "--event-log", "cut")
    assert (code, found["authentic"], reasons(found)) == (2, True, ["event_log"])
    assert "ccel" not in found
    for wrong in ("table", "collateral", "quote"):
        assert reasons(verdict(run, "quote", *TDX, "--event-log", wrong)[1]) == ["event_log"]


def test_no_such_file_is_the_callers_fault(run: Run) -> None:
    assert run("verify", "quote", *TDX, "--event-log", "nothing")[0] == 1


def test_snp_has_no_such_registers(run: Run) -> None:
    snp = ("--vcek", "vcek", "--chain", "chain", *AT)
    code, found = verdict(run, "report", *snp, "--event-log", "log")
    assert (code, found["authentic"], reasons(found)) == (2, True, ["event_log"])


def test_several_logs_follow_each_other(run: Run) -> None:
    code, found = verdict(run, "longer", *TDX, "--event-log", "log", "--event-log", "binary")
    assert (code, found["aael"], found["ccel"]["matches"]) == (
        0,
        {"events": 1, "matches": [0, 1, 2, 3]},
        [0, 1, 2, 3],
    )
    assert found["event_log"][-1]["text"] == "domain operation content"
    code, found = verdict(run, "later", *TDX, "--event-log", "log", "--event-log", "text")
    assert (code, found["event_log"][-1]["event"]) == (0, "domain operation content")
    # The agent says that it began on a register of zeros, and here it did not.
    doubled = ("--event-log", "log", "--event-log", "binary", "--event-log", "text")
    code, found = verdict(run, "longer", *TDX, *doubled)
    assert (code, reasons(found)) == (2, ["event_log"])


def test_show_prints_a_table_and_judges_nothing(run: Run) -> None:
    code, out, err = run("show", "log")
    lines = out.splitlines()
    assert (code, err, lines[0].split(",")[:2]) == (0, "", ["kind ccel", " 5 events"])
    assert lines[2].split() == ["1", "rtmr0", "EV_SEPARATOR", BOOT[1].digest.hex()[:16], "=", "00000000"]
    assert lines[4].split() == ["3", "rtmr-", "EV_NO_ACTION", "-", "StartupLocality"]
    assert lines[6:10] == [f"rtmr{n}  {value.hex()}" for n, value in enumerate(registers(BOOT))]
    assert "nothing here is proven" in lines[-1]


def test_show_prints_every_kind(run: Run) -> None:
    for name, word in (
        ("text", "INIT sha384/"),
        ("binary", "domain operation content"),
        ("dstack", "app-id: 01"),
        ("empty", "0 events"),
        ("table", "log_area_minimum_length 65536"),
    ):
        code, out, _ = run("show", name)
        assert (code, word in out) == (0, True), name
    for name in ("log", "text", "binary", "dstack", "table"):
        code, out, _ = run("show", name, "--json")
        assert (code, json.loads(out)["kind"] in {"ccel", "aael", "eventlog", "ccel_table"}) == (0, True)
    event = json.loads(run("show", "dstack", "--json")[1])["events"][0]
    assert (event["rtmr"], event["event"], event["event_payload"]) == (3, "app-id", "01")
    assert run("show", "cut")[0] == 2


def test_C2_what_a_log_says_cannot_reach_the_terminal_raw(run: Run, folder: Path) -> None:
    (folder / "evil").write_bytes(dstack_log([dstack_event("\x1b[2Jname\n\u202e", b"\1")]))
    for arguments in (("show", "evil"), ("show", "evil", "--json")):
        out = run(*arguments)[1]
        assert all(" " <= character <= "~" or character == "\n" for character in out)

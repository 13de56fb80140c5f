"""`toposeal doctor` where there is no pod: what it prints, how it exits, and that it makes nothing."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from toposeal.cli.exits import Exit
from toposeal.cli.main import entry
from toposeal.daemon.doctor import look_around
from toposeal.gate import doctor as pure
from toposeal.host import doctor


@pytest.fixture(autouse=True)
def no_firewall(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own rules are not this test's business."""
    monkeypatch.setattr(doctor, "own_capabilities", lambda proc="": 0)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The findings by check."""
    assert entry(["doctor", "--json", *arguments]) == Exit.USAGE
    answer = json.loads(capsys.readouterr().out)
    assert answer["whole"] is False
    return {row["check"]: row for row in answer["findings"]}


def test_each_check_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry(["doctor"]) == Exit.USAGE
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines and all(line.startswith(("ok  ", "missing  ", "cannot tell  ")) for line in lines)
    assert any(line.startswith("missing      capabilities: ") for line in lines)


def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    rows = told(capsys)
    assert rows["distributions"]["state"] == "ok"
    missing = rows["capabilities"]
    assert (missing["state"], missing["reason"]) == ("missing", "usage")
    assert missing["cure"].startswith("give the container")


def test_only_what_is_given_is_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "collateral" not in told(capsys)
    given = told(capsys, "--owner", str(tmp_path / "owner.json"), "--topology", str(tmp_path / "none"))
    assert given["owner"]["state"] == "missing"
    assert given["topology"]["state"] == "cannot tell"
    assert given["collateral"]["state"] == "missing"  # the daemon would read its default
    assert told(capsys, "--state-dir", "here")["state directory"]["reason"] == "usage"


def test_a_configuration_that_cannot_be_read_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry(["doctor", "--config", "/nonexistent"]) == Exit.USAGE
    captured = capsys.readouterr()
    assert captured.out == "" and "/nonexistent" in captured.err


def test_without_a_distribution_the_rest_cannot_be_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("grpc")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "grpc", None)
    monkeypatch.delitem(sys.modules, "toposeal.daemon.doctor")
    rows = told(capsys)
    assert rows["distributions"]["state"] == "missing"
    assert rows["distributions"]["found"].startswith("grpcio: ")
    assert {rows[check]["state"] for check in ("capabilities", "envoy", "rules", "role")} == {"cannot tell"}
    assert rows["ports"]["state"] != "cannot tell"
    assert "toposeal.daemon.doctor" not in sys.modules


def test_nothing_that_a_check_may_miss_is_without_a_cure(tmp_path: Path) -> None:
    given = dict.fromkeys(("initdata", "owner", "topology", "collateral", "service_ca"), "/nonexistent")
    given |= {"peers": "", "state_dir": "/run/toposeal"}
    looks, _ = look_around(given, str(tmp_path), 0, quote=False)
    checks = {*looks, "distributions", "user", "capabilities", "ports", "route"}
    assert checks == set(pure._CURES)


def test_nothing_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        os.chmod(memory, 0o755)
        assert told(capsys, "--state-dir", f"{memory}/pod")["state directory"]["state"] == "ok"
        assert os.listdir(memory) == []

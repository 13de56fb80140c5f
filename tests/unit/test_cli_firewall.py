"""`toposeal firewall` without a kernel to change: rendering, usage, who may."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from toposeal.cli.exits import Exit
from toposeal.cli.main import entry

RULES = Path(__file__).resolve().parents[2] / "iptables"


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        ([], "lockdown.nft"),
        (["--backend", "nft"], "lockdown.nft"),
        (["--backend", "legacy4"], "lockdown.v4.rules"),
        (["--backend", "legacy6"], "lockdown.v6.rules"),
    ],
)
def test_render_prints_a_file_byte_by_byte(
    capsysbinary: pytest.CaptureFixture[bytes], arguments: list[str], file: str
) -> None:
    assert entry(["firewall", "render", *arguments]) == Exit.OK
    assert capsysbinary.readouterr().out == (RULES / file).read_bytes()


@pytest.mark.parametrize("arguments", [[], ["render", "--backend", "pf"], ["apply", "now"], ["remove"]])
def test_usage_errors_exit_1(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        entry(["firewall", *arguments])
    assert caught.value.code == Exit.USAGE


@pytest.mark.parametrize("command", ["apply", "check"])
def test_only_root_applies_and_checks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert entry(["firewall", command]) == Exit.USAGE
    assert "root" in capsys.readouterr().err

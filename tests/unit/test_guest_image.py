"""What goes into a measured guest image: current rules, a unit that systemd takes, a stricter policy."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.guest import GUEST, KINDS, RULES, UNITS, commands, install, settings

BACKENDS = {"lockdown.nft": "nft", "lockdown.v4.rules": "legacy4", "lockdown.v6.rules": "legacy6"}
# What the unit and a guest's own agent lean on; the real ones are systemd's.
TARGETS = ("sysinit", "basic", "network-pre", "shutdown")


@pytest.mark.parametrize("kind", KINDS)
def test_the_rules_are_those_that_the_daemon_applies(tmp_path: Path, kind: str) -> None:
    root = install(tmp_path, kind)
    found = sorted(path.name for path in (root / RULES).iterdir())
    assert found == [name for name in sorted(BACKENDS) if BACKENDS[name].startswith(kind)]
    for name in found:
        render = ["-Im", "toposeal", "firewall", "render", "--backend", BACKENDS[name]]
        done = subprocess.run([sys.executable, *render], capture_output=True, check=True)
        assert (root / RULES / name).read_bytes() == done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_each_file_of_rules_is_loaded_once(tmp_path: Path, kind: str) -> None:
    root = install(tmp_path, kind)
    loaded = [Path(command[-1]) for command in commands(root)]
    assert sorted(loaded) == sorted((root / RULES).iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_starts_containers_where_the_lockdown_failed(tmp_path: Path, kind: str) -> None:
    root = install(tmp_path, kind, "kata-agent", "containerd")
    for service in ("kata-agent", "containerd"):
        drop_in = settings(root / UNITS / f"{service}.service.d" / "50-toposeal.conf")
        assert drop_in == {name: ["toposeal-lockdown.service"] for name in ("Requires", "After")}
    unit = settings(root / UNITS / "toposeal-lockdown.service")
    assert unit["FailureAction"] == ["poweroff-force"]
    assert unit["Type"] == ["oneshot"]  # over only when the rules are in
    assert not {"ExecStop", "ExecReload", "SuccessExitStatus"} & set(unit)
    assert not any(command[0].startswith("-") for command in commands(root))  # its failure would not count


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd")
@pytest.mark.parametrize("kind", KINDS)
def test_systemd_finds_no_fault_in_it(tmp_path: Path, kind: str) -> None:
    root = install(tmp_path, kind)
    (root / UNITS / "kata-agent.service").write_text("[Service]\nExecStart=/usr/bin/kata-agent\n")
    for name in TARGETS:
        (root / UNITS / f"{name}.target").write_text(f"[Unit]\nDescription={name}\n")
    for program in ("/usr/bin/kata-agent", *(command[0] for command in commands(root))):
        path = root / program[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o755)
    verify = ["systemd-analyze", "verify", f"--root={root}", "kata-agent.service"]
    done = subprocess.run(verify, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    (root / UNITS / "toposeal-lockdown.service").unlink()
    done = subprocess.run(verify, capture_output=True, text=True, check=False, timeout=30)
    assert "toposeal-lockdown.service" in done.stderr  # the control: without the lockdown there is no agent


def test_I7_the_patch_takes_back_what_settings_may_have_allowed() -> None:
    """Each way by which a host starts or feeds a program in a container beside its pinned command."""
    requests: dict[str, Any] = {
        "ExecProcessRequest": {"allowed_commands": ["sh"], "regex": [".*"]},
        "CopyFileRequest": ["$(sfprefix)"],
        "CloseStdinRequest": True,
        "ReadStreamRequest": True,
        "UpdateEphemeralMountsRequest": True,
        "WriteStreamRequest": True,
    }
    patch = json.loads((GUEST / "genpolicy" / "50-toposeal.json").read_text())
    strict = {
        "ExecProcessRequest": {"allowed_commands": [], "regex": []},
        "CloseStdinRequest": False,
        "UpdateEphemeralMountsRequest": False,
        "WriteStreamRequest": False,
    }
    loose, expected = ({"common": {}, "request_defaults": one} for one in (requests, requests | strict))
    assert patched(loose, patch) == expected


def patched(document: Mapping[str, Any], patch: list[dict[str, Any]]) -> dict[str, Any]:
    """RFC 6902, of which `replace` alone is used: it fails where there is no such member."""
    copy: dict[str, Any] = json.loads(json.dumps(document))
    for step in patch:
        assert step.keys() == {"op", "path", "value"} and step["op"] == "replace"
        *way, last = step["path"].split("/")[1:]
        place = copy
        for name in way:
            place = place[name]
        assert last in place
        place[last] = step["value"]
    return copy

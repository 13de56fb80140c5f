"""The demo for real: what it prints, what it shows, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from toposeal_lab.pods import RUN_DIR, SEARCH_PATH

COMMAND = [sys.executable, "-I", "-m", "toposeal_lab", "demo"]
LIMIT_S = 300  # the demo ends within 45 s on two free cores; a shared machine has fewer

# What the demo has to show, whatever else it shows: part of a check's name, part of its detail.
SHOWN = {
    "nothing leaves a pod": "0 frames with the marker",
    "nothing enters a pod": "no_filter_chain_match",
    "verifies the mesh": "exit 0",
    "curl with the pins": "the shop is open",
    "by name": "api-",
    "redis-cli -h db": "PONG",
    "in one request": "visit",
    "does not let it": "",
    "plaintext": "no_filter_chain_match",
    "unknown CA is refused": "fail_verify",
    "named [api]": "fail_verify",
    "named [web, api]": "fail_verify",
    "lying resolver": "asked nothing",
    "lying /etc/hosts": "no_filter_chain_match",
    "leaf [db] of web's CA": "fail_verify",
    "leaf [web, db] of web's CA": "fail_verify",
    "replayed attestation document": "nonce_mismatch",
    "altered manifest": "exit ",
    "quote of another member": "report_data",
}


@dataclass(frozen=True)
class Kept:
    """One run with --json and --keep: its report, and what the commands that it named gave."""

    report: dict[str, Any]
    tried: dict[str, str]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    if os.geteuid() != 0:
        pytest.skip("the demo needs root")
    errors = tmp_path_factory.mktemp("demo") / "stderr"
    with (
        errors.open("wb") as stderr,
        subprocess.Popen([*COMMAND, "--json", "--keep"], stdout=subprocess.PIPE, stderr=stderr) as demo,
    ):
        assert demo.stdout is not None
        line = demo.stdout.readline()
        tried = try_commands(errors) if line else {}
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=LIMIT_S)
        assert rest == b"", "one object on one line and nothing else"
    report: dict[str, Any] = json.loads(line)
    failed = [check for check in report["checks"] if not check["ok"]]
    assert (demo.returncode, failed) == (0, []), errors.read_text()[-4000:]
    return Kept(report, tried)


@pytest.fixture
def shown(kept: Kept) -> dict[str, Any]:
    return kept.report


def try_commands(errors: Path) -> dict[str, str]:
    """Run every command that --keep names, as a person would; the shell itself and the last one aside."""
    deadline = time.monotonic() + LIMIT_S
    while "nft flush ruleset" not in (text := errors.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    commands = [line for line in text.splitlines() if line.startswith(("ip netns", "curl", "ls"))]
    env = {"PATH": f"{Path(sys.executable).parent}:{SEARCH_PATH}"}
    outputs = {}
    for command in commands:
        if not command.endswith((" bash", "flush ruleset")):
            done = subprocess.run(command, shell=True, env=env, capture_output=True, text=True, check=False)
            outputs[command] = done.stdout + done.stderr
    return outputs


def left_behind() -> list[str]:
    """Namespaces, directories, mounts and processes of a demo of this process's children."""
    namespaces = [name for name in os.listdir(RUN_DIR) if name.startswith("toposeal-")]
    directories = [path.name for path in Path("/run").glob("toposeal-lab-*")]
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if "/toposeal-lab-" in line]
    return namespaces + directories + mounts


def of_run(pid: int, names: list[str]) -> list[str]:
    """Those that carry the run's process id: other runs on this machine are not ours to judge."""
    return [name for name in names if f"-{pid}-" in name]


def test_the_mesh_sealed_and_says_who_is_in_it(shown: dict[str, Any]) -> None:
    assert shown["sealed"] is True
    assert shown["epoch"] >= 1
    assert 0 < shown["seal_seconds"] < 30
    assert len(bytes.fromhex(shown["manifest_digest"])) == 48
    assert Counter(member["role"] for member in shown["members"]) == {"web": 1, "api": 2, "db": 1}
    assert len({member["iid"] for member in shown["members"]}) == 4


@pytest.mark.parametrize("name", SHOWN)
def test_the_demo_shows(shown: dict[str, Any], name: str) -> None:
    found = [check for check in shown["checks"] if name in check["name"]]
    assert found, [check["name"] for check in shown["checks"]]
    assert any(SHOWN[name] in check["detail"] for check in found), found


def test_every_attack_has_its_positive_control(shown: dict[str, Any]) -> None:
    attacks = [check for check in shown["checks"] if "; attack: " in check["detail"]]
    assert len(attacks) >= 15
    assert all(check["detail"].startswith("positive control: ") for check in attacks)


def test_what_keep_names_does_what_it_says(kept: Kept) -> None:
    said = "\n".join(f"$ {command}\n{output}" for command, output in kept.tried.items())
    for wanted in (
        "VERIFIED shop",
        "visit",
        "PONG",
        "curl: (5",  # 52 or 56, as the refusal meets the request
        "table inet toposeal",
        "bootstrap.json",
        "ssl.fail",
    ):
        assert any(wanted in output for output in kept.tried.values()), said


def test_an_interrupted_demo_leaves_nothing_behind() -> None:
    if os.geteuid() != 0:
        pytest.skip("the demo needs root")
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as demo:
        assert demo.stdout is not None
        assert any(b"gathering" in line for line in demo.stdout)
        assert of_run(demo.pid, left_behind()) != []
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=LIMIT_S)
    assert demo.returncode == 130
    assert of_run(demo.pid, left_behind()) == []


def test_without_root_it_says_what_is_missing() -> None:
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *COMMAND]
    if os.geteuid() != 0:
        command = COMMAND
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "expected root" in done.stderr
    assert done.stdout == ""

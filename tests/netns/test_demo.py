"""The demo for real: what it prints, what it shows, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from toposeal_lab.pods import RUN_DIR

COMMAND = [sys.executable, "-I", "-m", "toposeal_lab", "demo"]
LIMIT_S = 120  # the demo ends within 45 s on two free cores; a shared machine has fewer

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


@pytest.fixture(scope="module")
def shown() -> dict[str, Any]:
    if os.geteuid() != 0:
        pytest.skip("the demo needs root")
    done = subprocess.run([*COMMAND, "--json"], capture_output=True, timeout=LIMIT_S, check=False)
    assert done.stdout.count(b"\n") == 1, "one object on one line and nothing else"
    report: dict[str, Any] = json.loads(done.stdout)
    failed = [check for check in report["checks"] if not check["ok"]]
    assert (done.returncode, failed) == (0, []), done.stderr.decode()[-4000:]
    return report


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

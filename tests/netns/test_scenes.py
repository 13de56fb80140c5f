"""One scene of `demo --scenario` for real; the others are for people, and run by `make demo`."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

LIMIT_S = 300  # a scene ends within 45 s on two free cores; a shared machine has fewer


def test_members_that_come_and_go_together_disturb_nobody() -> None:
    """Half of six leave at once: without the majority's patience all would stop serving."""
    if os.geteuid() != 0:
        pytest.skip("pods need root")
    argv = [sys.executable, "-I", "-m", "toposeal_lab", "demo", "--scenario", "scale", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.stdout != "", done.stderr[-4000:]
    report = json.loads(done.stdout)
    assert [check for check in report["checks"] if not check["ok"]] == [], done.stderr[-4000:]
    assert done.returncode == 0 and report["sealed"]
    assert sorted(member["role"] for member in report["members"]) == ["api", "db", "web"]
    told = {check["name"]: check["detail"] for check in report["checks"]}
    assert "api, api, api, api, db, web" in told["three come at once: six members"]
    assert "none failed, no connection was cut" in told["nothing between those that stay was lost"]

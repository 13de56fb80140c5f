"""The benchmarks run and give the numbers that they promise; how good those are is not a test's affair."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

COMMAND = [sys.executable, "-I", "-m", "toposeal_lab", "bench"]


def bench(*arguments: str) -> dict[str, Any]:
    if os.geteuid() != 0:
        pytest.skip("the benchmarks need root")
    done = subprocess.run([*COMMAND, *arguments, "--json"], capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode()
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_start_gives_the_whole_and_its_parts() -> None:
    result = bench("start", "--runs", "1", "--quote-delay", "20")
    phases = result["phases"]
    assert 0.02 <= result["quote_seconds"] < result["protocol_seconds"] < result["start_to_gate_seconds"]
    assert phases["start"] < phases["gate closed"] < phases["phase gathering"] < phases["gate open"]
    assert phases["gate open"] == pytest.approx(result["start_to_gate_seconds"], abs=0.001)
    assert {"cpu", "cores", "kernel", "python", "load"} <= result["machine"].keys()


def test_verify_gives_its_time() -> None:
    assert 0 < bench("verify", "--runs", "1")["verify_seconds"] < 30


def test_dataplane_compares_updates_and_opens() -> None:
    tiny = ("--runs", "1", "--seconds", "0.1", "--bulk-mib", "16", "--members", "2")
    result = bench("dataplane", *tiny)
    ratios = ("keepalive", "p99", "bulk", "connections", "cpu_per_request", "cpu_per_connection")
    others = ("http_connections", "update_2_ms", "update_caller_ms")
    assert all(0 < result[name] < 10_000 for name in (*ratios, *others)), result
    assert result["memory_small_mib"] > 0 and 0 < result["memory_mib"] < 200
    assert result["during_updates"]["requests"] > 0
    assert (result["during_updates"]["errors"], result["during_updates"]["cut"]) == (0, 0)
    assert 0 < result["gate_ms"] == max(result["gate"].values())


def test_rounds_seal_change_and_leave_one_out_under_load() -> None:
    result = bench("rounds", "--mesh", "3", "--crowded", "3", "--runs", "1", "--rate", "100")
    (sealed,) = result["curves"]
    assert sealed["n"] == 3 and 0 < sealed["seal_seconds"] < 60
    assert 0.1 < sealed["cpu_seconds"] < 60 and 10_000 < sealed["bytes"] < 4 << 20
    assert 0 < sealed["quote_seconds"] < 60
    assert result["requests"] > 1000 and result["rate"] == 100
    assert (result["failed_requests"], result["cut_connections"]) == (0, 0)
    assert set(result["changes"]) == {"grow", "shrink", "update", "join", "restart"}
    for change in (*result["changes"].values(), result["crowded"]):
        assert set(change["p99_ms"]) == {"before", "round"} and min(change["p99_ms"].values()) > 0
        assert change["p99_ratio"] > 0 and 0 < change["seconds"] < 60
    assert result["p99_ratio"] == result["changes"]["join"]["p99_ratio"]
    assert 0 < result["eviction_seconds"] < 60
    attesting = result["attesting"]
    assert attesting["rounds"] >= 1 and attesting["p99_ratio"] > 0
    assert all(0 < part["median"] < part["p99"] for part in attesting["ms"].values())


def test_there_is_no_benchmark_that_measures_nothing() -> None:
    done = subprocess.run([*COMMAND, "nothing"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "invalid choice: 'nothing'" in done.stderr


@pytest.mark.parametrize(("option", "least"), [("--runs", 1), ("--rate", 1), ("--mesh", 3), ("--crowded", 3)])
def test_there_is_no_benchmark_of_nothing(option: str, least: int) -> None:
    argv = [*COMMAND, "rounds", option, str(least - 1)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert f"argument {option}: {least - 1}: at least {least}" in done.stderr

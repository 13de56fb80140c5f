"""A real Prometheus reads the daemon's text, answers every query, raises every alert: make monitoring-test.

The text is the daemon's own and its figures are invented; tests/netns/test_envoy_metrics.py reads true ones.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.monitoring import EXAMPLES, RULES, alerts, drawn

from toposeal.dataplane.metrics import METRICS_PATH, METRICS_TYPE, Counted, Figures, exposition
from toposeal.gate.machine import State

CASES = Path(__file__).with_name("alerts_test.yml")
FIGURES = Figures(State.OPEN, 3, 4, 61_000, Counted({}, {"untrusted": 2}))
WAIT = 30  # seconds until it has scraped twice

pytestmark = pytest.mark.skipif(
    None in (shutil.which("prometheus"), shutil.which("promtool")), reason="make monitoring-test installs it"
)


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_files_are_prometheus_own() -> None:
    assert f"{len(alerts())} rules found" in promtool("check", "config", EXAMPLES / "prometheus.yml")


def test_each_alert_is_raised_in_time_and_not_before() -> None:
    promtool("test", "rules", CASES)


def test_each_alert_has_a_case_for_both() -> None:
    cases = [case for test in yaml.safe_load(CASES.read_text())["tests"] for case in test["alert_rule_test"]]
    for raised in (True, False):
        assert {case["alertname"] for case in cases if ("exp_alerts" in case) is raised} == {
            rule["alert"] for rule in alerts()
        }


class _Sidecar(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = exposition(FIGURES)
        self.send_response(200 if self.path == METRICS_PATH else 404)
        self.send_header("content-type", METRICS_TYPE)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class Prometheus:
    """One that runs, with one target that answers and one that does not."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/{path}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, text: str) -> list[Any]:
        found: list[Any] = self.ask(f"query?{urllib.parse.urlencode({'query': text})}")["result"]
        return found

    def await_samples(self) -> None:
        """Until a rate over 20 seconds can be told."""
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            try:
                if self.query("min(count_over_time(toposeal_connections_total[20s])) > 2"):
                    return
            except urllib.error.URLError:
                pass  # it is not up yet
            time.sleep(0.3)
        pytest.fail("no samples")


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    sidecar = ThreadingHTTPServer(("127.0.0.1", 0), _Sidecar)
    threading.Thread(target=sidecar.serve_forever, daemon=True).start()
    config = yaml.safe_load((EXAMPLES / "prometheus.yml").read_text())
    config["global"]["scrape_interval"] = config["global"]["evaluation_interval"] = "1s"
    config["rule_files"] = [str(RULES)]
    targets = [f"127.0.0.1:{port}" for port in (sidecar.server_port, _free_port())]
    config["scrape_configs"][0]["static_configs"] = [{"targets": targets}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = _free_port()
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            made = Prometheus(port)
            made.await_samples()
            yield made
        finally:
            process.terminate()
            sidecar.shutdown()


@pytest.mark.parametrize(("panel", "query"), list(drawn()))
def test_every_query_of_the_dashboard_is_answered(prometheus: Prometheus, panel: str, query: str) -> None:
    asked = query.replace("$job", "toposeal-shop").replace("$__rate_interval", "20s")
    if "toposeal_gate_state" in asked:
        assert {value["value"][1] for value in prometheus.query(asked)} == {"0"}
    assert prometheus.query(asked), f"{panel}: no answer to {asked}"


def test_one_member_of_two_answers(prometheus: Prometheus) -> None:
    assert [found["value"][1] for found in prometheus.query('sum(up{job="toposeal-shop"})')] == ["1"]
    found = prometheus.query('toposeal_refusals_total{kind="untrusted"}')
    assert [sample["value"][1] for sample in found] == ["2"]


def test_every_rule_is_evaluated_without_an_error(prometheus: Prometheus) -> None:
    (group,) = prometheus.ask("rules")["groups"]
    assert {rule["name"]: rule["health"] for rule in group["rules"]} == {
        rule["alert"]: "ok" for rule in alerts()
    }
    states = {rule["name"]: rule["state"] for rule in group["rules"]}
    assert states["ToposealMemberShut"] == "pending" and states["ToposealMeshShut"] == "inactive"

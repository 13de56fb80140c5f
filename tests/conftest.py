"""What every test run shares: the tally for .ci/run, hypothesis profiles, the shared vectors."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
CI = os.environ.get("CI") == "true"

# Shared machines stall for seconds: an example's duration says nothing, so there is no deadline.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("deep", deadline=None, max_examples=20_000)
hypothesis.settings.load_profile("ci" if CI else "default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tally", metavar="FILE", help="append one line: passed failed skipped")
    parser.addoption("--flips", type=int, default=2_000, help="bits to flip of each kind of evidence")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    stats = terminalreporter.stats
    passed, skipped = len(stats.get("passed", ())), len(stats.get("skipped", ()))
    failed = len(stats.get("failed", ())) + len(stats.get("error", ()))
    if CI and skipped:
        terminalreporter.write_line(f"{skipped} skipped: in CI every test has to run", red=True)
    path = config.getoption("--tally")
    if path is None:
        return
    with open(path, "a", encoding="ascii") as tally:
        print(passed, failed, skipped, file=tally)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI every test has to run, and where nothing passed nothing was tested, whatever the reason."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    stats = reporter.stats if reporter else {}
    if CI and stats.get("skipped"):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
    if CI and session.config.getoption("--tally") and not stats.get("passed"):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.fixture(scope="session")
def shared_vectors() -> Path:
    """Real hardware evidence beside the repository; in CI a missing folder is a failure."""
    path = ROOT.parent / "shared" / "vectors"
    if not path.is_dir():
        (pytest.fail if CI else pytest.skip)(f"no real evidence at {path}")
    return path

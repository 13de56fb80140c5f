"""What CI does not pass over: a test that did not run, for whatever reason."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")
PASSED = "def test_that_passes(): pass\n"
# However pytest can be told to leave tests out: a mark, a fixture, a whole file.
SKIPPED = {
    "mark": "import pytest\n@pytest.mark.skipif(True, reason='-')\ndef test_it(): pass\n",
    "fixture": "import pytest\n@pytest.fixture\ndef it(): pytest.skip('-')\ndef test_it(it): pass\n",
    "file": "import pytest\npytest.skip('-', allow_module_level=True)\n",
}


def run(place: Path, source: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A run of one test that passes and of `source`, with the rules of this folder and a tally."""
    shutil.copy(CONFTEST, place)
    (place / "test_passed.py").write_text(PASSED)
    (place / "test_source.py").write_text(source)
    command = [sys.executable, "-Im", "pytest", "-q", "--rootdir=.", "--tally=tally"]
    env = {"PATH": os.defpath, **environment}
    return subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("source", SKIPPED.values(), ids=SKIPPED)
def test_in_ci_a_skipped_test_fails_the_run(tmp_path: Path, source: str) -> None:
    done = run(tmp_path, source, CI="true")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "1 skipped: in CI every test has to run" in done.stdout
    assert (tmp_path / "tally").read_text() == "1 0 1\n"


def test_in_ci_a_run_without_a_skip_passes(tmp_path: Path) -> None:
    assert run(tmp_path, PASSED, CI="true").returncode == pytest.ExitCode.OK


def test_elsewhere_a_skipped_test_is_none_that_failed(tmp_path: Path) -> None:
    done = run(tmp_path, SKIPPED["mark"])
    assert done.returncode == pytest.ExitCode.OK
    assert "in CI" not in done.stdout

"""toposeal-wait as a program: what it is and how it is called. tests/netns has what it does."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.entrypoint import COMPILES, ROOT, SOURCE, built

from toposeal import limits

pytestmark = pytest.mark.skipif(not COMPILES, reason="no compiler for the entrypoint")

USAGE = 1
INTERPRETER = b"\x03\0\0\0"  # PT_INTERP, the type of a program header


@pytest.fixture(scope="module")
def program() -> Iterator[str]:
    with built() as path:
        yield path


def test_it_asks_where_the_sidecar_answers() -> None:
    text = SOURCE.read_text()
    numbers = dict(re.findall(r"^    ([A-Z_]+) = (\d+),", text, re.MULTILINE))
    names = ("PROBE_PORT", "OUTBOUND_PORT", "ENVOY_UID", "PROBE_UID", "NONCE_SIZE", "PROBE_TIMEOUT")
    assert numbers == {name: str(getattr(limits, name)) for name in names}
    assert f'#define PROBE_ADDRESS "{limits.PROBE_ADDRESS}"\n' in text


def test_it_is_one_static_file_and_the_same_wherever_it_is_built(program: str, tmp_path: Path) -> None:
    """No interpreter to load, so nothing of the application's image runs before it."""
    binary = Path(program).read_bytes()
    start, size, count = (
        int.from_bytes(binary[at : at + width], "little") for at, width in ((32, 8), (54, 2), (56, 2))
    )
    headers = [binary[start + i * size : start + (i + 1) * size] for i in range(count)]
    assert len(headers) > 2
    assert not any(header.startswith(INTERPRETER) for header in headers)
    other = tmp_path / "elsewhere"
    other.mkdir()
    for name in ("wait.c", "build"):
        (other / name).write_bytes((ROOT / "images" / "wait" / name).read_bytes())
    subprocess.run(["sh", str(other / "build"), str(tmp_path / "again")], check=True)
    assert (tmp_path / "again").read_bytes() == binary


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--"],
        ["true"],
        ["--timeout", "1", "true"],
        ["--timeout", "0", "--", "true"],
        ["--timeout", "-1", "--", "true"],
        ["--timeout", " 1", "--", "true"],
        ["--timeout", "1s", "--", "true"],
        ["--timeout", "604801", "--", "true"],
        ["--timeout", "9" * 30, "--", "true"],
        ["--timeout=1", "--", "true"],
        ["--timeout", "1"],
        ["--insist", "--", "true"],
    ],
)
def test_what_is_not_its_usage_runs_nothing(program: str, arguments: list[str]) -> None:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=10)
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert done.stderr.endswith("usage: toposeal-wait [--timeout SECONDS] -- COMMAND [ARGUMENT ...]\n")

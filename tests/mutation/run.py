"""`make mutation`: breaks the state machine in every small way and sees whether a test notices.

usage: run.py [--jobs N] [FILE ...]      of sidecar/toposeal/membership; by default those in survivors.txt

Each mutant is run, in a process of its own, against those unit tests of membership, and then those stories
of tests/sim, that reach the changed line. Who survives has to be in survivors.txt with a line that says why
no test can tell it from the original, or need not; who is there and does not survive is told too. Ours, since
mutmut leaves out decorated functions (properties say here what is proven) and module constants, and
cosmic-ray starts a process with all tests for every mutant.
"""

from __future__ import annotations

import argparse
import ast
import gc
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests")]

# Everything that membership needs and that is never mutated: imported once, before the first fork.
import coverage  # noqa: E402
import hypothesis  # noqa: E402, F401
import pytest  # noqa: E402
from mutation.mutants import Mutant, mutants  # noqa: E402

import toposeal._wire.attestation_pb2  # noqa: E402
import toposeal.names  # noqa: E402
import toposeal.topology.accept  # noqa: E402
import toposeal.verification.appraise  # noqa: E402, F401

FOLDER = ROOT / "sidecar" / "toposeal" / "membership"
BUILD = ROOT / "build" / "mutation"
SURVIVORS = Path(__file__).with_name("survivors.txt")
UNIT, STORIES = (
    [
        *sorted((ROOT / "tests" / "unit").glob("test_membership_*.py")),
        ROOT / "tests" / "unit" / "test_history.py",
    ],
    [ROOT / "tests" / "sim" / "test_protocol_sim.py"],
)
# CPU of a module's own tests, and with all others: they take 5 and 25. Who takes more goes round in circles.
_OWN_SECONDS, _CPU_SECONDS = 25, 120
_SECONDS = 1_800  # and who waits for so long waits for ever, however busy the machine
_MEMORY = 4 << 30
_TOLD = 50  # mutants between two lines of progress
_QUIET = ["-q", "-x", "--no-header", "--no-summary", "--tb=line", "--assert=plain"]
_ORIGINAL = 77  # exit code: the mutant was never imported

Reach = dict[str, dict[str, list[str]]]  # file -> line -> test files and names


@dataclass(frozen=True)
class Job:
    file: str
    mutant: Mutant

    @property
    def name(self) -> str:
        return f"{self.file} {self.mutant.name}"


class Only:
    """A plugin for pytest: these tests, and all of one file; stories last."""

    def __init__(self, wanted: Iterable[str], whole: str) -> None:
        self._wanted, self._whole = frozenset(wanted), f"{whole}::"

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [i for i in items if i.nodeid in self._wanted or i.nodeid.startswith(self._whole)]
        items.sort(key=lambda item: "/sim/" in item.nodeid)


class Contexts:
    """A plugin for pytest: which test runs, for coverage."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self._measured = measured

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._measured.switch_context(nodeid)


class Changed(SourceFileLoader):
    def __init__(self, name: str, path: str, code: CodeType, used: list[str]) -> None:
        super().__init__(name, path)
        self._code, self._used = code, used

    def get_code(self, fullname: str) -> CodeType:
        self._used.append(fullname)
        return self._code


class Finder(MetaPathFinder):
    """Gives one module another code."""

    def __init__(self, name: str, code: CodeType) -> None:
        self._name, self._code = name, code
        self.used: list[str] = []

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._name:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = Changed(name, spec.origin, self._code, self.used)
        return spec


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N", help="mutants at once")
    parser.add_argument("files", nargs="*", metavar="FILE", help="names in sidecar/toposeal/membership")
    args = parser.parse_args()
    files = args.files or examined()
    BUILD.mkdir(parents=True, exist_ok=True)
    reach = _reach()
    jobs = [Job(file, mutant) for file in files for mutant in mutants((FOLDER / file).read_text())]
    for job, survived in _run([_unchanged(files[0])], reach, 1):
        if not survived:
            raise SystemExit(f"{job.file}: the tests fail without any change")
    gc.freeze()  # no child looks through what it only inherits
    began, found = time.monotonic(), set()
    for number, (job, survived) in enumerate(_run(jobs, reach, args.jobs), 1):
        if survived:
            found.add(job.name)
            print(f"survives: {job.file}:{job.mutant.line} {job.mutant.name}", flush=True)
        if number % _TOLD == 0:
            print(f"{number} of {len(jobs)}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(f"{len(jobs)} mutants, {len(found)} survive, {time.monotonic() - began:.0f} s")
    return judge(found, {name: why for name, why in explained().items() if name.split(" ", 1)[0] in files})


def explained(text: str | None = None) -> dict[str, str]:
    """Name -> why. A file's name, its mutants' below, and below each why it survives."""
    found: dict[str, str] = {}
    file = name = ""
    for line in (SURVIVORS.read_text() if text is None else text).splitlines():
        depth = len(line) - len(line.lstrip(" "))
        if not line.strip() or line.startswith("#"):
            continue
        if depth == 0:
            file = line.strip()
        elif depth == 2:
            name = f"{file} {line.strip()}"
            found[name] = ""
        else:
            found[name] = line.strip()
    return found


def _unchanged(file: str) -> Job:
    return Job(file, Mutant("unchanged", 0, ast.parse((FOLDER / file).read_text())))


def examined() -> list[str]:
    """The files that have been gone through, whether or not a mutant of theirs survives."""
    lines = SURVIVORS.read_text().splitlines()
    return [line.strip() for line in lines if line and not line.startswith((" ", "#"))]


def judge(found: set[str], known: Mapping[str, str]) -> int:
    """0 if exactly those survive that are known, each with a reason."""
    reasoned = {name for name, why in known.items() if why}
    for title, names in (("unexplained", found - reasoned), ("explained, but killed", known.keys() - found)):
        for name in sorted(names):
            print(f"{title}: {name}")
    return 0 if found == reasoned == known.keys() else 1


def _reach() -> Reach:
    """Which tests reach which line, measured in a process of its own, unless neither has changed since."""
    path = BUILD / "reach.json"
    sources = [*FOLDER.glob("*.py"), *UNIT, *STORIES, *(ROOT / "tests" / "support").glob("*.py")]
    sources += (ROOT / "sidecar" / "toposeal_lab" / "simulation").glob("*.py")
    if not path.is_file() or path.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        child = os.fork()
        if child == 0:
            os._exit(_measure(path))
        if os.waitpid(child, 0)[1] != 0:
            raise SystemExit("the tests fail without any change")
    found: Reach = json.loads(path.read_text())
    return found


def _measure(path: Path) -> int:
    measured = coverage.Coverage(data_file=None, include=[str(FOLDER / "*")], config_file=False)
    measured.start()
    verdict = pytest.main([*_QUIET, *map(str, (*UNIT, *STORIES))], plugins=[Contexts(measured)])
    measured.stop()
    data = measured.get_data()
    lines = {
        Path(file).name: {str(line): sorted(filter(None, tests)) for line, tests in by_line.items()}
        for file in data.measured_files()
        for by_line in [data.contexts_by_lineno(file)]
    }
    if verdict == 0:
        path.write_text(json.dumps(lines))
    return int(verdict)


def _run(jobs: Sequence[Job], reach: Reach, at_once: int) -> Iterator[tuple[Job, bool]]:
    waiting, running = list(reversed(jobs)), dict[int, tuple[Job, float]]()
    while waiting or running:
        while waiting and len(running) < at_once:
            job = waiting.pop()
            running[_start(job, reach)] = (job, time.monotonic())
        for child, (job, since) in list(running.items()):
            done, status = os.waitpid(child, os.WNOHANG)
            if not done and time.monotonic() - since > _SECONDS:
                os.killpg(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
                done = child
            if done:
                del running[child]
                yield job, _survived(job, status)
        time.sleep(0.01)


def _survived(job: Job, status: int) -> bool:
    """pytest's exit codes: 1 failed, 2 could not be imported; 0 all passed, 5 there are none."""
    if os.WIFSIGNALED(status):
        return False
    code = os.WEXITSTATUS(status)
    if code not in (0, 1, 2, 5):
        raise SystemExit(f"{job.name}: exit code {code}")
    return code in (0, 5)


def _start(job: Job, reach: Reach) -> int:
    child = os.fork()
    if child:
        return child
    os.setsid()
    code = 3
    try:
        code = _child(job, _tests(job, reach))
    finally:
        os._exit(code)


def _tests(job: Job, reach: Reach) -> list[str]:
    """Those that reach the changed line; for what runs at import, all that reach the module; for a module of
    which nothing else runs, all.
    """
    lines = reach.get(job.file, {})
    return (
        lines.get(str(job.mutant.line))
        or _all(lines)
        or sorted({t for other in reach.values() for t in _all(other)})
    )


def _all(lines: Mapping[str, Sequence[str]]) -> list[str]:
    return sorted({test for tests in lines.values() for test in tests})


def _files(tests: Iterable[str]) -> set[Path]:
    return {ROOT / test.partition("::")[0] for test in tests}


def _child(job: Job, tests: Sequence[str]) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    module = job.file.removesuffix(".py")
    path = str(FOLDER / job.file)
    finder = Finder(f"toposeal.membership.{module}", compile(job.mutant.tree, path, "exec"))
    sys.meta_path.insert(0, finder)
    # A value made at import may be seen by a test that runs no line of the module.
    whole = f"tests/unit/test_membership_{module}.py"
    own = [test for test in tests if test.startswith(f"{whole}::")]
    verdict = 5
    others = sorted(set(tests) - set(own))
    first = {ROOT / whole} if (ROOT / whole).exists() else set()  # most fall to their own tests
    for some, paths, seconds in ((own, first, _OWN_SECONDS), (others, _files(others), _CPU_SECONDS)):
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, _CPU_SECONDS))
        files = sorted(map(str, paths))
        if files:
            verdict = int(pytest.main([*_QUIET, f"--rootdir={ROOT}", *files], plugins=[Only(some, whole)]))
        if verdict not in (0, 5):
            return verdict
    return verdict if finder.used else _ORIGINAL


if __name__ == "__main__":
    sys.exit(main())

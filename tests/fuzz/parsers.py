"""Every parser under atheris, coverage-guided: `make fuzz FUZZ_SECONDS=60 ONLY=quote`.

Each parser gets a process and a corpus of its own in build/corpus, besides the kept one in tests/fuzz/corpus.
A finding is printed and kept in build/crashes, and the exit code is 1.

`tests/fuzz/parsers.py --keep PARSER ...` takes inputs of at most 2 KiB from build/corpus into the kept one
that reach lines which nothing there reaches.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "tests" / "fuzz" / "corpus"
_LARGEST = 2048
sys.path[:0] = [str(ROOT / "sidecar"), str(ROOT / "tests")]


def fuzz_one(name: str, seconds: str) -> None:
    """Fuzz one parser in this process until the time is up or something escapes; does not return."""
    import atheris

    with atheris.instrument_imports(include=["toposeal"]):
        from support.parsers import one_parser

        parser = one_parser(name)
    corpus = ROOT / "build" / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(parser.examples):
        (corpus / f"example-{number}").write_bytes(example)
    crashes = ROOT / "build" / "crashes"
    crashes.mkdir(exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={crashes}/{name}-",
        "-timeout=10",
        "-max_len=65536",
    ]
    folders = [str(corpus), *([str(KEPT / name)] if (KEPT / name).is_dir() else [])]
    atheris.Setup([sys.argv[0], *options, *folders], parser)
    atheris.Fuzz()


def keep(name: str) -> None:
    """Take found inputs into the kept corpus, the smallest first, each for lines that none before reached."""
    from support.parsers import one_parser

    parser, folder = one_parser(name), KEPT / name
    folder.mkdir(exist_ok=True)
    seen: set[tuple[str, int]] = set()
    for path in folder.iterdir():
        seen |= reached(parser, path.read_bytes())
    found = {path.read_bytes() for path in (ROOT / "build" / "corpus" / name).iterdir()}
    for data in sorted((each for each in found if len(each) <= _LARGEST), key=lambda each: (len(each), each)):
        lines = reached(parser, data)
        if not lines <= seen:
            seen |= lines
            (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def reached(parser: Callable[[bytes], object], data: bytes) -> set[tuple[str, int]]:
    """The lines of toposeal that run while `data` is parsed."""
    lines: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if "toposeal" not in frame.f_code.co_filename:
            return None
        lines.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    sys.settrace(trace)
    try:
        parser(data)
    finally:
        sys.settrace(None)
    return lines


def main() -> int:
    seconds, only = sys.argv[1], sys.argv[2:]
    from support.parsers import parsers

    failed = []
    for name in only or parsers():
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, __file__, "--one", name, seconds]).returncode:
            failed.append(name)
    print(f"{len(failed)} failed: {' '.join(failed)}" if failed else "nothing escaped")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        fuzz_one(*sys.argv[2:4])
    elif sys.argv[1] == "--keep":
        for each in sys.argv[2:]:
            keep(each)
    else:
        raise SystemExit(main())

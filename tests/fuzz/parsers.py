"""Every parser under atheris, coverage-guided: `make fuzz FUZZ_SECONDS=60 ONLY=quote`.

Each parser gets a process and a corpus of its own in build/corpus, besides the kept one in tests/fuzz/corpus.
A finding is printed and kept in build/crashes, and the exit code is 1.

`tests/fuzz/parsers.py --keep PARSER ...` takes from build/corpus into the kept one what reaches code that
nothing there reaches: the 16 smallest of at most 2 KiB.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT, FOUND = ROOT / "tests" / "fuzz" / "corpus", ROOT / "build" / "found"
_LARGEST, _MOST = 2048, 16
sys.path[:0] = [str(ROOT / "sidecar"), str(ROOT / "tests")]


def fuzz_one(name: str, seconds: str) -> None:
    """Fuzz one parser in this process until the time is up or something escapes; does not return."""
    import atheris

    with atheris.instrument_imports(include=["toposeal"]):
        from support.parsers import parsers

    parser = parsers()[name]
    corpus = ROOT / "build" / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(parser.examples):
        (corpus / f"example-{number}").write_bytes(example)
    crashes = ROOT / "build" / "crashes"
    crashes.mkdir(exist_ok=True)
    options: list[str] = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={crashes}/{name}-",
        "-timeout=10",
        "-max_len=65536",
    ]
    folders = [str(corpus), *([str(KEPT / name)] if (KEPT / name).is_dir() else [])]
    if seconds == "keep":
        options, folders = ["-merge=1", "-max_len=2048"], [str(FOUND / name), str(KEPT / name), str(corpus)]
    atheris.Setup([sys.argv[0], *options, *folders], parser)
    atheris.Fuzz()


def keep(name: str) -> None:
    """Merge what was found into the kept corpus."""
    (FOUND / name).mkdir(parents=True, exist_ok=True)
    (KEPT / name).mkdir(exist_ok=True)
    subprocess.run([sys.executable, __file__, "--one", name, "keep"], check=True)
    known = {path.read_bytes() for path in (KEPT / name).iterdir()}
    new = sorted(
        {path.read_bytes() for path in (FOUND / name).iterdir()} - known, key=lambda data: (len(data), data)
    )
    for data in [each for each in new if len(each) <= _LARGEST][:_MOST]:
        (KEPT / name / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


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

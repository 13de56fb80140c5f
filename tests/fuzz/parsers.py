"""Every parser under atheris, coverage-guided: `make fuzz FUZZ_SECONDS=60 ONLY=quote`.

Each parser gets a process and a corpus of its own in build/corpus; a finding is printed and kept
in build/crashes, and the exit code is 1.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
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
    options = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={crashes}/{name}-",
        "-timeout=10",
        "-max_len=65536",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], parser)
    atheris.Fuzz()


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
    else:
        raise SystemExit(main())

"""Commands of a page: `sh` blocks hold them alone, `console` blocks after a `$`, with what they print."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("toposeal", "toposeal-lab")
_BLOCK = re.compile(r"^( *)```(sh|console)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_PROMPT = re.compile(r"^(?:[a-z]+)?\$ +")  # `alice$` is a prompt too
_ENDS = frozenset({"&&", "||", ";", "|", ">", ">>", "&"})


@dataclass(frozen=True)
class Shown:
    """One command with the lines that stand below it; `kind` is that of its block."""

    kind: str
    command: str
    lines: tuple[str, ...] = ()


def shown(page: Path) -> Iterator[Shown]:
    """Every command of `page`, in order."""
    for indent, kind, body in _BLOCK.findall(page.read_text()):
        text = re.sub(rf"^{indent}", "", body, flags=re.MULTILINE).replace("\\\n", " ")
        if kind == "sh":
            yield from (Shown(kind, line) for line in text.splitlines() if line and not line.startswith("#"))
        else:
            yield from _console(text.splitlines())


def _console(lines: list[str]) -> Iterator[Shown]:
    starts = [index for index, line in enumerate(lines) if _PROMPT.match(line)]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield Shown("console", _PROMPT.sub("", lines[start]), tuple(lines[start + 1 : end]))


def calls(command: str) -> Iterator[list[str]]:
    """Arguments of each call of ours in a line of shell, the program first; also of those in quotes.

    Our name before an option is somebody else's argument, as in `kubectl exec -c toposeal -- ...`.
    """
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    call: list[str] = []
    for word in (*lexer, ";"):
        if len(call) == 1 and word.startswith("-"):
            call = []
        if word in _ENDS:
            if call:
                yield call
            call = []
        elif call or word in PROGRAMS:
            call.append(word)
        elif any(f"{program} " in word for program in PROGRAMS):
            yield from calls(word)


def matches(expected: str, line: str) -> bool:
    """Whether `line` is `expected`, in which `...` stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, expected.split("..."))), line.rstrip()) is not None


def missing(expected: tuple[str, ...], printed: str) -> list[str]:
    """Those of `expected` that do not come in this order; other lines may stand between them."""
    rest = iter(printed.splitlines())
    return [
        wanted for wanted in expected if wanted != "..." and not any(matches(wanted, line) for line in rest)
    ]


# Who follows a page: tests that run each of its commands, in the page's order where one rests on another.
FOLLOWED = {
    "README.md": ("tests/netns/test_pages_followed.py",),
    "docs/evidence.md": ("tests/vectors/test_evidence_page.py", "tests/unit/test_evidence_page.py"),
    "docs/images.md": ("tests/images/test_images.py",),
    "docs/kubernetes.md": (
        "tests/kubernetes/test_kubernetes_page.py",
        "tests/kubernetes/test_cluster_page.py",
    ),
    "docs/monitoring.md": ("tests/netns/test_pages_followed.py",),
    "docs/topology.md": ("tests/unit/test_topology_page.py",),
    "docs/troubleshooting.md": ("tests/netns/test_pages_followed.py",),
    "docs/tutorial.md": (
        "tests/compose/test_tutorial.py",
        "tests/kubernetes/test_kubernetes_page.py",
        "tests/kubernetes/test_cluster_page.py",
    ),
    "docs/verify.md": ("tests/netns/test_pages_followed.py",),
}
# By the beginning of a command, why they do not run it.
NOT_RUN = {
    "README.md": {
        "make demo": "tests/netns/test_demo.py runs what it runs",
        "make test": "it runs this",
    },
    "docs/images.md": {"make images": "the tests call images/build, which is all that it does"},
    "docs/monitoring.md": {"kubectl logs": "no cluster: the test writes the log as kubectl gives it"},
    "docs/tutorial.md": {
        "toposeal verify https://shop": "no cluster serves: tests/netns/test_pages_followed.py runs the like",
        "toposeal connect shop": "likewise",
        "toposeal topology push https://shop": "likewise",
    },
    "docs/troubleshooting.md": {
        "docker exec": "tests/images/test_images.py runs it",
        "kubectl exec": "no cluster: tests/netns/test_doctor.py asks the same of a pod",
    },
}


def followed(page: str) -> list[Shown]:
    """Every command of `page` that its test has to run, in order."""
    return [each for each in shown(ROOT / page) if not _excused(page, each)]


def _excused(page: str, each: Shown) -> bool:
    return any(each.command.startswith(beginning) for beginning in NOT_RUN.get(page, {}))


def filled(text: str, values: Mapping[str, str]) -> str:
    """`text` with `values` in place of what the page abbreviates or makes up."""
    for written, real in values.items():
        text = text.replace(written, real)
    return text

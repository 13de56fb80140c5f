"""What configfs-tsm and our reader of it do, line by line: run on a real kernel and on the lab's file system.

A scenario is what stands behind one report directory; each side brings it about in its own way, and the
transcript is the same. Lines are `scenario: step = outcome`; nothing in them depends on time or chance.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from toposeal.errors import QuoteSourceError
from toposeal.host.configfs_tsm import ConfigfsTsm

TDX_OFFSET, SNP_OFFSET = 568, 0x50  # of report data in a quote of version 4 and in a report
NOBODY = 65534
DATA = bytes(range(64))


@dataclass(frozen=True)
class Scenario:
    """A driver and its host. `blob` is the template of outblob: `tdx` and `snp` are genuine in shape."""

    provider: str = "tdx_guest"
    blob: str = "tdx"
    floor: int = 0
    fail: str = ""
    times: int = 0
    delay_ms: int = 0

    @property
    def sev(self) -> bool:
        return self.provider == "sev_guest"


SNP = Scenario("sev_guest", "snp")
SCENARIOS = {
    "abi": SNP,
    "tdx": Scenario(),
    "snp": SNP,
    "svsm": Scenario("sev_guest", "snp", floor=2),
    "cca": Scenario("arm_cca_guest"),
    "busy": Scenario(fail="EBUSY", times=2),
    "errors": Scenario(fail="ETIMEDOUT", times=1),
    "late": Scenario(fail="ETIMEDOUT", times=1),
    "interrupted": Scenario(fail="EINTR", times=1),
    "no-memory": Scenario(fail="ENOMEM", times=1),
    "refused": Scenario(fail="EIO", times=9),
    "bad-input": Scenario(fail="EINVAL", times=9),
    "gone": Scenario(fail="ENXIO", times=9),
    "wiped": Scenario("sev_guest", "snp", fail="ENOTTY", times=9),
    "empty": Scenario(blob="empty"),
    "padded": Scenario(blob="padded"),
    "dice": Scenario(blob="dice"),
    "oversized": Scenario(blob="oversized"),
    "foreign": Scenario(blob="foreign"),
    "garbage": Scenario(blob="garbage"),
    "slow": Scenario(delay_ms=200),
    "hanging": Scenario(delay_ms=2500),
    "racing": SNP,
    "parallel": Scenario(),
}


class Bed(Protocol):
    """What the script runs on."""

    def directory(self, name: str) -> str:
        """The `report/` of a scenario, with nothing in it; the one before is no longer used."""

    def unload(self) -> int | None:
        """Take the driver away; an errno, 0, or None where drivers do not come and go."""

    def load(self, name: str) -> int | None:
        """Bring the driver of a scenario; as `unload`."""


def run(bed: Bed) -> None:
    """Print the whole transcript."""
    _abi(bed.directory("abi"))
    _writers(bed.directory("abi"))
    _names(bed.directory("abi"))
    _removal(bed.directory("abi"))
    _drivers_errors(bed.directory("errors"))
    _drivers_leave(bed)
    for name in SCENARIOS:
        if name not in ("abi", "errors", "racing", "parallel", "hanging"):
            _reader(name, bed.directory(name))
    _hanging(bed.directory("hanging"))
    _racing(bed.directory("racing"))
    _parallel(bed.directory("parallel"))
    _print("script", "end", "reached")


def _say(scenario: str, step: str, call: Callable[[], object]) -> None:
    try:
        outcome = call()
    except OSError as error:
        outcome = errno.errorcode[error.errno or 0]
    _print(scenario, step, outcome)


def _print(scenario: str, step: str, outcome: object) -> None:
    print(f"{scenario}: {step} = {outcome}", flush=True)


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def _write(path: str, data: bytes) -> int:
    file = os.open(path, os.O_WRONLY)
    try:
        return os.write(file, data)
    finally:
        os.close(file)


def _reported(entry: str, offset: int = SNP_OFFSET) -> str:
    """The report data in outblob, short."""
    data = _read(f"{entry}/outblob")[offset : offset + 64]
    return f"{data[:4].hex()}..{data[-4:].hex()}"


def _shown(entry: str, name: str) -> str:
    found = os.stat(f"{entry}/{name}")
    return f"{stat.S_IMODE(found.st_mode):o} size {found.st_size} owner {found.st_uid}"


def _abi(report: str) -> None:
    """One entry, from mkdir on: what is shown, when inblob is committed, what a read serves."""
    entry = f"{report}/r0"

    def say(step: str, call: Callable[[], object]) -> None:
        _say("abi", step, call)

    def generation(step: str) -> None:
        say(f"generation {step}", lambda: int(_read(f"{entry}/generation")))

    say("mkdir", lambda: os.mkdir(entry))
    for name in sorted(os.listdir(entry)):
        say(f"shows {name}", lambda name=name: _shown(entry, name))  # type: ignore[misc]
    say("provider", lambda: _read(f"{entry}/provider"))
    say("privlevel_floor", lambda: _read(f"{entry}/privlevel_floor"))
    generation("at first")
    say("outblob before inblob", lambda: _reported(entry))
    file = os.open(f"{entry}/inblob", os.O_WRONLY)
    say("write of 64", lambda: os.write(file, b"a" * 64))
    generation("before close")
    say("outblob before close", lambda: _reported(entry))
    say("close", lambda: os.close(file))
    generation("after close")
    say("outblob", lambda: _reported(entry))
    say("auxblob", lambda: hashlib.sha256(_read(f"{entry}/auxblob")).hexdigest()[:16])
    say("same outblob again", lambda: _read(f"{entry}/outblob") == _read(f"{entry}/outblob"))
    generation("after reads")
    _amounts(entry, say, generation)
    _opens(entry, say, generation)
    _levels(entry, say, generation)


Say = Callable[[str, Callable[[], object]], None]


def _amounts(entry: str, say: Say, generation: Callable[[str], None]) -> None:
    """inblob in pieces, too much of it, too little, none."""
    for pieces in ((32, 32), (40, 40), (65,), (63,), (0,), ()):
        file = os.open(f"{entry}/inblob", os.O_WRONLY)
        for index, size in enumerate(pieces):
            piece = bytes([0x62 + index]) * size
            say(f"{pieces} write {index}", lambda file=file, piece=piece: os.write(file, piece))  # type: ignore[misc]
        say(f"{pieces} close", lambda file=file: os.close(file))  # type: ignore[misc]
        generation(f"after {pieces}")
        say(f"{pieces} outblob", lambda: _reported(entry))


def _opens(entry: str, say: Say, generation: Callable[[str], None]) -> None:
    """Flags, seeks, and what an open file keeps."""
    for flags in ("O_RDONLY", "O_RDWR"):
        say(f"inblob {flags}", lambda flags=flags: os.open(f"{entry}/inblob", getattr(os, flags)))  # type: ignore[misc]
    say("outblob O_WRONLY", lambda: os.open(f"{entry}/outblob", os.O_WRONLY))
    create = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    say("inblob O_CREAT O_TRUNC", lambda: os.close(os.open(f"{entry}/inblob", create)))
    generation("after opens")
    _write(f"{entry}/inblob", b"p" * 64)
    file = os.open(f"{entry}/outblob", os.O_RDONLY)
    say("start of an open outblob", lambda: os.read(file, SNP_OFFSET + 4)[-4:])
    _write(f"{entry}/inblob", b"q" * 64)
    say("rest of it after a write", lambda: os.read(file, 4))
    say("lseek", lambda: os.lseek(file, 0, os.SEEK_SET))
    os.close(file)
    say("outblob opened anew", lambda: _reported(entry))


def _levels(entry: str, say: Say, generation: Callable[[str], None]) -> None:
    for text in (b"4\n", b"\x02", b"-1\n", b"", b"2\n", b"0x3"):
        say(f"privlevel {text!r}", lambda text=text: _write(f"{entry}/privlevel", text))  # type: ignore[misc]
    generation("after levels")
    say("level in outblob", lambda: _read(f"{entry}/outblob")[0x30])


def _writers(report: str) -> None:
    """Two writers of one entry: the counter tells, and the last one's data is reported."""
    entry = f"{report}/shared"
    os.mkdir(entry)
    _write(f"{entry}/inblob", b"a" * 64)
    _write(f"{entry}/inblob", b"b" * 64)
    _say("writers", "generation after two", lambda: int(_read(f"{entry}/generation")))
    _say("writers", "outblob", lambda: _reported(entry))
    os.rmdir(entry)


def _names(report: str) -> None:
    """What can be made and removed, by whom."""
    entry = f"{report}/r0"
    os.mkdir(entry)
    steps: dict[str, Callable[[], object]] = {
        "mkdir of an entry that is there": lambda: os.mkdir(entry),
        "mkdir in an entry": lambda: os.mkdir(f"{entry}/x"),
        "rename": lambda: os.rename(entry, f"{report}/r1"),
        "symlink": lambda: os.symlink("/tmp", f"{report}/l"),
        "link": lambda: os.link(f"{entry}/outblob", f"{report}/l"),
        "unlink": lambda: os.unlink(f"{entry}/outblob"),
        "create": lambda: os.open(f"{entry}/new", os.O_WRONLY | os.O_CREAT),
        "name of 256": lambda: os.mkdir(f"{report}/{'n' * 256}"),
        "name of 255": lambda: os.mkdir(f"{report}/{'n' * 255}"),
        "rmdir of it": lambda: os.rmdir(f"{report}/{'n' * 255}"),
        "rmdir of nothing": lambda: os.rmdir(f"{report}/nothing"),
        "entry's mode": lambda: f"{stat.S_IMODE(os.stat(entry).st_mode):o}",
        "stranger's write": lambda: _as_nobody(lambda: _write(f"{entry}/inblob", DATA)),
        "stranger's mkdir": lambda: _as_nobody(lambda: os.mkdir(f"{report}/u")),
    }
    for step, call in steps.items():
        _say("names", step, call)


def _as_nobody(call: Callable[[], object]) -> str:
    """The outcome of `call` in a child without privileges."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        try:
            outcome = str(call())
        except OSError as error:
            outcome = errno.errorcode[error.errno or 0]
        os.write(writer, outcome.encode())
        os._exit(0)
    os.waitpid(child, 0)
    outcome = os.read(reader, 100).decode()
    os.close(reader)
    os.close(writer)
    return outcome


def _removal(report: str) -> None:
    """rmdir takes an entry with its files, open or not."""
    entry = f"{report}/r0"
    os.mkdir(entry)
    file = os.open(f"{entry}/inblob", os.O_WRONLY)
    os.write(file, DATA)
    counter = os.open(f"{entry}/generation", os.O_RDONLY)
    _say("removal", "rmdir with files open", lambda: os.rmdir(entry))
    _say("removal", "gone", lambda: not os.path.exists(entry))
    _say("removal", "read of an open file", lambda: os.read(counter, 10))
    _say("removal", "write to one", lambda: os.write(file, DATA))
    _say("removal", "close", lambda: os.close(file))
    os.close(counter)
    _say("removal", "left", lambda: os.listdir(report))


def _drivers_errors(report: str) -> None:
    """An error of the driver shows at the read, and the next read asks again."""
    entry = f"{report}/r0"
    os.mkdir(entry)
    _write(f"{entry}/inblob", DATA)
    _say("errors", "outblob", lambda: _reported(entry, TDX_OFFSET))
    _say("errors", "generation", lambda: int(_read(f"{entry}/generation")))
    _say("errors", "outblob again", lambda: _reported(entry, TDX_OFFSET))
    os.rmdir(entry)


def _drivers_leave(bed: Bed) -> None:
    """A driver goes while an entry is left, and another one wants to come."""
    report = bed.directory("tdx")
    entry = f"{report}/left"
    os.mkdir(entry)
    _write(f"{entry}/inblob", DATA)
    if bed.unload() is None:
        os.rmdir(entry)
        return
    _say("leaving", "provider", lambda: _read(f"{entry}/provider"))
    _say("leaving", "outblob", lambda: _reported(entry, TDX_OFFSET))
    _say("leaving", "mkdir", lambda: os.mkdir(f"{report}/more"))
    _print("leaving", "reader", _ask(report))
    _say("leaving", "another driver", lambda: errno.errorcode.get(bed.load("tdx") or 0, "comes"))
    _say("leaving", "rmdir", lambda: os.rmdir(entry))
    _say("leaving", "another driver then", lambda: errno.errorcode.get(bed.load("tdx") or 0, "comes"))


def _reader(name: str, report: str) -> None:
    lasts = SCENARIOS[name].blob in ("empty", "foreign", "garbage")
    _print(name, "reader", _ask(report, 1.0 if lasts else 30.0))
    _left(name, report)


def _left(name: str, report: str) -> None:
    """What is in the directory when every request has ended, abandoned ones too."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join()
    _say(name, "left", lambda: os.listdir(report))


def _ask(report: str, deadline: float = 30.0) -> str:
    """What our reader says, without the words that differ from run to run."""
    try:
        answer = ConfigfsTsm(report).report(DATA, deadline)
    except QuoteSourceError as refusal:
        first = refusal.mismatches[0]
        place = first.field.rsplit("/", 1)[-1].removeprefix("quote_source.")
        place = "an entry" if place.startswith("toposeal-") else place
        found = first.found.split(":")[0] if first.found[:1] == "E" else "another value"
        return f"refused at {place}: {found}, {'may pass' if refusal.retry else 'lasts'}"
    offset = SNP_OFFSET if answer.provider == "sev_guest" else TDX_OFFSET
    own = answer.outblob[offset : offset + 64] == DATA
    sizes = f"outblob {len(answer.outblob)} auxblob {len(answer.auxblob)}"
    level = f" level {answer.outblob[0x30]}" if answer.provider == "sev_guest" else ""
    return f"{answer.provider} {sizes}{level} own report data {own}"


def _hanging(report: str) -> None:
    """A read that the kernel does not return from is abandoned, and its entry is removed in the end."""
    source = ConfigfsTsm(report)
    for step in ("first", "second"):
        try:
            source.report(DATA, 0.3)
        except QuoteSourceError as refusal:
            first = refusal.mismatches[0].field
            _print("hanging", step, f"refused at {first}, may pass: {refusal.retry}")
    _print("hanging", "third", f"outblob {len(source.report(DATA, 30).outblob)}")
    _left("hanging", report)


_RACED = re.compile(r"sev_guest .* own report data True|refused at .*, may pass")


def _racing(report: str) -> None:
    """While another process writes into every entry it sees, a report is ours or none."""
    stop = threading.Event()
    written = 0

    def interfere() -> None:
        nonlocal written
        while not stop.is_set():
            for name in os.listdir(report):
                with suppress(OSError):
                    written += _write(f"{report}/{name}/inblob", b"\xff" * 64) // 64
            time.sleep(0.0005)

    rival = threading.Thread(target=interfere)
    rival.start()
    answers = [_ask(report, 0.2) for _ in range(10)]
    stop.set()
    rival.join()
    _print("racing", "another wrote", written > 0)
    _print("racing", "own report or a refusal that may pass", all(map(_RACED.fullmatch, answers)))
    _print("racing", "afterwards", _ask(report))
    _left("racing", report)


def _parallel(report: str) -> None:
    """Readers of their own entries do not disturb one another."""
    outcomes: list[str] = []
    threads = [threading.Thread(target=lambda: outcomes.append(_ask(report))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _print("parallel", f"{len(outcomes)} readers", ", ".join(sorted(set(outcomes))))
    _left("parallel", report)

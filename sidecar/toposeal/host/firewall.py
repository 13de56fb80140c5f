"""The lockdown in the kernel: applied in one step, read back whole. Nothing here ever removes a rule."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources

from toposeal.dataplane.firewall import (
    Backend,
    Chains,
    differences,
    nft_chains,
    replacing,
    save_chains,
    without_standing_jumps,
)
from toposeal.errors import Mismatch, PodError, Reason
from toposeal.host import xtables
from toposeal.host.connections import forget_unmarked
from toposeal.host.ruleset import Ruleset
from toposeal.limits import MAX_MISMATCHES

_DIRECTORIES = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")  # no search path: the environment has no say
_TIMEOUT = 10  # seconds; a restore takes 0.1 s at most, and may wait for the lock of another one
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class _Part:
    """One rule file with the commands that apply it (from standard input) and list what stands."""

    file: str
    apply: tuple[str, ...]
    show: tuple[str, ...]


def _iptables(kind: str) -> tuple[_Part, ...]:
    def part(file: str, program: str) -> _Part:
        restore = (f"{program}-{kind}-restore", "--wait", "5", "--noflush")
        return _Part(file, restore, (f"{program}-{kind}-save",))

    return part("lockdown.v4.rules", "iptables"), part("lockdown.v6.rules", "ip6tables")


_PARTS: dict[Backend, tuple[_Part, ...]] = {
    Backend.NFT: (
        _Part("lockdown.nft", ("nft", "-f", "-"), ("nft", "-y", "list", "table", "inet", "toposeal")),
    ),
    Backend.LEGACY: _iptables("legacy"),
    Backend.IPTABLES_NFT: _iptables("nft"),
}


def rule_file(name: str) -> str:
    """The text of a file of `iptables/`, as this installation carries it."""
    return resources.files("toposeal").joinpath("rules", name).read_text(encoding="ascii")


def choose() -> Backend:
    """The first backend whose programs are installed and whose tables the kernel has.

    Raises PodError(FIREWALL) if there is none: the gate then stays closed.
    """
    reasons: list[Mismatch] = []
    for backend in Backend:
        try:
            for part in _PARTS[backend]:
                _program(part.apply[0]), _program(part.show[0])
            _require_kernel(backend)
            return backend
        except PodError as error:
            reasons.extend(error.mismatches)
    raise PodError(*reasons)


def apply(backend: Backend | None = None) -> Backend:
    """Close the pod: apply the rule files verbatim, then `check`. Returns the backend that holds them.

    Safe to repeat under a running application; where the rules did not stand before, the kernel also
    forgets every connection that is older than they are (I9). Raises PodError(FIREWALL) unless every
    rule of both families stands afterwards; what has been applied by then is left in place.
    """
    chosen = choose() if backend is None else backend
    stood = all(_stands(part) for part in _PARTS[chosen])
    reapply(chosen)
    if not stood:
        asyncio.run(forget_unmarked())
    return chosen


def reapply(backend: Backend) -> None:
    """Apply and `check`, as fast as can be: for rules that somebody has changed."""
    for part in _PARTS[backend]:
        if backend is Backend.NFT:
            _apply_nft(part)
        else:
            _run(part.apply, without_standing_jumps(rule_file(part.file), _live(part)))
    check(backend)


def check(backend: Backend | None = None) -> Backend:
    """Compare what the kernel holds with the rule files; raises PodError(FIREWALL) naming each difference."""
    chosen = choose() if backend is None else backend
    for part in _PARTS[chosen]:
        found = differences(_demanded(part), _live(part))
        if found:
            raise PodError(*found[:MAX_MISMATCHES])
    return chosen


def _stands(part: _Part) -> bool:
    """Whether the rules can be read and are those of the file."""
    try:
        return not differences(_demanded(part), _live(part))
    except PodError:
        return False


def _apply_nft(part: _Part) -> None:
    text = rule_file(part.file)
    with suppress(PodError):  # what it says does not matter: what stands afterwards does
        _run(part.apply, text)
    # Flushing cannot mend a table that somebody has bent out of shape: a chain on another hook, or one more.
    if not _stands(part):
        _run(part.apply, replacing(text))


def _demanded(part: _Part) -> Chains:
    return _chains(part, rule_file(part.file))


def _live(part: _Part) -> Chains:
    return _chains(part, _run(part.show))


def _chains(part: _Part, text: str) -> Chains:
    return nft_chains(text) if part.file.endswith(".nft") else save_chains(text)


def _require_kernel(backend: Backend) -> None:
    if backend is Backend.LEGACY:
        xtables.snapshot()
    else:
        asyncio.run(_generation())


async def _generation() -> int:
    async with Ruleset() as ruleset:
        return await ruleset.generation()


def _run(command: Sequence[str], text: str = "") -> str:
    argv = [_program(command[0]), *command[1:]]
    try:
        done = subprocess.run(  # noqa: S603 (absolute path, fixed arguments, no environment)
            argv,
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env={},
            timeout=_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PodError.of(Reason.FIREWALL, command[0], error, "exit code 0") from error
    if done.returncode != 0:
        said = " ".join(done.stderr.split())
        raise PodError.of(Reason.FIREWALL, command[0], f"exit code {done.returncode}: {said}", "exit code 0")
    return done.stdout


def _program(name: str) -> str:
    """Absolute path of an installed program that only root can change."""
    for directory in _DIRECTORIES:
        path = f"{directory}/{name}"
        try:
            found = os.stat(path)
        except OSError:
            continue
        if stat.S_ISREG(found.st_mode) and found.st_uid == 0 and not found.st_mode & _OTHERS_MAY_WRITE:
            return path
    raise PodError.of(Reason.FIREWALL, name, "not installed", f"in {' or '.join(_DIRECTORIES)}, root's alone")

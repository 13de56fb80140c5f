"""The scenes: each begins with pods that are not there yet, and shows what `docs/adr/0026` promises."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from toposeal_lab.attacks.stage import redis_ping
from toposeal_lab.checks import CheckFailed, expect
from toposeal_lab.scenario import ATTESTATION_PORT, REDIS_PORT
from toposeal_lab.scenes.held import held
from toposeal_lab.scenes.mesh import SETTLE_S, Mesh, eventually, opened
from toposeal_lab.timeline import boottime

_DB = ("db", REDIS_PORT)


def restart(mesh: Mesh) -> None:
    """A pod dies with its virtual machine, and its replacement is a member of its own."""
    four = ("web", "api-1", "api-2", "db")
    _seal(mesh, *four)
    before = mesh.iids()
    with _undisturbed(mesh):
        mesh.checks.check("api-2's machine dies; api-3 takes its place", lambda: _replaced(mesh, before))
        mesh.checks.check("web reaches the replacement by name", lambda: mesh.answers_of("api-3"))


def scale(mesh: Mesh) -> None:
    """Three members become six, and three again."""
    few, more = ("web", "api-1", "db"), ("api-2", "api-3", "api-4")
    _seal(mesh, *few)
    with _undisturbed(mesh):
        mesh.checks.check("three come at once: six members", lambda: _grown(mesh, few, more))
        mesh.checks.check("web reaches one that has come", lambda: mesh.answers_of(more[-1]))
        mesh.checks.check("they are told to end: three members", lambda: _shrunk(mesh, few, more))


def partition(mesh: Mesh) -> None:
    """One member is cut off. It stops serving, the others go on, and it comes back."""
    four, rest = ("web", "api-1", "api-2", "db"), ("web", "api-1", "db")
    _seal(mesh, *four)
    with _undisturbed(mesh):
        mesh.checks.check("api-2's network goes away: it stops serving", lambda: _cut_off(mesh, "api-2"))
        mesh.checks.check("the others go on without it", lambda: mesh.settled(*rest))
        mesh.checks.check("its network is back, and so is api-2", lambda: _joined(mesh, "api-2", four))


def evict(mesh: Mesh) -> None:
    """The host freezes a daemon, whose Envoy would serve on: the others leave it out and cut it."""
    four, rest = ("web", "api-1", "api-2", "db"), ("web", "api-1", "db")
    _seal(mesh, *four)
    with _undisturbed(mesh), held(mesh, "api-2") as connection:
        mesh.checks.check("web holds a connection to api-2", connection.alive)
        mesh.checks.check("the host freezes api-2's daemon: it is left out", lambda: _frozen(mesh, rest))
        mesh.checks.check("web's connection to it is cut", lambda: connection.was_cut(mesh["web"]))
        mesh.checks.check("web never reaches it again", lambda: _unreachable(mesh, "api-2"))


def upgrade(mesh: Mesh) -> None:
    """The owner signs newer versions: a call more, and the same call less. No pod is restarted."""
    four = ("web", "api-1", "api-2", "db")
    _seal(mesh, *four)
    before = mesh.iids()
    check = mesh.checks.check
    with _undisturbed(mesh):
        check("web may not call db", lambda: _calls_db(mesh, answered=False))
        check("version 2 lets it: one member is given it", lambda: _given(mesh, 2, {"web": (_DB,)}))
        check("all serve version 2, as who they were", lambda: _serves(mesh, 2, four, before))
        check("web calls db", lambda: _calls_db(mesh, answered=True))
        check("version 3 takes the call away", lambda: _given(mesh, 3, {}))
        check("all serve version 3", lambda: _serves(mesh, 3, four, before))
        check("web may not call db any more", lambda: _calls_db(mesh, answered=False))
        check("version 2 is not taken again", lambda: _refused(mesh, 2, {"web": (_DB,)}))


SCENES: Mapping[str, Callable[[Mesh], None]] = {
    "restart": restart,
    "scale": scale,
    "partition": partition,
    "evict": evict,
    "upgrade": upgrade,
}


def _seal(mesh: Mesh, *names: str) -> None:
    mesh.checks.check(f"{len(names)} members seal", lambda: mesh.seal(*names))
    if not mesh.checks.ok:
        raise CheckFailed("without a mesh there is no scene")


@contextmanager
def _undisturbed(mesh: Mesh) -> Iterator[None]:
    """While the block runs, api-1 asks db, both of which stay."""
    with mesh.load(per_second=200) as traffic:
        yield

    def nothing_lost() -> str:
        lost = f"{traffic.failed} of {traffic.requests} requests failed, {traffic.cut} connections were cut"
        expect(traffic.requests > 100 and not traffic.failed and not traffic.cut, lost, "none")
        return f"{traffic.requests} requests of api-1 to db: none failed, no connection was cut"

    mesh.checks.check("nothing between those that stay was lost", nothing_lost)


def _replaced(mesh: Mesh, before: set[str]) -> str:
    mesh["api-2"].pod.kill_all()
    mesh.come("api-3")
    mesh["api-3"].wait("gate", SETTLE_S, state="open")
    told = mesh.settled("web", "api-1", "api-3", "db")
    came, gone = mesh.iids() - before, before - mesh.iids()
    expect((len(came), len(gone)) == (1, 1), (len(came), len(gone)), "one new identity and one less")
    return f"{told}; three members kept their identities, one is new"


def _grown(mesh: Mesh, few: tuple[str, ...], more: tuple[str, ...]) -> str:
    mesh.come(*more)
    for name in more:
        mesh[name].wait("gate", SETTLE_S, state="open")
    return mesh.settled(*few, *more)


def _shrunk(mesh: Mesh, few: tuple[str, ...], more: tuple[str, ...]) -> str:
    for name in more:
        os.kill(mesh[name].processes()[0], signal.SIGTERM)
    eventually(lambda: all(mesh[name].code is not None for name in more), "an end of each")
    codes = [mesh[name].code for name in more]
    expect(codes == [0] * len(more), codes, "every exit 0")
    return f"{mesh.settled(*few)}; each served until the others were active without it"


def _given(mesh: Mesh, version: int, calls: Mapping[str, tuple[tuple[str, int], ...]]) -> str:
    done = _push(mesh, version, calls)
    expect(done.returncode == 0, done.stdout + done.stderr, "exit 0")
    return f"toposeal topology push to api-1: {done.stdout.decode().strip()}"


def _refused(mesh: Mesh, version: int, calls: Mapping[str, tuple[tuple[str, int], ...]]) -> str:
    done = _push(mesh, version, calls)
    expect(done.returncode != 0, done.stdout, "a refusal")
    return f"exit {done.returncode}: {(done.stdout + done.stderr).decode().strip()[:200]}"


def _push(
    mesh: Mesh, version: int, calls: Mapping[str, tuple[tuple[str, int], ...]]
) -> subprocess.CompletedProcess[bytes]:
    url = f"https://{mesh['api-1'].pod.ipv4}:{ATTESTATION_PORT}"
    file = mesh.world.newer(version, calls)
    return mesh.world.outside.run(mesh.world.push_command(url, file), check=False)


def _serves(mesh: Mesh, version: int, names: tuple[str, ...], before: set[str]) -> str:
    """By the verdict of somebody outside who knows nothing but the owner's key."""
    told = ""

    def all_serve() -> bool:
        nonlocal told
        told = mesh.settled(*names)
        return bool(mesh.verdict["topology_version"] == version)

    eventually(all_serve, f"version {version}")
    expect(mesh.iids() == before, "other members", "the same members")
    return f"version {version}, {told}; the same identities"


def _calls_db(mesh: Mesh, *, answered: bool) -> str:
    answer = redis_ping(mesh["web"].pod)
    expect((answer == "PONG") is answered, answer, "PONG" if answered else "no answer")
    return f"redis-cli -h db PING in web: {answer!r}"


def _cut_off(mesh: Mesh, name: str) -> str:
    _link(mesh, name, "down")
    at = boottime()
    suspended = mesh[name].wait("gate", SETTLE_S, state="suspended")
    return f"{name} suspends itself {suspended - at:.1f} s later"


def _joined(mesh: Mesh, name: str, all_of_them: tuple[str, ...]) -> str:
    _link(mesh, name, "up")
    eventually(lambda: opened(mesh[name]) is not None, f"an open gate of {name}")
    return mesh.settled(*all_of_them)


def _link(mesh: Mesh, name: str, state: str) -> None:
    mesh.world.outside.run(["ip", "link", "set", mesh[name].pod.interface, state])


def _frozen(mesh: Mesh, rest: tuple[str, ...]) -> str:
    os.kill(mesh["api-2"].processes()[0], signal.SIGSTOP)
    return mesh.settled(*rest)


def _unreachable(mesh: Mesh, name: str) -> str:
    try:
        answered = mesh.answers_of(name, tries=20)
    except CheckFailed as failure:
        return f"20 calls: {failure}"
    raise CheckFailed(answered)

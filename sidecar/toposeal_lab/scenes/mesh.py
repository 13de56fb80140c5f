"""A small mesh whose members come and go, and what can be asked of it. Times in seconds."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from toposeal_lab.apps import system_python
from toposeal_lab.attacks.stage import PING, PONG, as_app
from toposeal_lab.checks import CheckFailed, Checks, expect
from toposeal_lab.load import Asked, Load, load
from toposeal_lab.member import Event, Member
from toposeal_lab.scenario import ATTESTATION_PORT, HTTP_PORT, REDIS_PORT, Cast
from toposeal_lab.world import World

START_S, SEAL_S, SETTLE_S = 60.0, 60.0, 60.0  # on a machine that others use too
_POLL_S = 0.05
# Short, so that a scene fits a minute; a lease is still longer than a busy machine keeps a daemon waiting.
TIMERS = {
    "view_ms": 700,
    "quote_ms": 10_000,
    "ping_ms": 1_000,
    "attempt_ms": 10_000,
    "heartbeat_ms": 500,
    "lease_ms": 5_000,
    "quorum_ms": 60_000,
}
POSSIBLE = {"web": "web", "api-1": "api", "api-2": "api", "api-3": "api", "api-4": "api", "db": "db"}
CAST = Cast(members=POSSIBLE, replicas={"api": (1, 4)}, timers=TIMERS)


@dataclass
class Mesh:
    """The world, whoever of it is there, and what a scene reports."""

    world: World
    checks: Checks
    there: list[str] = field(default_factory=list)
    seal_seconds: float = 0.0
    verdict: dict[str, Any] = field(default_factory=dict)  # of the last `toposeal verify`

    def __getitem__(self, name: str) -> Member:
        return self.world.members[name]

    def come(self, *names: str) -> None:
        """Start daemons and programs of these pods."""
        for name in names:
            self.world.start(name)
            self.there.append(name)
        for name in names:
            self[name].wait("phase", START_S, phase="gathering")
            self.world.start_app(name)

    def seal(self, *names: str) -> str:
        """All of `names` come, and serve the same manifest."""
        self.come(*names)
        opened = [self[name].wait("gate", SEAL_S, state="open") for name in names]
        self.seal_seconds = max(opened) - max(self[name].started for name in names)
        return self.settled(*names)

    def settled(self, *names: str) -> str:
        """Wait until these members serve one manifest that lists them and nobody else, by the verdict of an
        outside verifier. Raises CheckFailed.
        """
        wanted = sorted(self[name].role for name in names)
        end = time.monotonic() + SETTLE_S
        while True:
            epochs = {epoch(self[name]) for name in names}
            if len(epochs) == 1 and self.verify():
                listed = sorted(member["role"] for member in self.verdict["members"])
                if listed == wanted and {self.verdict["epoch"]} == epochs:
                    return f"epoch {epochs.pop()} lists {', '.join(listed)}"
            expect(time.monotonic() < end, f"epochs {sorted(epochs)}, listed {self.verdict}", str(wanted))
            time.sleep(_POLL_S)

    def agreed(self, above: int, *names: str) -> None:
        """Wait until these members serve one manifest of an epoch above that one, by their own journals:
        asking from outside takes CPU that a benchmark would count. Raises CheckFailed.
        """

        def agree() -> bool:
            epochs = {epoch(self[name]) for name in names}
            return len(epochs) == 1 and min(epochs) > above

        eventually(agree, f"one epoch above {above}")

    def verify(self) -> bool:
        """Ask web for its document, as anyone outside may."""
        url = f"https://{self['web'].pod.ipv4}:{ATTESTATION_PORT}"
        done = self.world.outside.run(self.world.verify_command(url), check=False)
        found = json.loads(done.stdout or b"{}")
        self.verdict = found if done.returncode == 0 else {"members": [], "said": str(done.stderr[-300:])}
        return done.returncode == 0

    def iids(self) -> set[str]:
        """Of the members that the last verdict lists."""
        return {member["iid"] for member in self.verdict["members"]}

    def address(self, name: str, role: str) -> str:
        """Where programs of pod `name` find `role`."""
        asked = f"import socket; print(socket.gethostbyname({role!r}))"
        return as_app(self[name].pod, system_python(), "-I", "-c", asked)

    def load(self, per_second: int) -> AbstractContextManager[Load]:
        """api-1 asks db, over connections that it keeps and now and then a new one; some are only kept."""
        asked = Asked(self.address("api-1", "db"), REDIS_PORT, PING, PONG)
        return load(self["api-1"].pod, asked, per_second, busy=4, idle=4)

    def answers_of(self, wanted: str, tries: int = 60) -> str:
        """Until `wanted` has answered web's call of `api`."""
        answer = ""
        for _ in range(tries):
            answer = as_app(self["web"].pod, "curl", "-sS", "--max-time", "5", f"http://api:{HTTP_PORT}/")
            if re.match(rf"api {wanted}: visit \d+", answer):
                return f"curl http://api:{HTTP_PORT}/ in web: {answer!r}"
        raise CheckFailed(f"{wanted} never answered, last {answer!r}")


def epoch(member: Member) -> int:
    """Of the manifest that the gate serves; 0 while it does not."""
    last = opened(member)
    return int(str(last["epoch"])) if last else 0


def opened(member: Member) -> Event | None:
    """The gate's last event, if that says that it is open."""
    states = member.events("gate")
    return states[-1] if states and states[-1].get("state") == "open" else None


def eventually(holds: Callable[[], bool], what: str, timeout_s: float = SETTLE_S) -> None:
    """Raises CheckFailed."""
    end = time.monotonic() + timeout_s
    while not holds():
        expect(time.monotonic() < end, f"nothing of that kind in {timeout_s:.0f} s", what)
        time.sleep(_POLL_S)


def named(names: Sequence[str]) -> str:
    return ", ".join(names)

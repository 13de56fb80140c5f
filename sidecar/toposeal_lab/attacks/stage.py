"""Where attacks take place: the world with one pod that nothing protects and one that the host owns."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from toposeal_lab.apps import APP_UID
from toposeal_lab.checks import CheckFailed, Checks, expect
from toposeal_lab.clients import Outcome
from toposeal_lab.member import Member
from toposeal_lab.pods import Pod
from toposeal_lab.stats import counters, risen
from toposeal_lab.world import World

_WITNESS_S = 1.0  # Envoy counts after it has closed the connection
PING, PONG = b"PING\r\n", b"+PONG"


@dataclass(frozen=True)
class Stage:
    """`bystander` is a pod with a redis of its own and without a sidecar; `rogue` is the host's."""

    world: World
    bystander: Pod
    rogue: Pod
    checks: Checks

    def member(self, name: str) -> Member:
        return self.world.members[name]


def as_app(pod: Pod, *argv: str) -> str:
    """What the pod's application gets when it runs `argv`: output, or how it ended."""
    done = pod.run(argv, uid=APP_UID, check=False)
    text = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
    return text if done.returncode == 0 else f"exit {done.returncode}: {text}"


def redis_ping(pod: Pod) -> str:
    """`redis-cli -h db PING` as the application of `pod`."""
    return as_app(pod, "timeout", "5", "redis-cli", "-h", "db", "PING")


def expect_answer(outcome: Outcome, wanted: bytes) -> str:
    """The outcome as text, if its answer starts with `wanted`."""
    expect(outcome.answer.startswith(wanted), outcome, f"answer {wanted!r}")
    return str(outcome)


def expect_nothing(outcome: Outcome) -> str:
    """The outcome as text, if nothing came back."""
    expect(not outcome.answer, outcome, "no answer")
    return str(outcome)


def witnessed(member: Member, attempt: Callable[[], str]) -> str:
    """Run `attempt`; its text, with the counters of `member`'s Envoy that it made rise.

    Raises CheckFailed when none did: then something else than Envoy refused it.
    """
    before = counters(member.layout.admin)
    observed = attempt()
    end = time.monotonic() + _WITNESS_S
    while not (rises := risen(before, counters(member.layout.admin))) and time.monotonic() < end:
        time.sleep(0.02)
    if not rises:
        raise CheckFailed(
            f"{observed}, but no counter of {member.name}'s Envoy says that it refused anything"
        )
    return f"{observed} ({member.name}'s Envoy: {rises})"

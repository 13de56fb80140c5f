"""Traffic before the seal: out of a closed pod, and into one."""

from __future__ import annotations

import json
import secrets
import socket

from toposeal_lab.apps import APP_UID, install, system_python
from toposeal_lab.attacks.stage import PING, PONG, Stage, expect_answer, expect_nothing, witnessed
from toposeal_lab.capture import Wire
from toposeal_lab.checks import expect
from toposeal_lab.clients import exchange
from toposeal_lab.pods import Pod
from toposeal_lab.scenario import HTTP_PORT, INGRESS_PORT, REDIS_PORT

_SINK_PORT = 7777  # on the node: what the canary connects to


def run(stage: Stage) -> None:
    """Both directions, while one member is still missing."""
    web, db = stage.member("web").pod, stage.member("db").pod
    stage.checks.attack(
        "before the seal nothing leaves a pod",
        lambda: _leak(stage, stage.bystander, leaks=True),
        lambda: _leak(stage, web, leaks=False),
    )
    stage.checks.attack(
        "before the seal nothing enters a pod",
        lambda: _enter(stage, stage.bystander, REDIS_PORT),
        lambda: "; ".join(
            _refused_entry(stage, name, port)
            for name, port in ((db.name, REDIS_PORT), (web.name, HTTP_PORT), (web.name, INGRESS_PORT))
        ),
    )


def _leak(stage: Stage, pod: Pod, *, leaks: bool) -> str:
    """The application tries to send a marker in every way; how much of it was on the pod's wire?"""
    marker = f"canary{secrets.token_hex(8)}"
    program = install("canary", stage.world.directory)
    command = [system_python(), "-I", program, marker, str(_SINK_PORT), *stage.world.outside.addresses]
    with _sink(stage), Wire(stage.world.node, pod) as wire:
        results: dict[str, str] = json.loads(pod.run(command, uid=APP_UID).stdout)
        capture = wire.stop()
    seen = capture.carrying(marker.encode("ascii"))
    ways = ", ".join(sorted(set(results.values())))
    text = f"{len(results)} ways out of {pod.name} ({ways}): {seen} frames with the marker on the wire"
    expect(capture.lost == 0, f"{capture.lost} frames lost", "a complete capture")
    expect(seen >= len(results) if leaks else seen == 0, text, "every one" if leaks else "none")
    return text


def _sink(stage: Stage) -> socket.socket:
    """Something to connect to; the kernel accepts for it, and nobody answers."""
    with stage.world.outside.inside():
        return socket.create_server(("::", _SINK_PORT), family=socket.AF_INET6, dualstack_ipv6=True)


def _enter(stage: Stage, pod: Pod, port: int) -> str:
    outcome = exchange(stage.world.outside, (pod.ipv4, port), PING)
    return f"{pod.name}:{port} {expect_answer(outcome, PONG)}"


def _refused_entry(stage: Stage, name: str, port: int) -> str:
    member = stage.member(name)
    address = (member.pod.ipv4, port)

    def attempt() -> str:
        return f"{name}:{port} {expect_nothing(exchange(stage.world.outside, address, PING))}"

    return witnessed(member, attempt)

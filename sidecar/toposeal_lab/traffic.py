"""The shop at work: verified from outside, fetched through the mesh with curl and redis-cli alone."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

from toposeal_lab.attacks.stage import Stage, as_app, redis_ping
from toposeal_lab.checks import CheckFailed, expect
from toposeal_lab.scenario import ATTESTATION_PORT, HTTP_PORT, INGRESS_PORT, MEMBERS
from toposeal_lab.stolen import steal

_READY_S = 5.0  # programs that gave up before the seal are started again by whoever runs them


def verify(stage: Stage) -> dict[str, Any]:
    """Run `toposeal verify` from the node, record it as a check; its JSON, or {} when it failed."""
    verdict: dict[str, Any] = {}

    def body() -> str:
        url = f"https://{stage.member('web').pod.ipv4}:{ATTESTATION_PORT}"
        pins = str(stage.world.file("pins.pem"))
        started = time.monotonic()
        done = stage.world.outside.run(stage.world.verify_command(url, "--ca-out", pins), check=False)
        seconds = time.monotonic() - started
        found = json.loads(done.stdout)
        expect(done.returncode == 0 and found["verified"] is True, found, "a verified mesh")
        roles = sorted(member["role"] for member in found["members"])
        expect(roles == sorted(MEMBERS.values()), roles, "every member of the shop")
        verdict.update(found)
        return f"toposeal verify exit 0 in {seconds:.2f} s, members {', '.join(roles)}"

    stage.checks.check("an outside client verifies the mesh", body)
    stage.checks.check("the ingress port serves the same document", lambda: _at_ingress(stage, verdict))
    return verdict


def _at_ingress(stage: Stage, verdict: dict[str, Any]) -> str:
    """Where curl gets the shop, the verifier's ALPN gets the attestation document."""
    url = f"https://{stage.member('web').pod.ipv4}:{INGRESS_PORT}"
    done = stage.world.outside.run(stage.world.verify_command(url), check=False)
    found = json.loads(done.stdout)
    same = found.get("manifest_digest") == verdict.get("manifest_digest")
    expect(done.returncode == 0 and same, found, "the manifest that the attestation port shows")
    return f"toposeal verify https://web:{INGRESS_PORT} under ALPN toposeal-attest/1: exit 0"


def serve(stage: Stage) -> None:
    """Every edge of the shop, by the plain names that the programs are configured with."""
    web, api = stage.member("web").pod, stage.member("api-1").pod
    api_url = f"http://api:{HTTP_PORT}/"
    stage.checks.check("curl with the pins reaches web", lambda: _eventually(lambda: _ingress(stage, "/")))
    stage.checks.check("web reaches both replicas of api by name", lambda: _replicas(stage, api_url))
    stage.checks.check(
        "api reaches db with redis-cli -h db", lambda: _expect(redis_ping(api), "PONG", api.name)
    )
    stage.checks.check(
        "outside, web, api and db in one request", lambda: _eventually(lambda: _ingress(stage, "/api/"))
    )
    stage.checks.attack(
        "web cannot call db, which the topology does not let it",
        lambda: _expect(redis_ping(api), "PONG", api.name),
        lambda: _no_edge(redis_ping(web)),
    )


def _ingress(stage: Stage, path: str) -> str:
    """curl knows the pins and nothing else of the mesh; the name is the member's own."""
    web = stage.member("web")
    host, port = steal(web).domain, INGRESS_PORT
    command = ["curl", "-sS", "--fail", "--max-time", "5", "--cacert", str(stage.world.file("pins.pem"))]
    command += ["--connect-to", f"::{web.pod.ipv4}:{port}", f"https://{host}:{port}{path}"]
    done = stage.world.outside.run(command, check=False)
    text = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
    expect(done.returncode == 0, f"curl exit {done.returncode}: {text}", "exit 0")
    return f"curl --cacert pins.pem https://{host[:10]}...:{port}{path}: {text!r}"


def _replicas(stage: Stage, url: str) -> str:
    """Until both have answered."""
    web = stage.member("web").pod
    seen: set[str] = set()
    answer = ""
    for _ in range(20):
        answer = as_app(web, "curl", "-sS", "--max-time", "5", url)
        found = re.match(r"api (api-[12]): visit \d+", answer)
        seen |= {found[1]} if found else set()
        if len(seen) == 2:
            return f"curl {url} in web: {answer!r}, and from the other one"
    raise CheckFailed(f"only {sorted(seen)} answered, last {answer!r}")


def _no_edge(answer: str) -> str:
    expect("PONG" not in answer and bool(answer), answer, "an error")
    return f"redis-cli in web: {answer!r}"


def _expect(answer: str, wanted: str, who: str) -> str:
    expect(answer == wanted, f"{who} got {answer!r}", wanted)
    return f"redis-cli in {who}: {answer!r}"


def _eventually(body: Callable[[], str]) -> str:
    """`body`, again while it fails, for the programs' own start."""
    end = time.monotonic() + _READY_S
    while True:
        try:
            return body()
        except CheckFailed:
            if time.monotonic() > end:
                raise
        time.sleep(0.1)

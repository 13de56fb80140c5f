"""From sealed to the first application byte, on the clock of the daemons' own journals.

One member has waited for the others before the seal; another one is the last of all to start, and has
everything still to do.
"""

from __future__ import annotations

import base64
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from toposeal.dataplane.vips import vip
from toposeal.topology.parse import parse_topology
from toposeal_lab.checks import CheckFailed
from toposeal_lab.member import Member
from toposeal_lab.pods import Pod
from toposeal_lab.scenario import MEMBERS, REDIS_PORT
from toposeal_lab.timeline import boottime
from toposeal_lab.world import World, world

PROGRAMS = {"redis-server": "redis-server"}
_CALLERS = {"waited": "api-1", "last": "api-2"}
_CALLED = "db"
_WAIT_S = 30.0
_SETTLE_S = 2.0  # until those who wait are idle
_RETRY_S = 0.01
_ATTEMPT_S = 5.0


def bench_gate(quote_delay_ms: int) -> dict[str, Any]:
    """Milliseconds from the seal of both ends to an answer of the called program, for both callers."""
    with world(lambda name, event: None, quote_delay_ms=quote_delay_ms) as made:
        made.start_app(_CALLED)
        waiting = [name for name in MEMBERS if name != _CALLERS["last"]]
        for name in waiting:
            made.start(name)
        for name in waiting:
            made.members[name].wait("phase", _WAIT_S, phase="gathering")
        time.sleep(_SETTLE_S)
        made.start(_CALLERS["last"])
        made.members[_CALLERS["last"]].wait("phase", _WAIT_S, phase="gathering")
        with ThreadPoolExecutor(len(_CALLERS)) as pool:
            took = pool.map(lambda name: _gate_ms(made, name), _CALLERS.values())
            gates = dict(zip(_CALLERS, took, strict=True))
    return {"gate_ms": max(gates.values()), "gate": {f"{kind}_ms": took for kind, took in gates.items()}}


def _gate_ms(made: World, caller: str) -> float:
    answered = _first_answer(made.members[caller].pod, _address(made))
    return round(1000 * (answered - max(sealed_at(made.members[name]) for name in (caller, _CALLED))), 1)


def sealed_at(member: Member) -> float:
    """Boot time. Who has heard SEALED of all others by then is active in the same step, and tells of that."""
    active = member.wait("phase", _WAIT_S, phase="active")
    return min([active, *(float(str(e["t"])) for e in member.events("phase") if e["phase"] == "sealed")])


def _address(made: World) -> str:
    """What the name `db` leads to."""
    payload = json.loads(made.declaration.envelope)["payload"]
    return vip(parse_topology(base64.b64decode(payload)), MEMBERS[_CALLED])


def _first_answer(pod: Pod, address: str) -> float:
    """Boot time of the first byte, asked for again and again as an application that waits would."""
    end = time.monotonic() + _WAIT_S
    with pod.inside():
        while time.monotonic() < end:
            if _ping(address):
                return boottime()
            time.sleep(_RETRY_S)
    raise CheckFailed(f"no answer from {address} in {pod.name} in {_WAIT_S} s")


def _ping(address: str) -> bool:
    try:
        with socket.create_connection((address, REDIS_PORT), _ATTEMPT_S) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(1) == b"+"
    except OSError:
        return False

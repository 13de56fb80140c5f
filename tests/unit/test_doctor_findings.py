"""Facts in, findings out: what counts as missing, what as unknown, and that each says what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from toposeal.errors import Mismatch, Reason
from toposeal.gate.doctor import (
    Facts,
    Finding,
    Fine,
    Listener,
    State,
    Unknown,
    Wrong,
    effective,
    examine,
    is_whole,
    listeners,
)
from toposeal.host.privileges import CAPABILITIES
from toposeal.limits import DAEMON_UID, DNS_PORT, ENVOY_UID, INBOUND_PORT, OUTBOUND_PORT, PEER_PORT

EVERY = (1 << 41) - 1
ROUTES = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
LO = "lo\t00000AF0\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
ETH0 = "eth0\t00000000\t010A0A0A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
OURS = (
    Listener("tcp", PEER_PORT, DAEMON_UID),
    Listener("tcp", DNS_PORT, DAEMON_UID),
    Listener("udp", DNS_PORT, DAEMON_UID),
    Listener("tcp", OUTBOUND_PORT, ENVOY_UID),
    Listener("tcp", INBOUND_PORT, ENVOY_UID),
)
WHOLE = Facts(
    uid=0,
    capabilities=EVERY,
    wanted=CAPABILITIES,
    listeners=OURS,
    routes=ROUTES + ETH0 + LO,
    looks={"envoy": Fine("1.40.0")},
)


def found(facts: Facts, check: str) -> Finding:
    (finding,) = [each for each in examine(facts) if each.check == check]
    return finding


def state(facts: Facts, check: str) -> State:
    return found(facts, check).state


def test_a_pod_with_everything_is_whole() -> None:
    findings = examine(WHOLE)
    assert [each.check for each in findings] == ["user", "capabilities", "envoy", "ports", "route"]
    assert {each.state for each in findings} == {State.OK}
    assert is_whole(findings)
    assert found(WHOLE, "ports").found == "held by the sidecar"


def test_what_nobody_could_tell_is_not_missing() -> None:
    facts = Facts(0, None, CAPABILITIES, None, None, {"quotes": Unknown("a distribution is missing")})
    unknown = [each for each in examine(facts) if each.state is State.UNKNOWN]
    assert [each.check for each in unknown] == ["capabilities", "quotes", "ports", "route"]
    assert is_whole(examine(facts))


def test_what_a_daemon_needs_may_be_unknown_too() -> None:
    assert state(replace(WHOLE, wanted=None), "capabilities") is State.UNKNOWN


def test_a_refusal_is_shown_with_its_code_and_a_cure() -> None:
    wrong = Wrong([Mismatch(Reason.FIREWALL, f"chain {n}", "nothing", "a rule") for n in range(5)])
    facts = replace(WHOLE, looks={"rules": wrong})
    finding = found(facts, "rules")
    assert (finding.state, finding.reason) == (State.MISSING, Reason.FIREWALL)
    assert "chain 2" in finding.found and "chain 3" not in finding.found and "and 2 more" in finding.found
    assert str(finding).startswith("missing      rules: chain 0: found nothing, expected a rule; ")
    assert "[firewall]; run `toposeal firewall apply`" in str(finding)
    assert not is_whole(examine(facts))


@pytest.mark.parametrize(("uid", "expected"), [(0, State.OK), (DAEMON_UID, State.OK), (1000, State.MISSING)])
def test_the_users_are_those_of_the_daemon(uid: int, expected: State) -> None:
    assert state(replace(WHOLE, uid=uid), "user") is expected


@pytest.mark.parametrize(
    ("name", "number"),
    [("net_admin", 12), ("dac_override", 1), ("setuid", 7), ("setgid", 6), ("kill", 5), ("chown", 0)],
)
def test_each_capability_is_missed_by_name(name: str, number: int) -> None:
    assert name in CAPABILITIES
    finding = found(replace(WHOLE, capabilities=EVERY & ~(1 << number)), "capabilities")
    assert (finding.state, finding.reason) == (State.MISSING, Reason.USAGE)
    assert f"no {name}," in finding.found


def test_a_raw_socket_is_wanted_only_where_the_back_end_needs_it() -> None:
    lacking = replace(WHOLE, capabilities=EVERY & ~(1 << 13))
    assert state(lacking, "capabilities") is State.OK
    assert state(replace(lacking, wanted=(*CAPABILITIES, "net_raw")), "capabilities") is State.MISSING


@pytest.mark.parametrize("taken", OURS)
def test_a_port_that_another_has_is_missing(taken: Listener) -> None:
    others = [replace(each, uid=1000) if each == taken else each for each in OURS]
    finding = found(replace(WHOLE, listeners=others), "ports")
    assert finding.state is State.MISSING
    assert f"{taken.protocol} port {taken.port}: found user 1000" in finding.found
    wanted = Reason.ENVOY_REJECTED if taken.uid == ENVOY_UID else Reason.FIREWALL
    assert finding.reason is wanted


def test_ports_of_applications_are_their_own() -> None:
    free = found(replace(WHOLE, listeners=[Listener("tcp", 8080, 1000)]), "ports")
    assert (free.state, free.found) == (State.OK, "free")


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        (ROUTES + LO, State.OK),
        (ROUTES + ETH0, State.MISSING),
        (ROUTES + LO.replace("lo", "eth0"), State.MISSING),
        (ROUTES + "lo\n", State.MISSING),
        (ROUTES + LO.replace("0000FFFF", "00FFFFFF"), State.MISSING),
    ],
)
def test_a_running_daemon_has_its_route(routes: str, expected: State) -> None:
    assert state(replace(WHOLE, routes=routes), "route") is expected


def test_before_the_daemon_runs_the_route_is_its_business() -> None:
    finding = found(replace(WHOLE, routes=ROUTES, listeners=[]), "route")
    assert (finding.state, finding.reason) == (State.OK, None)
    assert "when it starts" in finding.found


TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid
   0: 0100007F:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1337        0 1588 1 0
   1: 0100007F:8A17 0100007F:AE72 01 00000000:00000000 03:00000AEE 00000000     0        0 0 3 0
   2: broken
"""
UDP6 = """  sl  local_address remote_address st tx_queue rx_queue tr tm->when retrnsmt uid
  7: 00000000000000000000000001000000:3ACD 00000000000000000000000000000000:0000 07 0:0 00:0 0 1338 0 9 2 0
"""


def test_listeners_are_read_from_the_kernels_tables() -> None:
    assert list(listeners("tcp", TCP)) == [Listener("tcp", OUTBOUND_PORT, ENVOY_UID)]
    assert list(listeners("udp", UDP6)) == [Listener("udp", DNS_PORT, DAEMON_UID)]
    assert list(listeners("udp", "")) == []


def test_the_effective_set_is_read_and_no_other() -> None:
    text = "Name:\tx\nCapInh:\t0000000000000001\nCapEff:\t00000000000010e3\nCapBnd:\t000001ffffffffff\n"
    assert effective(text) == 0x10E3
    assert effective("Name:\tx\n") is None

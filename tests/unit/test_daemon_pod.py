"""How the pod's parts are joined: in which order they start, that any failure ends all, and how they end.

Every part is a stand-in that writes down what is done to it; the real ones are in tests/netns.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection
from types import SimpleNamespace
from typing import cast

import pytest
from support.podparts import Parts, stand_ins

from toposeal._wire import peer_pb2 as wire
from toposeal.daemon import pod
from toposeal.daemon.config import RunConfig
from toposeal.daemon.pod_evidence import PodEvidence
from toposeal.dataplane.firewall import Backend
from toposeal.encoding import encode
from toposeal.errors import Mismatch, PodError, Reason, RemoteProtocolError
from toposeal.evidence.bundle import EMPTY
from toposeal.host.collateral_source import FileSource
from toposeal.host.operator_calls import PUSH, STATUS
from toposeal.host.peer_client import PeerClient
from toposeal.membership.events import Send
from toposeal_lab.simulation.network import Network, signed_topology

HANDED = encode(wire.Handed(topology=b"{}"))
FAULT = Mismatch(Reason.FIREWALL_CHANGED, "rules", "another", "ours")
STARTS = [
    "port",
    "watch rules",
    "directory",
    "discovery",
    "probe",
    "renderer",
    "envoy",
    "names",
    "address",
    "keys",
    "identity at /run/toposeal/workload/api.sock",
    "answers",
    "figures at /run/toposeal/sockets/metrics.sock for 1337",
]
STEPS = [step for step in STARTS if step != "watch rules" and not step.startswith("identity")]


Test = Callable[[pod.Pod, Parts], Awaitable[None]]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Callable[[Test], None]:
    """Run a test on the loop with a pod of stand-ins."""

    def run(test: Test) -> None:
        async def go() -> None:
            topology = signed_topology({"db": (1, 1), "web": (1, 1)})
            own = Network(topology).boot("web").member.own
            parts = Parts(own)
            stand_ins(parts, monkeypatch)
            config = RunConfig("web", "shop", own.owner, topology, (("db", 15443),), "/run/toposeal", EMPTY)
            evidence = cast(
                PodEvidence, SimpleNamespace(check_access=lambda: None, prepare=lambda iid, role: None)
            )
            made = pod.Pod(config, Backend.NFT, evidence, cast(pod.Appraiser, None), None, FileSource(EMPTY))
            async with asyncio.timeout(10):
                await test(made, parts)

        asyncio.run(go())

    return run


async def started(parts: Parts, step: str) -> None:
    while step not in parts.done:
        await asyncio.sleep(0)


def assert_all_ended(parts: Parts) -> None:
    """Whatever was started has been ended, Envoy above all."""
    for start, end in {
        "port": "no port",
        "directory": "no directory",
        "discovery": "no discovery",
        "names": "no names",
    }.items():
        if start in parts.done and start not in (parts.fails, parts.hangs):
            assert end in parts.done
    if "envoy" in parts.done:
        assert "no envoy" in parts.done


def test_the_order_of_the_start_and_that_envoy_ends_first(check: Callable[[Test], None]) -> None:
    async def test(made: pod.Pod, parts: Parts) -> None:
        running = asyncio.create_task(made.run())
        await started(parts, "node")
        assert parts.done[0] == "port"
        assert parts.done.index("watch rules") < parts.done.index("envoy")
        assert [step for step in parts.done if step != "watch rules"] == [
            *(step for step in STARTS if step != "watch rules"),
            "node",
        ]
        made.stop()
        assert await running is None
        ends = parts.done[len(STARTS) + 1 :]
        assert ends[:3] == ["leave", "no identity", "no envoy"] and "no socket" in ends
        assert ends[-1] == "no port"
        assert_all_ended(parts)

    check(test)


def test_a_farewell_is_said_when_nothing_serves_any_more(
    check: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before the gate is closed for good, Envoy gone and the node ended, and more than once."""
    monkeypatch.setattr(pod, "_FAREWELL_MS", 5)
    monkeypatch.setattr(pod, "LEAVE_LINGER", 15)

    async def test(made: pod.Pod, parts: Parts) -> None:
        parts.farewell = (Send(bytes(48), ("10.0.0.9",), b"leave"),)
        running = asyncio.create_task(made.run())
        await started(parts, "node")
        made.stop()
        assert await running is None
        said = "sent b'leave' to ('10.0.0.9',)"
        assert parts.done.count(said) == 3 and parts.done[-1] == "no link"
        assert_all_ended(parts)
        assert parts.done.index(said) > max(map(parts.done.index, ("no envoy", "no port", "no link")))

    check(test)


@pytest.mark.parametrize("patience", [20, None])
def test_a_pod_that_is_left_waiting_for_the_others_ends_in_time_or_when_asked_again(
    check: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch, patience: int | None
) -> None:
    if patience is not None:
        monkeypatch.setattr(pod, "LEAVE_TIMEOUT", patience)

    async def test(made: pod.Pod, parts: Parts) -> None:
        parts.stays = True
        running = asyncio.create_task(made.run())
        await started(parts, "node")
        made.stop()
        await asyncio.sleep(0)
        assert not running.done()
        assert parts.expected == [
            parts.own.topology.topology.version
        ]  # what the seal would wait for is begun
        if patience is None:
            made.stop()
        assert await running is None
        assert_all_ended(parts)

    check(test)


@pytest.mark.parametrize("step", [*STEPS, "node"])
@pytest.mark.parametrize("error", [ZeroDivisionError(), PodError(FAULT)], ids=["defect", "refusal"])
def test_S9_a_part_that_fails_ends_all_others(
    check: Callable[[Test], None], step: str, error: BaseException
) -> None:
    async def test(made: pod.Pod, parts: Parts) -> None:
        parts.fails, parts.error = step, error
        with pytest.raises((ZeroDivisionError, PodError, ExceptionGroup)):
            await made.run()
        assert_all_ended(parts)

    check(test)


@pytest.mark.parametrize("step", [step for step in STEPS if step not in ("directory", "keys")])
def test_a_stop_is_heard_wherever_the_start_hangs(check: Callable[[Test], None], step: str) -> None:
    async def test(made: pod.Pod, parts: Parts) -> None:
        parts.hangs = step
        running = asyncio.create_task(made.run())
        await started(parts, step)
        made.stop()
        made.stop()
        assert await running is None
        assert_all_ended(parts)

    check(test)


def faults(made: pod.Pod, parts: Parts) -> dict[str, Callable[[], None]]:
    """Everybody who may say that the pod has failed."""
    return {
        "rules": lambda: parts.on_change(PodError(FAULT)),
        "gate": lambda: parts.on_fault(FAULT),
        "loop": lambda: made.unhandled({"message": "x", "exception": PodError(FAULT)}),
    }


@pytest.mark.parametrize("who", ["rules", "gate", "loop"])
def test_S9_a_fault_while_the_pod_waits_for_an_address_ends_it(
    check: Callable[[Test], None], who: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async def test(made: pod.Pod, parts: Parts) -> None:
        parts.hangs = "no address"
        running = asyncio.create_task(made.run())
        await started(parts, "address")
        faults(made, parts)[who]()
        faults(made, parts)[who]()
        made.stop()
        assert await running == FAULT
        assert_all_ended(parts)
        assert "keys" not in parts.done

    check(test)
    assert capfd.readouterr().out.count('"event": "fence"') == 1


@pytest.mark.parametrize("who", ["rules", "gate", "loop"])
def test_S9_a_fault_later_is_the_nodes_to_fence(check: Callable[[Test], None], who: str) -> None:
    async def test(made: pod.Pod, parts: Parts) -> None:
        running = asyncio.create_task(made.run())
        await started(parts, "node")
        await asyncio.sleep(0)
        faults(made, parts)[who]()
        assert await running == FAULT
        assert "fault" in parts.done
        assert_all_ended(parts)

    check(test)


def test_S9_a_watch_that_ends_by_itself_ends_the_pod(check: Callable[[Test], None]) -> None:
    async def test(made: pod.Pod, parts: Parts) -> None:
        running = asyncio.create_task(made.run())
        await started(parts, "node")
        parts.watch_ends.set()
        with pytest.raises(ExceptionGroup) as ended:
            await running
        assert ended.group_contains(PodError, match="watch of firewall: found ended")
        assert_all_ended(parts)

    check(test)


@pytest.mark.parametrize(
    "context",
    [
        {"message": "socket.accept() out of system resource", "exception": OSError(24, "canary")},
        {"message": "Task was destroyed but it is pending!"},
    ],
)
def test_what_the_kernel_says_of_a_connection_is_an_alarm(
    check: Callable[[Test], None], context: dict[str, object], capfd: pytest.CaptureFixture[str]
) -> None:
    async def test(made: pod.Pod, parts: Parts) -> None:
        running = asyncio.create_task(made.run())
        await started(parts, "node")
        made.unhandled(context)
        await asyncio.sleep(0)
        assert not running.done()
        made.stop()
        assert await running is None

    check(test)
    out = capfd.readouterr().out
    assert '"event": "alarm", "reason": "internal"' in out
    assert "canary" not in out


def test_envelopes_before_the_node_are_refused(check: Callable[[Test], None]) -> None:
    async def test(made: pod.Pod, parts: Parts) -> None:
        parts.hangs = "no address"
        running = asyncio.create_task(made.run())
        await started(parts, "address")
        with pytest.raises(RemoteProtocolError) as refused:
            parts.deliver(b"early")
        assert refused.value.reason is Reason.NOT_ACTIVE
        made.stop()
        await running

    check(test)


def test_an_operator_is_answered_as_soon_as_there_is_a_node(check: Callable[[Test], None]) -> None:
    """The gate never opens here."""

    async def test(made: pod.Pod, parts: Parts) -> None:
        running = asyncio.create_task(made.run())
        await started(parts, "port")
        with pytest.raises(RemoteProtocolError) as refused:
            parts.calls[STATUS](b"")
        assert refused.value.reason is Reason.NOT_ACTIVE
        assert b"not_active" in parts.calls[PUSH](HANDED)
        await started(parts, "node")
        assert b"accepted" in parts.calls[PUSH](HANDED)
        assert "pushed b'{}'" in parts.done
        made.stop()
        await running

    check(test)


def test_the_link_announces_the_newest_word_alone() -> None:
    class Client:
        def __init__(self) -> None:
            self.said: list[tuple[object, object, object]] = []
            self.sent: list[tuple[object, bytes]] = []

        async def announce(self, seeds: object, data: object, known: object) -> None:
            self.said.append((seeds, data, known))

        def send(self, addresses: object, data: bytes) -> None:
            self.sent.append((addresses, data))

    async def go() -> None:
        client = Client()
        link = pod._Link(cast(PeerClient, client), (("db", 15443),))
        for data in (b"old", b"older", b"new"):
            link.announce((data,), {data.decode()})
        link.send(("10.0.0.2",), b"to one")
        running = asyncio.create_task(link.run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert client.said == [((("db", 15443),), (b"new",), {"new"})]
        assert client.sent == [(("10.0.0.2",), b"to one")]
        running.cancel()

    asyncio.run(go())


def test_a_changed_address_is_an_alarm(capfd: pytest.CaptureFixture[str]) -> None:
    pod._tell_addresses(("10.0.0.9", "fd00::9"))
    assert '"reason": "address_refused"' in capfd.readouterr().out


def test_D3_a_pod_that_has_an_address_of_somebody_else_ends(check: Callable[[Test], None]) -> None:
    """Its kernel would give it what its application means for a role."""

    async def test(made: pod.Pod, parts: Parts) -> None:
        running = asyncio.create_task(made.run())
        await started(parts, "node")
        parts.on_local(("10.0.0.1", "127.0.0.1", "::1", "240.11.0.1"))
        assert "fault" not in parts.done
        parts.on_local(("10.0.0.1", "240.10.0.7", "240.10.0.1"))
        mismatch = await running
        assert mismatch is not None
        assert (mismatch.reason, mismatch.field) == (Reason.ADDRESS_REFUSED, "pod.addresses")
        assert mismatch.found == "240.10.0.1, 240.10.0.7"
        assert_all_ended(parts)

    check(test)


def test_M5_whoever_is_cut_keeps_the_link_between_daemons(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Collection[str], int]] = []
    monkeypatch.setattr(pod, "destroy_sockets", lambda addresses, spared: asked.append((addresses, spared)))
    pod._cut({"10.0.0.1"})
    assert asked == [({"10.0.0.1"}, os.geteuid())]

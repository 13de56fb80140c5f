"""I6, fault 17: a change of the rules is noticed, mended, and reported to the member, within a second."""

from __future__ import annotations

import asyncio
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from support.daemons import eventually
from support.inside import APP_UID, BACKENDS, MARKER, lockdown, spawn_python

from toposeal.dataplane.firewall import Backend
from toposeal.errors import PodError, Reason
from toposeal.host import firewall
from toposeal.host.firewall_monitor import Monitor
from toposeal_lab.capture import Wire
from toposeal_lab.pods import Node, Pod

Pods = tuple[Pod, Pod]
DEADLINE = 1.0  # seconds, as SECURITY.md states

FLOOD = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print("ready", flush=True)
while True:
    try:
        sock.sendto(sys.argv[2].encode(), (sys.argv[1], 9))
    except OSError:
        pass
"""


class Watch:
    """What a monitor in a pod has reported, and when."""

    def __init__(self, backend: Backend) -> None:
        self.heard: list[tuple[float, PodError]] = []
        self.monitor = Monitor(backend, self.report)
        self._started = threading.Event()

    def report(self, error: PodError) -> None:
        self.heard.append((time.monotonic(), error))

    def at_rest(self) -> None:
        """Return when it knows the rules that stand: from then on a change is one."""
        eventually(lambda: self.monitor._mark or None)

    def run(self, pod: Pod) -> None:
        with pod.inside():
            asyncio.run(self._watch())

    async def _watch(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._started.set()
        monitor = asyncio.create_task(self.monitor.run())
        await self._stop.wait()
        assert not monitor.done()
        monitor.cancel()
        with suppress(asyncio.CancelledError):
            await monitor

    def stop(self) -> None:
        self._started.wait()
        self._loop.call_soon_threadsafe(self._stop.set)

    def wait(self, since: float) -> float:
        """Seconds from `since` to the first report after it."""
        while time.monotonic() < since + 5:
            for when, _ in self.heard:
                if when > since:
                    return when - since
            time.sleep(0.01)
        raise AssertionError("no report")


@contextmanager
def watching(pod: Pod, backend: Backend) -> Iterator[Watch]:
    lockdown(pod, backend)
    with watch_of(pod, backend) as watch:
        yield watch


@contextmanager
def watch_of(pod: Pod, backend: Backend) -> Iterator[Watch]:
    """At rest, whatever rules it found."""
    watch = Watch(backend)
    thread = threading.Thread(target=watch.run, args=(pod,))
    thread.start()
    try:
        watch.at_rest()
        yield watch
    finally:
        watch.stop()
        thread.join()


TAMPER = [
    (Backend.NFT, "nft flush ruleset"),
    (Backend.NFT, "nft delete table inet toposeal"),
    (Backend.NFT, "nft flush table inet toposeal"),
    (Backend.NFT, "nft insert rule inet toposeal egress accept"),
    (Backend.NFT, "nft add table inet toposeal '{ flags dormant; }'"),
    (Backend.NFT, "nft add chain inet toposeal more '{ type filter hook output priority 5; }'"),
    (Backend.LEGACY, "iptables-legacy -t mangle -F; iptables-legacy -t mangle -P POSTROUTING ACCEPT"),
    (Backend.LEGACY, "ip6tables-legacy -P INPUT ACCEPT"),
    (Backend.IPTABLES_NFT, "nft flush ruleset"),
    (Backend.IPTABLES_NFT, "iptables-nft -I INPUT -j ACCEPT"),
]


@pytest.mark.parametrize(("backend", "change"), TAMPER)
def test_I6_a_change_is_mended_and_reported_within_a_second(
    pods: Pods, backend: Backend, change: str
) -> None:
    a, _ = pods
    with watching(a, backend) as watch:
        for _ in range(2):
            before = time.monotonic()
            a.run(["sh", "-ec", change])
            assert watch.wait(before) < DEADLINE
            watch.at_rest()
            with a.inside():
                firewall.check(backend)
    assert {error.reason for _, error in watch.heard} == {Reason.FIREWALL_CHANGED}


@pytest.mark.parametrize("backend", BACKENDS)
def test_changes_of_others_are_no_alarm(pods: Pods, backend: Backend) -> None:
    a, _ = pods
    with watching(a, backend) as watch:
        a.run(["nft", "add table inet foreign; add chain inet foreign c; add rule inet foreign c accept"])
        for kind in ("legacy", "nft"):
            a.run([f"iptables-{kind}", "-t", "nat", "-N", "ENGINE"])
            a.run([f"iptables-{kind}", "-t", "nat", "-A", "OUTPUT", "-d", "127.0.0.11", "-j", "ENGINE"])
        time.sleep(1.3)
    assert watch.heard == []


def test_the_rules_stay_when_the_monitor_ends(pods: Pods) -> None:
    a, _ = pods
    with watching(a, Backend.NFT):
        pass
    with a.inside():
        firewall.check(Backend.NFT)


def test_what_cannot_be_mended_is_reported_again_and_again(
    pods: Pods, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _ = pods
    with watching(a, Backend.NFT) as watch:
        monkeypatch.setattr(firewall, "_DIRECTORIES", ())
        a.run(["nft", "flush ruleset"])
        eventually(lambda: len(watch.heard) >= 3 or None)
        times = [when for when, _ in watch.heard]
        assert times[2] - times[0] > 0.3  # and not as fast as it goes
        monkeypatch.undo()
        watch.at_rest()
        with a.inside():
            firewall.check(Backend.NFT)


def test_a_change_before_the_monitor_starts_is_found(pods: Pods) -> None:
    a, _ = pods
    lockdown(a, Backend.NFT)
    a.run(["nft", "flush ruleset"])
    with watch_of(a, Backend.NFT) as watch:
        time.sleep(0.3)
    with a.inside():
        firewall.check(Backend.NFT)
    assert len(watch.heard) == 1


@pytest.mark.parametrize(
    ("backend", "change", "closed"),
    [
        (Backend.NFT, "nft flush ruleset", False),
        (Backend.NFT, "nft flush table inet toposeal", True),
        (Backend.LEGACY, "iptables-legacy -t mangle -F", True),
        (
            Backend.LEGACY,
            "iptables-legacy -t mangle -F; iptables-legacy -t mangle -P POSTROUTING ACCEPT",
            False,
        ),
        (Backend.IPTABLES_NFT, "nft flush ruleset", False),
    ],
)
def test_I6_the_window_between_a_flush_and_lockdown_is_measured(
    node: Node, pods: Pods, backend: Backend, change: str, closed: bool, record_property: Callable[..., None]
) -> None:
    """With a flooding application. Rules that are only flushed leave their policies: no window at all."""
    a, b = pods
    with watching(a, backend) as watch, Wire(node, a) as wire:
        flood = spawn_python(a, FLOOD, b.ipv4, MARKER.decode(), uid=APP_UID)
        time.sleep(0.2)
        before = time.monotonic()
        a.run(["sh", "-ec", change])
        reported = watch.wait(before)
        time.sleep(0.3)
        flood.kill()
        capture = wire.stop()
    window = capture.span(MARKER)
    leaked = capture.carrying(MARKER)
    record_property("window_ms", round(window * 1000, 1))
    figures = f"{leaked} datagrams in {window * 1e3:.1f} ms, reported at {reported * 1e3:.0f} ms"
    print(f"{backend}: {change}: {figures}")
    assert (leaked == 0) == closed
    assert window < DEADLINE
    assert reported < DEADLINE


@pytest.mark.parametrize("backend", BACKENDS)
def test_watching_costs_next_to_nothing(pods: Pods, backend: Backend) -> None:
    a, _ = pods
    with watching(a, backend):
        start = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        time.sleep(2)
        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - start
    print(f"{backend}: {used / 2 * 100:.2f} % of a core")
    assert used / 2 < 0.01

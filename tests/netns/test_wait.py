"""The application's entrypoint: it runs nothing before the pod is open, whoever answers in Envoy's place."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.daemons import SEAL_S, START_S, ready, world
from support.entrypoint import COMPILES, ROOT, built
from support.inside import APP_UID, ENVOY_UID, PYTHON, lockdown, read_line, spawn_python

from toposeal.limits import NONCE_SIZE, OUTBOUND_PORT, PROBE_ADDRESS, PROBE_PORT, VIP_NETWORK
from toposeal_lab.capture import Wire
from toposeal_lab.pods import Node, Pod

pytestmark = pytest.mark.skipif(not COMPILES, reason="no compiler for the entrypoint")

RAN = ["echo", "RAN"]
# Says `size` bytes to whoever comes, and ends the connection.
ANSWER = """
import socket, sys
sock = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
while True:
    client = sock.accept()[0]
    client.sendall(b"n" * int(sys.argv[3]))
    client.close()
"""
# All that a program can tell about how it was started.
STARTED = """
import json, os, signal, sys
ignored = signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
print(json.dumps([sys.argv[1:], dict(os.environ), sorted(os.listdir("/proc/self/fd")), ignored, os.getcwd()]))
"""
# No datagram leaves, and TCP does: only the kernel's list tells who has answered.
HALF_A_WALL = "table inet t { chain c { type filter hook output priority 0; udp dport 15007 drop; }; }"


ASTRAY = "table ip n { chain c { type nat hook output priority -100; tcp dport 15007 redirect to :9999; }; }"
ENVOYS_PLACE = ("127.0.0.1", OUTBOUND_PORT)
LOOKED_AT = (socket.inet_aton("192.0.2.1"), socket.inet_pton(socket.AF_INET6, "fe80::f00a:fffe"))
PROBE = socket.inet_aton(PROBE_ADDRESS)


@pytest.fixture(scope="module")
def program() -> Iterator[str]:
    with built() as path:
        yield path


def waiting(pod: Pod, program: str, *arguments: str, uid: int = APP_UID) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return pod.spawn([program, *arguments, "--", *RAN], uid=uid, stdout=pipe, stderr=pipe)


def says(child: subprocess.Popen[bytes]) -> str:
    assert child.stderr is not None
    return child.stderr.readline().decode().partition(": ")[2].strip()


def refused(pod: Pod, program: str) -> str:
    """Why the first look found the pod closed; then a signal ends the wait, and the command has not run."""
    child = waiting(pod, program)
    said = says(child)
    child.send_signal(signal.SIGTERM)
    out, _ = child.communicate(timeout=10)
    assert (child.returncode, out) == (128 + signal.SIGTERM, b"")
    return said


def answering(pod: Pod, size: int, *, uid: int | None, place: Sequence[object]) -> subprocess.Popen[bytes]:
    return spawn_python(pod, ANSWER, *map(str, place), str(size), uid=uid)


def test_I2_where_no_sidecar_is_nothing_runs_and_nothing_is_sent(node: Node, program: str) -> None:
    pod = node.pod("a")
    with Wire(node, pod) as wire:
        child = waiting(pod, program, "--timeout", "1")
        out, said = child.communicate(timeout=10)
        capture = wire.stop()
    assert (child.returncode, out) == (3, b"")
    assert said.count(b"\n") == 1 and b"no sidecar" in said
    assert [capture.carrying(place) for place in (*LOOKED_AT, PROBE)] == [0, 0, 0]


def test_I2_what_the_network_answers_opens_nothing(node: Node, program: str) -> None:
    """The host routes the probe's address to itself, and has even somebody listen where Envoy would."""
    pod, outside = node.pod("a"), node.host()
    outside.run(["ip", "addr", "add", f"{PROBE_ADDRESS}/32", "dev", "lo"])
    answering(outside, NONCE_SIZE, uid=None, place=(PROBE_ADDRESS, PROBE_PORT))
    assert "no sidecar" in refused(pod, program)
    answering(pod, NONCE_SIZE, uid=ENVOY_UID, place=ENVOYS_PLACE)
    with Wire(node, pod) as wire:
        assert "no lockdown" in refused(pod, program)
        capture = wire.stop()
    assert all(capture.carrying(place) > 0 for place in LOOKED_AT)  # what the wall of a closed pod stops
    pod.run(["nft", HALF_A_WALL])
    with Wire(node, pod) as wire:
        assert "no redirect" in refused(pod, program)
        assert wire.stop().carrying(PROBE) > 0  # asked there


def test_I2_I3_an_answer_from_another_place_of_the_pod_opens_nothing(node: Node, program: str) -> None:
    pod = node.pod("a")
    answering(pod, NONCE_SIZE, uid=ENVOY_UID, place=ENVOYS_PLACE)
    answering(pod, NONCE_SIZE, uid=APP_UID, place=("127.0.0.1", 9999))
    pod.run(["nft", HALF_A_WALL])
    pod.run(["nft", ASTRAY])
    assert "no redirect" in refused(pod, program)


def test_the_first_process_of_a_container_ends_by_a_signal(node: Node, program: str) -> None:
    """The kernel keeps from it whatever it does not handle."""
    command = ["unshare", "--pid", "--fork", program, "--", *RAN]
    child = node.pod("a").spawn(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert "no sidecar" in says(child)
    (first,) = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    os.kill(int(first), signal.SIGTERM)
    assert child.communicate(timeout=10)[0] == b""
    assert child.returncode == 128 + signal.SIGTERM


def test_I2_I3_nobody_but_envoys_uid_opens(node: Node, program: str) -> None:
    pod = node.pod("a")
    lockdown(pod)
    answering(pod, NONCE_SIZE, uid=APP_UID, place=ENVOYS_PLACE)
    assert "no sidecar" in refused(pod, program)


@pytest.mark.parametrize("size", [0, NONCE_SIZE - 1, NONCE_SIZE + 1])
def test_I2_another_answer_than_the_probes_opens_nothing(node: Node, program: str, size: int) -> None:
    pod = node.pod("a")
    lockdown(pod)
    answering(pod, size, uid=ENVOY_UID, place=ENVOYS_PLACE)
    assert "does not answer" in refused(pod, program)


def test_what_is_not_proven_that_envoys_uid_is_envoy(node: Node, program: str) -> None:
    """Why nobody else in the pod may have that uid. The positive control of the two above, too."""
    pod = node.pod("a")
    lockdown(pod)
    answering(pod, NONCE_SIZE, uid=ENVOY_UID, place=ENVOYS_PLACE)
    out, said = waiting(pod, program, "--timeout", "10").communicate(timeout=20)
    assert (out, said) == (b"RAN\n", b"")
    for command, code in (("/nowhere", 127), ("/etc", 126)):
        done = pod.run([program, "--", command], uid=APP_UID, check=False)
        assert (done.returncode, done.stdout) == (code, b"") and command.encode() in done.stderr


@pytest.mark.parametrize(
    "without",
    [
        "ip route del default && ip -6 route del default",  # an internal network
        "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6",
        "ip -4 addr flush dev eth0",
    ],
    ids=["routes", "ipv6", "ipv4"],
)
def test_a_pod_that_lacks_something_opens_all_the_same(node: Node, program: str, without: str) -> None:
    pod = node.pod("a")
    pod.run(["sh", "-c", without])
    pod.run(["ip", "route", "add", VIP_NETWORK, "dev", "lo", "src", "127.0.0.1"])
    lockdown(pod)
    answering(pod, NONCE_SIZE, uid=ENVOY_UID, place=ENVOYS_PLACE)
    out, said = waiting(pod, program, "--timeout", "10").communicate(timeout=20)
    assert (out, said) == (b"RAN\n", b"")


def test_I5_a_wall_in_one_family_alone_is_none(node: Node, program: str) -> None:
    pod = node.pod("a")
    pod.run(["iptables-legacy-restore", "--noflush", str(ROOT / "iptables" / "lockdown.v4.rules")])
    answering(pod, NONCE_SIZE, uid=ENVOY_UID, place=ENVOYS_PLACE)
    assert "no lockdown" in refused(pod, program)
    pod.run(["ip6tables-legacy-restore", "--noflush", str(ROOT / "iptables" / "lockdown.v6.rules")])
    assert waiting(pod, program, "--timeout", "10").communicate(timeout=20) == (b"RAN\n", b"")


def test_I3_the_sidecars_users_have_no_use_for_it(node: Node, program: str) -> None:
    child = waiting(node.pod("a"), program, uid=ENVOY_UID)
    assert child.communicate(timeout=10)[0] == b""
    assert child.returncode == 1


def test_I2_the_command_runs_when_the_mesh_is_sealed_and_not_before(program: str) -> None:
    ready()
    with world({"web": "web", "db": "db"}) as made:
        web, db = made["web"], made["db"]
        first = waiting(web.pod, program)
        assert "no sidecar" in says(first)
        made.start("web").wait("phase", START_S, phase="gathering")
        assert "does not answer" in says(first)  # a closed Envoy, behind the rules
        assert first.poll() is None
        made.start("db")
        web.wait("gate", SEAL_S, state="open")
        assert (*first.communicate(timeout=10), first.returncode) == (b"RAN\n", b"", 0)
        db.wait("gate", SEAL_S, state="open")
        assert_opens_at_once(db.pod, program)
        assert_handed_on(db.pod, program)
        os.kill(web.pid, signal.SIGTERM)
        web.ended()
        assert "no sidecar" in refused(web.pod, program)


def assert_opens_at_once(pod: Pod, program: str) -> None:
    """Several containers of one pod may wait, and each first look is right."""
    for child in [waiting(pod, program) for _ in range(8)]:
        assert child.communicate(timeout=10) == (b"RAN\n", b"")


def assert_handed_on(pod: Pod, program: str) -> None:
    """The command is started as without the entrypoint: arguments, environment, files, signals, directory."""
    command = [PYTHON, "-I", "-c", STARTED, "", "a b", "--", "--timeout"]
    ignoring = ["env", "--ignore-signal=USR1"]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "EMPTY": "", "ODD": "a=b\nc"}
    plain, waited = (
        pod.spawn([*ignoring, *before, *command], uid=APP_UID, stdout=subprocess.PIPE, env=environment)
        for before in ([], [program, "--timeout", "20", "--"])
    )
    expected = json.loads(read_line(plain))
    assert expected[0] == command[4:] and expected[3]
    assert json.loads(read_line(waited)) == expected

"""I5, fault 17: all or nothing, read back; other owners' chains survive; what is bent is mended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.inside import (
    APP_UID,
    BACKENDS,
    DAEMON_UID,
    lockdown,
    run_python,
    spawn_python,
)

from toposeal.cli.main import entry
from toposeal.dataplane.firewall import Backend
from toposeal.errors import PodError, Reason
from toposeal.host import firewall
from toposeal_lab.pods import Pod

Pods = tuple[Pod, Pod]
PRODUCERS = pytest.mark.parametrize("backend", BACKENDS)


@pytest.fixture
def pod(pods: Pods) -> Pod:
    return pods[0]


def check(pod: Pod, backend: Backend) -> None:
    with pod.inside():
        firewall.check(backend)


def rules(pod: Pod) -> str:
    """Everything that every program shows, without counters and comments."""
    programs = ("iptables-legacy-save", "ip6tables-legacy-save", "iptables-nft-save", "ip6tables-nft-save")
    texts = [pod.run(["nft", "-s", "list", "ruleset"]).stdout, *(pod.run([p]).stdout for p in programs)]
    lines = b"\n".join(texts).decode().splitlines()
    return "\n".join(line for line in lines if not line.startswith(("#", ":")))


@PRODUCERS
def test_applying_twice_is_applying_once(pod: Pod, backend: Backend) -> None:
    lockdown(pod, backend)
    once = rules(pod)
    lockdown(pod, backend)
    assert rules(pod) == once
    check(pod, backend)


def test_check_names_what_is_missing(pod: Pod) -> None:
    with pytest.raises(PodError) as caught:
        check(pod, Backend.NFT)
    assert caught.value.reason is Reason.FIREWALL


CHANGES = {
    Backend.NFT: (
        "nft flush ruleset",
        "nft flush table inet toposeal",
        "nft delete table inet toposeal",
        "nft insert rule inet toposeal egress accept",
        "nft add rule inet toposeal entry accept",
        "nft add chain inet toposeal egress '{ policy accept; }'",
        "nft add table inet toposeal '{ flags dormant; }'",
        "nft add chain inet toposeal more '{ type filter hook output priority 5; }'",
        "nft add set inet toposeal more '{ type ipv4_addr; }'",
        "nft delete table inet toposeal; nft add table inet toposeal;"
        " nft add chain inet toposeal egress '{ type filter hook output priority 9; }'",
    ),
    Backend.LEGACY: (
        "iptables-legacy -t mangle -F",
        "ip6tables-legacy -F",
        "iptables-legacy -t nat -I OUTPUT -j RETURN",
        "ip6tables-legacy -t mangle -P POSTROUTING ACCEPT",
        "iptables-legacy -P INPUT ACCEPT",
        "iptables-legacy -D TOPOSEAL_ENTRY 2",
        "iptables-legacy -t mangle -I TOPOSEAL_EGRESS -j ACCEPT",
        "iptables-legacy -F; iptables-legacy -X",
    ),
    Backend.IPTABLES_NFT: (
        "nft flush ruleset",
        "iptables-nft -t mangle -F",
        "ip6tables-nft -I INPUT -j ACCEPT",
        "iptables-nft -t mangle -P POSTROUTING ACCEPT",
    ),
}


@pytest.mark.parametrize(
    ("backend", "change"), [(backend, change) for backend, changes in CHANGES.items() for change in changes]
)
def test_fault_17_every_change_is_seen_and_mended(pod: Pod, backend: Backend, change: str) -> None:
    lockdown(pod, backend)
    pod.run(["sh", "-ec", change])
    with pytest.raises(PodError) as caught:
        check(pod, backend)
    assert caught.value.reason is Reason.FIREWALL
    lockdown(pod, backend)
    check(pod, backend)


# The nat rules of Docker's embedded DNS, in the container's own namespace.
ENGINE = """*nat
:DOCKER_OUTPUT - [0:0]
:DOCKER_POSTROUTING - [0:0]
-A OUTPUT -d 127.0.0.11/32 -j DOCKER_OUTPUT
-A POSTROUTING -d 127.0.0.11/32 -j DOCKER_POSTROUTING
-A DOCKER_OUTPUT -d 127.0.0.11/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination 127.0.0.11:41000
-A DOCKER_OUTPUT -d 127.0.0.11/32 -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.11:41000
-A DOCKER_POSTROUTING -s 127.0.0.11/32 -p udp -m udp --sport 41000 -j SNAT --to-source :53
COMMIT
"""

RESPOND = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
while True:
    _, client = sock.recvfrom(512)
    sock.sendto(sys.argv[3].encode(), client)
"""

ASK = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(1)
try:
    sock.connect(("127.0.0.11", int(sys.argv[1])))
    sock.send(b"?")
    print(sock.recv(100).decode())
except OSError as error:
    print(type(error).__name__)
"""


@PRODUCERS
@pytest.mark.parametrize("engine", ["legacy", "nft"])
@pytest.mark.parametrize("first", ["engine", "ours"])
def test_I5_a_container_engines_dns_rules_survive_and_come_second(
    pod: Pod, backend: Backend, engine: str, first: str
) -> None:
    def engine_applies() -> None:
        pod.run([f"iptables-{engine}-restore", "--noflush"], input=ENGINE.encode())

    if first == "engine":
        engine_applies()
    lockdown(pod, backend)
    if first == "ours":
        engine_applies()
    check(pod, backend)
    lockdown(pod, backend)
    spawn_python(pod, RESPOND, "127.0.0.11", "41000", "engine", uid=None)
    spawn_python(pod, RESPOND, "127.0.0.1", "15053", "ours", uid=DAEMON_UID)
    # At one and the same priority the kernel asks whoever came last; nothing but nft can choose another.
    unlucky = backend is not Backend.NFT and engine not in backend and first == "ours"
    assert run_python(pod, ASK, "53", uid=APP_UID) == ("PermissionError\n" if unlucky else "ours\n")
    assert run_python(pod, ASK, "41000", uid=APP_UID) == "PermissionError\n"
    assert run_python(pod, ASK, "53", uid=DAEMON_UID) == "engine\n"
    saved = pod.run([f"iptables-{engine}-save", "-t", "nat"]).stdout.decode().splitlines()
    assert [line for line in ENGINE.splitlines() if line.startswith("-A") and line not in saved] == []


def without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    real = firewall._program

    def program(name: str) -> str:
        if name.startswith(missing):
            raise PodError.of(Reason.FIREWALL, name, "not installed", "installed")
        return real(name)

    monkeypatch.setattr(firewall, "_program", program)


@pytest.mark.parametrize(
    ("missing", "chosen"),
    [
        ((), Backend.NFT),
        (("nft",), Backend.LEGACY),
        (("nft", "ip6tables-legacy-restore"), Backend.IPTABLES_NFT),
    ],
)
def test_I5_with_several_tools_the_best_complete_one_is_used(
    pod: Pod, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...], chosen: Backend
) -> None:
    without(monkeypatch, *missing)
    with pod.inside():
        assert firewall.apply() is chosen
        assert firewall.check() is chosen


def test_I5_fault_17_without_any_tool_nothing_is_claimed(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate then stays closed: nothing that needs `apply` to have returned goes on."""
    without(monkeypatch, "nft", "iptables", "ip6tables")
    with pod.inside(), pytest.raises(PodError) as caught:
        firewall.apply()
    assert caught.value.reason is Reason.FIREWALL
    assert len(caught.value.mismatches) == len(BACKENDS)


def broken(monkeypatch: pytest.MonkeyPatch, file: str, line: str, instead: str) -> None:
    real = firewall.rule_file

    def rule_file(name: str) -> str:
        text = real(name)
        assert name != file or line in text
        return text.replace(line, instead) if name == file else text

    monkeypatch.setattr(firewall, "rule_file", rule_file)


def test_I5_fault_17_a_bad_nft_file_changes_nothing(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    lockdown(pod)
    before = rules(pod)
    broken(monkeypatch, "lockdown.nft", "redirect to :15001", "redirect to :no-such-port")
    with pod.inside(), pytest.raises(PodError) as caught:
        firewall.apply(Backend.NFT)
    assert caught.value.reason is Reason.FIREWALL
    assert rules(pod) == before


@pytest.mark.parametrize("backend", [Backend.LEGACY, Backend.IPTABLES_NFT])
def test_I5_fault_17_if_only_ipv6_fails_the_pod_is_not_closed_but_ipv4_stays(
    pod: Pod, monkeypatch: pytest.MonkeyPatch, backend: Backend
) -> None:
    broken(monkeypatch, "lockdown.v6.rules", "-j REDIRECT --to-ports 15001", "-j NO_SUCH_TARGET")
    with pod.inside(), pytest.raises(PodError) as caught:
        firewall.apply(backend)
    assert caught.value.reason is Reason.FIREWALL
    kind = backend.value.removeprefix("iptables-")
    assert "-A TOPOSEAL_EGRESS -j DROP" in pod.run([f"iptables-{kind}-save"]).stdout.decode()
    assert ":POSTROUTING DROP" in pod.run([f"ip6tables-{kind}-save", "-t", "mangle"]).stdout.decode()


def test_I5_a_tool_that_claims_success_is_not_believed(
    pod: Pod, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("nft", "iptables-legacy-restore"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 0\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(firewall, "_DIRECTORIES", (str(tmp_path), "/usr/sbin"))
    with pod.inside(), pytest.raises(PodError):
        firewall.apply(Backend.NFT)
    with pod.inside(), pytest.raises(PodError):
        firewall.apply(Backend.LEGACY)


def test_I5_a_tool_that_others_may_write_is_not_used(
    pod: Pod, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nft").write_text("#!/bin/sh\ntouch /tmp/never\n")
    (tmp_path / "nft").chmod(0o777)
    monkeypatch.setattr(firewall, "_DIRECTORIES", (str(tmp_path),))
    with pod.inside(), pytest.raises(PodError, match="not installed"):
        firewall.apply(Backend.NFT)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["apply"], 0),
        (["check"], 0),
        (["apply", "--backend", "legacy"], 0),
        (["check", "--backend", "iptables-nft"], 5),
        (["apply", "--backend", "ebtables"], 1),
        ([], 1),
    ],
)
def test_the_command_applies_and_checks(
    pod: Pod, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int
) -> None:
    lockdown(pod)
    with pod.inside():
        assert exit_code(lambda: entry(["firewall", *arguments])) == code
    assert ("closed: nft\n" if arguments == ["apply"] else "") in capsys.readouterr().out


def exit_code(run: Callable[[], int]) -> int:
    try:
        return run()
    except SystemExit as error:
        return int(error.code or 0)

"""The gate of one pod with a real Envoy: what opens it, and that everything else leaves it closed."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from support.daemons import eventually
from support.datapath import application, talk
from support.envoy import (
    ENVOY,
    InProcess,
    Opened,
    altered,
    leaf_secrets,
    mesh_member,
    pod_view,
    running_gate,
)
from support.gates import (
    ALONE,
    FILES,
    OPEN_FILES,
    OWN,
    PORT,
    Changed,
    caller_outside,
    chains,
    envoy_pids,
    in_thread,
    locked_pod,
    view,
    with_gate,
)
from support.inside import APP_UID, lockdown, run_python
from support.keys import Key, admin, found_in_memory

from toposeal.dataplane.discovery import Update
from toposeal.dataplane.envoy_plan import PodPlan
from toposeal.dataplane.layout import layout_under
from toposeal.errors import PodError, Reason, ToposealError
from toposeal.gate.machine import State
from toposeal.host import netlink
from toposeal.host.envoy import Envoy
from toposeal.host.renderer import Renderer
from toposeal.limits import ENVOY_UID, INBOUND_PORT, OUTBOUND_PORT
from toposeal_lab.pods import Node, Pod

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@pytest.fixture
def pod(node: Node) -> Pod:
    return locked_pod(node)


def test_before_the_seal_envoy_is_sent_exactly_the_closed_state(node: Node, pod: Pod, state: Path) -> None:
    outside = caller_outside(node, pod)

    async def test(opened: Opened) -> None:
        assert opened.files() == FILES
        assert await in_thread(lambda: chains(opened)) == {"in": {"sentinel"}, "out": {"sentinel"}}
        assert await in_thread(outside) == b""
        assert await in_thread(lambda: talk("240.10.0.1", PORT)) == b""
        await opened.open(view(pod), OWN)
        assert await in_thread(outside) == b"served"  # the control
        assert await in_thread(lambda: talk("240.10.0.1", PORT)) == b"served"

    with application(pod, PORT, b"served"):
        with_gate(pod, state, test)


def test_the_gate_opens_through_the_real_child_renderer(pod: Pod, state: Path) -> None:
    async def test(opened: Opened) -> None:
        await opened.open(view(pod), OWN)
        assert opened.gate.state is State.OPEN
        assert "probe" in chains(opened)["in"]
        assert opened.files() == OPEN_FILES

    with_gate(pod, state, test, renderer=Renderer())


def test_D5_envoy_has_its_own_user_no_capability_and_an_empty_environment(pod: Pod, state: Path) -> None:
    async def test(opened: Opened) -> None:
        (pid,) = envoy_pids(pod)
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        assert status["Uid"].split() == [str(ENVOY_UID)] * 4
        assert status["Gid"].split() == [str(ENVOY_UID)] * 4
        assert status["Groups"].strip() == ""
        assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Amb")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"
        assert Path(f"/proc/{pid}/environ").read_bytes() == b""

    with_gate(pod, state, test)


def test_D5_the_application_reaches_neither_admin_nor_files(pod: Pod, state: Path) -> None:
    code = textwrap.dedent(
        """
        import os, socket, sys
        for name in ("envoy/admin.sock", "sockets/probe.sock", "sockets/xds.sock"):
            try: socket.socket(socket.AF_UNIX).connect(os.path.join(sys.argv[1], name)); print("connected")
            except OSError as error: print(error.strerror)
        try: open(os.path.join(sys.argv[1], "xds/bootstrap.json")); print("read")
        except OSError as error: print(error.strerror)
        """
    )

    async def test(opened: Opened) -> None:
        await opened.open(view(pod), OWN)
        for uid, expected in ((APP_UID, "Permission denied"), (None, None)):
            said = await in_thread(lambda: run_python(pod, code, str(state), uid=uid))  # noqa: B023
            lines = str(said).split("\n")[:4]
            assert lines == ([expected] * 4 if expected else ["connected", "connected", "connected", "read"])

    with_gate(pod, state, test)


def test_F4_K6_private_keys_are_in_no_file(pod: Pod, state: Path) -> None:
    key = Key.of_pem("own", OWN.key_pem)

    async def test(opened: Opened) -> None:
        await opened.open(view(pod), OWN)
        (pid,) = envoy_pids(pod)
        assert await in_thread(lambda: found_in_memory(key, pid))  # positive control: Envoy has it
        assert no_key_below(state, key)
        for name in ("cmdline", "environ"):
            assert not key.inside(Path(f"/proc/{pid}/{name}").read_bytes())
        dump = await in_thread(lambda: admin(opened.layout.admin, "/config_dump"))
        assert b"[redacted]" in dump  # type: ignore[operator]
        assert not key.inside(dump)  # type: ignore[arg-type]
        assert b"PRIVATE" not in dump  # type: ignore[operator]
        await opened.gate.rotate(lambda: leaf_secrets(OWN))
        assert no_key_below(state, key)
        await opened.gate.fence()
        assert opened.files() == FILES

    with_gate(pod, state, test)


def no_key_below(state: Path, key: Key) -> bool:
    files = [path.read_bytes() for path in state.rglob("*") if path.is_file()]
    assert files != []
    return not any(key.inside(data) or b"PRIVATE" in data for data in files)


def refused(reason: Reason, pod: Pod, state: Path, renderer: Renderer, text: str) -> None:
    """Opening fails for `reason` and leaves a dead Envoy and nothing to serve another."""

    async def test(opened: Opened) -> None:
        with pytest.raises(ToposealError, match=text) as caught:
            await opened.open(view(pod), OWN)
        assert caught.value.reason is reason
        assert opened.gate.state is State.FENCED
        assert opened.files() == FILES
        assert [fault.reason for fault in opened.faults] == [reason]
        assert envoy_pids(pod) == []

    with_gate(pod, state, test, renderer)


def mangled(update: Update, old: bytes, new: bytes) -> Update:
    """`update` with bytes of what Envoy is sent replaced, which have to occur."""
    assert any(old in data for offer in update.values() for data in offer.resources.values())
    return {
        kind: replace(offer, resources={n: data.replace(old, new) for n, data in offer.resources.items()})
        for kind, offer in update.items()
    }


UNKNOWN = b"\xfa\x7f\x00"  # field 2047, empty


@pytest.mark.parametrize(
    ("renderer", "text"),
    [
        (Changed(altered, b"BEGIN CERTIFICATE", b"BEGIN NONSENSE"), "CA certificates"),
        (Changed(mangled, b"\x12\x09blackhole", b"\x12\x09blackhol\xff"), "TcpProxy"),
        (Changed(mangled, b"\n\x03out", UNKNOWN + b"\n\x03out"), "unknown fields"),
    ],
    ids=["no CA", "no message", "an unknown field"],
)
def test_D7_fault_16_a_refused_update_closes_and_says_what_envoy_said(
    pod: Pod, state: Path, renderer: Renderer, text: str
) -> None:
    refused(Reason.ENVOY_REJECTED, pod, state, renderer, text)


def test_D7_fault_16_a_gate_whose_probe_does_not_come_through_stays_closed(
    pod: Pod, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toposeal.host.probe.PROBE_TIMEOUT", 300)
    refused(
        Reason.PROBE_FAILED,
        pod,
        state,
        Changed(altered, b"sockets/probe.sock", b"sockets/nobody.sock"),
        "nonce",
    )


def test_D7_without_the_redirect_the_probe_fails(
    node: Node, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toposeal.host.probe.PROBE_TIMEOUT", 300)
    bare = node.pod("bare")
    with bare.inside():
        asyncio.run(netlink.route_synthetic_addresses())
    refused(Reason.PROBE_FAILED, bare, state, InProcess(), "silence|refused")


def test_D7_a_renderer_that_fails_closes(pod: Pod, state: Path) -> None:
    class Broken(InProcess):
        async def render(self, plan: PodPlan) -> Update:
            raise PodError.of(Reason.INTERNAL, "renderer", "nothing", "an update")

    refused(Reason.INTERNAL, pod, state, Broken(), "renderer")


@pytest.mark.parametrize("port", [INBOUND_PORT, OUTBOUND_PORT])
def test_fault_16_a_port_that_somebody_else_holds_is_noticed_at_the_start(
    pod: Pod, state: Path, port: int
) -> None:
    async def start() -> None:
        with pytest.raises(PodError, match="bind") as caught:
            async with running_gate(state):
                pass
        assert caught.value.reason is Reason.ENVOY_REJECTED

    with pod.inside(), socket.create_server(("127.0.0.1", port)):
        asyncio.run(start())
    assert envoy_pids(pod) == []


def test_nobody_can_bind_beside_envoy(pod: Pod, state: Path) -> None:
    async def test(opened: Opened) -> None:
        for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            with socket.socket(family) as squatter:
                for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                    squatter.setsockopt(socket.SOL_SOCKET, option, 1)
                if family is socket.AF_INET6:
                    squatter.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                with pytest.raises(OSError, match="in use"):
                    squatter.bind((host, INBOUND_PORT))
                    squatter.listen()

    with_gate(pod, state, test)


def test_a_pod_without_ipv6_opens(node: Node, state: Path) -> None:
    pod = node.pod("v4")
    lockdown(pod)
    with pod.inside():
        for name in ("all", "lo"):
            Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
        asyncio.run(netlink.route_synthetic_addresses())

    async def test(opened: Opened) -> None:
        own = mesh_member(OWN, pod.ipv4)
        await opened.open(pod_view(ALONE, own, [own]), OWN)

    with_gate(pod, state, test)


def test_D7_an_envoy_below_the_floor_is_not_used(pod: Pod, state: Path, tmp_path: Path) -> None:
    """A stand-in that says it is LIVE and how old it is."""
    program = tmp_path / "envoy"
    program.write_text(OLD_ENVOY.replace("PYTHON", "/usr/bin/python3"))
    program.chmod(0o755)
    tmp_path.chmod(0o755)

    async def start() -> None:
        with pytest.raises(PodError, match=r"1\.36\.9") as caught:
            await Envoy.start(str(program), layout_under(str(state)))
        assert caught.value.reason is Reason.ENVOY_FAILED

    with pod.inside():
        asyncio.run(start())
    assert pod.processes() == []


OLD_ENVOY = """#!PYTHON -I
import socket
server = socket.socket(socket.AF_UNIX)
server.bind("../envoy/admin.sock")
server.listen()
body = b'{"version": "%s/1.36.9/Clean/RELEASE/BoringSSL", "state": "LIVE"}' % (b"0" * 40)
while True:
    connection, _ = server.accept()
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nconnection: close\\r\\n\\r\\n" + body)
    connection.close()
"""


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("/usr/bin/false", "ended with 1"),
        ("/usr/bin/missing", "127|not found|missing"),
        ("/nowhere/envoy", "directory"),
    ],
)
def test_D7_fault_16_an_envoy_that_does_not_start_is_a_fault(
    pod: Pod, state: Path, program: str, text: str
) -> None:
    async def start() -> None:
        with pytest.raises(PodError, match=text) as caught:
            await Envoy.start(program, layout_under(str(state)))
        assert caught.value.reason is Reason.ENVOY_FAILED

    with pod.inside():
        asyncio.run(start())


def test_D7_envoy_dies_with_its_daemon(pod: Pod, state: Path) -> None:
    code = textwrap.dedent(
        f"""
        import asyncio, os, sys
        from toposeal.dataplane.envoy_closed import CLOSED, bootstrap
        from toposeal.dataplane.layout import ENVOY_LAYOUT, layout_under
        from toposeal.host.discovery_server import DiscoveryServer
        from toposeal.host.envoy import Envoy
        from toposeal.host.xds_files import XdsDirectory
        async def main():
            layout = layout_under({str(state)!r})
            XdsDirectory(layout.xds, group={ENVOY_UID}).reset(bootstrap(ENVOY_LAYOUT))
            discovery = DiscoveryServer()
            await discovery.start(layout.discovery, {ENVOY_UID})
            discovery.reset(CLOSED)
            await Envoy.start({ENVOY!r}, layout)
            print("ready", flush=True)
            await asyncio.sleep(60)
        asyncio.run(main())
        """
    )
    daemon = pod.spawn([sys.executable, "-I", "-c", code], stdout=subprocess.PIPE)
    assert daemon.stdout is not None
    assert daemon.stdout.readline() == b"ready\n"
    assert len(envoy_pids(pod)) == 1
    daemon.kill()
    eventually(lambda: envoy_pids(pod) == [] or None)

"""The gate of one pod with a real Envoy: what opens it, and that everything else leaves it closed."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from support.daemons import eventually
from support.datapath import Hand, application, talk
from support.envoy import (
    ENVOY,
    InProcess,
    Opened,
    altered,
    leaf_secrets,
    mesh_member,
    pod_view,
    running_gate,
    state_directory,
)
from support.forge import TestMember, assemble, forge_leaf, key_pem, new_key, pem, tlv
from support.inside import APP_UID, lockdown, run_python
from support.keys import Key, admin, found_in_memory
from support.shop import role, topology

from toposeal.dataplane.discovery import Update
from toposeal.dataplane.envoy_closed import bootstrap
from toposeal.dataplane.envoy_plan import PodPlan
from toposeal.dataplane.envoy_secrets import secrets
from toposeal.dataplane.layout import BOOTSTRAP_FILE, CLOSED_MARK, ENVOY_LAYOUT, OPEN_MARK, layout_under
from toposeal.dataplane.view import PodView
from toposeal.errors import PodError, Reason, ToposealError
from toposeal.gate.machine import State
from toposeal.host import netlink
from toposeal.host.envoy import Envoy
from toposeal.host.renderer import Renderer
from toposeal.host.xds_files import XdsDirectory, prepare
from toposeal.limits import ENVOY_UID, INBOUND_PORT, OUTBOUND_PORT
from toposeal.topology.model import Call, Ingress
from toposeal_lab.pods import Node, Pod

PORT, INGRESS, ATTESTATION = 8080, 8443, 8444
ALONE = topology(
    role("api", 1, serves=(PORT,), calls=(Call("api", PORT),), ingress=(Ingress(INGRESS, PORT),)),
    role("web", 1, calls=(Call("api", PORT),)),
)
OWN, CALLER = TestMember("api"), TestMember("web")
# All that is in the directory that Envoy starts in.
FILES = {BOOTSTRAP_FILE: bootstrap(ENVOY_LAYOUT), CLOSED_MARK: b""}
OPEN_FILES = {BOOTSTRAP_FILE: bootstrap(ENVOY_LAYOUT), OPEN_MARK: b""}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@pytest.fixture
def pod(node: Node) -> Pod:
    """One pod under the real rules."""
    made = node.pod("a")
    lockdown(made)
    with made.inside():
        asyncio.run(netlink.route_synthetic_addresses())
    return made


@pytest.fixture
def state() -> Iterator[Path]:
    with state_directory() as path:
        yield path


def view(pod: Pod) -> PodView:
    own = mesh_member(OWN, *pod.addresses)
    return pod_view(ALONE, own, [own, mesh_member(CALLER, "10.77.0.99")])


def with_gate(
    pod: Pod, state: Path, test: Callable[[Opened], Awaitable[None]], renderer: Renderer | None = None
) -> None:
    """Run `test` inside the pod with a started, closed gate."""

    async def run() -> None:
        async with running_gate(state, renderer=renderer) as opened:
            await test(opened)

    with pod.inside():
        asyncio.run(run())


def call(pod: Pod, member: TestMember = CALLER) -> bytes:
    """What the caller's Envoy would get at the served port."""
    hand = Hand(pod, member.chain_pem, member.key_pem, member.domain)
    return hand.call(pod.ipv4, PORT)


async def in_thread(work: Callable[[], object]) -> object:
    return await asyncio.to_thread(work)


def caller_outside(node: Node, pod: Pod) -> Callable[[], bytes]:
    hand = Hand(node.host(), CALLER.chain_pem, CALLER.key_pem, CALLER.domain)
    return lambda: hand.call(pod.ipv4, PORT)


def envoy_pids(pod: Pod) -> list[int]:
    return [pid for pid in pod.processes() if Path(f"/proc/{pid}/comm").read_text().strip() == "envoy"]


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


def chains(opened: Opened) -> dict[str, set[str]]:
    """What Envoy runs, by listener."""
    dump = json.loads(admin(opened.layout.admin, "/config_dump?resource=dynamic_listeners"))
    active = [entry["active_state"]["listener"] for entry in dump["configs"]]
    return {found["name"]: {chain["name"] for chain in found["filter_chains"]} for found in active}


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


class Altered(InProcess):
    """Renders, then replaces text of the readable form."""

    def __init__(self, old: bytes, new: bytes) -> None:
        super().__init__()
        self._change = old, new

    async def render(self, plan: PodPlan) -> Update:
        return altered(await super().render(plan), *self._change)


class Mangled(InProcess):
    """Renders, then replaces bytes of what Envoy is sent."""

    def __init__(self, old: bytes, new: bytes) -> None:
        super().__init__()
        self._change = old, new

    async def render(self, plan: PodPlan) -> Update:
        return mangled(await super().render(plan), *self._change)


def mangled(update: Update, old: bytes, new: bytes) -> Update:
    assert any(old in data for offer in update.values() for data in offer.resources.values())
    return {
        kind: replace(offer, resources={n: data.replace(old, new) for n, data in offer.resources.items()})
        for kind, offer in update.items()
    }


UNKNOWN = b"\xfa\x7f\x00"  # field 2047, empty


@pytest.mark.parametrize(
    ("renderer", "text"),
    [
        (Altered(b"BEGIN CERTIFICATE", b"BEGIN NONSENSE"), "CA certificates"),
        (Mangled(b"\x12\x09blackhole", b"\x12\x09blackhol\xff"), "TcpProxy"),
        (Mangled(b"\n\x03out", UNKNOWN + b"\n\x03out"), "unknown fields"),
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
    refused(Reason.PROBE_FAILED, pod, state, Altered(b"sockets/probe.sock", b"sockets/nobody.sock"), "nonce")


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


def test_rotation_changes_the_leaf_and_cuts_nothing(node: Node, pod: Pod, state: Path) -> None:
    def leaf_shown() -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with node.host().inside():
            raw = socket.create_connection((pod.ipv4, INGRESS), 3)
            with context.wrap_socket(raw) as connection:
                shown = connection.getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(shown or b"").serial_number

    async def test(opened: Opened) -> None:
        await opened.open(view(pod), OWN)
        before = await in_thread(leaf_shown)
        kept = socket.create_connection(("240.10.0.1", PORT), 3)
        await asyncio.sleep(0.1)
        await opened.gate.rotate(lambda: leaf_secrets(OWN))
        assert await in_thread(leaf_shown) != before
        kept.sendall(b"still")
        assert await in_thread(lambda: kept.recv(100)) == b"served"
        kept.close()

    with application(pod, PORT, b"served"):
        with_gate(pod, state, test)


def test_a_stream_that_breaks_is_opened_anew_and_cuts_nothing(pod: Pod, state: Path) -> None:
    """Envoy is given again what it runs, leaves included, out of memory."""

    async def test(opened: Opened) -> None:
        await opened.open(view(pod), OWN)
        kept = socket.create_connection(("240.10.0.1", PORT), 3)
        await asyncio.sleep(0.1)
        opened.discovery._end_stream()
        async with asyncio.timeout(20):
            while opened.discovery._responses is None:
                await asyncio.sleep(0.01)
        await opened.discovery.acknowledged()
        assert "probe" in chains(opened)["in"]
        await opened.gate.rotate(lambda: leaf_secrets(OWN))
        kept.sendall(b"still")
        assert await in_thread(lambda: kept.recv(100)) == b"served"
        kept.close()

    with application(pod, PORT, b"served"):
        with_gate(pod, state, test)


def two_sans(member: TestMember) -> tuple[str, str]:
    """A leaf with two SAN extensions, which parsers read differently."""
    issuer = x509.load_der_x509_certificate(member.ca_der).subject
    leaf, key = forge_leaf(member.ca_key, issuer, [x509.UniformResourceIdentifier(member.uri)])
    signed = leaf.tbs_certificate_bytes
    start = signed.rindex(b"\xa3\x81")
    second = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(CALLER.uri)]).public_bytes()
    extra = tlv(0x30, bytes.fromhex("0603551d110101ff") + tlv(0x04, second))
    doubled = tlv(0xA3, tlv(0x30, signed[start + 6 :] + extra))
    return pem(assemble(tlv(0x30, signed[4:start] + doubled), member.ca_key)), key_pem(key)


@pytest.mark.parametrize("fault", ["two SAN extensions (K2)", "key of another leaf", "no PEM"])
def test_K2_a_leaf_that_envoy_refuses_leaves_the_old_one_in_force(
    node: Node, pod: Pod, state: Path, fault: str
) -> None:
    outside = caller_outside(node, pod)
    chain, key = two_sans(OWN) if "SAN" in fault else (OWN.chain_pem, key_pem(new_key()))
    if fault == "no PEM":
        chain = "nonsense"
    good = leaf_secrets(OWN)

    async def test(opened: Opened) -> None:
        await opened.gate.open(lambda: (view(pod), lambda: good))
        with pytest.raises(ToposealError) as caught:
            await opened.gate.rotate(lambda: secrets(chain + "\n", key, OWN.chain_pem, OWN.key_pem))
        assert caught.value.reason is Reason.ENVOY_REJECTED
        assert opened.gate.state is State.OPEN
        assert await in_thread(outside) == b"served"
        await opened.gate.rotate(lambda: leaf_secrets(OWN))  # the next attempt is a new one

    with application(pod, PORT, b"served"):
        with_gate(pod, state, test)


@contextmanager
def small_tmpfs(options: str) -> Iterator[Path]:
    """A prepared state directory with room for little."""
    path = Path(tempfile.mkdtemp(dir="/run", prefix="toposeal-test-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True)
    try:
        prepare(str(path), owner=0, group=ENVOY_UID)
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)
        path.rmdir()


def fill(directory: Path) -> None:
    """Until not a byte more fits."""
    with (
        (directory / "envoy" / "ballast").open("wb", buffering=0) as file,
        pytest.raises(OSError, match="space"),
    ):
        while True:
            file.write(bytes(4096))


def test_F6_fault_15_a_full_tmpfs_stays_closed(pod: Pod) -> None:
    """There is no room for what Envoy starts with."""

    async def start() -> None:
        with pytest.raises(PodError, match="space") as caught:
            async with running_gate(path):
                pass
        assert caught.value.reason is Reason.STATE_DIR

    with small_tmpfs("size=256k") as path:
        fill(path)
        with pod.inside():
            asyncio.run(start())
        assert list((path / "xds").iterdir()) == []
    assert envoy_pids(pod) == []


def test_F6_fault_15_a_tmpfs_that_fills_up_later_stops_nothing(node: Node, pod: Pod) -> None:
    """Nothing that opens or renews is written anywhere."""
    outside = caller_outside(node, pod)

    async def test(opened: Opened) -> None:
        fill(path)
        await opened.open(view(pod), OWN)
        assert await in_thread(outside) == b"served"
        await opened.gate.rotate(lambda: leaf_secrets(OWN))
        assert await in_thread(outside) == b"served"

    with application(pod, PORT, b"served"), small_tmpfs("size=256k") as path:
        with_gate(pod, path, test)


@pytest.mark.parametrize("fault", ["read-only", "no inodes"])
def test_F6_fault_15_a_directory_that_cannot_be_written_is_a_fault(fault: str) -> None:
    with small_tmpfs("size=1m,nr_inodes=12") as path:
        directory = XdsDirectory(str(path / "xds"), group=ENVOY_UID)
        if fault == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", str(path)], check=True)
        else:
            for n in range(12):
                try:
                    (path / f"{n}").touch()
                except OSError:
                    break
        with pytest.raises(PodError) as caught:
            directory.reset(b"bootstrap")
        assert caught.value.reason is Reason.STATE_DIR
        assert list((path / "xds").iterdir()) == []
        directory.close()


def test_outside_clients_get_the_application_and_by_alpn_the_document(
    node: Node, pod: Pod, state: Path, tmp_path: Path
) -> None:
    """What a pin is good for: plain curl with the member's CA and name, nothing switched off."""
    ca = tmp_path / "ca.pem"
    ca.write_text(OWN.ca_pem)
    http = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n"

    def curl(port: int, *options: str) -> str:
        address = f"{OWN.domain}:{port}:{pod.ipv4}"
        argv = ["curl", "-s", "-m5", "--cacert", str(ca), "--resolve", address, *options]
        done = node.host().run([*argv, f"https://{OWN.domain}:{port}/"], check=False)
        return done.stdout.decode() or f"exit {done.returncode}"

    async def test(opened: Opened) -> None:
        documents = await asyncio.start_unix_server(serve_document, opened.layout.attestation)
        os.chown(opened.layout.attestation, -1, ENVOY_UID)
        os.chmod(opened.layout.attestation, 0o660)
        await opened.open(view(pod), OWN)
        assert await in_thread(lambda: curl(INGRESS)) == "ok"
        assert await in_thread(lambda: curl(ATTESTATION)) == "document"
        hand = Hand(node.host(), sni=OWN.domain, alpn=["toposeal-attest/1"])
        answer = await in_thread(lambda: hand.call(pod.ipv4, INGRESS, b"GET / HTTP/1.1\r\n\r\n"))
        assert b"document" in answer  # type: ignore[operator]
        # Another member's CA is no pin for this one.
        ca.write_text(CALLER.ca_pem)
        assert await in_thread(lambda: curl(INGRESS)) == "exit 60"
        ca.write_text(OWN.ca_pem)
        assert await in_thread(lambda: curl(INGRESS, "--tls-max", "1.2")) == "exit 35"
        documents.close()

    with application(pod, PORT, http + b"ok"):
        with_gate(pod, state, test)


async def serve_document(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\ndocument")
    await writer.drain()
    writer.close()


def test_what_is_refused_never_reaches_the_application_not_even_as_a_connection(
    node: Node, pod: Pod, state: Path
) -> None:
    outside = caller_outside(node, pod)
    stranger = TestMember("web")
    rogue = Hand(node.host(), stranger.chain_pem, stranger.key_pem, CALLER.domain)

    async def test(opened: Opened) -> None:
        await opened.open(view(pod), OWN)
        for _ in range(3):
            assert await in_thread(lambda: rogue.call(pod.ipv4, PORT)) == b""
        assert seen == []
        assert await in_thread(outside) == b"served"
        assert seen == [b"hi"]

    with application(pod, PORT, b"served") as seen:
        with_gate(pod, state, test)


def test_a_program_that_speaks_first_is_heard(node: Node, pod: Pod, state: Path) -> None:
    hand = Hand(node.host(), CALLER.chain_pem, CALLER.key_pem, CALLER.domain)

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 welcome")
        await writer.drain()
        writer.close()

    async def test(opened: Opened) -> None:
        server = await asyncio.start_server(greet, "0.0.0.0", PORT)
        await opened.open(view(pod), OWN)
        assert await in_thread(lambda: hand.call(pod.ipv4, PORT, b"")) == b"220 welcome"
        server.close()

    with_gate(pod, state, test)


@pytest.mark.parametrize("bound", [False, True], ids=["control", "bound"])
def test_fault_24_plaintext_for_the_application_never_leaves_a_pod_that_lost_its_address(
    node: Node, pod: Pod, state: Path, bound: bool
) -> None:
    """The host takes the pod's address away and answers at it: what Envoy decrypts stays here."""

    async def test(opened: Opened) -> None:
        await opened.open(view(pod), OWN)
        assert await in_thread(lambda: talk("240.10.0.1", PORT, b"CANARY")) == b"served"
        pod.run(["ip", "address", "del", f"{pod.ipv4}/24", "dev", "eth0"])
        pod.run(["ip", "address", "add", "10.77.0.200/24", "dev", "eth0"])
        pod.run(["ip", "route", "replace", "default", "via", "10.77.0.1"])
        node.host().run(["ip", "address", "add", f"{pod.ipv4}/32", "dev", "br0"])
        with application(node.host(), PORT, b"stolen") as thief:
            answer = await in_thread(lambda: talk("240.10.0.1", PORT, b"CANARY"))
        assert (answer, b"".join(thief)) == ((b"", b"") if bound else (b"stolen", b"CANARY"))

    source = b'"source_address": {\n          "address": "'
    unbound = Altered(source + pod.ipv4.encode(), source + b"0.0.0.0")
    with application(pod, PORT, b"served"):
        with_gate(pod, state, test, None if bound else unbound)

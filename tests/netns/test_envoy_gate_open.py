"""An open gate with a real Envoy: leaves are exchanged, disks fill up, and outside clients are served."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from support.datapath import Hand, application, talk
from support.envoy import Opened, altered, leaf_secrets, running_gate
from support.forge import TestMember, assemble, forge_leaf, key_pem, new_key, pem, tlv
from support.gates import (
    ATTESTATION,
    CALLER,
    INGRESS,
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

from toposeal.dataplane.envoy_secrets import secrets
from toposeal.errors import PodError, Reason, ToposealError
from toposeal.gate.machine import State
from toposeal.host.xds_files import XdsDirectory, prepare
from toposeal.limits import ENVOY_UID
from toposeal_lab.pods import Node, Pod

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@pytest.fixture
def pod(node: Node) -> Pod:
    return locked_pod(node)


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
    unbound = Changed(altered, source + pod.ipv4.encode(), source + b"0.0.0.0")
    with application(pod, PORT, b"served"):
        with_gate(pod, state, test, None if bound else unbound)

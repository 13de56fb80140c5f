"""Sealed meshes of real Envoys in network namespaces, and hands to attack them with."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import ssl
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from support.envoy import Opened, altered, mesh_member, pod_view, running_gate, state_directory
from support.forge import TestMember
from support.inside import lockdown
from toposeal.dataplane.view import MeshMember
from toposeal.dataplane.vips import vip
from toposeal.host import netlink
from toposeal.topology.model import Topology
from toposeal_lab.pods import Node, Pod

TIMEOUT = 3.0


@dataclass
class Sealed:
    """One pod of a mesh: where it is, who it is, and its open gate."""

    pod: Pod
    member: TestMember
    topology: Topology
    gate: Opened = field(repr=False)
    loop: asyncio.AbstractEventLoop = field(repr=False)  # the gate's

    def vip(self, role: str) -> str:
        return vip(self.topology, role)

    def call(self, role: str, port: int, data: bytes = b"hi") -> bytes:
        """What an application of this pod gets from `role`."""
        with self.pod.inside():
            return talk(self.vip(role), port, data)


@dataclass
class World:
    node: Node
    pods: dict[str, Sealed]

    def __getitem__(self, role: str) -> Sealed:
        return self.pods[role]

    @property
    def outside(self) -> Pod:
        return self.node.host()


Placing = Callable[[Mapping[str, Pod]], Mapping[str, Sequence[str]]]


@contextlib.contextmanager
def sealed_mesh(
    topology: Topology,
    *,
    members: Mapping[str, TestMember] | None = None,
    addresses: Placing | None = None,
    elsewhere: Sequence[MeshMember] = (),
) -> Iterator[World]:
    """A sealed mesh with one member of each role, in pods under the real rules.

    `addresses` lies to every member about where the others are, as a host could. Members `elsewhere` are
    known to all and run nowhere here.
    """
    chosen = dict(members or {name: TestMember(name) for name in topology.roles})
    with Node() as node, contextlib.ExitStack() as stack:
        pods = {name: node.pod(name) for name in chosen}
        placed = addresses(pods) if addresses else {}
        known = {n: mesh_member(m, *placed.get(n, pods[n].addresses)) for n, m in chosen.items()}
        for pod in pods.values():
            lockdown(pod)
            with pod.inside():
                asyncio.run(netlink.route_synthetic_addresses())
        directories = {name: stack.enter_context(state_directory()) for name in chosen}
        world = World(node, {})

        async def run(ready: Callable[[], None], done: asyncio.Event) -> None:
            async with contextlib.AsyncExitStack() as gates:
                for name, member in chosen.items():
                    own = mesh_member(member, *pods[name].addresses)
                    others = [*(m for n, m in known.items() if n != name), *elsewhere]
                    with pods[name].inside():
                        opened = await gates.enter_async_context(running_gate(directories[name]))
                        view = pod_view(topology, own, [own, *others])
                        await opened.open(view, member)
                    loop = asyncio.get_running_loop()
                    world.pods[name] = Sealed(pods[name], member, topology, opened, loop)
                ready()
                await done.wait()

        with in_background(run):
            yield world


def put(sealed: Sealed, old: bytes, new: bytes) -> None:
    """Weaken what Envoy runs behind the gate's back."""
    discovery = sealed.gate.discovery
    offered = {kind: s.offered for kind, s in discovery._discovery._subscriptions.items()}
    update = altered({kind: offer for kind, offer in offered.items() if offer}, old, new)
    version = f"weakened {next(_NUMBERS)}"
    offers = {kind: replace(offer, version=version) for kind, offer in update.items()}
    sealed.loop.call_soon_threadsafe(discovery.offer, offers)


_NUMBERS = itertools.count()


@contextlib.contextmanager
def in_background(run: Callable[[Callable[[], None], asyncio.Event], Awaitable[None]]) -> Iterator[None]:
    """An event loop in a thread of its own, from its `ready` to the end of the block."""
    ready = threading.Event()
    failures: list[BaseException] = []
    loop = asyncio.new_event_loop()
    done = asyncio.Event()

    def work() -> None:
        try:
            loop.run_until_complete(run(ready.set, done))
        except BaseException as error:
            failures.append(error)
        finally:
            ready.set()
            loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    try:
        if failures:
            raise failures[0]
        yield
    finally:
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(done.set)
        thread.join()


def talk(host: str, port: int, data: bytes = b"hi") -> bytes:
    """Connect, send, and everything that comes back; nothing for every kind of refusal."""
    answer = b""
    with contextlib.suppress(OSError), socket.create_connection((host, port), TIMEOUT) as connection:
        connection.sendall(data)
        while more := connection.recv(65_536):
            answer += more
    return answer


@contextlib.contextmanager
def application(pod: Pod, port: int, answer: bytes, address: str = "0.0.0.0") -> Iterator[list[bytes]]:
    """A program of the pod, in clear, that sends `answer` to whatever it is sent; what it was sent."""
    seen: list[bytes] = []
    with pod.inside():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, port), family=family, backlog=64)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(TIMEOUT)
                    seen.append(connection.recv(65_536))
                    connection.sendall(answer)

    with _thread(serve, listener):
        yield seen


@contextlib.contextmanager
def tls_application(
    pod: Pod, port: int, chain_pem: str, key_pem: str, answer: bytes
) -> Iterator[list[bool | None]]:
    """A rogue that speaks TLS itself with any certificate, tickets included; which were resumed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, chain_pem, key_pem)
    seen: list[bool | None] = []
    with pod.inside():
        listener = socket.create_server(("0.0.0.0", port), backlog=64)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                raw, _ = listener.accept()
                raw.settimeout(TIMEOUT)
                with contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True) as connection:
                    seen.append(connection.session_reused)
                    connection.recv(65_536)
                    connection.sendall(answer)
                    connection.unwrap()

    with _thread(serve, listener):
        yield seen


@contextlib.contextmanager
def _thread(serve: Callable[[], None], listener: socket.socket) -> Iterator[None]:
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(TIMEOUT)


@dataclass
class Hand:
    """A TLS client with whatever credential it could get hold of, outside any pod."""

    place: Pod
    chain_pem: str | None = None
    key_pem: str | None = None
    sni: str | None = None
    alpn: Sequence[str] = ()
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    session: ssl.SSLSession | None = None
    reused: bool | None = None

    def call(self, host: str, port: int, data: bytes = b"hi") -> bytes:
        """What an application sees after a handshake: data, or nothing for every kind of refusal."""
        context, answer = self.context(), b""
        with contextlib.suppress(OSError), self.place.inside():
            raw = socket.create_connection((host, port), TIMEOUT)
            with context.wrap_socket(raw, server_hostname=self.sni) as connection:
                connection.sendall(data)
                while more := connection.recv(65_536):
                    answer += more
                self.session, self.reused = connection.session, connection.session_reused
        return answer

    def context(self) -> ssl.SSLContext:
        """With the credential and without any check of the server's."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = context.maximum_version = self.version
        if self.alpn:
            context.set_alpn_protocols(self.alpn)
        if self.chain_pem is not None and self.key_pem is not None:
            _load(context, self.chain_pem, self.key_pem)
        return context


def _load(context: ssl.SSLContext, chain_pem: str, key_pem: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir="/dev/shm") as chain, tempfile.NamedTemporaryFile("w") as key:
        chain.write(chain_pem)
        key.write(key_pem)
        chain.flush()
        key.flush()
        context.load_cert_chain(chain.name, key.name)

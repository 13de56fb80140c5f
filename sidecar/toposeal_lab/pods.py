"""Pods of the lab: one network namespace each, on the bridge of a node namespace of their own.

Everything is made over netlink; only processes inside a pod are started with `ip netns exec`,
which also gives them the pod's own /etc/resolv.conf. Names carry the creator's pid, so that
several runs coexist and the next one sweeps what a killed one left.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from pyroute2 import IPRoute

from toposeal_lab import namespaces
from toposeal_lab.namespaces import ETC_DIR, RUN_DIR

__all__ = ["NODE_IPV4", "NODE_IPV6", "RUN_DIR", "SEARCH_PATH", "Node", "Pod", "sweep"]

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NODE_IPV4, NODE_IPV6 = "10.77.0.1", "fd70:7365:616c::1"
_STALE = re.compile(r"toposeal-(\d+)-[0-9a-f]{6}-[a-z0-9-]+")


class Pod:
    """A network namespace with `eth0` (IPv4 and IPv6, both global), `lo` and default routes."""

    def __init__(self, name: str, namespace: str, number: int) -> None:
        self.name = name
        self.namespace = namespace
        self.interface = f"pod{number}"  # the node's end of eth0: captures listen there
        self.ipv4 = f"10.77.0.{number + 9}"
        self.ipv6 = f"fd70:7365:616c::{number + 9:x}"
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.ipv4, self.ipv6)

    def spawn(
        self, argv: Sequence[str], *, uid: int | None = None, gid: int | None = None, **popen: Any
    ) -> subprocess.Popen[bytes]:
        """Start `argv` inside; it is killed with the pod. With `uid` it has no capability at all.

        `popen` goes to subprocess.Popen; the environment is only a PATH unless `env` is given.
        """
        popen.setdefault("env", {"PATH": SEARCH_PATH, "LANG": "C.UTF-8"})
        popen.setdefault("stdin", subprocess.DEVNULL)
        child = subprocess.Popen(self.command(argv, uid, gid), **popen)  # noqa: S603
        self._children.append(child)
        return child

    def run(
        self,
        argv: Sequence[str],
        *,
        uid: int | None = None,
        gid: int | None = None,
        check: bool = True,
        timeout: float = 20,
        input: bytes | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `argv` inside to its end and return its output; a failure raises unless `check` is off."""
        stdin = subprocess.PIPE if input is not None else subprocess.DEVNULL
        pipe = subprocess.PIPE
        with self.spawn(argv, uid=uid, gid=gid, stdin=stdin, stdout=pipe, stderr=pipe) as child:
            try:
                out, err = child.communicate(input, timeout)
            except BaseException:
                child.kill()
                raise
        self._children.remove(child)
        done = subprocess.CompletedProcess(list(argv), child.returncode, out, err)
        if check and done.returncode:
            raise subprocess.CalledProcessError(done.returncode, list(argv), out, err)
        return done

    def command(self, argv: Sequence[str], uid: int | None = None, gid: int | None = None) -> list[str]:
        """The argv that runs `argv` inside; `gid` defaults to `uid`."""
        enter = ["/usr/sbin/ip" if Path("/usr/sbin/ip").exists() else "ip", "netns", "exec", self.namespace]
        if uid is not None:
            group = uid if gid is None else gid
            enter += ["setpriv", f"--reuid={uid}", f"--regid={group}", "--clear-groups"]
            enter += ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
        return enter + list(argv)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in the pod's network while the block runs: sockets made there stay there."""
        with namespaces.entered(self.namespace):
            yield

    def write_etc(self, name: str, text: str) -> None:
        """What the processes started from now on see as `/etc/<name>` (the file must exist outside)."""
        directory = ETC_DIR / self.namespace
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        (directory / name).write_text(text)

    def processes(self) -> list[int]:
        """Process ids inside, whoever started them."""
        return namespaces.processes(self.namespace)

    def kill_all(self) -> None:
        """Kill everything inside, daemonised grandchildren included, and reap our children."""
        for child in self._children:
            child.kill()
        namespaces.kill_inside(self.namespace)
        for child in self._children:
            child.wait()
        self._children.clear()


class Node:
    """The node: a namespace with a bridge that joins its pods; a context manager that leaves nothing.

    `keep` makes namespaces that outlive this process; remove them with `Node.remove(prefix)`.
    Raises UsageError where namespaces cannot be made.
    """

    def __init__(self, *, keep: bool = False) -> None:
        sweep()
        owner = "kept" if keep else str(os.getpid())
        self.keep = keep
        self.prefix = f"toposeal-{owner}-{secrets.token_hex(3)}"
        self.namespace = f"{self.prefix}-node"
        self.addresses = (NODE_IPV4, NODE_IPV6)
        self.pods: dict[str, Pod] = {}
        self._numbers = itertools.count(1)
        self._stack = ExitStack()
        try:
            self._create()
        except BaseException:
            self.close()
            raise

    def pod(self, name: str, *, resolv_conf: str = f"nameserver {NODE_IPV4}\n") -> Pod:
        """Add a pod `name` ([a-z0-9-]) with the next free addresses."""
        pod = Pod(name, f"{self.prefix}-{name}", next(self._numbers))
        namespaces.create(pod.namespace)
        self.pods[name] = pod
        pod.write_etc("resolv.conf", resolv_conf)
        peer = {"ifname": "eth0", "net_ns_fd": pod.namespace}
        self._link.link("add", ifname=pod.interface, kind="veth", peer=peer)
        outer, bridge = (namespaces.index(self._link, name) for name in (pod.interface, "br0"))
        self._link.link("set", index=outer, master=bridge, state="up")
        with namespaces.entered(pod.namespace), IPRoute() as link:
            namespaces.settle_at_once("eth0")
            namespaces.set_up(link, "lo")
            namespaces.set_up(link, "eth0", pod.ipv4, pod.ipv6)
            link.route("add", dst="default", gateway=NODE_IPV4)
            link.route("add", dst="default", gateway=NODE_IPV6, family=10)
        return pod

    def host(self) -> Pod:
        """The node itself as something to run programs in: the untrusted outside."""
        node = Pod("node", self.namespace, 0)
        node.ipv4, node.ipv6 = self.addresses
        self.pods.setdefault("node", node)
        return self.pods["node"]

    def close(self) -> None:
        """Kill what runs inside and remove everything, unless `keep`."""
        self._stack.close()
        if not self.keep:
            Node.remove(self.prefix, self.pods.values())

    @staticmethod
    def remove(prefix: str, pods: Iterable[Pod] = ()) -> None:
        """Remove every namespace called `<prefix>-...`, running processes included."""
        for pod in pods:
            pod.kill_all()
        for namespace in namespaces.names():
            if namespace.startswith(f"{prefix}-"):
                namespaces.remove(namespace)

    def _create(self) -> None:
        namespaces.create(self.namespace)
        with namespaces.entered(self.namespace):
            namespaces.settle_at_once("default")
            self._link = self._stack.enter_context(IPRoute())
        namespaces.set_up(self._link, "lo")
        self._link.link("add", ifname="br0", kind="bridge")
        namespaces.set_up(self._link, "br0", *self.addresses)

    def __enter__(self) -> Node:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def sweep() -> None:
    """Remove what runs that no longer exist left behind; kept ones and living ones stay."""
    for namespace in namespaces.names():
        match = _STALE.fullmatch(namespace)
        if match and not Path("/proc", match[1]).exists():
            with suppress(OSError):  # another run may sweep at the same time
                namespaces.remove(namespace)

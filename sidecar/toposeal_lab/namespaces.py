"""Named network namespaces: make, enter, empty and remove them; addresses that are usable at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyroute2 import IPRoute, netns
from pyroute2.netlink.exceptions import NetlinkError

from toposeal.errors import Reason, UsageError

RUN_DIR = Path("/run/netns")
ETC_DIR = Path("/etc/netns")  # `ip netns exec` mounts what is in <namespace>/ over /etc
_IFA_F_NODAD = 0x02
_KILL_TIMEOUT = 5


def create(namespace: str) -> None:
    """Raises UsageError where namespaces cannot be made."""
    if os.geteuid() != 0:
        raise UsageError.of(Reason.USAGE, "network namespaces", f"uid {os.geteuid()}", "root")
    try:
        netns.create(namespace)
    except (OSError, NetlinkError) as error:
        raise UsageError.of(
            Reason.USAGE, "network namespaces", error, "a system where root can make them"
        ) from error


def remove(namespace: str) -> None:
    """Kill everything inside, then remove the namespace and its files."""
    kill_inside(namespace)
    netns.remove(namespace)
    directory = ETC_DIR / namespace
    if directory.is_dir():
        for file in directory.iterdir():
            file.unlink()
        directory.rmdir()


def names() -> list[str]:
    return sorted(os.listdir(RUN_DIR)) if RUN_DIR.is_dir() else []


def processes(namespace: str) -> list[int]:
    """Ids of the processes inside, whoever started them."""
    wanted = os.stat(RUN_DIR / namespace)
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):  # it ended meanwhile
                if os.path.samestat(os.stat(f"/proc/{entry}/ns/net"), wanted):
                    found.append(int(entry))
    return found


def kill_inside(namespace: str) -> None:
    deadline = time.monotonic() + _KILL_TIMEOUT
    while (found := processes(namespace)) and time.monotonic() < deadline:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


@contextmanager
def entered(namespace: str) -> Iterator[None]:
    """The calling thread, and it alone, is inside while the block runs; the way back is always taken."""
    back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(RUN_DIR / namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        netns.setns(there)
        yield
    finally:
        netns.setns(back)
        os.close(there)
        os.close(back)


def settle_at_once(interface: str) -> None:
    """Inside `entered`: addresses are ours alone here, so that they are usable at once; and the kernel
    says which groups it listens to (MLDv2, twice) now and not a second later, when somebody captures.
    """
    wanted = {"accept_dad": "0", "mldv2_unsolicited_report_interval": "1"}
    for which in ("all", "default", interface):
        for name, value in wanted.items():
            path = Path(f"/proc/sys/net/ipv6/conf/{which}/{name}")
            if path.exists():  # a kernel without IPv6 has none
                path.write_text(value)


def set_up(link: IPRoute, interface: str, ipv4: str = "", ipv6: str = "") -> None:
    """Give `interface` its addresses (/24 and /64) and switch it on."""
    where = index(link, interface)
    if ipv4:
        link.addr("add", index=where, address=ipv4, prefixlen=24)
    if ipv6:
        link.addr("add", index=where, address=ipv6, prefixlen=64, family=10, flags=_IFA_F_NODAD)
    link.link("set", index=where, state="up")


def index(link: IPRoute, interface: str) -> int:
    return int(link.link_lookup(ifname=interface)[0])

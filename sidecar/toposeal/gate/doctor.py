"""What a pod lacks before its network can open: facts that others gathered in, findings out. No IO."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from toposeal.errors import Mismatch, Reason, printable
from toposeal.limits import (
    DAEMON_UID,
    DNS_PORT,
    ENVOY_UID,
    INBOUND_PORT,
    OUTBOUND_PORT,
    PEER_PORT,
    VIP_NETWORK,
)

_SHOWN = 3  # mismatches of one check: a line is for reading
# linux/capability.h, those that a daemon may need.
_NUMBERS = MappingProxyType(
    {"chown": 0, "dac_override": 1, "kill": 5, "setgid": 6, "setuid": 7, "net_admin": 12, "net_raw": 13}
)
# Protocol and port, whose it is, what the daemon says where somebody else has it.
_PORTS = (
    ("tcp", PEER_PORT, DAEMON_UID, Reason.FIREWALL),
    ("tcp", DNS_PORT, DAEMON_UID, Reason.FIREWALL),
    ("udp", DNS_PORT, DAEMON_UID, Reason.FIREWALL),
    ("tcp", OUTBOUND_PORT, ENVOY_UID, Reason.ENVOY_REJECTED),
    ("tcp", INBOUND_PORT, ENVOY_UID, Reason.ENVOY_REJECTED),
)
_CURES = MappingProxyType(
    {
        "user": "run it as root in the sidecar's container, as the daemon is started",
        "distributions": "install toposeal[sidecar], or use the release image",
        "capabilities": "give the container what docs/images.md lists, no more",
        "setpriv": "install util-linux, or use the release image",
        "envoy": "install toposeal[sidecar] anew: it brings the Envoy that is admitted",
        "quotes": "mount /sys/kernel/config of the VM here; the VM needs TDX or SNP and its guest driver; "
        "another --quote-source needs its agent's socket, for the daemon's group alone",
        "back end": "a kernel with nf_tables and the program nft, or iptables of one kind in both families",
        "rules": "run `toposeal firewall apply`, or start the daemon, which does; find out who changed them",
        "state directory": "mount a tmpfs for the sidecar alone, and nothing else into it",
        "ports": "end the program that has the port: 15000 to 15499 are the sidecar's",
        "route": "restart the daemon, which sets the route to lo; find out who removed it",
        "initdata": "hand over the annotation that `toposeal inject` wrote, unchanged",
        "owner": "mount the file of the owner's root that `toposeal topology keygen` wrote",
        "topology": "deploy the envelope that the owner signed for this mesh, in the version that is wanted",
        "role": "name a role of the topology, or have the owner sign one that has it",
        "clock": "set the VM's clock: it is behind the day on which the topology was signed",
        "collateral": "fetch it: `toposeal evidence collateral fetch`, or give --collateral-cache",
        "services": "give --collateral-cache beside --pccs, --kds and --service-ca",
        "peers": "list members as HOST:PORT,...",
    }
)


class State(StrEnum):
    OK = "ok"
    MISSING = "missing"
    UNKNOWN = "cannot tell"


@dataclass(frozen=True)
class Fine:
    """What is there, for the reader."""

    found: str


@dataclass(frozen=True)
class Wrong:
    """What the daemon would refuse, in its own words; at least one."""

    mismatches: Sequence[Mismatch]


@dataclass(frozen=True)
class Unknown:
    """Why nobody could look."""

    why: str


Look = Fine | Wrong | Unknown


@dataclass(frozen=True)
class Listener:
    """A socket that has a port: `protocol` is tcp or udp, `uid` who made it."""

    protocol: str
    port: int
    uid: int


@dataclass(frozen=True)
class Facts:
    """What was seen; None stands for what could not be read. `looks` are the daemon's own judgements by
    check, in the order of the report."""

    uid: int
    capabilities: int | None  # the effective set, a bit each
    wanted: Sequence[str] | None  # names of capabilities
    listeners: Sequence[Listener] | None
    routes: str | None  # /proc/net/route
    looks: Mapping[str, Look]


@dataclass(frozen=True)
class Finding:
    """One line of the report. `reason` is the daemon's code where it has one for this, `cure` what to do."""

    check: str
    state: State
    found: str
    reason: Reason | None = None
    cure: str = ""

    def __str__(self) -> str:
        code = f" [{self.reason.value}]" if self.reason else ""
        return f"{self.state:<12} {self.check}: {self.found}{code}{f'; {self.cure}' if self.cure else ''}"


def examine(facts: Facts) -> tuple[Finding, ...]:
    """A finding for each check, none left out, what the process itself is first."""
    looks = {
        "user": _user(facts.uid),
        "capabilities": _capabilities(facts),
        **facts.looks,
        "ports": _ports(facts.listeners),
        "route": _route(facts),
    }
    return tuple(_finding(check, look) for check, look in looks.items())


def is_whole(findings: Sequence[Finding]) -> bool:
    """Whether nothing is missing. What nobody could tell is not."""
    return all(finding.state is not State.MISSING for finding in findings)


def listeners(protocol: str, table: str) -> Iterator[Listener]:
    """Of a table of /proc/net (linux proc_net_tcp.rst): TCP sockets that listen, UDP ones with no peer."""
    wanted = {"tcp": "0A", "udp": "07"}[protocol]
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[3] == wanted:
            yield Listener(protocol, int(fields[1].rpartition(":")[2], 16), int(fields[7]))


def effective(status: str) -> int | None:
    """The effective capabilities of /proc/PID/status; None where it names none."""
    found = [line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")]
    return int(found[0], 16) if found else None


def _finding(check: str, look: Look) -> Finding:
    if isinstance(look, Fine):
        return Finding(check, State.OK, look.found)
    if isinstance(look, Unknown):
        return Finding(check, State.UNKNOWN, look.why)
    wrong = look.mismatches
    shown = [f"{m.field}: found {m.found}, expected {m.expected}" for m in wrong[:_SHOWN]]
    more = [f"and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
    return Finding(check, State.MISSING, "; ".join(shown + more), wrong[0].reason, _CURES[check])


def _user(uid: int) -> Look:
    if uid in (0, DAEMON_UID):
        return Fine(f"uid {uid}")
    return Wrong([Mismatch(Reason.USAGE, "uid", str(uid), f"0 or {DAEMON_UID}")])


def _capabilities(facts: Facts) -> Look:
    if facts.capabilities is None or facts.wanted is None:
        return Unknown("what this process has, or what a daemon needs here, could not be found out")
    lacking = [name for name in facts.wanted if not facts.capabilities >> _NUMBERS[name] & 1]
    if not lacking:
        return Fine(" ".join(facts.wanted))
    return Wrong([Mismatch(Reason.USAGE, "capabilities", f"no {' '.join(lacking)}", " ".join(facts.wanted))])


def _ports(found: Sequence[Listener] | None) -> Look:
    if found is None:
        return Unknown("/proc/net cannot be read")
    taken = [
        Mismatch(reason, f"{protocol} port {port}", f"user {each.uid}", f"free, or user {uid}")
        for protocol, port, uid, reason in _PORTS
        for each in found
        if (each.protocol, each.port) == (protocol, port) and each.uid != uid
    ]
    if taken:
        return Wrong(taken)
    return Fine("held by the sidecar" if _runs(found) else "free")


def _runs(found: Sequence[Listener] | None) -> bool:
    """Whether a daemon does: the peer port is the first thing that it takes, and the name service the last
    that waits for the route."""
    return found is not None and Listener("udp", DNS_PORT, DAEMON_UID) in found


def _route(facts: Facts) -> Look:
    if facts.routes is None:
        return Unknown("/proc/net/route cannot be read")
    # Interface, destination and mask of 240.10.0.0/16, in the kernel's little-endian words.
    lines = [line.split() for line in facts.routes.splitlines()[1:]]
    devices = [fields[0] for fields in lines if len(fields) > 7 and (fields[1], fields[7]) == _VIP_ROUTE]
    if devices[:1] == ["lo"]:
        return Fine(f"{VIP_NETWORK} dev lo")
    if not _runs(facts.listeners):
        return Fine(f"{VIP_NETWORK}: the daemon sets it when it starts")
    found = printable(f"dev {devices[0]}") if devices else "none"
    return Wrong([Mismatch(Reason.FIREWALL, f"route {VIP_NETWORK}", found, "dev lo")])


_VIP_ROUTE = ("00000AF0", "0000FFFF")

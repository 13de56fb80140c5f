"""The checked topology as one frozen value. Only `topology.parse` makes it; no IO here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from toposeal.topology.egress import Egress
from toposeal.topology.gpu import GpuDemand
from toposeal.topology.snp import SnpPolicy, SnpReference

KINDS = ("tdx", "snp")  # of TEE; in a topology they name policies, references and machines


@dataclass(frozen=True)
class Timers:
    """Milliseconds on CLOCK_BOOTTIME; the defaults are explained in docs/topology.md."""

    view_ms: int = 2_000
    quote_ms: int = 45_000
    ping_ms: int = 2_000
    attempt_ms: int = 60_000
    heartbeat_ms: int = 5_000
    lease_ms: int = 30_000
    reattest_ms: int = 1_800_000
    quorum_ms: int = 600_000
    topology_ms: int = 600_000
    leaf_lifetime_ms: int = 86_400_000


@dataclass(frozen=True)
class InstanceRegister:
    """RTMR3 as the sidecar makes it: `base`, then its own instance event exactly once, and around it
    nothing but `events`, each as often as it happens (a second instance event is never admitted)."""

    base: bytes  # 48
    events: frozenset[bytes]  # 48 each


@dataclass(frozen=True)
class TdxReference:
    """One admitted TDX measurement. `None` is the owner's explicit `any`; nothing is optional."""

    mrtd: bytes  # 48
    rtmr: tuple[bytes | None, bytes | None, bytes | None]  # RTMR0 to RTMR2, 48 each
    rtmr3: bytes | InstanceRegister | None  # 48
    mrconfigid: bytes  # 48: the role's config digest (CoCo initdata)
    mrowner: bytes  # 48
    mrownerconfig: bytes  # 48
    mrseam: frozenset[bytes] | None  # 48 each
    td_attributes: bytes  # 8, compared whole, little-endian as in the quote
    xfam: bytes  # 8, compared whole


@dataclass(frozen=True)
class TdxPolicy:
    """Which TDX platforms and TCB levels every role accepts."""

    tcb_status: frozenset[str]  # never empty; Intel's spellings
    advisories: frozenset[str]  # admitted INTEL-SA identifiers; any other is refused
    min_tcb_evaluation: int


@dataclass(frozen=True)
class Platforms:
    """The machines that a role may run on; None is the explicit `any`."""

    tdx: frozenset[bytes] | None  # PPIDs, 16 each
    snp: frozenset[bytes] | None  # CHIP_IDs, 64 each


@dataclass(frozen=True)
class Call:
    """An edge: members of the declaring role may connect to `port` of `role`."""

    role: str
    port: int


@dataclass(frozen=True)
class Ingress:
    """`port` is open to outside clients (server TLS) and leads to the application's `target`."""

    port: int
    target: int


@dataclass(frozen=True)
class Http:
    """The application speaks HTTP at its `port`: requests are led one by one, and say who calls."""

    port: int
    logs_requests: bool  # in the journal, which the host reads: method, path without its query, status


@dataclass(frozen=True)
class Probe:
    """GET `path` at `port` is answered by what the application answers to the same at its port `target`."""

    port: int
    path: str
    target: int


@dataclass(frozen=True)
class Role:
    name: str
    min_replicas: int
    max_replicas: int
    tdx: tuple[TdxReference, ...]  # of both kinds together one at least
    snp: tuple[SnpReference, ...]
    platforms: Platforms
    gpus: GpuDemand | None  # None: none is demanded, and none may be shown
    serves: tuple[int, ...]  # ascending
    calls: tuple[Call, ...]  # ascending (role, port)
    ingress: tuple[Ingress, ...]  # ascending port
    egress: tuple[Egress, ...] = ()  # ascending (host, cidr, port): destinations outside the mesh
    probes: tuple[Probe, ...] = ()  # ascending (port, path)
    metrics: int | None = None  # port at which the sidecar's figures are read in clear; None: nowhere
    addresses: tuple[str, ...] = ()  # IP literals that mean this role to whoever calls it; of no other role
    http: tuple[Http, ...] = ()  # ascending port; every other served port is bytes
    proxy_protocol: tuple[int, ...] = ()  # ascending; served ports that begin with a header: who calls
    workload_api: bool = False  # whether its application is given an SVID of its own, and its peers' CAs

    def speaks_http(self, port: int) -> bool:
        """Whether the application does at its own `port`."""
        return any(entry.port == port for entry in self.http)

    def logs_requests(self, port: int) -> bool:
        return any(entry.port == port and entry.logs_requests for entry in self.http)


@dataclass(frozen=True)
class Topology:
    mesh: str
    version: int
    issued_at: int  # Unix seconds: a lower bound of now (O2)
    owner_root_digest: bytes  # 48: SHA-384 of the owner root's canonical JSON
    attestation_port: int
    timers: Timers
    tdx: TdxPolicy | None  # None: no role lists a TDX reference
    snp: SnpPolicy | None  # None: no role lists an SNP reference
    roles: Mapping[str, Role]  # ascending name, read-only
    digest: bytes  # 48: topo_digest over the exact signed payload bytes
    on_quorum_loss: str = "regenesis"  # or "halt"
    resolver: str | None = None  # DNS server for egress hosts; None: those of the pod's resolv.conf

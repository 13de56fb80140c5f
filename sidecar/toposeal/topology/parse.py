"""Payload bytes to one checked `Topology`: strict JSON, closed schema, meaning. No IO.

`TOPOLOGY` is the schema itself; docs/topology.md is its reference.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any

from toposeal import limits
from toposeal.encoding import digest
from toposeal.errors import TopologyError
from toposeal.topology import strict_json
from toposeal.topology.addresses import ADDRESSES, ordered_addresses
from toposeal.topology.check import check_topology
from toposeal.topology.egress import Egress
from toposeal.topology.egress_schema import EGRESS, ServerAddress, ordered
from toposeal.topology.gpu import GpuDemand
from toposeal.topology.http import HTTP, ordered_http
from toposeal.topology.model import (
    Call,
    Http,
    Ingress,
    Platforms,
    Probe,
    Role,
    TdxPolicy,
    TdxReference,
    Timers,
    Topology,
)
from toposeal.topology.probes import PROBES, ordered_probes
from toposeal.topology.proxy_protocol import PROXY_PROTOCOL
from toposeal.topology.schema import (
    Either,
    Hex,
    Integer,
    ListOf,
    MapOf,
    Object,
    OneOf,
    Text,
    Word,
    mismatch,
)
from toposeal.topology.snp import SnpPolicy, SnpReference
from toposeal.topology.tee_schema import (
    GPUS,
    PLATFORMS,
    SNP_POLICY,
    SNP_REFERENCES,
    TDX_POLICY,
    TDX_REFERENCES,
)

_NAME = Text(
    re.compile(rf"[a-z0-9-]{{1,{limits.MAX_NAME_LENGTH}}}", re.ASCII),
    f"a name of 1 to {limits.MAX_NAME_LENGTH} characters of a-z, 0-9 and -",
)
_PORT = Integer(1, 65_535)
WORKLOAD_API = ("nothing", "x509")  # by whether the application has an identity
_DIGEST = Hex(limits.DIGEST_SIZE)
_DEFAULTS = Timers()
_ANYWHERE = Platforms(None, None)


_ROLE = Object(
    {
        "replicas": Object(
            {"min": Integer(0, limits.MAX_REPLICAS), "max": Integer(1, limits.MAX_REPLICAS)},
            lambda **bounds: (bounds["min"], bounds["max"]),
        ),
        "tdx": TDX_REFERENCES,
        "snp": SNP_REFERENCES,
        "platforms": Either(Word("any", _ANYWHERE), PLATFORMS),
        "gpus": GPUS,
        "serves": ListOf(_PORT, 0, limits.MAX_PORTS_PER_ROLE, "ports"),
        "addresses": ADDRESSES,
        "calls": ListOf(Object({"role": _NAME, "port": _PORT}, Call), 0, limits.MAX_CALLS_PER_ROLE, "edges"),
        "ingress": ListOf(
            Object({"port": _PORT, "target": _PORT}, Ingress), 0, limits.MAX_PORTS_PER_ROLE, "entries"
        ),
        "http": HTTP,
        "proxy_protocol": PROXY_PROTOCOL,
        "egress": EGRESS,
        "probes": PROBES,
        "metrics": _PORT,
        "workload_api": OneOf(WORKLOAD_API),
    },
    dict[str, Any],
    optional=frozenset(
        {
            "tdx",
            "snp",
            "gpus",
            "addresses",
            "http",
            "proxy_protocol",
            "egress",
            "probes",
            "metrics",
            "workload_api",
        }
    ),
)

TOPOLOGY = Object(
    {
        "mesh": _NAME,
        "version": Integer(1, limits.MAX_VERSION),
        "issued_at": Integer(1, limits.MAX_TIME),
        "owner_root": _DIGEST,
        "attestation_port": _PORT,
        "resolver": ServerAddress(),
        "on_quorum_loss": OneOf(("regenesis", "halt")),
        "timers": Object(
            {name: Integer(low, high) for name, (low, high) in limits.TIMER_BOUNDS.items()},
            Timers,
            optional=frozenset(limits.TIMER_BOUNDS),
        ),
        "tdx": TDX_POLICY,
        "snp": SNP_POLICY,
        "roles": MapOf(_NAME, _ROLE, 1, limits.MAX_ROLES, "roles"),
    },
    dict[str, Any],
    optional=frozenset({"resolver", "on_quorum_loss", "timers", "tdx", "snp"}),
)


def parse_topology(payload: bytes) -> Topology:
    """The topology that `payload` (at most 1 MiB of canonical JSON) declares.

    Raises TopologyError: TOO_LARGE, MALFORMED or NOT_CANONICAL for the JSON, otherwise every
    mismatch of the schema, or, where there is none, every mismatch of the meaning.
    """
    value = strict_json.parse_canonical(payload, "topology", limits.MAX_TOPOLOGY_SIZE)
    if not isinstance(value, dict):
        raise TopologyError(mismatch("topology", value, TOPOLOGY.expected))
    topology = _topology(digest("toposeal/v1/topology", payload), **TOPOLOGY.read(value, ""))
    check_topology(topology)
    return topology


def _topology(
    payload_digest: bytes,
    owner_root: bytes,
    roles: dict[str, Any],
    timers: Timers = _DEFAULTS,
    tdx: TdxPolicy | None = None,
    snp: SnpPolicy | None = None,
    **fields: Any,
) -> Topology:
    return Topology(
        owner_root_digest=owner_root,
        timers=timers,
        tdx=tdx,
        snp=snp,
        roles=MappingProxyType({name: _role(name, **roles[name]) for name in sorted(roles)}),
        digest=payload_digest,
        **fields,
    )


def _role(
    name: str,
    replicas: tuple[int, int],
    serves: Any,
    calls: Any,
    ingress: Any,
    platforms: Platforms,
    tdx: tuple[TdxReference, ...] = (),
    snp: tuple[SnpReference, ...] = (),
    gpus: GpuDemand | None = None,
    egress: tuple[Egress, ...] = (),
    probes: tuple[Probe, ...] = (),
    metrics: int | None = None,
    addresses: tuple[str, ...] = (),
    http: tuple[Http, ...] = (),
    proxy_protocol: tuple[int, ...] = (),
    workload_api: str = WORKLOAD_API[0],
) -> Role:
    return Role(
        name=name,
        min_replicas=replicas[0],
        max_replicas=replicas[1],
        tdx=tdx,
        snp=snp,
        platforms=platforms,
        gpus=gpus,
        serves=tuple(sorted(serves)),
        calls=tuple(sorted(calls, key=lambda call: (call.role, call.port))),
        ingress=tuple(sorted(ingress, key=lambda entry: entry.port)),
        egress=ordered(egress),
        probes=ordered_probes(probes),
        metrics=metrics,
        addresses=ordered_addresses(addresses),
        http=ordered_http(http),
        proxy_protocol=tuple(sorted(proxy_protocol)),
        workload_api=bool(WORKLOAD_API.index(workload_api)),
    )

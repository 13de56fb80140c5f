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
from toposeal.topology.check import check_topology
from toposeal.topology.model import Call, Ingress, Role, TdxPolicy, TdxReference, Timers, Topology
from toposeal.topology.schema import Hex, Integer, ListOf, MapOf, Object, OneOf, OrAny, Text, mismatch

# Intel's spellings. `Revoked` is never admissible, so it cannot be written.
TCB_STATUSES = (
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
)

_NAME = Text(
    re.compile(rf"[a-z0-9-]{{1,{limits.MAX_NAME_LENGTH}}}", re.ASCII),
    f"a name of 1 to {limits.MAX_NAME_LENGTH} characters of a-z, 0-9 and -",
)
_ADVISORY = Text(re.compile(r"INTEL-(?:SA|DOC)-[0-9]{5}", re.ASCII), "INTEL-SA-nnnnn or INTEL-DOC-nnnnn")
_PORT = Integer(1, 65_535)
_DIGEST = Hex(limits.DIGEST_SIZE)
_REGISTER = OrAny(_DIGEST)
_DEFAULTS = Timers()


def _reference(rtmr0: Any, rtmr1: Any, rtmr2: Any, rtmr3: Any, mrseam: Any, **fields: Any) -> TdxReference:
    seam = None if mrseam is None else frozenset(mrseam)
    return TdxReference(rtmr=(rtmr0, rtmr1, rtmr2, rtmr3), mrseam=seam, **fields)


def _tdx_policy(tcb_status: Any, advisories: Any, min_tcb_evaluation: int) -> TdxPolicy:
    return TdxPolicy(frozenset(tcb_status), frozenset(advisories), min_tcb_evaluation)


_REFERENCE = Object(
    {
        "mrtd": _DIGEST,
        "rtmr0": _REGISTER,
        "rtmr1": _REGISTER,
        "rtmr2": _REGISTER,
        "rtmr3": _REGISTER,
        "mrconfigid": _DIGEST,
        "mrowner": _DIGEST,
        "mrownerconfig": _DIGEST,
        "mrseam": OrAny(ListOf(_DIGEST, 1, limits.MAX_SEAM_MODULES, "TDX module digests")),
        "td_attributes": Hex(8),
        "xfam": Hex(8),
    },
    _reference,
)

_ROLE = Object(
    {
        "replicas": Object(
            {"min": Integer(0, limits.MAX_REPLICAS), "max": Integer(1, limits.MAX_REPLICAS)},
            lambda **bounds: (bounds["min"], bounds["max"]),
        ),
        "tdx": ListOf(_REFERENCE, 1, limits.MAX_REFERENCES_PER_ROLE, "references"),
        "platforms": OrAny(ListOf(Hex(16), 1, limits.MAX_PLATFORMS, "PPIDs")),
        "serves": ListOf(_PORT, 0, limits.MAX_PORTS_PER_ROLE, "ports"),
        "calls": ListOf(Object({"role": _NAME, "port": _PORT}, Call), 0, limits.MAX_CALLS_PER_ROLE, "edges"),
        "ingress": ListOf(
            Object({"port": _PORT, "target": _PORT}, Ingress), 0, limits.MAX_PORTS_PER_ROLE, "entries"
        ),
    },
    dict[str, Any],
)

TOPOLOGY = Object(
    {
        "mesh": _NAME,
        "version": Integer(1, limits.MAX_VERSION),
        "issued_at": Integer(1, limits.MAX_TIME),
        "owner_root": _DIGEST,
        "attestation_port": _PORT,
        "timers": Object(
            {name: Integer(low, high) for name, (low, high) in limits.TIMER_BOUNDS.items()},
            Timers,
            optional=frozenset(limits.TIMER_BOUNDS),
        ),
        "tdx": Object(
            {
                "tcb_status": ListOf(OneOf(TCB_STATUSES), 1, len(TCB_STATUSES), "statuses"),
                "advisories": ListOf(
                    Text(
                        re.compile(r"INTEL-(?:SA|DOC)-[0-9]{5}", re.ASCII),
                        "INTEL-SA-nnnnn or INTEL-DOC-nnnnn",
                    ),
                    0,
                    limits.MAX_ADVISORIES,
                    "advisories",
                ),
                "min_tcb_evaluation": Integer(1, limits.MAX_TCB_EVALUATION),
            },
            _tdx_policy,
        ),
        "roles": MapOf(_NAME, _ROLE, 1, limits.MAX_ROLES, "roles"),
    },
    dict[str, Any],
    optional=frozenset({"timers"}),
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
    payload_digest: bytes, owner_root: bytes, roles: dict[str, Any], timers: Timers = _DEFAULTS, **fields: Any
) -> Topology:
    return Topology(
        owner_root_digest=owner_root,
        timers=timers,
        roles=MappingProxyType({name: _role(name, **roles[name]) for name in sorted(roles)}),
        digest=payload_digest,
        **fields,
    )


def _role(
    name: str, replicas: tuple[int, int], serves: Any, calls: Any, ingress: Any, platforms: Any, tdx: Any
) -> Role:
    return Role(
        name=name,
        min_replicas=replicas[0],
        max_replicas=replicas[1],
        tdx=tdx,
        platforms=None if platforms is None else frozenset(platforms),
        serves=tuple(sorted(serves)),
        calls=tuple(sorted(calls, key=lambda call: (call.role, call.port))),
        ingress=tuple(sorted(ingress, key=lambda entry: entry.port)),
    )

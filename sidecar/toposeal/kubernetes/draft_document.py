"""A drafted topology as data: what is found of each role, and what its owner has to add. No IO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from toposeal.kubernetes.draft_pods import Blank, Pods
from toposeal.limits import DIGEST_SIZE
from toposeal.topology.schema import ListOf, OrAny, Rule
from toposeal.topology.tee_schema import (
    PLATFORMS,
    SNP_POLICY,
    SNP_REFERENCE,
    TDX_POLICY,
    TDX_REFERENCE,
)

_ATTESTATION_PORT = 8444  # or the next one that no role has
# Fields of the policy and of a reference.
_SCHEMA: Mapping[str, tuple[Mapping[str, Rule[Any]], Mapping[str, Rule[Any]]]] = {
    "tdx": (TDX_POLICY.fields, TDX_REFERENCE.fields),
    "snp": (SNP_POLICY.fields, SNP_REFERENCE.fields),
}
_CONFIG_DIGESTS = ("mrconfigid", "host_data")
_PLATFORMS = f'"any", or {PLATFORMS.expected}: the machines that it may run on'
_ISSUED_AT = "now, as RFC 3339 in UTC, like 2026-01-31T12:00:00Z"


def topology_of(pods: Sequence[Pods], mesh: str, kind: str) -> dict[str, Any]:
    """What its author writes of these roles, for machines of `kind`."""
    policy, reference = _SCHEMA[kind]
    used = {port for one in pods for port in one.serves} | {p["port"] for one in pods for p in one.probes}
    free = next(port for port in range(_ATTESTATION_PORT, 65_536) if port not in used)
    return {
        "mesh": mesh,
        "version": 1,
        "issued_at": Blank(_ISSUED_AT),
        "attestation_port": free,
        kind: {name: Blank(_hint(name, rule)) for name, rule in policy.items()},
        "roles": {str(one.role): _role(one, kind, reference) for one in pods},
    }


def _role(one: Pods, kind: str, reference: Mapping[str, Rule[Any]]) -> dict[str, Any]:
    addresses = {"addresses": sorted(one.addresses)} if one.addresses else {}
    egress = {"egress": one.egress} if one.egress else {}
    probes = {"probes": one.probes} if one.probes else {}
    way_in = Blank("a port that it does not serve, to which the Service's targetPort is then set")
    return {
        "replicas": one.replicas,
        "serves": sorted(one.serves),
        **addresses,
        "calls": [{"role": role, "port": port} for role, port in sorted(one.calls)],
        "ingress": [{"port": way_in, "target": target} for target in sorted(one.ingress)],
        **egress,
        **probes,
        "platforms": Blank(_PLATFORMS),
        kind: [{name: Blank(_hint(name, rule)) for name, rule in reference.items()}],
    }


def _hint(name: str, rule: Rule[Any]) -> str:
    if name in _CONFIG_DIGESTS:
        return f"{rule.expected}, as `toposeal inject --digests` prints them"
    inner = rule.rule if isinstance(rule, OrAny) else rule
    return f"{rule.expected}: {inner.rule.expected}" if isinstance(inner, ListOf) else rule.expected


def completed(document: Mapping[str, Any]) -> dict[str, Any]:
    """A topology with the same roles, and something in place of each blank, to be checked and forgotten."""
    roles = {
        name: {
            **{field: value for field, value in role.items() if field not in _SCHEMA},
            "replicas": _bounds(role["replicas"]),
            "ingress": [],
            "egress": [entry for entry in role.get("egress", ()) if not _blank(entry)],
            "platforms": "any",
            "tdx": [_reference(index)],
        }
        for index, (name, role) in enumerate(document["roles"].items())
    }
    policy = {"tcb_status": ["UpToDate"], "advisories": [], "min_tcb_evaluation": 1}
    rest = {name: document[name] for name in ("mesh", "version", "attestation_port")}
    return {**rest, "issued_at": 1, "owner_root": bytes(DIGEST_SIZE).hex(), "tdx": policy, "roles": roles}


def _bounds(replicas: Mapping[str, int | Blank]) -> dict[str, int]:
    low, high = replicas["min"], replicas["max"]
    low = 1 if isinstance(low, Blank) else low
    return {"min": low, "max": (low or 1) if isinstance(high, Blank) else high}


def _reference(index: int) -> dict[str, Any]:
    """Another for each role."""
    size = DIGEST_SIZE
    zeros = {name: bytes(size).hex() for name in ("mrconfigid", "mrowner", "mrownerconfig")}
    left = dict.fromkeys(("rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrseam"), "any")
    told = {"td_attributes": "0000001000000000", "xfam": bytes(8).hex()}
    return {"mrtd": index.to_bytes(size, "big").hex(), **zeros, **left, **told}


def _blank(entry: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Blank) for value in entry.values())

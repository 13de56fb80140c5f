"""Whatever an owner may declare, the parsed topology says just that, and roles can be told apart."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from hypothesis import given
from property.strategies import documents, topologies

from toposeal.topology import strict_json
from toposeal.topology.http import LOGS
from toposeal.topology.model import KINDS, InstanceRegister, Role, TdxPolicy, TdxReference, Timers, Topology
from toposeal.topology.parse import WORKLOAD_API, parse_topology
from toposeal.topology.snp import SnpPolicy, SnpReference

_SETS = {
    "tcb_status",
    "advisories",
    "endorsements",
    "csp_ids",
    "admit",
    "require",
    "require_platform",
    "mrseam",
    "id_key_digests",
    "author_key_digests",
    "events",
    "models",
}


@given(documents())
def test_a_parsed_topology_says_what_was_declared(document: dict[str, Any]) -> None:
    topology = parse_topology(strict_json.canonical(document))
    assert _said(topology) == _declared(document)
    assert_policy_and_machines_of_each_kind_that_a_role_may_run_on(topology)


def assert_policy_and_machines_of_each_kind_that_a_role_may_run_on(topology: Topology) -> None:
    for role in topology.roles.values():
        assert role.tdx or role.snp
        for kind in (kind for kind in KINDS if getattr(role, kind)):
            assert getattr(topology, kind) is not None
            assert getattr(role.platforms, kind) != frozenset()


@given(topologies(2, 3))
def test_T2_generated_roles_can_be_told_apart(topology: Topology) -> None:
    roles = topology.roles.values()
    for digests in (
        [{reference.mrconfigid for reference in role.tdx} for role in roles],
        [{reference.host_data for reference in role.snp} for role in roles],
    ):
        assert len(set.union(*digests)) == sum(map(len, digests))


def _declared(document: dict[str, Any]) -> dict[str, Any]:
    """`document` with its unordered lists as sets, what it leaves out filled in, short forms spelled out."""
    defaults = dict.fromkeys((*KINDS, "resolver"))
    timers = {**vars(Timers()), **document.get("timers", {})}
    roles = {name: _declared_role(role) for name, role in document["roles"].items()}
    return {**defaults, **_sets(document), "timers": timers, "roles": roles}


def _declared_role(role: dict[str, Any]) -> dict[str, Any]:
    machines = dict.fromkeys(KINDS, "any") if role["platforms"] == "any" else role["platforms"]
    return {
        **_sets(role),
        "tdx": [_sets({**each, "rtmr3": _spelled_out(each["rtmr3"])}) for each in role.get("tdx", [])],
        "snp": [_sets(each) for each in role.get("snp", [])],
        "platforms": {kind: _set_or_any(machines.get(kind, [])) for kind in KINDS},
        "gpus": _sets(role.get("gpus")),
        "metrics": role.get("metrics"),
        "workload_api": role.get("workload_api", "nothing"),
        "serves": sorted(role["serves"]),
        "addresses": sorted(role.get("addresses", []), key=lambda text: (":" in text, ip_address(text))),
        "calls": sorted(role["calls"], key=lambda call: (call["role"], call["port"])),
        "ingress": sorted(role["ingress"], key=lambda entry: entry["port"]),
        "http": sorted(role.get("http", []), key=lambda entry: entry["port"]),
        "proxy_protocol": sorted(role.get("proxy_protocol", [])),
        "probes": sorted(role.get("probes", []), key=lambda entry: (entry["port"], entry["path"])),
        "egress": sorted(map(_declared_egress, role.get("egress", [])), key=_place),
    }


def _declared_egress(entry: dict[str, Any]) -> dict[str, Any]:
    return {"host": None, "cidr": None, "tls_ca": None, **entry, "within": sorted(entry.get("within", []))}


def _place(entry: dict[str, Any]) -> tuple[str, str, int]:
    return entry["host"] or "", entry["cidr"] or "", entry["port"]


def _spelled_out(register: Any) -> Any:
    return {"base": "00" * 48, "events": []} if register == "instance" else register


def _sets(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: _set_or_any(item) if name in _SETS else _sets(item) for name, item in value.items()}


def _set_or_any(value: Any) -> Any:
    return value if value == "any" else set(value)


def _said(topology: Topology) -> dict[str, Any]:
    """The declaration that `topology` was parsed from, in the form of `_declared`."""
    return {
        "mesh": topology.mesh,
        "version": topology.version,
        "issued_at": topology.issued_at,
        "owner_root": topology.owner_root_digest.hex(),
        "attestation_port": topology.attestation_port,
        "resolver": topology.resolver,
        "timers": vars(topology.timers),
        "tdx": None if topology.tdx is None else _said_of_tdx(topology.tdx),
        "snp": None if topology.snp is None else _said_of_snp(topology.snp),
        "roles": {name: _said_of_role(role) for name, role in topology.roles.items()},
    }


def _said_of_tdx(policy: TdxPolicy) -> dict[str, Any]:
    return {**vars(policy), "tcb_status": set(policy.tcb_status), "advisories": set(policy.advisories)}


def _said_of_snp(policy: SnpPolicy) -> dict[str, Any]:
    admitted = {False: "refused", True: "admitted"}
    return {
        **vars(policy),
        "products": {name: vars(floors) for name, floors in policy.products.items()},
        "lowered_tcb": admitted[policy.lowered_tcb],
        "provisional_firmware": admitted[policy.provisional_firmware],
        "csp_ids": "any" if policy.csp_ids is None else set(policy.csp_ids),
        "launch_mitigations": policy.launch_mitigations.to_bytes(8, "little").hex(),
        "current_mitigations": policy.current_mitigations.to_bytes(8, "little").hex(),
        "crl": {False: "optional", True: "required"}[policy.crl],
    }


def _said_of_role(role: Role) -> dict[str, Any]:
    return {
        "replicas": {"min": role.min_replicas, "max": role.max_replicas},
        "tdx": [_said_of_reference(each) for each in role.tdx],
        "snp": [_said_of_reference(each) for each in role.snp],
        "platforms": {kind: _hex(getattr(role.platforms, kind)) for kind in KINDS},
        "gpus": None if role.gpus is None else vars(role.gpus),
        "metrics": role.metrics,
        "workload_api": WORKLOAD_API[role.workload_api],
        "serves": sorted(role.serves),
        "addresses": list(role.addresses),
        "calls": [vars(call) for call in role.calls],
        "ingress": [vars(entry) for entry in role.ingress],
        "probes": [vars(entry) for entry in role.probes],
        "http": [{"port": each.port, "log": LOGS[each.logs_requests]} for each in role.http],
        "proxy_protocol": sorted(role.proxy_protocol),
        "egress": [{**vars(entry), "within": list(entry.within)} for entry in role.egress],
    }


def _said_of_reference(reference: TdxReference | SnpReference) -> dict[str, Any]:
    fields = {name: _hex(value) for name, value in vars(reference).items()}
    if isinstance(reference, TdxReference):
        fields |= {f"rtmr{index}": _hex(value) for index, value in enumerate(reference.rtmr)}
        del fields["rtmr"]
    return fields


def _hex(value: Any) -> Any:
    if value is None:
        return "any"
    if isinstance(value, InstanceRegister):
        return {name: _hex(item) for name, item in vars(value).items()}
    if isinstance(value, frozenset):
        return {item.hex() for item in value}
    return value.hex() if isinstance(value, bytes) else value

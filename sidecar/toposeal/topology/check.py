"""What a well-formed topology must also mean: edges, counts, ports, references. No IO.

Cycles and calls to the own role are legal: all members open together, so there is no order of
starting that a cycle could break.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

from toposeal.errors import Mismatch, Reason
from toposeal.limits import MAX_REPLICAS, POD_DNS_PORT, RESERVED_PORTS
from toposeal.topology.addresses import check_addresses
from toposeal.topology.egress_schema import check_egress
from toposeal.topology.http import check_http
from toposeal.topology.metrics import check_metrics
from toposeal.topology.model import KINDS, Role, TdxReference, Timers, Topology
from toposeal.topology.probes import check_probes
from toposeal.topology.proxy_protocol import check_proxy_protocol
from toposeal.topology.schema import Findings, mismatch
from toposeal.topology.snp import SnpPolicy, SnpReference

_USER_DEBUG_BITS = 0xFF  # TUD: a debugger or profiler may look inside (Intel TDX module ABI, ATTRIBUTES)
_SERVTD_EXT = 1 << 17
_SEPT_VE_DISABLE = 1 << 28
_MIGRATABLE = 1 << 29


def check_topology(topology: Topology) -> None:
    """Raise TopologyError with every mismatch of meaning, if there is one."""
    findings = Findings()
    findings.add(*_replicas(topology))
    findings.add(*_timers(topology.timers))
    findings.add(*_port("attestation_port", topology.attestation_port))
    findings.add(*_products(topology.snp))
    findings.add(*_resolver(topology))
    findings.add(*check_addresses(topology))
    for role in topology.roles.values():
        findings.add(*_edges(role, topology))
        findings.add(*_ports(role, topology.attestation_port))
        findings.add(*check_http(role))
        findings.add(*check_proxy_protocol(role))
        findings.add(*check_egress(f"roles.{role.name}.egress", role.egress, topology.mesh, topology.roles))
        findings.add(*check_probes(f"roles.{role.name}.probes", role.probes, topology.attestation_port))
        findings.add(*check_metrics(role, topology.attestation_port))
        findings.add(*_kinds(role, topology))
        for index, reference in enumerate(role.tdx):
            findings.add(*_attributes(f"roles.{role.name}.tdx[{index}].td_attributes", reference))
    findings.add(*_indistinguishable(topology))
    findings.check()


def _replicas(topology: Topology) -> Iterator[Mismatch]:
    roles = topology.roles.values()
    for role in roles:
        if role.min_replicas > role.max_replicas:
            yield mismatch(
                f"roles.{role.name}.replicas.min", role.min_replicas, f"at most max, {role.max_replicas}"
            )
    total = sum(role.max_replicas for role in roles)
    if total > MAX_REPLICAS:
        yield mismatch("roles", f"{total} replicas by their max", f"at most {MAX_REPLICAS} in all")
    if not any(role.min_replicas for role in roles):
        yield mismatch("roles", "min 0 for every role", "one role at least that must be there")


def _timers(timers: Timers) -> Iterator[Mismatch]:
    if timers.attempt_ms < timers.quote_ms:
        expected = f"at least quote_ms, {timers.quote_ms}: an attempt waits for a quote"
        yield mismatch("timers.attempt_ms", timers.attempt_ms, expected)
    if timers.lease_ms < 3 * timers.heartbeat_ms:
        expected = f"at least three times heartbeat_ms, {3 * timers.heartbeat_ms}: two may be lost"
        yield mismatch("timers.lease_ms", timers.lease_ms, expected)
    if timers.reattest_ms < timers.lease_ms:
        expected = f"at least lease_ms, {timers.lease_ms}"
        yield mismatch("timers.reattest_ms", timers.reattest_ms, expected)


def _products(policy: SnpPolicy | None) -> Iterator[Mismatch]:
    if policy is not None and not policy.products:
        yield mismatch("snp.products", "no product", "floors of one product at least: no other is admitted")


def _resolver(topology: Topology) -> Iterator[Mismatch]:
    if topology.resolver and not any(e.host for role in topology.roles.values() for e in role.egress):
        yield mismatch("resolver", topology.resolver, "nothing: no role has egress to a host")


def _edges(role: Role, topology: Topology) -> Iterator[Mismatch]:
    path = f"roles.{role.name}.calls"
    for call in role.calls:
        callee = topology.roles.get(call.role)
        if callee is None:
            yield mismatch(path, call.role, "a role of this topology")
        elif call.port not in callee.serves:
            yield mismatch(path, f"{call.role}:{call.port}", "a port that the role serves")


def _ports(role: Role, attestation_port: int) -> Iterator[Mismatch]:
    """One inbound listener tells connections apart by port alone: each port has one meaning."""
    path = f"roles.{role.name}"
    opened = [entry.port for entry in role.ingress]
    for port in role.serves:
        yield from _port(f"{path}.serves", port)
    for port in sorted(set(opened)):
        yield from _port(f"{path}.ingress", port)
        if opened.count(port) > 1:
            yield mismatch(f"{path}.ingress", f"port {port} twice", "every ingress port once")
        if port in role.serves:
            yield mismatch(f"{path}.ingress", port, "a port that the role does not serve inside the mesh")
    for field, ports in ((f"{path}.serves", role.serves), (f"{path}.ingress", opened)):
        if attestation_port in ports:
            yield mismatch(field, attestation_port, "a port other than the attestation port")
    for entry in role.ingress:
        if entry.target not in role.serves:
            yield mismatch(f"{path}.ingress", f"target {entry.target}", "a port that the role serves")


def _port(field: str, port: int) -> Iterator[Mismatch]:
    if port in RESERVED_PORTS:
        own = f"{RESERVED_PORTS.start} to {RESERVED_PORTS.stop - 1}"
        yield mismatch(field, port, f"a port outside the sidecar's own, {own}")
    if port == POD_DNS_PORT:
        yield mismatch(field, port, "another port: the sidecar answers the pod's DNS")


def _kinds(role: Role, topology: Topology) -> Iterator[Mismatch]:
    """Each kind of TEE that a role may run on has references, a policy and machines."""
    path = f"roles.{role.name}"
    if not role.tdx and not role.snp:
        yield mismatch(path, "no reference", "tdx or snp references: a measurement makes the role")
    for kind in KINDS:
        if not getattr(role, kind):
            continue
        if getattr(topology, kind) is None:
            yield mismatch(kind, "nothing", f"a policy: {path} has {kind} references")
        machines = getattr(role.platforms, kind)
        if machines is not None and not machines:
            yield mismatch(
                f"{path}.platforms.{kind}", "nothing", f'"any", or machines: it has {kind} references'
            )


def _attributes(field: str, reference: TdxReference) -> Iterator[Mismatch]:
    """No owner can admit a guest that the host may look into or move."""
    bits = int.from_bytes(reference.td_attributes, "little")
    found = reference.td_attributes.hex()
    if bits & _USER_DEBUG_BITS:
        yield mismatch(field, found, "bits 0 to 7 clear: no debug, no profiling", Reason.TD_DEBUG)
    if bits & _MIGRATABLE:
        yield mismatch(field, found, "bit 29 (MIGRATABLE) clear", Reason.TD_MIGRATABLE)
    if bits & _SERVTD_EXT:
        yield mismatch(field, found, "bit 17 (SERVTD_EXT) clear", Reason.SERVICE_TD)
    if not bits & _SEPT_VE_DISABLE:
        yield mismatch(field, found, "bit 28 (SEPT_VE_DISABLE) set", Reason.TD_ATTRIBUTES)


def _indistinguishable(topology: Topology) -> Iterator[Mismatch]:
    """Every pair of roles that one measured guest could claim (T2)."""
    yield from _alike(topology, "tdx", _same_td, "another mrtd, rtmr1, rtmr2, rtmr3 or mrconfigid")
    yield from _alike(topology, "snp", lambda one, two: True, "another measurement or host_data")


def _alike(
    topology: Topology, kind: str, same: Callable[[Any, Any], bool], expected: str
) -> Iterator[Mismatch]:
    groups: defaultdict[tuple[bytes, bytes], list[tuple[str, int, Any]]] = defaultdict(list)
    for role in topology.roles.values():
        for index, reference in enumerate(getattr(role, kind)):
            groups[_fixed(reference)].append((role.name, index, reference))
    reported: set[tuple[str, str]] = set()
    for group in groups.values():
        for (name, index, one), (other, place, two) in combinations(group, 2):
            if name != other and (name, other) not in reported and same(one, two):
                reported.add((name, other))
                yield mismatch(
                    f"roles.{other}.{kind}[{place}]",
                    f"the same guest as roles.{name}.{kind}[{index}]",
                    expected,
                    Reason.ROLES_INDISTINGUISHABLE,
                )


def _fixed(reference: TdxReference | SnpReference) -> tuple[bytes, bytes]:
    """What no reference leaves open.

    Not asked, because the host alone chooses them for one and the same guest and could so choose its
    role: on SNP guest_svn, family_id, image_id and the digests of ID and author key.
    """
    if isinstance(reference, TdxReference):
        return reference.mrtd, reference.mrconfigid
    return reference.measurement, reference.host_data


def _same_td(one: TdxReference, two: TdxReference) -> bool:
    """Whether some measured guest fits both; `mrtd` and `mrconfigid` are already known to be equal.

    Not asked, because the host alone chooses them for one and the same guest and could so choose
    its role: RTMR0 (the virtual hardware), MROWNER, MROWNERCONFIG, MRSEAM, attributes and XFAM.
    """
    return all(
        a is None or b is None or a == b for a, b in zip(one.rtmr[1:], two.rtmr[1:], strict=True)
    ) and (not isinstance(one.rtmr3, bytes) or not isinstance(two.rtmr3, bytes) or one.rtmr3 == two.rtmr3)

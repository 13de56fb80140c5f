"""Hypothesis strategies that several test files share."""

from __future__ import annotations

import ipaddress
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import strategies as st
from support.forge import pem

from toposeal.limits import POD_DNS_PORT, RESERVED_PORTS, TIMER_BOUNDS
from toposeal.pki.mint import mint_ca, serial_number
from toposeal.topology import strict_json
from toposeal.topology.http import LOGS
from toposeal.topology.model import Topology
from toposeal.topology.parse import parse_topology
from toposeal.topology.snp import ENDORSEMENTS, PLATFORM_STATES, RELAXATIONS, RESTRICTIONS
from toposeal.topology.tee_schema import TCB_STATUSES

names = st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True)
ports = st.integers(1, 65_535).filter(lambda port: port not in RESERVED_PORTS and port != POD_DNS_PORT)
_digests = st.binary(min_size=48, max_size=48).map(bytes.hex)
_registers = st.one_of(st.just("any"), _digests)


def _distinct(values: st.SearchStrategy[Any], low: int, high: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=low, max_size=high, unique=True)


def _hex(size: int) -> st.SearchStrategy[str]:
    return st.binary(min_size=size, max_size=size).map(bytes.hex)


def _or_any(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.just("any"), values)


_rtmr3 = st.one_of(
    _registers,
    st.just("instance"),
    st.fixed_dictionaries({"base": _digests, "events": _distinct(_digests, 0, 3)}),
)


@st.composite
def _tdx_references(draw: st.DrawFn, index: int) -> dict[str, Any]:
    attributes = (1 << 28) | draw(st.sampled_from([0, 1 << 27, 1 << 30, 1 << 63]))
    return {
        "mrtd": draw(_digests),
        **{f"rtmr{register}": draw(_registers) for register in range(3)},
        "rtmr3": draw(_rtmr3),
        "mrconfigid": f"{index + 1:096x}",  # what tells the roles apart
        "mrowner": draw(_digests),
        "mrownerconfig": draw(_digests),
        "mrseam": draw(_or_any(_distinct(_digests, 1, 2))),
        "td_attributes": attributes.to_bytes(8, "little").hex(),
        "xfam": draw(st.sampled_from(["e702060000000000", "e718060000000000"])),
    }


def _snp_references(index: int) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "measurement": _digests,
            "host_data": st.just(f"{index + 1:064x}"),  # likewise
            "guest_svn": st.integers(0, (1 << 32) - 1),
            "family_id": _or_any(_hex(16)),
            "image_id": _or_any(_hex(16)),
            "id_key_digests": _or_any(_distinct(_digests, 1, 2)),
            "author_key_digests": _or_any(_distinct(_digests, 1, 2)),
        }
    )


_PPID, _CHIP_ID = _hex(16), _hex(64)
_models = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,9}", fullmatch=True)


@st.composite
def _machines(draw: st.DrawFn, index: int) -> dict[str, Any]:
    """References of one kind or both, platforms with machines of each that is referred to, maybe GPUs."""
    kinds = draw(st.sampled_from([("tdx",), ("snp",), ("tdx", "snp")]))
    rules = {"tdx": _tdx_references(index), "snp": _snp_references(index)}
    lists = {"tdx": _or_any(_distinct(_PPID, 1, 2)), "snp": _or_any(_distinct(_CHIP_ID, 1, 2))}
    others = [kind for kind in lists if kind not in kinds]
    named = [*kinds, *draw(st.lists(st.sampled_from(others), max_size=1) if others else st.just([]))]
    gpus = st.fixed_dictionaries({"count": st.integers(1, 16), "models": _distinct(_models, 1, 3)})
    return {
        **{
            kind: draw(st.lists(rules[kind], min_size=1, max_size=2, unique_by=strict_json.canonical))
            for kind in kinds
        },
        "platforms": draw(_or_any(st.fixed_dictionaries({kind: lists[kind] for kind in named}))),
        **draw(st.one_of(st.just({}), st.fixed_dictionaries({"gpus": gpus}))),
    }


_sometimes: st.SearchStrategy[Any] = st.booleans()
_RANGES = ("10.0.0.0/8", "192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32", "fd00::/8")


@st.composite
def _egress(draw: st.DrawFn) -> dict[str, Any]:
    """No `egress` at all, or hosts under a domain of their own and ranges that do not overlap. Both labels
    are longer than the name of any role or mesh.
    """
    hosts = st.from_regex(r"e[a-z0-9]{60}\.[a-z]{41}", fullmatch=True)
    entries: list[dict[str, Any]] = [
        {"host": host, "port": draw(ports)} for host in draw(_distinct(hosts, 0, 3))
    ]
    for entry in entries:
        entry |= draw(
            st.one_of(
                st.just({}), st.fixed_dictionaries({"within": _distinct(st.sampled_from(_RANGES), 1, 2)})
            )
        )
        entry |= draw(st.one_of(st.just({}), st.just({"tls_ca": egress_ca()})))
    entries += [
        {"cidr": cidr, "port": draw(ports)} for cidr in draw(_distinct(st.sampled_from(_RANGES), 0, 3))
    ]
    return {"egress": entries} if entries or draw(_sometimes) else {}


@cache
def egress_ca() -> str:
    """A CA of somebody outside."""
    return pem(
        mint_ca(
            ec.derive_private_key(7, ec.SECP256R1()), "elsewhere", serial_number(bytes(20)), 1_767_225_600
        )
    )


@st.composite
def _roles(draw: st.DrawFn, index: int, attestation_port: int) -> dict[str, Any]:
    opened = draw(_distinct(ports.filter(lambda port: port != attestation_port), 0, 5))
    split = draw(st.integers(0, len(opened)))
    serves, ingress = opened[:split], opened[split:] if split else []
    high = draw(st.integers(1, 4))
    probes = draw(_probes(attestation_port))
    used = {attestation_port, *opened, *(probe["port"] for probe in probes.get("probes", []))}
    metrics = ports.filter(lambda port: port not in used)
    return {
        "replicas": {"min": draw(st.integers(0 if index else 1, high)), "max": high},
        **draw(_machines(index)),
        "serves": serves,
        "calls": [],
        "ingress": [{"port": port, "target": draw(st.sampled_from(serves))} for port in ingress],
        **draw(_egress()),
        **probes,
        **draw(_spoken(serves, {probe["target"] for probe in probes.get("probes", [])})),
        **draw(st.one_of(st.just({}), st.fixed_dictionaries({"metrics": metrics}))),
        **draw(
            st.one_of(
                st.just({}), st.fixed_dictionaries({"workload_api": st.sampled_from(["nothing", "x509"])})
            )
        ),
    }


@st.composite
def _snp_policies(draw: st.DrawFn) -> dict[str, Any]:
    def some(names: tuple[str, ...], low: int = 0) -> list[str]:
        return draw(_distinct(st.sampled_from(names), low, len(names)))

    def floors(product: str) -> dict[str, dict[str, int]]:
        parts = ("bl", "tee", "snp", "ucode", *(["fmc"] if product == "Turin" else []))
        levels = st.fixed_dictionaries({part: st.integers(0, 255) for part in parts})
        return draw(st.fixed_dictionaries(dict.fromkeys(("reported", "committed", "launch"), levels)))

    refused = st.sampled_from(["refused", "admitted"])
    return {
        "endorsements": some(ENDORSEMENTS, 1),
        "products": {product: floors(product) for product in some(("Milan", "Genoa", "Turin"), 1)},
        "vmpl": draw(st.integers(0, 3)),
        "admit": some(RELAXATIONS),
        "require": some(RESTRICTIONS),
        "require_platform": some(PLATFORM_STATES),
        "lowered_tcb": draw(refused),
        "provisional_firmware": draw(refused),
        "csp_ids": draw(st.sampled_from(["any", ["AWS"], ["AWS", "Other Cloud-2"]])),
        "launch_mitigations": draw(_hex(8)),
        "current_mitigations": draw(_hex(8)),
        "crl": draw(st.sampled_from(["optional", "required"])),
    }


_tdx_policies = st.fixed_dictionaries(
    {
        "tcb_status": _distinct(st.sampled_from(TCB_STATUSES), 1, 3),
        "advisories": _distinct(st.integers(0, 99_999).map("INTEL-SA-{:05}".format), 0, 2),
        "min_tcb_evaluation": st.integers(1, 100),
    }
)
_POLICIES = {"tdx": _tdx_policies, "snp": _snp_policies()}


@st.composite
def _timers(draw: st.DrawFn) -> dict[str, int]:
    timers = {name: draw(st.integers(low, high)) for name, (low, high) in TIMER_BOUNDS.items()}
    timers["attempt_ms"] = max(timers["attempt_ms"], timers["quote_ms"])
    timers["lease_ms"] = max(timers["lease_ms"], 3 * timers["heartbeat_ms"])
    timers["reattest_ms"] = max(timers["reattest_ms"], timers["lease_ms"])
    return timers


@st.composite
def _spoken(draw: st.DrawFn, serves: list[int], probed: set[int]) -> dict[str, Any]:
    """No word of what served ports speak, or which speak HTTP, and which begin with a header."""
    kinds = {port: draw(st.sampled_from(["bytes", "http", "proxy_protocol"])) for port in serves}
    ports = {kind: [port for port in serves if kinds[port] == kind] for kind in kinds.values()}
    entries = [{"port": port, "log": draw(st.sampled_from(LOGS))} for port in ports.get("http", [])]
    headers = [port for port in ports.get("proxy_protocol", []) if port not in probed]
    return {
        **({"http": entries} if entries or draw(_sometimes) else {}),
        **({"proxy_protocol": headers} if headers or draw(_sometimes) else {}),
    }


def _probes(attestation_port: int) -> st.SearchStrategy[dict[str, Any]]:
    """None, or some, on ports that are used for something else too."""
    free = ports.filter(lambda port: port != attestation_port)
    paths = st.from_regex(r"/[a-z0-9._~/-]{0,20}", fullmatch=True)
    probe = st.fixed_dictionaries({"port": free, "path": paths, "target": ports})
    some = st.lists(probe, max_size=3, unique_by=lambda entry: (entry["port"], entry["path"]))
    return st.one_of(st.just({}), some.map(lambda entries: {"probes": entries}))


_ADDRESSES = (
    "10.96.3.7",
    "10.96.3.8",
    "172.20.0.5",
    "203.0.113.9",
    "2001:db8::7",
    "fd00:96::7",
    "2600:96::7",
)


@st.composite
def _addresses(draw: st.DrawFn, roles: dict[str, Any]) -> dict[str, list[str]]:
    """Addresses of some of `roles`, in the ranges of those alone that do not call them."""
    free = draw(st.permutations(_ADDRESSES))
    found: dict[str, list[str]] = {}
    for name, role in roles.items():
        callers = [other for other in roles.values() if any(c["role"] == name for c in other["calls"])]
        ranges = [
            ipaddress.ip_network(entry["cidr"])
            for caller in callers
            for entry in caller.get("egress", [])
            if "cidr" in entry
        ]
        count = draw(st.integers(0, 2)) if role["serves"] else 0
        fit = [text for text in free if not any(ipaddress.ip_address(text) in network for network in ranges)]
        if fit[:count] or draw(_sometimes):
            found[name] = fit[:count]
        free = [text for text in free if text not in fit[:count]]
    return found


def _resolvers(roles: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    hosts = any("host" in entry for role in roles.values() for entry in role.get("egress", []))
    return (
        st.sampled_from([{}, {"resolver": "10.96.0.10"}, {"resolver": "fd00::53"}]) if hosts else st.just({})
    )


@st.composite
def documents(draw: st.DrawFn, min_roles: int = 1, max_roles: int = 4) -> dict[str, Any]:
    """A valid topology as the plain JSON value of its payload."""
    attestation_port = draw(ports)
    role_names = draw(st.lists(names, min_size=min_roles, max_size=max_roles, unique=True))
    roles = {name: draw(_roles(index, attestation_port)) for index, name in enumerate(role_names)}
    edges = [{"role": name, "port": port} for name, role in roles.items() for port in role["serves"]]
    for role in roles.values():
        role["calls"] = draw(st.lists(st.sampled_from(edges), max_size=4, unique_by=repr)) if edges else []
    for name, called in draw(_addresses(roles)).items():
        roles[name]["addresses"] = called
    needed = {kind for role in roles.values() for kind in _POLICIES if kind in role}
    return {
        "mesh": draw(names),
        "version": draw(st.integers(1, (1 << 53) - 1)),
        "issued_at": draw(st.integers(1, 253_402_300_799)),
        "owner_root": draw(_digests),
        "attestation_port": attestation_port,
        **draw(st.one_of(st.just({}), st.fixed_dictionaries({"timers": _timers()}))),
        **{kind: draw(policy) for kind, policy in _POLICIES.items() if kind in needed or draw(st.booleans())},
        "roles": roles,
        **draw(_resolvers(roles)),
    }


def payloads() -> st.SearchStrategy[bytes]:
    """Canonical payload bytes of a valid topology."""
    return documents().map(strict_json.canonical)


def topologies(min_roles: int = 1, max_roles: int = 4) -> st.SearchStrategy[Topology]:
    """A valid topology, parsed: any shape that the schema and its checks admit."""
    return documents(min_roles, max_roles).map(strict_json.canonical).map(parse_topology)

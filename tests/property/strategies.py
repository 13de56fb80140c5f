"""Hypothesis strategies that several test files share."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from toposeal.limits import POD_DNS_PORT, RESERVED_PORTS, TIMER_BOUNDS
from toposeal.topology import strict_json
from toposeal.topology.model import Topology
from toposeal.topology.parse import parse_topology
from toposeal.topology.tee_schema import TCB_STATUSES

names = st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True)
ports = st.integers(1, 65_535).filter(lambda port: port not in RESERVED_PORTS and port != POD_DNS_PORT)
_digests = st.binary(min_size=48, max_size=48).map(bytes.hex)
_registers = st.one_of(st.just("any"), _digests)


def _distinct(values: st.SearchStrategy[Any], low: int, high: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=low, max_size=high, unique=True)


@st.composite
def _references(draw: st.DrawFn, config: str) -> dict[str, Any]:
    attributes = (1 << 28) | draw(st.sampled_from([0, 1 << 27, 1 << 30, 1 << 63]))
    return {
        "mrtd": draw(_digests),
        **{f"rtmr{index}": draw(_registers) for index in range(4)},
        "mrconfigid": config,
        "mrowner": draw(_digests),
        "mrownerconfig": draw(_digests),
        "mrseam": draw(st.one_of(st.just("any"), _distinct(_digests, 1, 2))),
        "td_attributes": attributes.to_bytes(8, "little").hex(),
        "xfam": draw(st.sampled_from(["e702060000000000", "e718060000000000"])),
    }


@st.composite
def _roles(draw: st.DrawFn, index: int, attestation_port: int) -> dict[str, Any]:
    opened = draw(_distinct(ports.filter(lambda port: port != attestation_port), 0, 5))
    split = draw(st.integers(0, len(opened)))
    serves, ingress = opened[:split], opened[split:] if split else []
    high = draw(st.integers(1, 4))
    configs = f"{index + 1:096x}"  # what tells the roles apart
    return {
        "replicas": {"min": draw(st.integers(0 if index else 1, high)), "max": high},
        "tdx": draw(st.lists(_references(configs), min_size=1, max_size=2, unique_by=repr)),
        "platforms": draw(
            st.one_of(
                st.just("any"),
                st.just({"tdx": "any"}),
                _distinct(st.binary(min_size=16, max_size=16).map(bytes.hex), 1, 2).map(
                    lambda ppids: {"tdx": ppids}
                ),
            )
        ),
        "serves": serves,
        "calls": [],
        "ingress": [{"port": port, "target": draw(st.sampled_from(serves))} for port in ingress],
    }


@st.composite
def _timers(draw: st.DrawFn) -> dict[str, int]:
    timers = {name: draw(st.integers(low, high)) for name, (low, high) in TIMER_BOUNDS.items()}
    timers["attempt_ms"] = max(timers["attempt_ms"], timers["quote_ms"])
    return timers


@st.composite
def documents(draw: st.DrawFn, min_roles: int = 1, max_roles: int = 4) -> dict[str, Any]:
    """A valid topology as the plain JSON value of its payload."""
    attestation_port = draw(ports)
    role_names = draw(st.lists(names, min_size=min_roles, max_size=max_roles, unique=True))
    roles = {name: draw(_roles(index, attestation_port)) for index, name in enumerate(role_names)}
    edges = [{"role": name, "port": port} for name, role in roles.items() for port in role["serves"]]
    for role in roles.values():
        role["calls"] = draw(st.lists(st.sampled_from(edges), max_size=4, unique_by=repr)) if edges else []
    return {
        "mesh": draw(names),
        "version": draw(st.integers(1, (1 << 53) - 1)),
        "issued_at": draw(st.integers(1, 253_402_300_799)),
        "owner_root": draw(_digests),
        "attestation_port": attestation_port,
        **draw(st.one_of(st.just({}), st.fixed_dictionaries({"timers": _timers()}))),
        "tdx": {
            "tcb_status": draw(_distinct(st.sampled_from(TCB_STATUSES), 1, 3)),
            "advisories": draw(_distinct(st.integers(0, 99_999).map("INTEL-SA-{:05}".format), 0, 2)),
            "min_tcb_evaluation": draw(st.integers(1, 100)),
        },
        "roles": roles,
    }


def payloads() -> st.SearchStrategy[bytes]:
    """Canonical payload bytes of a valid topology."""
    return documents().map(strict_json.canonical)


def topologies(min_roles: int = 1, max_roles: int = 4) -> st.SearchStrategy[Topology]:
    """A valid topology, parsed: any shape that the schema and its checks admit."""
    return documents(min_roles, max_roles).map(strict_json.canonical).map(parse_topology)

"""What an owner can write about TEEs: every field, its bounds, and nothing else (T9)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.topologies import DELETE, changed, mixed, payload, reference, refusals, snp_policy, snp_reference

from toposeal.errors import Reason
from toposeal.limits import MAX_GPUS, MAX_PLATFORMS, MAX_REFERENCES_PER_ROLE, MAX_RTMR3_EVENTS
from toposeal.topology.gpu import GpuDemand
from toposeal.topology.model import InstanceRegister, Platforms
from toposeal.topology.parse import parse_topology
from toposeal.topology.snp import ENDORSEMENTS, PLATFORM_STATES, RELAXATIONS, RESTRICTIONS
from toposeal.topology.tee_schema import GPUS, PLATFORMS, SNP_POLICY, SNP_REFERENCE, TDX_REFERENCE

RTMR3 = "roles.web.tdx.0.rtmr3"
REFERENCE = "roles.web.snp.0"
PRODUCTS = ("Milan", "Genoa", "Turin")
# What has a meaning when it is left out: no such product, no machine of that kind.
MAY_BE_MISSING = {*(f"snp.products.{product}" for product in PRODUCTS)}


def everything() -> dict[str, Any]:
    """A topology whose role web says all that a role can say of machines."""
    value = mixed()
    value["snp"] |= {"admit": ["SMT"], "require": ["RAPL_DIS"], "require_platform": ["ECC_EN"]}
    value["snp"]["products"]["Milan"] = snp_policy()["products"]["Genoa"]
    value["roles"]["web"] |= {
        "platforms": {"tdx": ["11" * 16], "snp": ["22" * 64]},
        "gpus": {"count": 2, "models": ["GH100"]},
        "tdx": [reference(1, rtmr3={"base": "00" * 48, "events": ["33" * 48]})],
        "snp": [snp_reference(1, id_key_digests=["44" * 48])],
    }
    return value


def fields(value: object, path: str) -> Iterator[str]:
    """The dotted path of every field under `value`, which stands at `path`."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from fields(item, f"{path}.{index}")
    if isinstance(value, dict):
        for name, item in value.items():
            yield f"{path}.{name}"
            yield from fields(item, f"{path}.{name}")


def under(path: str) -> list[str]:
    value: Any = everything()
    for name in path.split("."):
        value = value[int(name)] if isinstance(value, list) else value[name]
    return list(fields(value, path))


def refused(path: str, value: object) -> set[str]:
    """The fields that are refused for what they are, once `path` is set to `value`."""
    found = refusals(lambda: parse_topology(payload(changed(path, value, everything()))))
    assert {reason for reason, _ in found} == {Reason.TOPOLOGY_INVALID}
    return {field for _, field in found}


def named(path: str) -> str:
    return path.replace(".0", "[0]")


FIELDS = [field for root in ("snp", REFERENCE, "roles.web.gpus", RTMR3) for field in under(root)]
OBJECTS = ["snp", "snp.products", "snp.products.Turin", "snp.products.Genoa.launch", "roles.web.platforms"]
OBJECTS += [REFERENCE, "roles.web.gpus", RTMR3]


def test_it_is_a_topology() -> None:
    web = parse_topology(payload(everything())).roles["web"]
    assert web.tdx[0].rtmr3 == InstanceRegister(bytes(48), frozenset({b"\x33" * 48}))
    assert web.platforms == Platforms(frozenset({b"\x11" * 16}), frozenset({b"\x22" * 64}))
    assert web.gpus == GpuDemand(2, frozenset({"GH100"}))


@pytest.mark.parametrize("path", [path for path in FIELDS if path not in MAY_BE_MISSING])
def test_T9_every_field_is_required(path: str) -> None:
    assert refused(path, DELETE) == {named(path)}


@pytest.mark.parametrize("path", OBJECTS)
def test_T9_an_unknown_field_is_refused_in_every_object(path: str) -> None:
    for name in ("colour", "Debug", "min", "sgx"):
        assert refused(f"{path}.{name}", 1) == {f"{named(path)}.{name}"}


@pytest.mark.parametrize("path", [*FIELDS, *OBJECTS])
def test_a_value_of_another_kind_is_refused(path: str) -> None:
    for value in (None, True, "", "ANY", "Any", -1, [None]):
        assert all(field.startswith(named(path)) for field in refused(path, value))


def test_products_and_machines_may_be_left_out() -> None:
    for product in PRODUCTS:
        value = changed(f"snp.products.{product}", DELETE, everything())
        policy = parse_topology(payload(value)).snp
        assert policy is not None and sorted(policy.products) == sorted({*PRODUCTS} - {product})
    assert PLATFORMS.read({"snp": "any"}, "") == Platforms(frozenset(), None)
    assert PLATFORMS.read({"tdx": "any"}, "") == Platforms(None, frozenset())
    assert PLATFORMS.read({}, "") == Platforms(frozenset(), frozenset())


@pytest.mark.parametrize(
    ("path", "low", "high"),
    [
        ("snp.vmpl", 0, 3),
        ("snp.products.Genoa.reported.bl", 0, 255),
        ("snp.products.Turin.launch.fmc", 0, 255),
        (f"{REFERENCE}.guest_svn", 0, (1 << 32) - 1),
        ("roles.web.gpus.count", 1, MAX_GPUS),
    ],
)
def test_numbers_are_bounded(path: str, low: int, high: int) -> None:
    for value in (low, high):
        parse_topology(payload(changed(path, value, everything())))
    for value in (low - 1, high + 1):
        assert refused(path, value) == {named(path)}


@pytest.mark.parametrize(
    ("path", "size"),
    [
        (f"{REFERENCE}.measurement", 48),
        (f"{REFERENCE}.host_data", 32),
        (f"{REFERENCE}.family_id", 16),
        (f"{REFERENCE}.image_id", 16),
        ("snp.launch_mitigations", 8),
        ("snp.current_mitigations", 8),
        (RTMR3, 48),
        (f"{RTMR3}.base", 48),
    ],
)
def test_byte_strings_have_one_size_and_one_spelling(path: str, size: int) -> None:
    parse_topology(payload(changed(path, "ab" * size, everything())))
    for wrong in ("ab" * (size - 1), "ab" * (size + 1), "AB" * size, "0x" + "ab" * (size - 1)):
        assert refused(path, wrong) == {named(path)}


@pytest.mark.parametrize("name", ["measurement", "host_data", "guest_svn"])
def test_any_is_refused_where_it_would_mean_no_check(name: str) -> None:
    assert refused(f"{REFERENCE}.{name}", "any") == {f"{named(REFERENCE)}.{name}"}


@pytest.mark.parametrize(
    ("path", "item", "low", "high"),
    [
        ("snp.endorsements", ENDORSEMENTS, 1, 2),
        ("snp.admit", RELAXATIONS, 0, 2),
        ("snp.require", RESTRICTIONS, 0, 5),
        ("snp.require_platform", PLATFORM_STATES, 0, 4),
        (f"{REFERENCE}.id_key_digests", [f"{i:096x}" for i in range(65)], 1, MAX_REFERENCES_PER_ROLE),
        (f"{REFERENCE}.author_key_digests", [f"{i:096x}" for i in range(65)], 1, MAX_REFERENCES_PER_ROLE),
        (f"{RTMR3}.events", [f"{i:096x}" for i in range(257)], 0, MAX_RTMR3_EVENTS),
        ("roles.web.platforms.tdx", [f"{i:032x}" for i in range(4097)], 1, MAX_PLATFORMS),
        ("roles.web.platforms.snp", [f"{i:0128x}" for i in range(4097)], 1, MAX_PLATFORMS),
        ("roles.web.gpus.models", [f"GH{i}" for i in range(17)], 1, MAX_GPUS),
        ("roles.web.snp", [snp_reference(i + 9) for i in range(65)], 1, MAX_REFERENCES_PER_ROLE),
    ],
)
def test_T8_every_list_is_bounded_and_holds_nothing_twice(path: str, item: Any, low: int, high: int) -> None:
    values = list(item)
    parse_topology(payload(changed(path, values[:high], everything())))
    assert refused(path, [values[0], values[0]]) >= {f"{named(path)}[1]"} or high == 1
    for wrong in ([[]] if low else []) + ([values[: high + 1]] if len(values) > high else []):
        assert refused(path, wrong) == {named(path)}
    if not low:
        parse_topology(payload(changed(path, [], everything())))


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("snp.endorsements", ["VMEK", "vcek", "any"]),
        ("snp.admit", ["DEBUG", "MIGRATE_MA", "SINGLE_SOCKET"]),
        ("snp.require", ["SMT", "DEBUG"]),
        ("snp.require_platform", ["ALIAS_CHECK_COMPLETE", "SMT_EN"]),
        ("roles.web.gpus.models", ["", " GH100", "GH100\n", "-", "x" * 65, "G\u0397100", "any/"]),
    ],
)
def test_names_are_a_closed_list_without_what_no_owner_can_mean(path: str, names: list[str]) -> None:
    for name in names:
        assert refused(path, [name]) == {f"{path}[0]"}


@pytest.mark.parametrize("name", ["lowered_tcb", "provisional_firmware", "crl"])
def test_a_choice_has_two_words(name: str) -> None:
    refusing, admitting = ("optional", "required") if name == "crl" else ("refused", "admitted")
    assert getattr(SNP_POLICY.read(snp_policy(**{name: refusing}), ""), name) is False
    assert getattr(SNP_POLICY.read(snp_policy(**{name: admitting}), ""), name) is True
    for wrong in ("any", "yes", "Refused", "", None, True, 0):
        assert refused(f"snp.{name}", wrong) == {f"snp.{name}"}


def test_floors_name_every_component_of_their_product_alone() -> None:
    genoa, turin = (snp_policy()["products"][product]["launch"] for product in ("Genoa", "Turin"))
    assert refused("snp.products.Genoa.launch", turin) == {"snp.products.Genoa.launch.fmc"}
    assert refused("snp.products.Turin.launch", genoa) == {"snp.products.Turin.launch.fmc"}
    assert refused("snp.products.Rome", snp_policy()["products"]["Genoa"]) == {"snp.products.Rome"}


def test_mitigations_are_little_endian_as_in_the_report() -> None:
    policy = SNP_POLICY.read(snp_policy(launch_mitigations="0300000000000000"), "")
    assert (policy.launch_mitigations, policy.current_mitigations) == (3, 0)


def test_keys_that_are_listed_and_any_are_told_apart() -> None:
    read = SNP_REFERENCE.read(snp_reference(1, id_key_digests=["55" * 48], image_id="66" * 16), "")
    assert (read.id_key_digests, read.author_key_digests) == (frozenset({b"\x55" * 48}), None)
    assert (read.image_id, read.family_id, read.host_data) == (b"\x66" * 16, None, bytes(31) + b"\x01")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("any", None),
        ("instance", InstanceRegister(bytes(48), frozenset())),
        ("77" * 48, b"\x77" * 48),
        ({"base": "88" * 48, "events": []}, InstanceRegister(b"\x88" * 48, frozenset())),
    ],
)
def test_RTMR3_is_written_in_four_ways(written: object, meant: object) -> None:
    assert TDX_REFERENCE.read(reference(1, rtmr3=written), "").rtmr3 == meant


@pytest.mark.parametrize("wrong", ["Instance", "instances", {"instance": {}}, ["instance"], "any ", {}])
def test_RTMR3_is_written_in_no_fifth_way(wrong: object) -> None:
    assert all(field.startswith(named(RTMR3)) for field in refused(RTMR3, wrong))
    for register in ("rtmr0", "rtmr1", "rtmr2"):
        path = f"roles.web.tdx.0.{register}"
        assert refused(path, "instance") == {named(path)}


def test_a_demand_of_GPUs_has_a_count_and_models() -> None:
    assert GPUS.read({"count": 8, "models": ["GB100", "GH100"]}, "") == GpuDemand(
        8, frozenset({"GB100", "GH100"})
    )

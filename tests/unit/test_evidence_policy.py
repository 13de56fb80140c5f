"""A policy file says everything or is refused, and docs/evidence.md says what it may say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.snp import WEB, chip
from support.tdx import PPID
from support.tdx import WEB as TDX_WEB

from toposeal.errors import TopologyError
from toposeal.topology.evidence_policy import (
    GPU_RULES,
    STRICT,
    GpuRules,
    SnpDemand,
    TdxDemand,
    parse_evidence_policy,
)
from toposeal.topology.snp import PLATFORM_STATES, RELAXATIONS, RESTRICTIONS
from toposeal.topology.tee_schema import SNP_POLICY, SNP_REFERENCE

PAGE = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text()
TURIN = {"fmc": 1, "bl": 2, "tee": 3, "snp": 4, "ucode": 5}
GENOA = {"bl": 2, "tee": 3, "snp": 4, "ucode": 5}


def document() -> dict[str, Any]:
    return {
        "tdx": {
            "policy": {"tcb_status": ["UpToDate"], "advisories": [], "min_tcb_evaluation": 20},
            "references": [TDX_WEB.reference()],
            "platforms": [PPID.hex()],
        },
        "snp": {
            "policy": {
                "endorsements": ["VCEK"],
                "products": {
                    "Genoa": {"reported": GENOA, "committed": GENOA, "launch": GENOA},
                    "Turin": {"reported": TURIN, "committed": TURIN, "launch": TURIN},
                },
                "vmpl": 0,
                "admit": ["SMT"],
                "require": ["SINGLE_SOCKET"],
                "require_platform": ["ECC_EN"],
                "lowered_tcb": "refused",
                "provisional_firmware": "refused",
                "csp_ids": ["Lab Cloud"],
                "launch_mitigations": "0300000000000000",
                "current_mitigations": "0000000000000080",
                "crl": "required",
            },
            "references": [snp_reference()],
            "platforms": [chip().chip_id.hex()],
        },
    }


def snp_reference() -> dict[str, Any]:
    return {
        "measurement": WEB.measurement.hex(),
        "host_data": WEB.host_data.hex(),
        "guest_svn": 3,
        "family_id": "any",
        "image_id": "00" * 16,
        "id_key_digests": ["11" * 48],
        "author_key_digests": "any",
    }


def refused(value: Any) -> list[str]:
    with pytest.raises(TopologyError) as caught:
        parse_evidence_policy(value if isinstance(value, bytes) else json.dumps(value).encode())
    return [mismatch.field for mismatch in caught.value.mismatches]


def test_what_is_written_is_what_is_demanded() -> None:
    policy = parse_evidence_policy(json.dumps(document()).encode())
    assert isinstance(policy.tdx, TdxDemand)
    assert isinstance(policy.snp, SnpDemand)
    assert policy.tdx.policy.min_tcb_evaluation == 20
    assert policy.tdx.platforms == frozenset({PPID})
    assert policy.tdx.references is not None
    assert policy.tdx.references[0].mrtd == TDX_WEB.mrtd
    snp = policy.snp.policy
    assert (snp.endorsements, snp.vmpl, snp.admit) == (frozenset({"VCEK"}), 0, frozenset({"SMT"}))
    assert (snp.require, snp.require_platform) == (frozenset({"SINGLE_SOCKET"}), frozenset({"ECC_EN"}))
    assert (snp.launch_mitigations, snp.current_mitigations) == (3, 1 << 63)
    assert not snp.lowered_tcb
    assert not snp.provisional_firmware
    assert snp.csp_ids == frozenset({"Lab Cloud"})
    assert sorted(snp.products) == ["Genoa", "Turin"]
    assert (snp.products["Turin"].launch, snp.products["Genoa"].reported) == (TURIN, GENOA)
    assert policy.snp.platforms == frozenset({chip().chip_id})
    assert policy.snp.references is not None
    reference = policy.snp.references[0]
    assert (reference.measurement, reference.host_data) == (WEB.measurement, WEB.host_data)
    assert (reference.guest_svn, reference.family_id, reference.image_id) == (3, None, bytes(16))
    assert reference.id_key_digests == frozenset({b"\x11" * 48})
    assert reference.author_key_digests is None


def test_any_is_written_out() -> None:
    value = document()
    for kind in ("tdx", "snp"):
        value[kind] |= {"references": "any", "platforms": "any"}
    value["snp"]["policy"] |= {"lowered_tcb": "admitted", "provisional_firmware": "admitted"}
    policy = parse_evidence_policy(json.dumps(value).encode())
    assert policy.tdx is not None
    assert policy.snp is not None
    assert (policy.tdx.references, policy.tdx.platforms) == (None, None)
    assert (policy.snp.references, policy.snp.platforms) == (None, None)
    assert policy.snp.policy.lowered_tcb
    assert policy.snp.policy.provisional_firmware


def test_a_kind_that_is_not_named_is_refused() -> None:
    policy = parse_evidence_policy(b"{}")
    assert (policy.tdx, policy.snp, policy.gpu) == (None, None, None)


@pytest.mark.parametrize(
    ("value", "rules"),
    [
        ({"models": "any", "measurements": "any"}, GpuRules(None, False)),
        ({"models": ["GH100"], "measurements": "manifests"}, GpuRules(frozenset({"GH100"}), True)),
    ],
)
def test_gpus_have_rules_of_their_own(value: dict[str, Any], rules: GpuRules) -> None:
    assert parse_evidence_policy(json.dumps({"gpu": value}).encode()).gpu == rules


def test_nothing_is_left_out_of_them_by_silence() -> None:
    assert sorted(refused({"gpu": {}})) == ["gpu.measurements", "gpu.models"]
    wrong = {"models": [], "measurements": "all"}
    assert sorted(refused({"gpu": wrong})) == ["gpu.measurements", "gpu.models"]


@pytest.mark.parametrize("kind", ["tdx", "snp"])
def test_nothing_is_left_out_by_silence(kind: str) -> None:
    for path in (("policy",), ("references",), ("platforms",)):
        value = document()
        del value[kind][path[0]]
        assert refused(value) == [f"{kind}.{path[0]}"]
    for name in document()[kind]["policy"]:
        value = document()
        del value[kind]["policy"][name]
        assert refused(value) == [f"{kind}.policy.{name}"]


def test_an_unknown_field_is_refused() -> None:
    value = document()
    value["cca"] = {}
    value["snp"]["policy"]["debug"] = True
    assert refused(value) == ["cca", "snp.policy.debug"]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("endorsements", []),
        ("endorsements", ["VMEK"]),
        ("admit", ["DEBUG"]),
        ("admit", ["MIGRATE_MA"]),
        ("require", ["SMT"]),
        ("vmpl", 4),
        ("vmpl", True),
        ("lowered_tcb", False),
        ("provisional_firmware", False),
        ("csp_ids", []),
        ("csp_ids", ["a", "a"]),
        ("csp_ids", [""]),
        ("launch_mitigations", 3),
        ("launch_mitigations", "03"),
    ],
)
def test_what_no_owner_can_mean_cannot_be_written(name: str, wrong: object) -> None:
    value = document()
    value["snp"]["policy"][name] = wrong
    assert refused(value)[0].startswith(f"snp.policy.{name}")


def test_floors_name_every_component_of_their_product() -> None:
    value = document()
    value["snp"]["policy"]["products"]["Genoa"]["launch"] = TURIN
    value["snp"]["policy"]["products"]["Turin"]["launch"] = GENOA
    value["snp"]["policy"]["products"]["Rome"] = {}
    assert refused(value) == [
        "snp.policy.products.Rome",
        "snp.policy.products.Genoa.launch.fmc",
        "snp.policy.products.Turin.launch.fmc",
    ]


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b'{"a":1.5}', b'{"tdx":{},"tdx":{}}'])
def test_other_bytes_are_no_policy(data: bytes) -> None:
    assert refused(data)


def test_the_strict_default_admits_neither_milan_nor_a_lent_key() -> None:
    assert STRICT.snp is not None
    assert sorted(STRICT.snp.policy.products) == ["Genoa", "Turin"]
    assert STRICT.snp.policy.endorsements == frozenset({"VCEK"})
    assert STRICT.tdx is not None
    assert STRICT.tdx.policy.tcb_status == frozenset({"UpToDate"})
    assert not STRICT.tdx.policy.advisories


def test_the_tables_of_fields_are_the_schema() -> None:
    section = PAGE.partition("\n## The policy file\n")[2].partition("\n## ")[0]
    found = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    rules = (SNP_POLICY, SNP_REFERENCE, GPU_RULES)
    fields = [field for rule in rules for field in rule.fields.items()]
    assert [tuple(row[:2]) for row in found] == [(f"`{name}`", rule.expected) for name, rule in fields]
    assert all(len(row) == 3 and len(row[2]) > 4 for row in found)


def test_the_example_of_the_page_is_a_policy() -> None:
    example = re.search(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert example is not None
    policy = parse_evidence_policy(example[1].encode())
    assert policy.snp is not None
    assert sorted(policy.snp.policy.products) == ["Genoa"]


def test_every_name_of_a_bit_is_on_the_page() -> None:
    for name in (*RELAXATIONS, *RESTRICTIONS, *PLATFORM_STATES):
        assert name in PAGE

"""outside.ear: what each result becomes, by the rules of draft-ietf-rats-ear-04 and draft-ietf-rats-ar4si."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.meshes import NOW, build_mesh

from toposeal.errors import (
    EvidenceError,
    NetworkError,
    PolicyError,
    Reason,
    RemoteProtocolError,
    ToposealError,
)
from toposeal.outside.ear import PROFILE, ear
from toposeal.outside.model import VerifiedMember, VerifiedMesh
from toposeal.outside.verdict import Verdict
from toposeal.outside.verify import verify_document
from toposeal.topology.model import Platforms

WEB = 3
TIERS = {"none": 0, "affirming": 2, "warning": 32, "contraindicated": 96}
CATEGORIES = {
    *("instance-identity", "configuration", "executables", "file-system", "hardware", "runtime-opaque"),
    *("storage-opaque", "sourced-data"),
}


@cache
def verified() -> VerifiedMesh:
    mesh = build_mesh()
    return verify_document(mesh.document(answering=WEB), mesh.request())


def claims(outcome: VerifiedMesh | ToposealError) -> dict[str, Any]:
    data = ear(Verdict(outcome), "shop", NOW, "toposeal 1")
    found: dict[str, Any] = json.loads(data)
    conforms(found)
    return found


def conforms(found: dict[str, Any]) -> None:
    """The CDDL of section 3, as far as it does not follow from how we fill it."""
    assert found["eat_profile"] == PROFILE == "tag:ietf.org,2026:rats/ear#04"
    assert type(found["iat"]) is int and type(found.get("exp", 0)) is int
    assert set(found["ear_verifier_id"]) == {"developer", "build"}
    assert found["submods"]
    for appraisal in found["submods"].values():
        vector = appraisal["ear_trustworthiness_vector"]
        assert vector and set(vector) <= CATEGORIES
        assert all(type(value) is int and -128 <= value <= 127 for value in vector.values())
        worst = max(vector.values())
        tier = max((value for value in TIERS.values() if value <= worst), default=0)
        assert TIERS[appraisal["ear_status"]] >= tier  # no higher trust than the worst claim
        assert appraisal.get("ear_appraisal_policy_ids", ["-"]) != []
        assert TIERS[found["ear_status"]] >= TIERS[appraisal["ear_status"]]
    extensions = [name for name in found if name.startswith("toposeal_")]
    assert all(isinstance(found[name], dict) for name in extensions)


def appraisal(found: dict[str, Any], place: int = WEB) -> dict[str, Any]:
    return dict(found["submods"][verified().members[place].domain])


def changed(**changes: Any) -> VerifiedMesh:
    """Of the member that is active now."""
    web = replace(verified().members[WEB], **changes)
    return replace(verified(), members=(*verified().members[:WEB], web), proven=(web,))


def test_a_member_that_answered_is_affirmed_and_one_that_committed_is_a_warning() -> None:
    found = claims(verified())
    assert [each["ear_status"] for each in found["submods"].values()] == ["warning"] * 3 + ["affirming"]
    assert [each["toposeal_member"]["active_now"] for each in found["submods"].values()] == [False] * 3 + [
        True
    ]
    assert (found["ear_status"], found["iat"], found["exp"]) == ("warning", NOW, verified().expires_at)
    every = claims(replace(verified(), proven=verified().members))
    assert every["ear_status"] == "affirming"
    assert {each["ear_status"] for each in every["submods"].values()} == {"affirming"}


def test_it_names_the_mesh_the_policy_and_the_keys_that_it_is_about() -> None:
    found = claims(verified())
    assert found["toposeal_mesh"]["manifest_digest"] == verified().manifest_digest.hex()
    web = appraisal(found)
    assert web["ear_appraisal_policy_ids"] == [f"toposeal/v1/topology:{verified().topology.digest.hex()}"]
    assert web["toposeal_member"]["ca_spki_sha384"] == verified().members[WEB].ca_spki_sha384.hex()


def test_what_was_not_appraised_is_not_claimed() -> None:
    assert appraisal(claims(verified()))["ear_trustworthiness_vector"] == {
        "configuration": 2,
        "executables": 3,
        "hardware": 2,
        "runtime-opaque": 2,
    }


@pytest.mark.parametrize(
    ("changes", "hardware", "configuration"),
    [
        ({"advisories": ("INTEL-SA-00001",)}, 32, 2),
        ({"tcb_status": "SWHardeningNeeded"}, 32, 2),
        ({"tcb_status": "OutOfDate"}, 32, 2),
        ({"tcb_status": "ConfigurationAndSWHardeningNeeded"}, 32, 32),
        ({"tee": "snp", "tcb_status": "Genoa boot_loader=1"}, 2, 2),
    ],
)
def test_a_weakness_that_the_owner_admits_is_still_a_warning(
    changes: dict[str, Any], hardware: int, configuration: int
) -> None:
    found = appraisal(claims(changed(**changes)))
    vector = found["ear_trustworthiness_vector"]
    assert (vector["hardware"], vector["configuration"]) == (hardware, configuration)
    assert found["ear_status"] == ("warning" if hardware == 32 else "affirming")


def of_role(member: VerifiedMember, **changes: Any) -> VerifiedMesh:
    topology = verified().topology
    role = replace(topology.roles[member.role], **changes)
    return replace(verified(), topology=replace(topology, roles={**topology.roles, member.role: role}))


def test_a_machine_is_recognised_only_where_the_owner_lists_machines() -> None:
    web = verified().members[WEB]
    listed = of_role(web, platforms=Platforms(frozenset({web.platform}), None))
    assert appraisal(claims(listed))["ear_trustworthiness_vector"]["instance-identity"] == 2
    masked = replace(web, platform=b"")
    hidden = replace(listed, members=(*listed.members[:WEB], masked), proven=(masked,))
    assert "instance-identity" not in appraisal(claims(hidden))["ear_trustworthiness_vector"]
    snp = replace(web, tee="snp", platform=bytes([1]) * 64)
    other = replace(listed, members=(*listed.members[:WEB], snp), proven=(snp,))
    assert "instance-identity" not in appraisal(claims(other))["ear_trustworthiness_vector"]


def test_what_the_owner_does_not_measure_is_not_claimed_to_be_approved() -> None:
    web = verified().members[WEB]
    (reference,) = verified().topology.roles["web"].tdx
    lax = of_role(web, tdx=(replace(reference, rtmr=(reference.rtmr[0], None, None)),))
    assert "executables" not in appraisal(claims(lax))["ear_trustworthiness_vector"]


@pytest.mark.parametrize(
    ("error", "status", "value"),
    [
        (EvidenceError.of(Reason.QUOTE_SIGNATURE, "quote", "another", "a signature"), "contraindicated", 99),
        (RemoteProtocolError.of(Reason.NONCE_MISMATCH, "live", "another", "mine"), "contraindicated", 99),
        (PolicyError.of(Reason.TCB_STATUS, "tcb", "OutOfDate", "UpToDate"), "contraindicated", 96),
        (NetworkError.of(Reason.NETWORK, "connection", "refused", "an answer"), "none", 0),
    ],
)
def test_a_refusal_is_contraindicated_and_silence_is_nothing(
    error: ToposealError, status: str, value: int
) -> None:
    found = claims(error)
    assert found["ear_status"] == status
    (only,) = found["submods"].values()
    assert only["ear_trustworthiness_vector"] == {"configuration": value}
    assert only["toposeal_refusal"]["mismatches"][0]["reason"] == error.reason.value
    assert "toposeal_mesh" not in found and "exp" not in found


@given(st.booleans(), st.sampled_from(Reason), st.text(max_size=50), st.sets(st.integers(0, 3), min_size=1))
def test_C5_the_claims_and_the_text_never_disagree(
    good: bool, reason: Reason, text: str, answered: set[int]
) -> None:
    outcome: VerifiedMesh | ToposealError = PolicyError.of(reason, "field", text, "something else")
    if good:
        outcome = replace(verified(), proven=tuple(verified().members[place] for place in sorted(answered)))
    found, shown = claims(outcome), Verdict(outcome).as_text()
    assert shown.startswith("VERIFIED") == (found["ear_status"] != "contraindicated") == good
    affirmed = [each for each in found["submods"].values() if each["ear_status"] == "affirming"]
    assert len(affirmed) == (len(answered) if good else 0)

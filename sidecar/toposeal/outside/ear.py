"""The verdict as an EAT Attestation Result (draft-ietf-rats-ear-04): a claims set as JSON, not signed. No IO.

docs/verify.md says what each of our results becomes. Whatever is not surely as good as a value's definition
(draft-ietf-rats-ar4si, 2.3.4) gets a worse value or none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from toposeal.errors import NetworkError, PolicyError, ToposealError
from toposeal.outside.model import VerifiedMember, VerifiedMesh
from toposeal.outside.verdict import Verdict, member_json, refused_json
from toposeal.topology.model import Role

PROFILE = "tag:ietf.org,2026:rats/ear#04"
_TIERS = ("none", "affirming", "warning", "contraindicated")
_WARNING, _CONTRAINDICATED = 32, 96  # the lowest value of each tier
_NO_ASSERTION, _FAILED = 0, 99
_CONFIGURATION = "Configuration"  # what Intel's statuses for a host set up badly begin with

Claims = dict[str, Any]


def ear(verdict: Verdict, asked_for: str, issued_at: int, build: str) -> bytes:
    """The claims set, ASCII. `asked_for` is the mesh's name as the caller gave it, `issued_at` in Unix
    seconds, `build` names this verifier."""
    outcome = verdict.outcome
    claims: Claims = {
        "eat_profile": PROFILE,
        "iat": issued_at,
        "ear_verifier_id": {"developer": "toposeal", "build": build},
    }
    if isinstance(outcome, ToposealError):
        claims |= _refused(outcome, asked_for)
    else:
        claims |= _mesh(outcome)
    return (json.dumps(claims, indent=1) + "\n").encode("ascii")


def _refused(error: ToposealError, mesh: str) -> Claims:
    """One appraisal of the whole: which member is at fault is not always known."""
    if isinstance(error, NetworkError):
        value = _NO_ASSERTION  # nobody answered, so nothing was appraised
    else:
        value = _CONTRAINDICATED if isinstance(error, PolicyError) else _FAILED
    appraisal = _appraisal({"configuration": value}, ())
    refusal = {"toposeal_refusal": {"mismatches": refused_json(error)["mismatches"]}}
    return {"ear_status": appraisal["ear_status"], "submods": {mesh: {**appraisal, **refusal}}}


def _mesh(mesh: VerifiedMesh) -> Claims:
    proven = {member.iid for member in mesh.proven}
    policy = (f"toposeal/v1/topology:{mesh.topology.digest.hex()}",)
    members = {
        member.domain: _member(member, mesh.topology.roles[member.role], member.iid in proven, policy)
        for member in mesh.members
    }
    return {
        "exp": mesh.expires_at,
        "ear_status": _worst(appraisal["ear_status"] for appraisal in members.values()),
        "toposeal_mesh": {
            "mesh": mesh.mesh,
            "owner_root": mesh.owner_root.hex(),
            "topology_version": mesh.topology_version,
            "lineage": mesh.lineage.hex(),
            "epoch": mesh.epoch,
            "manifest_digest": mesh.manifest_digest.hex(),
        },
        "submods": members,
    }


def _member(member: VerifiedMember, role: Role, proven: bool, policy: Iterable[str]) -> Claims:
    """Who has only committed may run no more, whatever its evidence said: a warning at best."""
    appraisal = _appraisal(_vector(member, role), policy)
    if not proven:
        appraisal["ear_status"] = _worst([appraisal["ear_status"], "warning"])
    return {**appraisal, "toposeal_member": {**member_json(member), "active_now": proven}}


def _vector(member: VerifiedMember, role: Role) -> Mapping[str, int]:
    """What was appraised. File system, storage and data from elsewhere were not."""
    intel = member.tee == "tdx"
    weak = bool(member.advisories) or (intel and member.tcb_status != "UpToDate")
    set_up_badly = intel and member.tcb_status.startswith(_CONFIGURATION)
    vector = {
        "configuration": _WARNING if set_up_badly else 2,  # 2: its config digest is the owner's reference
        "hardware": _WARNING if weak else 2,  # 2: genuine, and no known weakness
        "runtime-opaque": 2,  # debug and migratable guests are always refused
    }
    admitted = role.platforms.tdx if intel else role.platforms.snp
    if admitted is not None and member.platform:
        vector["instance-identity"] = 2  # a machine that the owner names
    if not intel or all(None not in reference.rtmr for reference in role.tdx):
        vector["executables"] = 3  # what was booted is the owner's reference, all of it
    return dict(sorted(vector.items()))


def _appraisal(vector: Mapping[str, int], policy: Iterable[str]) -> Claims:
    claims: Claims = {
        "ear_status": _worst(map(_tier, vector.values())),
        "ear_trustworthiness_vector": dict(vector),
    }
    policies = list(policy)
    return {**claims, "ear_appraisal_policy_ids": policies} if policies else claims


def _tier(value: int) -> str:
    if value >= _CONTRAINDICATED:
        return "contraindicated"
    if value >= _WARNING:
        return "warning"
    return "affirming" if value > 1 else "none"


def _worst(tiers: Iterable[str]) -> str:
    return max(tiers, key=_TIERS.index)

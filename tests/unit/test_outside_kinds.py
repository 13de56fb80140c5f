"""Outside verification of meshes that are not of TDX alone: SNP members, mixed ones, members with GPUs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from support.forge import at
from support.gpu import gpu, nvidia, odd
from support.meshes import NONCE, Mesh, Pod, build_mesh, changed
from support.snp import NOW, chip

from toposeal._wire.attestation_pb2 import AttestationDocument
from toposeal._wire.evidence_pb2 import SEV_SNP, Evidence
from toposeal.errors import Reason, ToposealError
from toposeal.evidence.auxiliary import gpu_messages
from toposeal.evidence.binding import Binding, gpu_binding, gpu_nonce, live_binding
from toposeal.evidence.gpu_certs import GpuEvidence
from toposeal.evidence.nonce_tree import tree_root
from toposeal.outside.document import LiveAnswer, document_parts
from toposeal.outside.model import VerifiedMesh
from toposeal.outside.verify import verify_document
from toposeal_lab.scenario import POLICIES
from toposeal_lab.simgpu import LabGpu
from toposeal_lab.simsnp import lab_snp_measurements

MESH = "shop"
ROLES = {"api": 2, "web": 1}
CRLS = (chip().vendor.crl(),)


@dataclass(frozen=True)
class SnpPod(Pod):
    """A member in an SNP guest; `number` tells guests apart."""

    number: int = 0

    def quote(self, binding: Binding) -> Evidence:
        guest = replace(lab_snp_measurements(self.role, MESH), report_id=bytes([self.number]) * 32)
        return Evidence(
            tee=SEV_SNP,
            quote=chip().report(binding.report_data(), guest),
            endorsement=chip().certificate,
            endorsement_ca=chip().vendor.ask.public_bytes(Encoding.DER),
        )


def mixed(snp: Sequence[int] = (0, 2), numbers: Sequence[int] = (1, 2, 3), **policy: Any) -> Mesh:
    """Members at the places `snp` are SNP guests, whose REPORT_IDs are made of `numbers`."""

    def fields(role: str) -> dict[str, Any]:
        return {"snp": [lab_snp_measurements(role, MESH).declared()]}

    mesh = build_mesh(ROLES, now=NOW, role_fields=fields, snp={**POLICIES["snp"], **policy})
    pods = tuple(
        SnpPod(**vars(pod), number=numbers[place]) if place in snp else pod
        for place, pod in enumerate(mesh.pods)
    )
    return replace(mesh, pods=pods)


def document(mesh: Mesh, crls: Sequence[bytes] = CRLS) -> bytes:
    pod = mesh.pods[0]
    quote = pod.quote(live_binding(mesh.seal_binding(pod), tree_root((NONCE,))))
    live = LiveAnswer(pod.iid, (NONCE,), quote)
    return b"".join(document_parts(mesh.signed.envelope, mesh.sealed, live, 0, (mesh.collateral,), crls))


def verified(mesh: Mesh, shown: bytes, **parts: Any) -> VerifiedMesh:
    """Under the roots of all three vendors; `parts` replace some of the caller's context."""
    anchors = replace(
        mesh.pki.anchors(),
        amd_roots=chip().vendor.anchors().amd_roots,
        nvidia_roots=nvidia().anchors().nvidia_roots,
    )
    return verify_document(shown, mesh.request(context=replace(mesh.context(), anchors=anchors, **parts)))


def refused(mesh: Mesh, shown: bytes, **parts: Any) -> tuple[Reason, str]:
    with pytest.raises(ToposealError) as refusal:
        verified(mesh, shown, **parts)
    return refusal.value.reason, refusal.value.mismatches[0].field


@pytest.mark.parametrize("snp", [(0, 1, 2), (0, 2), (1,)])
def test_members_of_both_vendors_are_one_mesh(snp: Sequence[int]) -> None:
    mesh = mixed(snp)
    found = verified(mesh, document(mesh))
    assert [member.tee for member in found.members] == ["snp" if n in snp else "tdx" for n in range(3)]
    chips = {member.platform for member in found.members if member.tee == "snp"}
    assert chips == {chip().chip_id}
    assert all(member.tcb_status.startswith("Genoa ") for member in found.members if member.tee == "snp")


def test_revocation_lists_come_from_the_caller_or_else_from_the_document() -> None:
    mesh = mixed()
    bare = document(mesh, ())
    assert refused(mesh, bare) == (Reason.COLLATERAL_MISSING, "crl")
    assert verified(mesh, bare, crls=CRLS).members
    revoking = (chip().vendor.crl((chip().vendor.ask,)),)
    assert refused(mesh, bare, crls=revoking)[0] is Reason.REVOKED
    assert refused(mesh, document(mesh), crls=revoking)[0] is Reason.REVOKED
    lenient = mixed(crl="optional")
    assert verified(lenient, document(lenient, ())).members


def test_no_list_of_the_one_that_answers_refuses_the_evidence_of_others_but_one_that_revokes() -> None:
    """It answers for all members, with lists of its choice; a caller's own that is none refuses."""
    vendor = chip().vendor
    forged = vendor.crl((vendor.ask,), signer=vendor.keys.ask)
    mesh = mixed()
    for junk in (forged, b"x"):
        for crls in ((junk, *CRLS), (*CRLS, junk)):
            assert verified(mesh, document(mesh, crls)).members
            assert refused(mesh, document(mesh), crls=crls)[0] in (
                Reason.COLLATERAL_SIGNER,
                Reason.COLLATERAL_INVALID,
            )
        assert refused(mesh, document(mesh, (junk,))) == (Reason.COLLATERAL_MISSING, "crl")
        revoking = document(mesh, (junk, vendor.crl((vendor.ask,))))
        assert refused(mesh, revoking) == (Reason.REVOKED, "chain.ca")
    lenient = mixed(crl="optional")
    assert verified(lenient, document(lenient, (forged,))).members


def test_members_that_share_a_confidential_vm_are_refused_by_name() -> None:
    mesh = mixed((0, 1), numbers=(1, 1, 0))
    reason, field = refused(mesh, document(mesh))
    assert reason is Reason.SHARED_CVM
    assert field == f"members.{mesh.pods[1].signed.identity.ca.domain}"


def test_E1_live_evidence_of_another_guest_than_the_sealed_one_is_refused() -> None:
    """It says all that it should, and its guest runs the same code: it is another guest all the same."""
    mesh = mixed()
    elsewhere = SnpPod(**{**vars(mesh.pods[0]), "number": 9})
    twin = replace(mesh, pods=(elsewhere, *mesh.pods[1:]))
    live = AttestationDocument.FromString(document(twin)).live
    shown = changed(document(mesh), lambda message: message.live.CopyFrom(live))
    assert refused(mesh, shown) == (Reason.IDENTITY_MISMATCH, "live.guest")


def test_E6_an_snp_guest_of_another_role_is_refused() -> None:
    mesh = mixed()
    posing = replace(mesh.pods[0], role="web")
    other = replace(mesh, pods=(posing, *mesh.pods[1:]))
    assert refused(other, document(other))[0] is Reason.ROLE_MISMATCH


def with_gpus(choose: Callable[[int, bytes], tuple[GpuEvidence, ...]], **demand: Any) -> Mesh:
    """`api` demands GPUs, two of one model unless `demand` says otherwise; `choose` gives each member its."""
    wanted = {"count": 2, "models": ["GH100"], **demand}
    mesh = build_mesh(ROLES, now=NOW, role_fields=lambda role: {"gpus": wanted} if role == "api" else {})
    pods = []
    for place, pod in enumerate(mesh.pods):
        one = pod.signed.identity
        nonce = gpu_nonce(gpu_binding(one.mesh_id, one.role, one.iid, one.id_digest))
        gpus = choose(place, nonce) if pod.role == "api" else ()
        pods.append(replace(pod, gpus=gpus))
    return replace(mesh, pods=tuple(pods)).attempt(1)


def own(place: int, nonce: bytes) -> tuple[GpuEvidence, ...]:
    """Two devices of this member alone."""
    return tuple(gpu(number=2 * place + n).evidence(nonce) for n in (1, 2))


def test_E18_members_show_the_gpus_that_their_role_demands() -> None:
    mesh = with_gpus(own)
    found = verified(mesh, document(mesh))
    assert [len(member.gpus) for member in found.members] == [2, 2, 0]
    assert len({device.device_id for member in found.members for device in member.gpus}) == 4
    assert {device.model for device in found.members[0].gpus} == {"GH100"}


def test_V8_the_verdict_ends_when_the_certificates_of_a_gpu_do() -> None:
    """A week before the collateral of the TEEs does."""
    end = NOW + 7 * 86_400
    devices = {n: odd(serial=f"{n}", pdi=bytes([n]) * 8, not_after=at(end)) for n in range(1, 5)}
    mesh = with_gpus(lambda place, nonce: tuple(devices[2 * place + n].evidence(nonce) for n in (1, 2)))
    assert verified(mesh, document(mesh)).expires_at == end


@pytest.mark.parametrize(
    ("choose", "reason"),
    [
        (lambda place, nonce: own(place, nonce)[:1], Reason.GPU_COUNT),
        (lambda place, nonce: (), Reason.GPU_COUNT),
        (lambda place, nonce: own(place, nonce) + own(place + 4, nonce)[:1], Reason.GPU_COUNT),
        (lambda place, nonce: own(place, nonce)[:1] * 2, Reason.GPU_DUPLICATE),
        (lambda place, nonce: own(0, nonce), Reason.GPU_DUPLICATE),
        (lambda place, nonce: own(place, bytes(32)), Reason.NONCE_MISMATCH),
        (lambda place, nonce: own(place, nonce[::-1]), Reason.NONCE_MISMATCH),
    ],
    ids=["one missing", "all missing", "one too many", "one twice", "of another member", "old", "foreign"],
)
def test_E18_other_gpus_are_refused(
    choose: Callable[[int, bytes], tuple[GpuEvidence, ...]], reason: Reason
) -> None:
    mesh = with_gpus(choose)
    assert refused(mesh, document(mesh))[0] is reason


def test_E18_another_model_is_refused() -> None:
    mesh = with_gpus(own, models=["GB100"])
    assert refused(mesh, document(mesh))[0] is Reason.GPU_MODEL


def test_gpus_that_nobody_demanded_are_refused() -> None:
    mesh = with_gpus(own)
    bare = build_mesh(ROLES, now=NOW)
    pods = tuple(replace(pod, gpus=mesh.pods[0].gpus) for pod in bare.pods)
    unwanted = replace(bare, pods=pods).attempt(1)
    assert refused(unwanted, document(unwanted))[0] is Reason.EVIDENCE_KIND


def test_E18_gpus_are_those_that_the_manifest_names() -> None:
    """The devices of the same member, asked another time: genuine, and not what was sealed."""
    mesh = with_gpus(own)
    one = mesh.pods[0].signed.identity
    nonce = gpu_nonce(gpu_binding(one.mesh_id, one.role, one.iid, one.id_digest))
    again = LabGpu.evidence(gpu(number=1), nonce), LabGpu.evidence(gpu(number=2), nonce)

    def swap(message: AttestationDocument) -> None:
        del message.members[0].gpus[:]
        message.members[0].gpus.extend(gpu_messages(again))

    shown = changed(document(mesh), swap)
    assert refused(mesh, shown) == (Reason.MANIFEST_MISMATCH, "member.gpus")


def test_E3_gpus_beside_a_seal_are_refused() -> None:
    mesh = with_gpus(own)

    def add(message: AttestationDocument) -> None:
        message.members[0].commit.evidence.gpus.extend(gpu_messages(mesh.pods[0].gpus))

    assert refused(mesh, changed(document(mesh), add)) == (Reason.EVIDENCE_KIND, "evidence.gpus")

"""outside.verify: documents of a real four-member mesh, each with exactly one thing wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support.meshes import MESH, NONCE, NOW, Mesh, Pod, build_mesh, changed

from toposeal._wire.attestation_pb2 import AttestationDocument
from toposeal._wire.evidence_pb2 import TDX, Evidence
from toposeal._wire.peer_pb2 import Decision, Manifest, MemberRecord
from toposeal.encoding import encode
from toposeal.errors import (
    EvidenceError,
    PolicyError,
    Reason,
    RemoteProtocolError,
    ToposealError,
    UsageError,
)
from toposeal.evidence.binding import Binding, Purpose, Status, live_binding
from toposeal.evidence.nonce_tree import tree_root
from toposeal.limits import MAX_DOCUMENT_SIZE
from toposeal.membership.hello import make_hello
from toposeal.membership.identity import SignedIdentity, make_identity
from toposeal.membership.sealed import join_of
from toposeal.membership.signing import SigningKeys, Tag
from toposeal.outside.model import VerifiedMesh, VerifyRequest
from toposeal.outside.verify import verify_document
from toposeal.pki.mint import mint_ca
from toposeal.topology.dsse import sign
from toposeal.topology.owner import OwnerRoot, spki
from toposeal.topology.strict_json import canonical
from toposeal.verification.anchors import VENDOR_ANCHORS
from toposeal_lab.simtdx import LabPki, lab_measurements

Change = Callable[[AttestationDocument], object]
CHALLENGE = tree_root((NONCE,))
OTHER_NONCE = bytes([5]) * 32


@cache
def mesh() -> Mesh:
    return build_mesh()


@cache
def document() -> bytes:
    return mesh().document()


def verify(data: bytes, request: VerifyRequest | None = None) -> VerifiedMesh:
    return verify_document(data, request or mesh().request())


def refusal(data: bytes, request: VerifyRequest | None = None) -> ToposealError:
    with pytest.raises(ToposealError) as caught:
        verify(data, request)
    return caught.value


def refusal_after(change: Change, request: VerifyRequest | None = None) -> ToposealError:
    """The refusal of the honest document after one change; the change has to be one."""
    altered = changed(document(), change)
    assert altered != document()
    return refusal(altered, request)


def first(error: ToposealError) -> tuple[type[ToposealError], Reason, str]:
    return type(error), error.reason, error.mismatches[0].field


# The control.


def test_the_honest_document_verifies_and_says_who_runs_what() -> None:
    found = verify(document())
    manifest = mesh().manifest
    assert (found.mesh, found.topology_version, found.epoch) == (MESH, 3, 1)
    assert found.owner_root == hashlib.sha384(mesh().root.canonical).digest()
    assert found.manifest_digest == found.lineage == manifest.digest
    assert [(m.role, m.iid) for m in found.members] == [(e.role, e.iid) for e in manifest.members]
    assert [m.role for m in found.members] == ["api", "api", "db", "web"]
    assert found.proven == found.members[:1]
    assert NOW < found.expires_at < NOW + 40 * 86_400
    assert found.pins.count("BEGIN CERTIFICATE") == 4


def test_each_member_is_described_by_what_was_verified_of_it() -> None:
    for member, pod in zip(verify(document()).members, mesh().pods, strict=True):
        ca = pod.signed.identity.ca
        assert (member.tee, member.tcb_status, member.advisories) == ("tdx", "UpToDate", ())
        assert member.platform == pod.host.ppid
        assert member.ca_spki_sha384 == hashlib.sha384(ca.spki).digest()
        assert (member.domain, member.ca_pem) == (ca.domain, ca.pem)
        assert member.addresses == pod.hello.addresses
        assert member.ingress == ((8443,) if pod.role == "web" else ())


@pytest.mark.parametrize("answering", range(4))
def test_any_member_can_answer(answering: int) -> None:
    found = verify(mesh().document(answering=answering))
    assert found.proven_now.iid == mesh().pods[answering].iid


def test_a_manifest_after_the_genesis_carries_its_lineage() -> None:
    child = mesh().attempt(2, previous=mesh().manifest)
    grandchild = child.attempt(5, previous=child.manifest)
    for later in (child, grandchild):
        found = verify(later.document())
        assert (found.lineage, found.manifest_digest) == (mesh().manifest.digest, later.manifest.digest)


def test_a_manifest_after_another_than_its_members_offered_to_follow_is_refused() -> None:
    def elsewhere(manifest: Manifest) -> None:
        manifest.previous = bytes([8]) * 48

    child = mesh().attempt(2, previous=mesh().manifest)
    assert refusal(child.committed_to(elsewhere).document()).reason is Reason.MANIFEST_LINEAGE


# (1) Form.


@pytest.mark.parametrize("tail", [b"\0", b"\x9a\x06\x01x", b"\x0a"])
def test_V5_trailing_bytes_are_refused(tail: bytes) -> None:
    assert refusal(document() + tail).reason in (Reason.MALFORMED, Reason.NOT_CANONICAL)


def test_V5_two_encodings_of_one_document_are_not_both_taken() -> None:
    parts = AttestationDocument.FromString(document())
    collateral = encode(AttestationDocument(collateral=parts.collateral))
    moved = collateral + document().removesuffix(collateral)
    assert AttestationDocument.FromString(moved) == parts
    assert refusal(moved).reason is Reason.NOT_CANONICAL


def test_V7_a_document_above_the_cap_is_refused_unparsed() -> None:
    assert refusal(bytes(MAX_DOCUMENT_SIZE + 1)).reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda d: d.members.extend([MemberRecord()] * 1000), "document.members"),
        (lambda d: d.collateral.extend([b"{}"] * 16), "document.collateral"),
        (lambda d: d.collateral.append(bytes((256 << 10) + 1)), "document.collateral.size"),
    ],
)
def test_V7_too_many_or_too_large_parts_are_refused(change: Change, field: str) -> None:
    assert first(refusal_after(change)) == (RemoteProtocolError, Reason.TOO_LARGE, field)


@pytest.mark.parametrize("part", ["topology", "manifest", "members", "live"])
def test_a_missing_part_is_refused(part: str) -> None:
    refusal_after(lambda d: d.ClearField(part))


# (2) Freshness.


def test_V1_an_answer_to_another_nonce_is_refused() -> None:
    error = refusal(document(), mesh().request(nonce=OTHER_NONCE))
    assert first(error) == (RemoteProtocolError, Reason.NONCE_MISMATCH, "live.challenge")


def test_V1_an_old_answer_relabelled_with_the_new_nonce_is_refused() -> None:
    error = refusal_after(
        lambda d: setattr(d.live, "challenge", tree_root((OTHER_NONCE,))), mesh().request(nonce=OTHER_NONCE)
    )
    assert first(error) == (EvidenceError, Reason.REPORT_DATA, "quote.report_data")


@pytest.mark.parametrize("nonce", [b"", bytes(31), bytes(33), bytes(32)])
def test_V9_a_request_without_a_nonce_cannot_be_made(nonce: bytes) -> None:
    with pytest.raises(UsageError):
        mesh().request(nonce=nonce)


@pytest.mark.parametrize(("name", "value"), [("mesh", ""), ("mesh", "sh\u00f6p"), ("min_version", 0)])
def test_V9_a_request_that_any_mesh_would_satisfy_cannot_be_made(name: str, value: object) -> None:
    with pytest.raises(UsageError):
        mesh().request(**{name: value})


# (3) The topology.


def test_T3_a_topology_that_another_owner_signed_is_refused() -> None:
    stranger = Ed25519PrivateKey.from_private_bytes(bytes([8]) * 32)
    root = OwnerRoot.of([([spki(stranger.public_key())], 1)])
    error = refusal(document(), mesh().request(owner=root))
    assert first(error)[:2] == (RemoteProtocolError, Reason.TOPOLOGY_SIGNATURE)


def test_another_mesh_of_the_same_owner_is_refused() -> None:
    error = refusal(document(), mesh().request(mesh="other"))
    assert first(error)[:2] == (RemoteProtocolError, Reason.TOPOLOGY_MESH)


def test_V6_an_older_topology_is_refused_below_the_lowest_version() -> None:
    assert verify(document(), mesh().request(min_version=3)).topology_version == 3
    error = refusal(document(), mesh().request(min_version=4))
    assert first(error)[:2] == (PolicyError, Reason.TOPOLOGY_ROLLBACK)


@pytest.mark.parametrize("envelope", [b"", b"{}", b"[", b"\xff", b"null"])
def test_an_envelope_that_is_none_is_the_senders_fault(envelope: bytes) -> None:
    error = refusal_after(lambda d: setattr(d, "topology", envelope))
    assert type(error) is RemoteProtocolError


def test_a_signed_topology_that_is_invalid_is_refused() -> None:
    envelope = sign(canonical({"mesh": MESH}), [mesh().owner_key])
    error = refusal_after(lambda d: setattr(d, "topology", envelope))
    assert first(error)[:2] == (RemoteProtocolError, Reason.TOPOLOGY_INVALID)


# (4) The manifest.


def test_V5_a_manifest_with_trailing_bytes_is_refused() -> None:
    error = refusal_after(lambda d: setattr(d, "manifest", d.manifest + b"\x9a\x06\x01x"))
    assert first(error) == (RemoteProtocolError, Reason.NOT_CANONICAL, "manifest")


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("mesh_id", bytes([1]) * 48, Reason.MESH_MISMATCH),
        ("topology_version", 4, Reason.TOPOLOGY_MISMATCH),
        ("topology_digest", bytes([1]) * 48, Reason.TOPOLOGY_MISMATCH),
    ],
)
def test_a_manifest_of_another_mesh_or_topology_is_refused(field: str, value: object, reason: Reason) -> None:
    other = mesh().committed_to(lambda manifest: setattr(manifest, field, value))
    assert first(refusal(other.document())) == (RemoteProtocolError, reason, f"manifest.{field}")


def test_V3_another_topology_of_the_same_owner_and_mesh_is_refused() -> None:
    other = build_mesh(version=4, pki=mesh().pki)
    error = refusal_after(lambda d: setattr(d, "topology", other.signed.envelope))
    assert [m.field for m in error.mismatches] == ["manifest.topology_version", "manifest.topology_digest"]


# (5) Bounds.


def test_a_sealed_mesh_outside_the_replica_bounds_is_refused() -> None:
    without_db = mesh().attempt(1, [pod for pod in mesh().pods if pod.role != "db"])
    error = refusal(without_db.document())
    assert first(error) == (PolicyError, Reason.MANIFEST_BOUNDS, "manifest.members[db]")


# (6) Exactly the members.


@pytest.mark.parametrize("index", range(4))
def test_V3_a_missing_member_is_refused(index: int) -> None:
    error = refusal_after(lambda d: d.members.pop(index))
    assert first(error) == (RemoteProtocolError, Reason.MEMBERS_INCOMPLETE, "document.members")


def test_V3_a_member_twice_is_refused() -> None:
    extra = refusal_after(lambda d: d.members.append(d.members[3]))
    assert first(extra) == (RemoteProtocolError, Reason.MEMBERS_INCOMPLETE, "document.members")
    instead = refusal_after(lambda d: d.members[1].CopyFrom(d.members[0]))
    assert first(instead) == (RemoteProtocolError, Reason.MEMBERS_INCOMPLETE, "identity.iid")


def test_V3_members_in_another_order_are_refused() -> None:
    def swapped(d: AttestationDocument) -> None:
        d.members.insert(0, d.members.pop(1))

    assert first(refusal_after(swapped)) == (RemoteProtocolError, Reason.MEMBERS_INCOMPLETE, "identity.iid")


@pytest.mark.parametrize("index", range(4))
def test_V3_a_member_of_another_lineage_is_refused(index: int) -> None:
    other = AttestationDocument.FromString(build_mesh(seed=2, pki=mesh().pki).document())
    error = refusal_after(lambda d: d.members[index].CopyFrom(other.members[index]))
    assert first(error) == (RemoteProtocolError, Reason.MEMBERS_INCOMPLETE, "identity.iid")


@pytest.mark.parametrize("index", range(4))
def test_V3_E2_what_the_same_members_said_in_another_epoch_is_refused(index: int) -> None:
    later = AttestationDocument.FromString(mesh().attempt(2).document()).members[index]
    whole = refusal_after(lambda d: d.members[index].CopyFrom(later))
    assert first(whole) == (RemoteProtocolError, Reason.STALE_ATTEMPT, "hello.target_epoch")
    commit = refusal_after(lambda d: d.members[index].commit.CopyFrom(later.commit))
    assert [m.field for m in commit.mismatches] == ["commit.manifest_digest", "commit.epoch"]
    quote = refusal_after(lambda d: d.members[index].commit.evidence.CopyFrom(later.commit.evidence))
    assert first(quote) == (EvidenceError, Reason.REPORT_DATA, "quote.report_data")


# (7) Identities.


@pytest.mark.parametrize("field", ["ik_signature", "ca_signature"])
def test_P3_an_identity_that_one_of_its_keys_did_not_sign_is_refused(field: str) -> None:
    error = refusal_after(lambda d: setattr(d.members[2], field, getattr(d.members[1], field)))
    assert first(error)[:2] == (RemoteProtocolError, Reason.SIGNATURE_INVALID)


def second_identity(pod: Pod) -> tuple[SigningKeys, SignedIdentity]:
    """The same instance with another CA, signed as it must be."""
    ca_key = derive_private_key(42, SECP256R1())
    keys = SigningKeys(pod.keys.ik, ca_key)
    ca_der = mint_ca(ca_key, MESH, 1 << 150, NOW)
    return keys, make_identity(keys, mesh().manifest.mesh_id, MESH, pod.role, ca_der)


def test_D3_a_second_CA_of_a_listed_instance_is_refused() -> None:
    pod = mesh().pods[0]
    keys, other = second_identity(pod)

    def identity_alone(d: AttestationDocument) -> None:
        d.members[0].identity = other.identity.body
        d.members[0].ik_signature = other.ik_signature
        d.members[0].ca_signature = other.ca_signature

    error = refusal_after(identity_alone)
    assert first(error) == (RemoteProtocolError, Reason.IDENTITY_MISMATCH, "hello.id_digest")

    def identity_and_hello(d: AttestationDocument) -> None:
        identity_alone(d)
        offer = replace(pod, keys=keys, signed=other).offering(mesh().signed.topology, 1, pod.hello.nonce)
        d.members[0].hello.body, d.members[0].hello.signature = offer.hello.body, offer.hello.signature

    error = refusal_after(identity_and_hello)
    assert error.reason is Reason.MANIFEST_MISMATCH
    assert {m.field.split(".")[-1] for m in error.mismatches} == {"id_digest", "hello_digest", "ca_digest"}


# (8) HELLOs.


def test_a_hello_with_a_bad_signature_is_refused() -> None:
    error = refusal_after(lambda d: setattr(d.members[0].hello, "signature", bytes(64)))
    assert first(error)[:2] == (RemoteProtocolError, Reason.SIGNATURE_INVALID)


def test_a_hello_other_than_the_listed_one_is_refused() -> None:
    other = mesh().pods[0].offering(mesh().signed.topology, 1, OTHER_NONCE).hello

    def swapped(d: AttestationDocument) -> None:
        d.members[0].hello.body, d.members[0].hello.signature = other.body, other.signature

    error = refusal_after(swapped)
    assert error.reason is Reason.MANIFEST_MISMATCH
    assert {m.field.split(".")[-1] for m in error.mismatches} == {"hello_digest", "nonce"}


def test_a_hello_for_another_topology_is_refused() -> None:
    """The manifest lists it, and all committed to that: only this comparison is in the way."""
    elsewhere = replace(mesh().signed.topology, version=2, digest=bytes([1]) * 48)
    pod = mesh().pods[0]
    hello = make_hello(pod.keys, pod.signed.identity, elsewhere, 1, OTHER_NONCE, pod.hello.addresses)

    def listed(manifest: Manifest) -> None:
        manifest.members[0].hello_digest, manifest.members[0].nonce = hello.hello_digest, hello.nonce

    bad = replace(mesh(), pods=(replace(pod, hello=hello), *mesh().pods[1:])).committed_to(listed)
    error = refusal(bad.document())
    assert first(error)[:2] == (RemoteProtocolError, Reason.TOPOLOGY_MISMATCH)
    assert [m.field for m in error.mismatches] == ["hello.topology_version", "hello.topology_digest"]


def test_a_hello_for_another_epoch_is_refused_even_if_all_committed_to_it() -> None:
    bad = mesh().committed_to(lambda manifest: setattr(manifest, "epoch", 2))
    assert first(refusal(bad.document())) == (
        RemoteProtocolError,
        Reason.STALE_ATTEMPT,
        "hello.target_epoch",
    )


@pytest.mark.parametrize("field", ["id_digest", "hello_digest", "ca_digest", "nonce", "aux_digest"])
def test_an_entry_that_its_member_did_not_offer_is_refused_even_if_all_committed_to_it(field: str) -> None:
    value = bytes([1]) * (32 if field == "nonce" else 48)
    bad = mesh().committed_to(lambda manifest: setattr(manifest.members[2], field, value))
    error = refusal(bad.document())
    assert [(m.reason, m.field) for m in error.mismatches] == [
        (Reason.MANIFEST_MISMATCH, f"manifest.members.{field}")
    ]


def test_E6_a_role_that_the_member_did_not_claim_is_refused_even_if_all_committed_to_it() -> None:
    loose = build_mesh(slack=1)
    assert verify(loose.document(), loose.request()).members[2].role == "db"
    bad = loose.committed_to(lambda manifest: setattr(manifest.members[2], "role", "web"))
    error = refusal(bad.document(), loose.request())
    assert [(m.reason, m.field) for m in error.mismatches] == [
        (Reason.MANIFEST_MISMATCH, "manifest.members.role")
    ]


# (9) COMMITs.


@pytest.mark.parametrize("field", ["ik_signature", "ca_signature"])
def test_a_commit_that_one_key_did_not_sign_is_refused(field: str) -> None:
    def forged(d: AttestationDocument) -> None:
        setattr(d.members[0].commit, field, getattr(d.members[1].commit, field))

    assert first(refusal_after(forged))[:2] == (RemoteProtocolError, Reason.SIGNATURE_INVALID)


@pytest.mark.parametrize(
    ("epoch", "digest", "field"),
    [(2, None, "commit.epoch"), (1, bytes([1]) * 48, "commit.manifest_digest")],
)
def test_a_commit_to_something_else_is_refused(epoch: int, digest: bytes | None, field: str) -> None:
    pod = mesh().pods[0]
    digest = digest or mesh().manifest.digest
    body = encode(Decision(sender=pod.iid, epoch=epoch, manifest_digest=digest))

    def swapped(d: AttestationDocument) -> None:
        commit = d.members[0].commit
        commit.body = body
        commit.ik_signature = pod.keys.sign(Tag.COMMIT, body)
        commit.ca_signature = pod.keys.sign_ca(Tag.COMMIT, body)

    assert first(refusal_after(swapped)) == (RemoteProtocolError, Reason.MANIFEST_MISMATCH, field)


def test_a_commit_of_another_member_is_refused() -> None:
    error = refusal_after(lambda d: d.members[0].commit.CopyFrom(d.members[1].commit))
    assert first(error) == (RemoteProtocolError, Reason.IDENTITY_MISMATCH, "commit.sender")


# (10) SEAL evidence.


def with_seal(index: int, evidence: Evidence) -> ToposealError:
    return refusal_after(lambda d: d.members[index].commit.evidence.CopyFrom(evidence))


def test_E1_the_quote_of_another_member_is_refused() -> None:
    for index in range(4):
        other = mesh().pods[index - 1].quote(mesh().seal_binding(mesh().pods[index - 1]))
        assert with_seal(index, other).reason is Reason.REPORT_DATA


@pytest.mark.parametrize("purpose", [p for p in Purpose if p is not Purpose.SEAL])
def test_E3_a_quote_of_another_purpose_is_no_seal(purpose: Purpose) -> None:
    pod = mesh().pods[0]
    for binding in (
        replace(mesh().seal_binding(pod), purpose=purpose),
        join_of(pod.signed.identity),
        live_binding(mesh().seal_binding(pod), CHALLENGE),
    ):
        assert with_seal(0, pod.quote(binding)).reason is Reason.REPORT_DATA


def test_E6_a_member_whose_measured_role_is_another_is_refused() -> None:
    pod = mesh().pods[0]
    disguised = replace(pod, measured=lab_measurements("web", MESH))
    error = with_seal(0, disguised.quote(mesh().seal_binding(pod)))
    assert first(error)[:2] == (PolicyError, Reason.ROLE_MISMATCH)


@pytest.mark.parametrize("evidence", [Evidence(), Evidence(tee=TDX), Evidence(quote=b"x")])
def test_a_member_without_evidence_is_refused(evidence: Evidence) -> None:
    assert type(with_seal(3, evidence)) is EvidenceError


# (11) LIVE evidence.


def test_a_live_answer_of_a_stranger_is_refused() -> None:
    stranger = build_mesh(seed=2, pki=mesh().pki)
    live = AttestationDocument.FromString(stranger.document()).live
    error = refusal_after(lambda d: d.live.CopyFrom(live))
    assert first(error) == (RemoteProtocolError, Reason.UNKNOWN_MEMBER, "live.iid")


def test_a_live_answer_of_another_member_than_it_names_is_refused() -> None:
    error = refusal_after(lambda d: setattr(d.live, "iid", mesh().pods[1].iid))
    assert first(error)[:2] == (EvidenceError, Reason.REPORT_DATA)


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.ACTIVE])
def test_V4_a_member_that_is_not_active_proves_nothing(status: Status) -> None:
    pod = mesh().pods[0]
    binding = replace(live_binding(mesh().seal_binding(pod), CHALLENGE), status=status)
    error = refusal_after(lambda d: d.live.evidence.CopyFrom(pod.quote(binding)))
    assert first(error)[:2] == (EvidenceError, Reason.REPORT_DATA)


def not_live() -> list[Binding]:
    pod = mesh().pods[0]
    seal = mesh().seal_binding(pod)
    relabelled = [replace(live_binding(seal, CHALLENGE), purpose=p) for p in Purpose if p is not Purpose.LIVE]
    return [seal, join_of(pod.signed.identity), *relabelled]


@pytest.mark.parametrize("binding", not_live(), ids=lambda binding: binding.purpose.name)
def test_V4_E3_a_quote_of_another_purpose_is_no_live_answer(binding: Binding) -> None:
    quote = mesh().pods[0].quote(binding)
    assert refusal_after(lambda d: d.live.evidence.CopyFrom(quote)).reason is Reason.REPORT_DATA


# Roots, collateral, clock.


def test_E9_one_bad_entry_of_the_documents_collateral_does_not_spoil_the_others() -> None:
    foreign = LabPki.create(NOW).collateral()

    def add(message: AttestationDocument) -> None:
        good = message.collateral[0]
        del message.collateral[:]
        message.collateral.extend([b"{}", foreign, good])

    assert verify_document(changed(document(), add), mesh().request()).members


def test_E17_a_simulated_mesh_is_refused_by_the_vendors_roots() -> None:
    context = replace(mesh().context(), anchors=VENDOR_ANCHORS)
    assert first(refusal(document(), mesh().request(context=context)))[:2] == (
        EvidenceError,
        Reason.QUOTE_SIGNATURE,
    )


def test_without_any_collateral_nothing_is_accepted() -> None:
    error = refusal_after(lambda d: d.ClearField("collateral"))
    assert first(error)[:2] == (EvidenceError, Reason.COLLATERAL_MISSING)


def test_the_callers_own_collateral_replaces_the_documents() -> None:
    own = mesh().context((mesh().collateral,))
    bare = changed(document(), lambda d: d.ClearField("collateral"))
    assert verify(bare, mesh().request(context=own)).members[0].tcb_status == "UpToDate"
    outdated = mesh().context((mesh().pki.collateral(status="OutOfDate"),))
    error = refusal(document(), mesh().request(context=outdated))
    assert first(error)[:2] == (PolicyError, Reason.TCB_STATUS)


def test_collateral_of_the_document_that_a_platform_signed_for_itself_is_refused() -> None:
    pck = mesh().pods[0].host.pck
    forged = mesh().pki.collateral(tcb_signer=(pck, mesh().pki.platform_ca, mesh().pki.root))
    error = refusal_after(lambda d: d.collateral.__setitem__(0, forged))
    assert type(error) is EvidenceError
    assert error.reason in (Reason.COLLATERAL_SIGNER, Reason.COLLATERAL_INVALID)


@pytest.mark.parametrize("years", [-10, 10])
def test_V8_a_wrong_local_clock_accepts_nothing_more_and_says_so(years: int) -> None:
    context = mesh().context(now=NOW + years * 365 * 86_400)
    wrong_clock = partial(mesh().request, context=context)
    error = refusal(document(), wrong_clock())
    assert first(error)[:2] == (EvidenceError, Reason.COLLATERAL_INVALID)
    assert f"now {context.now}" in str(error)
    assert refusal(document(), wrong_clock(nonce=OTHER_NONCE)).reason is Reason.NONCE_MISMATCH
    assert refusal(document(), wrong_clock(min_version=4)).reason is Reason.TOPOLOGY_ROLLBACK

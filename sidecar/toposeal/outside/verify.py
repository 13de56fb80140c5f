"""The outside verifier: an attestation document becomes a VerifiedMesh, or a refusal. No IO.

Everything in a document was chosen by a stranger. The owner's key, the caller's nonce and the
vendors' roots decide; nobody that answered is trusted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from toposeal._wire import attestation_pb2 as wire
from toposeal._wire import peer_pb2 as wire_peer
from toposeal.errors import (
    EvidenceError,
    PolicyError,
    Reason,
    RemoteProtocolError,
    TopologyError,
)
from toposeal.evidence.auxiliary import aux_digest, read_gpus
from toposeal.evidence.binding import gpu_binding, live_binding
from toposeal.evidence.nonce_tree import root_of
from toposeal.membership.manifest import Manifest, bounds_mismatches, parse_manifest
from toposeal.membership.records import Introduced, committed, introduced, require_equal
from toposeal.membership.sealed import seal_of
from toposeal.names import mesh_id
from toposeal.outside.document import parse_document
from toposeal.outside.model import VerifiedMember, VerifiedMesh, VerifyRequest
from toposeal.topology.accept import accept
from toposeal.topology.model import Topology
from toposeal.verification.appraise import appraise
from toposeal.verification.appraise_gpu import appraise_gpus, with_gpus
from toposeal.verification.high_water import Marks
from toposeal.verification.model import AppraisalContext, VerifiedEvidence
from toposeal.verification.shared_guest import refuse_shared_gpus, refuse_shared_guests
from toposeal.verification.stapled import accept_stapled, accept_stapled_lists


def verify_document(document: bytes, request: VerifyRequest) -> VerifiedMesh:
    """Check everything; cheap steps first. Raises at the first step that fails (PROTOCOL.md 8):

    (1) size, canonical encoding, number of parts;
    (2) it answers this request's nonce;
    (3) the topology: the owner's signatures, mesh, lowest version (docs/topology.md);
    (4) the manifest is well-formed, of this mesh, and rests on exactly this topology;
    (5) its members are within every role's bounds;
    (6) the records are exactly the manifest's members, in its order (V3);
    (7) each IDENTITY: mesh, CA profile, both signatures, and the entry's id_digest;
    (8) each HELLO: signature, this epoch and topology, and every other field of the entry;
    (9) each COMMIT: both signatures, over this epoch and D;
    (10) each SEAL quote: authentic, acceptable, of the entry's role by measurement, saying exactly this;
    (11) each member's GPUs: those that its role demands, bound to it and to the entry's aux_digest (E18);
    (12) no two members in one confidential VM, where evidence can tell, none with another's GPU;
    (13) the LIVE quote of a listed member on the nonce, status active (V1, V4), from where it has sealed.

    Raises RemoteProtocolError and EvidenceError for what does not hold, PolicyError for what holds and
    is not acceptable. JOIN evidence and PONG are left out on purpose: they guard members against
    strangers before a manifest exists, and SEAL repeats all that they prove.
    """
    parts = parse_document(document)  # (1)
    _expect_nonce(parts.live, request.nonce)  # (2)
    topology = _accept(parts.topology, request)  # (3)
    manifest = _manifest(parts.manifest, topology, mesh_id(request.owner.canonical, request.mesh))  # (4)
    _check_bounds(manifest, topology)  # (5)
    listed = introductions(parts.members, manifest, topology)  # (6) (7) (8)
    context = _supplied(parts, request.context)
    commits = [committed(r, m, manifest) for r, m in zip(parts.members, listed, strict=True)]  # (9)
    seals = [  # (10)
        appraise(commit.evidence, seal_of(manifest, entry), topology, context)
        for commit, entry in zip(commits, manifest.members, strict=True)
    ]
    seals = [  # (11)
        _with_gpus(record, member, seal, topology, context)
        for record, member, seal in zip(parts.members, listed, seals, strict=True)
    ]
    named = [(m.identity.ca.domain, seal) for m, seal in zip(listed, seals, strict=True)]
    refuse_shared_guests((name, seal.guest) for name, seal in named)  # (12)
    refuse_shared_gpus((name, gpu.device_id) for name, seal in named for gpu in seal.gpus)
    live = _live(parts.live, manifest, topology, context)  # (13)
    _expect_sealed_guest(live, seals)
    members = tuple(
        _verified(member, seal, commit.evidence.quote, topology)
        for member, seal, commit in zip(listed, seals, commits, strict=True)
    )
    return VerifiedMesh(
        mesh=topology.mesh,
        mesh_id=manifest.mesh_id,
        owner_root=request.owner.digest,
        topology_version=topology.version,
        lineage=manifest.digest if manifest.is_genesis else manifest.lineage,
        epoch=manifest.epoch,
        manifest_digest=manifest.digest,
        attestation_port=topology.attestation_port,
        members=members,
        proven=tuple(m for m in members if m.iid == live.binding.iid),
        expires_at=min(evidence.expires_at for evidence in (*seals, live)),
        topology=topology,
    )


def _supplied(parts: wire.AttestationDocument, context: AppraisalContext) -> AppraisalContext:
    """What the caller has none of is the document's own, after the checks that any have to pass."""
    if not context.collateral:
        context = replace(context, collateral=_stapled(parts, context))
    if not context.crls:
        context = replace(context, crls=accept_stapled_lists(parts.crls, context.anchors))
    return context


def _stapled(parts: wire.AttestationDocument, context: AppraisalContext) -> tuple[bytes, ...]:
    """The document's own collateral, as far as the vendor made it and it is in force: one bad entry does
    not spoil the others. Where none holds, appraisal, which makes the same checks, names the cause."""
    try:
        return accept_stapled(parts.collateral, context.anchors, Marks(), context.now)
    except EvidenceError:
        return tuple(parts.collateral)


def _expect_nonce(live: wire.Live, nonce: bytes) -> None:
    """The caller's nonce is a leaf under the root that the LIVE quote is made for."""
    wanted = root_of(nonce, live.leaf, live.leaves, live.path)
    require_equal(Reason.NONCE_MISMATCH, ("live.challenge", live.challenge, wanted))


def with_answer(mesh: VerifiedMesh, member: VerifiedMember, other: VerifiedMesh) -> VerifiedMesh:
    """`mesh`, proven by `member` too: `other` is what verification of its own document gave.

    Raises RemoteProtocolError where another member answered, or one of another manifest.
    """
    require_equal(
        Reason.MANIFEST_MISMATCH,
        ("manifest_digest", other.manifest_digest, mesh.manifest_digest),
        ("live.iid", other.proven_now.iid, member.iid),
    )
    expires_at = min(mesh.expires_at, other.expires_at)
    return replace(mesh, proven=(*mesh.proven, *other.proven), expires_at=expires_at)


def introductions(
    records: Sequence[wire_peer.MemberRecord], manifest: Manifest, topology: Topology
) -> tuple[Introduced, ...]:
    """Steps (6) to (8): exactly the manifest's members, each signed by its own keys.

    Raises RemoteProtocolError. Nothing here shows that a TEE is behind a member.
    """
    if len(records) != len(manifest.members):  # (6)
        raise RemoteProtocolError.of(
            Reason.MEMBERS_INCOMPLETE, "document.members", len(records), f"{len(manifest.members)} members"
        )
    return tuple(
        introduced(record, entry, manifest, topology)
        for record, entry in zip(records, manifest.members, strict=True)
    )


def _accept(envelope: bytes, request: VerifyRequest) -> Topology:
    """A stranger brought this envelope: what is wrong with it is the stranger's fault, not the owner's."""
    try:
        return accept(envelope, request.owner, request.mesh, request.min_version).topology
    except TopologyError as error:
        kind = PolicyError if error.reason is Reason.TOPOLOGY_ROLLBACK else RemoteProtocolError
        raise kind(*error.mismatches) from error


def _manifest(body: bytes, topology: Topology, mesh: bytes) -> Manifest:
    manifest = parse_manifest(body)
    require_equal(Reason.MESH_MISMATCH, ("manifest.mesh_id", manifest.mesh_id, mesh))
    require_equal(
        Reason.TOPOLOGY_MISMATCH,
        ("manifest.topology_version", manifest.topology_version, topology.version),
        ("manifest.topology_digest", manifest.topology_digest, topology.digest),
    )
    return manifest


def _check_bounds(manifest: Manifest, topology: Topology) -> None:
    wrong = bounds_mismatches(manifest.members, topology)
    if wrong:
        raise PolicyError(*wrong)


def _with_gpus(
    record: wire_peer.MemberRecord,
    member: Introduced,
    seal: VerifiedEvidence,
    topology: Topology,
    context: AppraisalContext,
) -> VerifiedEvidence:
    identity = member.identity
    gpus = read_gpus(record.gpus, "member.gpus")
    require_equal(Reason.MANIFEST_MISMATCH, ("member.gpus", aux_digest(gpus), member.entry.aux_digest))
    bound = gpu_binding(identity.mesh_id, identity.role, identity.iid, identity.id_digest)
    return with_gpus(seal, appraise_gpus(gpus, bound, topology.roles[seal.role], context))


def _live(
    live: wire.Live, manifest: Manifest, topology: Topology, context: AppraisalContext
) -> VerifiedEvidence:
    entry = manifest.entry(live.iid)
    if entry is None:
        raise RemoteProtocolError.of(Reason.UNKNOWN_MEMBER, "live.iid", live.iid, "a listed member")
    return appraise(live.evidence, live_binding(seal_of(manifest, entry), live.challenge), topology, context)


def _expect_sealed_guest(live: VerifiedEvidence, seals: Sequence[VerifiedEvidence]) -> None:
    """LIVE evidence comes from the guest that SEAL evidence came from, on the same machine."""
    (seal,) = (each for each in seals if each.binding.iid == live.binding.iid)
    names = ("tee", "platform", "guest")
    fields = ((f"live.{name}", getattr(live, name), getattr(seal, name)) for name in names)
    require_equal(Reason.IDENTITY_MISMATCH, *fields)


def _verified(member: Introduced, seal: VerifiedEvidence, quote: bytes, topology: Topology) -> VerifiedMember:
    ca = member.identity.ca
    return VerifiedMember(
        iid=member.entry.iid,
        role=seal.role,
        tee=seal.tee,
        tcb_status=seal.tcb_status,
        advisories=seal.advisories,
        platform=seal.platform,
        gpus=seal.gpus,
        ca_spki_sha384=hashlib.sha384(ca.spki).digest(),
        ca_pem=ca.pem,
        domain=ca.domain,
        addresses=member.hello.addresses,
        ingress=tuple(entry.port for entry in topology.roles[seal.role].ingress),
        quote=quote,
    )

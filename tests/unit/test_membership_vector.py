"""Production reads and recomputes the worked vector of PROTOCOL.md 11, made by a second implementation."""

from __future__ import annotations

from support import vector
from support.vector import DB, GONE, WEB

from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import decode, digest
from toposeal.evidence.binding import live_binding
from toposeal.membership.hello import verify_hello
from toposeal.membership.identity import SignedIdentity, verify_identity
from toposeal.membership.leave import require_for, verify_leave
from toposeal.membership.manifest import parse_manifest
from toposeal.membership.sealed import join_of, seal_of
from toposeal.membership.signing import SigningKeys, Tag, verify_ik
from toposeal.membership.votes import (
    Heartbeat,
    Want,
    make_heartbeat,
    make_want,
    parse_decision,
    verify_commit,
)
from toposeal.names import mesh_id, spiffe_id


def identity(pod: vector.Pod) -> SignedIdentity:
    signatures = pod.sign("identity", pod.identity), pod.sign_ca("identity", pod.identity)
    return verify_identity(pod.identity, *signatures, vector.MESH_ID, vector.MESH)


def test_names_follow_from_owner_and_keys() -> None:
    assert mesh_id(vector.OWNER_ROOT, vector.MESH) == vector.MESH_ID
    assert digest("toposeal/v1/topology", vector.PAYLOAD) == vector.TOPO_DIGEST
    for pod in (DB, WEB):
        found = identity(pod).identity
        assert (found.iid, found.id_digest) == (pod.iid, pod.id_digest)
        assert (found.ca.ca_digest, found.ca.domain) == (pod.ca_digest, pod.domain)
    assert spiffe_id(DB.domain, "db") == f"spiffe://{DB.domain}/db"


def test_hellos_and_manifest_are_read_back_with_the_same_digests() -> None:
    manifest = parse_manifest(vector.MANIFEST)
    assert (manifest.digest, manifest.epoch, manifest.is_genesis) == (vector.D, vector.EPOCH, True)
    for pod, entry in zip((DB, WEB), manifest.members, strict=True):
        found = identity(pod).identity
        hello = verify_hello(pod.hello, pod.sign("hello", pod.hello), found)
        assert hello.hello_digest == pod.hello_digest
        assert hello.entry(found) == entry
        assert hello.sealed == hello.previous == vector.ZERO


def test_report_data_of_each_purpose() -> None:
    manifest = parse_manifest(vector.MANIFEST)
    for pod in (DB, WEB):
        entry = manifest.entry(pod.iid)
        assert entry is not None
        seal = seal_of(manifest, entry)
        assert join_of(identity(pod).identity).report_data() == pod.report_data("JOIN")
        assert seal.report_data() == pod.report_data("SEAL")
        assert live_binding(seal, vector.CHALLENGE).report_data() == pod.report_data("LIVE")


def test_votes_are_signed_as_the_page_says() -> None:
    found = identity(DB).identity
    assert parse_decision(DB.decision, "commit").manifest_digest == vector.D
    for tag, name in ((Tag.PROPOSE, "propose"), (Tag.SEALED, "sealed")):
        verify_ik(found.ik, tag, DB.decision, DB.sign(name, DB.decision))
    commit = wire.Commit(
        body=DB.decision,
        ik_signature=DB.sign("commit", DB.decision),
        ca_signature=DB.sign_ca("commit", DB.decision),
        evidence=wire_evidence.Evidence(tee=wire_evidence.TDX, quote=b"quote"),
    )
    assert verify_commit(commit, found).decision.epoch == vector.EPOCH


def test_a_leave_is_read_and_is_for_the_manifest_without_its_sender() -> None:
    leave = verify_leave(decode(wire.Leave, GONE.leave, "leave", 1_000))
    assert (leave.sender, leave.decision.body) == (GONE.iid, GONE.decision)
    require_for(leave, parse_manifest(vector.MANIFEST))


def test_production_signs_the_same_bytes() -> None:
    keys = SigningKeys(DB.ik, DB.ca_key)
    assert keys.sign(Tag.HELLO, DB.hello) == DB.sign("hello", DB.hello)
    assert keys.sign_ca(Tag.COMMIT, DB.decision) == DB.sign_ca("commit", DB.decision)


def test_production_makes_the_same_heartbeat_and_the_same_question() -> None:
    keys = SigningKeys(DB.ik, DB.ca_key)
    beat = make_heartbeat(keys, Heartbeat(DB.iid, WEB.iid, vector.BEAT, vector.ANSWERED, vector.D))
    want = make_want(keys, Want(DB.iid, WEB.iid, vector.D, 1))
    assert (beat.body, beat.signature) == (
        DB.heartbeat(WEB),
        DB.sign("heartbeat", DB.heartbeat(WEB)),
    )
    assert (want.body, want.signature) == (DB.want(WEB), DB.sign("want", DB.want(WEB)))

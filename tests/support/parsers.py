"""Every parser of bytes that a stranger chooses, with valid examples to start mutating from.

One line of invariant for all of them: any bytes are accepted, or refused with a ToposealError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from support.admission import pods, review
from support.certificates import envelope, part
from support.injection import injection
from support.meshes import Mesh, build_mesh
from toposeal._wire import peer_pb2 as wire
from toposeal._wire.xds_pb2 import DiscoveryRequest
from toposeal.dataplane.discovery import Discovery
from toposeal.dataplane.discovery import Kind as Resources
from toposeal.dataplane.dns_client import Kind, question, read_answer
from toposeal.encoding import decode, encode
from toposeal.errors import Reason, RemoteProtocolError, ToposealError
from toposeal.evidence.amd_x509 import parse_amd_certificate, parse_amd_crl, split_certificates
from toposeal.evidence.bundle import parse_bundle
from toposeal.evidence.collateral import parse_collateral
from toposeal.evidence.ghcb_table import parse_certificate_table
from toposeal.evidence.gpu_certs import parse_gpu_chain
from toposeal.evidence.gpu_firmware import TCB_INFO, read_firmware
from toposeal.evidence.gpu_report import parse_gpu_report
from toposeal.evidence.kind import detect_kind
from toposeal.evidence.log_reader import read_event_log
from toposeal.evidence.pck import parse_pck_chain
from toposeal.evidence.pcs_answers import signed_part
from toposeal.evidence.rim import parse_rim
from toposeal.evidence.snp_certs import parse_endorsement
from toposeal.evidence.snp_report import parse_snp_report
from toposeal.evidence.tcg_log import parse_ccel_table
from toposeal.evidence.tdx_quote import parse_tdx_quote
from toposeal.kubernetes.admission import answer
from toposeal.limits import MAX_ENVELOPE_SIZE
from toposeal.membership.certificate import Certificate
from toposeal.membership.events import Received
from toposeal.membership.hello import verify_hello
from toposeal.membership.identity import verify_identity
from toposeal.membership.leave import leave_message, make_leave, verify_leave
from toposeal.membership.machine import step
from toposeal.membership.manifest import parse_manifest
from toposeal.membership.state import Fetch, Own, Waiting, initial
from toposeal.membership.votes import (
    Heartbeat,
    Want,
    make_heartbeat,
    make_propose,
    make_sealed,
    make_want,
    parse_decision,
    parse_heartbeat,
    parse_liveness,
    parse_want,
)
from toposeal.outside.document import parse_document
from toposeal.outside.endpoint import Endpoint
from toposeal.outside.history import build_history, read_history, told
from toposeal.outside.pushed import read_pushed
from toposeal.outside.status import read_status
from toposeal.outside.verify import verify_document
from toposeal.topology.accept import accept
from toposeal.topology.author import payload_from_yaml
from toposeal.topology.dsse import open_envelope
from toposeal.topology.evidence_policy import parse_evidence_policy
from toposeal.topology.owner import OwnerRoot
from toposeal.topology.parse import parse_topology
from toposeal.verification.ca_profile import parse_ca
from toposeal.verification.collateral_authentic import ListAge
from toposeal.verification.high_water import Marks, parse_marks

CORPUS = Path(__file__).resolve().parents[1] / "fuzz" / "corpus"
EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "shop" / "topology.yaml"

_STATUS = (
    b'{"name": "m-0.shop", "role": "web", "phase": "proposed", "epoch": 2, "version": 7, "suspended": false,'
    b' "serving": {"epoch": 1, "digest": "00", "lineage": "00", "version": 7,'
    b' "members": [{"name": "m-0.shop", "role": "web", "lease_ms": null}]},'
    b' "waits": [{"reason": "not_active", "field": "a", "found": "b", "expected": "c"}]}'
)


_ASKED = question(7, "api.example.com", Kind.A)
_ANSWERED = (
    _ASKED[:2] + bytes.fromhex("81800001000100000000") + _ASKED[12:-11] + b"\xc0\x0c"  # of the same name
    b"\0\1\0\1\0\0\0\x3c\0\4\x08\x08\x08\x08"
)
_SUBSCRIPTION = DiscoveryRequest(type_url=Resources.SECRET.value, resource_names=["id"]).SerializeToString()
_ANSWER = b'{"tcbInfo":{"id":"TDX"},"signature":"00"}'


@dataclass(frozen=True)
class Parser:
    """`accept` takes any bytes; `examples` are some that it accepts."""

    accept: Callable[[bytes], object]
    examples: Sequence[bytes]

    def __call__(self, data: bytes) -> bool:
        """Whether `data` was accepted; anything but a typed refusal escapes."""
        try:
            self.accept(data)
        except ToposealError as error:
            str(error)
            return False
        return True


@cache
def parsers() -> Mapping[str, Parser]:
    """All parsers by name."""
    mesh = build_mesh()
    return {
        **_owners_files(mesh),
        **_evidence(mesh),
        **_kept_kinds(),
        **_peer_messages(mesh),
        **_outside(mesh),
        "dns-answer": Parser(lambda data: read_answer(data, _ASKED), [_ANSWERED]),
        "review": Parser(lambda data: answer(data, injection()), [review(pod) for pod in pods().values()]),
        "discovery-request": Parser(lambda data: Discovery().request(data), [_SUBSCRIPTION]),
    }


def one_parser(name: str) -> Parser:
    """The parser of that name, without what only the others need."""
    return _kept_kinds().get(name) or parsers()[name]


def _owners_files(mesh: Mesh) -> dict[str, Parser]:
    root, payload = mesh.root, open_envelope(mesh.signed.envelope, mesh.root)
    name = mesh.signed.topology.mesh
    return {
        "owner": Parser(OwnerRoot.parse, [root.canonical]),
        "envelope": Parser(lambda data: open_envelope(data, root), [mesh.signed.envelope]),
        "topology": Parser(parse_topology, [payload]),
        "signed-topology": Parser(lambda data: accept(data, root, name, 1), [mesh.signed.envelope]),
        "yaml": Parser(lambda data: payload_from_yaml(data, root), [EXAMPLE.read_bytes()]),
    }


def _evidence(mesh: Mesh) -> dict[str, Parser]:
    quote = mesh.sealed.members[0].commit.evidence.quote
    name = mesh.signed.topology.mesh
    certificates = [pod.signed.identity.ca.der for pod in mesh.pods]
    return {
        "quote": Parser(parse_tdx_quote, [quote, *kept("quote", "genuine-*")]),
        "evidence-kind": Parser(detect_kind, [quote]),
        "collateral": Parser(parse_collateral, [mesh.collateral]),
        "vendor-answer": Parser(lambda data: signed_part(data, "tcbInfo"), [_ANSWER]),
        "marks": Parser(parse_marks, [Marks({"00" * 6: 1}, {"ab" * 32: ListAge(1, 2)}).dump()]),
        "pck-chain": Parser(parse_pck_chain, [quote[quote.index(b"-----BEGIN") :]]),
        "ca": Parser(lambda data: parse_ca(data, name), certificates),
    }


def _kept_kinds() -> dict[str, Parser]:
    """Parsers whose examples are kept: tests/fuzz/make_corpus.py says how they are made."""
    accepts: dict[str, Callable[[bytes], object]] = {
        "snp-report": parse_snp_report,
        "endorsement": parse_endorsement,
        "amd-certificate": lambda data: parse_amd_certificate(data, "certificate"),
        "amd-pem": lambda data: split_certificates(data, "chain"),
        "amd-crl": parse_amd_crl,
        "certificate-table": parse_certificate_table,
        "bundle": parse_bundle,
        "evidence-policy": parse_evidence_policy,
        "event-log": read_event_log,
        "ccel-table": parse_ccel_table,
        "gpu-report": parse_gpu_report,
        "gpu-chain": parse_gpu_chain,
        "gpu-firmware": lambda data: read_firmware(TCB_INFO, data),
        "rim": parse_rim,
    }
    return {name: Parser(accept, kept(name, "genuine-*")) for name, accept in accepts.items()}


def kept(name: str, pattern: str = "*") -> list[bytes]:
    """Inputs for parser `name` from the kept corpus."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob(pattern))]


def _peer_messages(mesh: Mesh) -> dict[str, Parser]:
    pod, commit = mesh.pods[0], mesh.sealed.members[0].commit
    identity = pod.signed.identity
    beat = Heartbeat(pod.iid, mesh.pods[1].iid, bytes([1]) * 32, bytes(32), mesh.manifest.digest)
    want = Want(pod.iid, mesh.pods[1].iid, mesh.manifest.digest, 1)
    liveness = wire.Ping(sender=pod.iid, receiver=mesh.pods[1].iid, nonce=bytes([1]) * 32, target_epoch=1)
    hello = encode(wire.Envelope(hello=wire.Signed(body=pod.hello.body, signature=pod.hello.signature)))

    def signed(parse: Callable[[wire.Signed], object]) -> Callable[[bytes], object]:
        return lambda data: parse(wire.Signed(body=data, signature=bytes(64)))

    return {
        "envelope-message": Parser(
            lambda data: decode(wire.Envelope, data, "envelope", MAX_ENVELOPE_SIZE), [hello]
        ),
        "identity": Parser(
            lambda data: verify_identity(
                data,
                pod.signed.ik_signature,
                pod.signed.ca_signature,
                identity.mesh_id,
                mesh.signed.topology.mesh,
            ),
            [identity.body],
        ),
        "hello": Parser(lambda data: verify_hello(data, pod.hello.signature, identity), [pod.hello.body]),
        "manifest": Parser(parse_manifest, [mesh.manifest.body]),
        "liveness": Parser(signed(lambda message: parse_liveness(message, "ping")), [encode(liveness)]),
        "decision": Parser(lambda data: parse_decision(data, "commit"), [commit.decision.body]),
        "heartbeat": Parser(parse_heartbeat, [make_heartbeat(pod.keys, beat).body]),
        "leave": Parser(
            lambda data: verify_leave(decode(wire.Leave, data, "leave", MAX_ENVELOPE_SIZE)),
            [encode(leave_message(make_leave(pod.keys, identity, mesh.manifest)))],
        ),
        "release": _release(mesh),
        "want": Parser(parse_want, [make_want(pod.keys, want).body]),
        "certificate": _certificate(mesh),
    }


def _release(mesh: Mesh) -> Parser:
    """What a member that leaves is asked by one that it does not know."""
    pod = mesh.pods[0]
    own = Own(pod.signed, pod.keys, mesh.root, mesh.signed, ("10.0.0.1",))
    member = replace(initial(own, 0), phase=Waiting(1, 0), leaving=True)
    other = mesh.pods[1]
    proposed = make_propose(other.keys, other.iid, mesh.manifest)
    release = wire.Release(manifest=mesh.manifest.body, propose=proposed)

    def accept(data: bytes) -> object:
        try:
            return step(member, Received(data), 0)
        except RemoteProtocolError as error:
            if error.reason is Reason.UNKNOWN_MEMBER:  # all of it was read
                return error
            raise

    return Parser(accept, [encode(wire.Envelope(release=release))])


def _certificate(mesh: Mesh) -> Parser:
    """Parts of a certificate that a member has asked for, from the first record on."""
    pod = mesh.pods[0]
    own = Own(pod.signed, pod.keys, mesh.root, mesh.signed, ("10.0.0.1",))
    fetch = Fetch(mesh.manifest.digest, mesh.pods[1].iid, 0, held=True)
    member = replace(initial(own, 0), phase=Waiting(1, 0), fetch=fetch)
    seals = {p.iid: make_sealed(p.keys, p.iid, mesh.manifest).signature for p in mesh.pods[1:]}
    held = Certificate(mesh.sealed, seals)
    gone = build_mesh(seed=2).pods[0]
    left = replace(held, leave=make_leave(gone.keys, gone.signed.identity, mesh.manifest))
    examples = [envelope(part(each)) for each in (held, left)] + [envelope(part(held, count=1))]
    return Parser(lambda data: step(member, Received(data), 0), examples)


def _outside(mesh: Mesh) -> dict[str, Parser]:
    request = mesh.request()
    document = mesh.document()
    return {
        "document": Parser(parse_document, [document]),
        "verify": Parser(lambda data: verify_document(data, request), [document]),
        "url": Parser(
            lambda data: Endpoint.parse(data.decode("utf-8", "replace")),
            [b"https://shop.example:8444", b"https://[2001:db8::1]:8444/.well-known/toposeal/attestation"],
        ),
        "peer-port": Parser(
            lambda data: Endpoint.parse_peer(data.decode("utf-8", "replace")),
            [b"web", b"[2001:db8::1]:15443"],
        ),
        "handed": Parser(
            lambda data: decode(wire.Handed, data, "handed", MAX_ENVELOPE_SIZE),
            [encode(wire.Handed(topology=b"{}"))],
        ),
        "told": Parser(
            lambda data: read_pushed(decode(wire.Told, data, "told", MAX_ENVELOPE_SIZE).said),
            [encode(wire.Told(said=b'{"result": "known", "version": 8}'))],
        ),
        "pushed": Parser(read_pushed, [b'{"result": "accepted", "version": 8}']),
        "status": Parser(read_status, [_STATUS]),
        "history": Parser(
            lambda data: told(read_history(data, mesh.manifest.digest)), [build_history([mesh.manifest])]
        ),
    }

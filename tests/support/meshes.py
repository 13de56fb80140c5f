"""Whole sealed meshes on a simulated TDX platform, in process: every byte is what real members send.

`build_mesh()` has four members. Change one thing with `changed`, which re-encodes canonically.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from toposeal._wire import peer_pb2 as wire
from toposeal._wire.attestation_pb2 import AttestationDocument
from toposeal._wire.evidence_pb2 import TDX, Evidence
from toposeal.encoding import digest, encode
from toposeal.evidence.auxiliary import aux_digest
from toposeal.evidence.binding import ZERO_DIGEST, Binding, live_binding
from toposeal.evidence.gpu_certs import GpuEvidence
from toposeal.evidence.nonce_tree import tree_root
from toposeal.membership.hello import Hello, make_hello
from toposeal.membership.identity import SignedIdentity, make_identity
from toposeal.membership.manifest import Manifest, build_manifest, parse_manifest
from toposeal.membership.sealed import SealedManifest, SealedMember, seal_of
from toposeal.membership.signing import SigningKeys
from toposeal.membership.votes import make_commit
from toposeal.names import mesh_id
from toposeal.outside.document import LiveAnswer, document_parts
from toposeal.outside.model import VerifyRequest
from toposeal.pki.mint import mint_ca, serial_number
from toposeal.topology.accept import SignedTopology, accept
from toposeal.topology.dsse import sign
from toposeal.topology.model import Topology
from toposeal.topology.owner import OwnerRoot, spki
from toposeal.topology.strict_json import canonical
from toposeal.verification.model import AppraisalContext, VerifiedEvidence
from toposeal_lab.simtdx import LabHost, LabPki, TdxMeasurements, lab_measurements

MESH = "shop"
NOW = 1_800_000_000
NONCE = bytes(range(1, 33))
ROLES = {"web": 1, "api": 2, "db": 1}


@dataclass(frozen=True)
class Pod:
    """One member with its secrets and the machine that it runs on."""

    index: int
    role: str
    keys: SigningKeys
    signed: SignedIdentity
    hello: Hello
    host: LabHost
    measured: TdxMeasurements
    gpus: tuple[GpuEvidence, ...] = ()

    @property
    def iid(self) -> bytes:
        return self.signed.identity.iid

    def offering(
        self,
        topology: Topology,
        epoch: int,
        nonce: bytes | None = None,
        previous: bytes = ZERO_DIGEST,
    ) -> Pod:
        """This pod after it made a HELLO for `epoch`."""
        nonce = nonce or digest(f"nonce {epoch}", self.iid)[:32]
        hello = make_hello(
            self.keys,
            self.signed.identity,
            topology,
            epoch,
            nonce,
            (f"10.0.0.{self.index + 1}",),
            aux_digest(self.gpus),
            sealed=previous,
            previous=previous,
        )
        return replace(self, hello=hello)

    def quote(self, binding: Binding) -> Evidence:
        return Evidence(tee=TDX, quote=self.host.quote(binding.report_data(), self.measured))


@dataclass(frozen=True)
class Mesh:
    """A sealed mesh; `pods` stand in the manifest's order. Nothing stops it from being a bad one."""

    root: OwnerRoot
    owner_key: Ed25519PrivateKey
    pki: LabPki
    signed: SignedTopology
    pods: tuple[Pod, ...]
    manifest: Manifest
    now: int

    @property
    def collateral(self) -> bytes:
        return self.pki.collateral()

    def context(self, collateral: tuple[bytes, ...] = (), now: int | None = None) -> AppraisalContext:
        return AppraisalContext(self.pki.anchors(), collateral, self.now if now is None else now)

    def request(self, **changes: Any) -> VerifyRequest:
        """What an honest caller asks; `changes` are fields of VerifyRequest."""
        honest = {
            "owner": self.root,
            "mesh": self.signed.topology.mesh,
            "min_version": 1,
            "nonce": NONCE,
            "context": self.context(),
        }
        return VerifyRequest(**{**honest, **changes})

    def document(self, nonce: bytes = NONCE, answering: int = 0) -> bytes:
        """What member number `answering` serves for `nonce`."""
        pod = self.pods[answering]
        quote = pod.quote(live_binding(self.seal_binding(pod), tree_root((nonce,))))
        live = LiveAnswer(pod.iid, (nonce,), quote)
        return b"".join(document_parts(self.signed.envelope, self.sealed, live, 0, (self.collateral,)))

    @cached_property
    def sealed(self) -> SealedManifest:
        return SealedManifest(self.manifest, self.signed.topology, tuple(map(self._seal, self.pods)))

    def seal_binding(self, pod: Pod) -> Binding:
        """What the SEAL quote of `pod` says."""
        return seal_of(self.manifest, self.manifest.members[self.pods.index(pod)])

    def attempt(
        self, epoch: int, pods: Sequence[Pod] | None = None, previous: Manifest | None = None
    ) -> Mesh:
        """The same members (or only `pods`) committed to the manifest of `epoch` after `previous` instead; to
        a genesis without."""
        topology = self.signed.topology
        after = previous.digest if previous else ZERO_DIGEST
        offered = [pod.offering(topology, epoch, previous=after) for pod in pods or self.pods]
        entries = [pod.hello.entry(pod.signed.identity) for pod in offered]
        manifest = build_manifest(self.manifest.mesh_id, topology, epoch, entries, previous)
        return replace(self, pods=tuple(offered), manifest=manifest)

    def committed_to(self, change: Callable[[wire.Manifest], object]) -> Mesh:
        """All members committed to the manifest after `change`, as only dishonest ones would."""
        body = wire.Manifest.FromString(self.manifest.body)
        change(body)
        members = sorted(body.members, key=lambda entry: (entry.role, entry.iid))
        del body.members[:]
        body.members.extend(members)
        by_iid = {pod.iid: pod for pod in self.pods}
        pods = tuple(by_iid[entry.iid] for entry in members)
        return replace(self, manifest=parse_manifest(encode(body)), pods=pods)

    def _seal(self, pod: Pod) -> SealedMember:
        """The verdict of the member itself is not part of any document, so it is not asked for."""
        binding = self.seal_binding(pod)
        commit = make_commit(pod.keys, pod.iid, self.manifest, pod.quote(binding))
        seal = VerifiedEvidence("tdx", pod.role, binding, "UpToDate", (), pod.host.ppid, self.now)
        return SealedMember(pod.signed, pod.hello, commit, seal, pod.gpus)


def build_mesh(
    roles: Mapping[str, int] = ROLES,
    mesh: str = MESH,
    version: int = 3,
    epoch: int = 1,
    seed: int = 1,
    now: int = NOW,
    pki: LabPki | None = None,
    slack: int = 0,
    role_fields: Callable[[str], dict[str, Any]] = lambda role: {},
    **topology: Any,
) -> Mesh:
    """A mesh with so many members of each role; `seed` changes every member's keys.

    Every role may have `slack` more or fewer; `topology` replaces members of the topology document, and
    `role_fields` gives some to each role.
    """
    pki = pki or LabPki.create(now)
    owner_key = Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32)
    root = OwnerRoot.of([([spki(owner_key.public_key())], 1)])
    document = topology_document(roles, mesh, version, root, now, slack) | topology
    for role, fields in document["roles"].items():
        fields.update(role_fields(role))
    signed = accept(sign(canonical(document), [owner_key]), root, mesh, 1)
    names = [role for role, count in roles.items() for _ in range(count)]
    pods = [
        _pod(index, role, signed.topology, root, pki, epoch, seed, now) for index, role in enumerate(names)
    ]
    pods.sort(key=lambda pod: (pod.role, pod.iid))
    entries = [pod.hello.entry(pod.signed.identity) for pod in pods]
    manifest = build_manifest(mesh_id(root.canonical, mesh), signed.topology, epoch, entries)
    return Mesh(root, owner_key, pki, signed, tuple(pods), manifest, now)


def topology_document(
    roles: Mapping[str, int], mesh: str, version: int, root: OwnerRoot, now: int = NOW, slack: int = 0
) -> dict[str, Any]:
    """Every role serves 8080; `web`, where it exists, is open to the outside on 8443."""
    return {
        "mesh": mesh,
        "version": version,
        "issued_at": now - 1000,
        "owner_root": root.digest.hex(),
        "attestation_port": 8444,
        "tdx": {"tcb_status": ["UpToDate"], "advisories": [], "min_tcb_evaluation": 1},
        "roles": {role: _role_document(role, count, mesh, slack) for role, count in roles.items()},
    }


def tdx_reference(measured: TdxMeasurements) -> dict[str, Any]:
    """The reference that admits exactly `measured`."""
    return {
        "mrtd": measured.mrtd.hex(),
        **{f"rtmr{index}": register.hex() for index, register in enumerate(measured.rtmr)},
        "mrconfigid": measured.mrconfigid.hex(),
        "mrowner": measured.mrowner.hex(),
        "mrownerconfig": measured.mrownerconfig.hex(),
        "mrseam": [measured.mrseam.hex()],
        "td_attributes": measured.td_attributes.hex(),
        "xfam": measured.xfam.hex(),
    }


def changed(document: bytes, change: Callable[[AttestationDocument], object]) -> bytes:
    """`document` after `change` was applied to its parsed form."""
    message = AttestationDocument.FromString(document)
    change(message)
    return encode(message)


def _role_document(role: str, count: int, mesh: str, slack: int) -> dict[str, Any]:
    return {
        "replicas": {"min": max(count - slack, 0), "max": count + slack},
        "tdx": [tdx_reference(lab_measurements(role, mesh))],
        "platforms": "any",
        "serves": [8080],
        "calls": [],
        "ingress": [{"port": 8443, "target": 8080}] if role == "web" else [],
    }


def _pod(
    index: int,
    role: str,
    topology: Topology,
    root: OwnerRoot,
    pki: LabPki,
    epoch: int,
    seed: int,
    now: int,
) -> Pod:
    mesh = topology.mesh
    fill = digest(f"pod {seed} {index} {mesh}")
    ca_key = derive_private_key(int.from_bytes(fill[:31], "big") + 1, SECP256R1())
    keys = SigningKeys(Ed25519PrivateKey.from_private_bytes(fill[:32]), ca_key)
    ca_der = mint_ca(ca_key, mesh, serial_number(fill[:20]), now)
    identity = make_identity(keys, mesh_id(root.canonical, mesh), mesh, role, ca_der)
    first = make_hello(keys, identity.identity, topology, epoch, fill[16:], ("10.0.0.1",))
    host = LabHost(pki, ppid=bytes([index + 1]) * 16)
    pod = Pod(index, role, keys, identity, first, host, lab_measurements(role, mesh))
    return pod.offering(topology, epoch)

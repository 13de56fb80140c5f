"""An attestation document as the renderer's input, for people who read configuration. No IO.

Form and signatures of the members are checked, evidence is not: this is for showing, never for opening.
"""

from __future__ import annotations

from toposeal.dataplane.from_sealed import mesh_member
from toposeal.dataplane.view import PodView
from toposeal.errors import Reason, RemoteProtocolError
from toposeal.membership.manifest import parse_manifest
from toposeal.outside.document import parse_document
from toposeal.outside.verify import introductions
from toposeal.topology.model import Topology

FIRST_GENERATION = 1


def document_view(document: bytes, topology: Topology, iid: bytes) -> PodView:
    """What member `iid` (48 bytes) renders when it opens. Raises RemoteProtocolError."""
    parts = parse_document(document)
    manifest = parse_manifest(parts.manifest)
    if manifest.topology_digest != topology.digest:
        raise RemoteProtocolError.of(
            Reason.TOPOLOGY_MISMATCH,
            "manifest.topology_digest",
            manifest.topology_digest,
            topology.digest.hex(),
        )
    found = introductions(parts.members, manifest, topology)
    members = tuple(mesh_member(m.identity, m.hello.addresses) for m in found)
    own = next((member for member in members if member.iid == iid), None)
    if own is None:
        raise RemoteProtocolError.of(Reason.UNKNOWN_MEMBER, "member", iid, "one of the manifest")
    return PodView(topology, own, members, FIRST_GENERATION)

"""dataplane.from_document: what `toposeal envoy render` reads out of a member's attestation document."""

from __future__ import annotations

from functools import cache

import pytest
from support.meshes import Mesh, build_mesh, changed

from toposeal.dataplane.from_document import document_view
from toposeal.dataplane.from_sealed import pod_view
from toposeal.errors import Reason, RemoteProtocolError


@cache
def mesh() -> Mesh:
    return build_mesh()


@pytest.mark.parametrize("index", range(4))
def test_it_is_the_view_that_the_daemon_renders(index: int) -> None:
    iid = mesh().pods[index].iid
    found = document_view(mesh().document(), mesh().signed.topology, iid)
    assert found == pod_view(mesh().sealed, iid, 1)
    assert found.own.iid == iid
    assert [m.iid for m in found.members] == [e.iid for e in mesh().manifest.members]


def refusal(document: bytes, topology: Mesh, iid: bytes) -> Reason:
    with pytest.raises(RemoteProtocolError) as caught:
        document_view(document, topology.signed.topology, iid)
    return caught.value.reason


def test_a_document_of_another_topology_is_refused() -> None:
    other = build_mesh(version=4, pki=mesh().pki)
    assert refusal(mesh().document(), other, mesh().pods[0].iid) is Reason.TOPOLOGY_MISMATCH


def test_a_member_that_is_not_listed_is_refused() -> None:
    assert refusal(mesh().document(), mesh(), bytes([1]) * 48) is Reason.UNKNOWN_MEMBER


def test_members_that_are_not_the_manifests_are_refused() -> None:
    short = changed(mesh().document(), lambda d: d.members.pop())
    assert refusal(short, mesh(), mesh().pods[0].iid) is Reason.MEMBERS_INCOMPLETE

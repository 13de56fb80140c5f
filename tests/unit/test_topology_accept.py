"""From an envelope to the topology that a member goes by."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support.topologies import document, payload, refusals

from toposeal.errors import Reason
from toposeal.limits import MAX_VERSION, MAX_VERSION_STEP
from toposeal.topology.accept import accept, check_succession
from toposeal.topology.dsse import sign
from toposeal.topology.model import Topology
from toposeal.topology.owner import OwnerRoot, spki
from toposeal.topology.parse import parse_topology

KEY = Ed25519PrivateKey.from_private_bytes(b"a" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"b" * 32)
ROOT = OwnerRoot.of([([spki(KEY.public_key())], 1)])


def _envelope(key: Ed25519PrivateKey = KEY, root: OwnerRoot = ROOT, **changes: Any) -> bytes:
    return sign(payload(document(owner_root=root.digest.hex(), **changes)), [key])


def test_a_signed_topology_of_this_mesh_is_accepted() -> None:
    signed = accept(_envelope(), ROOT, "shop", 3)
    assert signed.topology == parse_topology(payload(document(owner_root=ROOT.digest.hex())))
    assert signed.envelope == _envelope()


def test_T3_the_signature_of_a_stranger_is_refused() -> None:
    refused = refusals(lambda: accept(_envelope(OTHER), ROOT, "shop", 1))
    assert refused == {(Reason.TOPOLOGY_SIGNATURE, "signatures")}


def test_T3_a_topology_of_another_mesh_is_refused() -> None:
    refused = refusals(lambda: accept(_envelope(mesh="shop-staging"), ROOT, "shop", 1))
    assert refused == {(Reason.TOPOLOGY_MESH, "mesh")}


def test_T3_a_topology_of_another_root_with_the_same_key_is_refused() -> None:
    looser = OwnerRoot.of([([spki(KEY.public_key()), spki(OTHER.public_key())], 1)])
    refused = refusals(lambda: accept(_envelope(root=looser), ROOT, "shop", 1))
    assert refused == {(Reason.TOPOLOGY_OWNER, "owner_root")}


def test_T4_a_version_below_the_measured_floor_is_refused() -> None:
    assert accept(_envelope(), ROOT, "shop", 3).topology.version == 3
    refused = refusals(lambda: accept(_envelope(), ROOT, "shop", 4))
    assert refused == {(Reason.TOPOLOGY_ROLLBACK, "version")}


def test_a_signed_payload_must_still_be_a_topology() -> None:
    refused = refusals(lambda: accept(sign(b"{}", [KEY]), ROOT, "shop", 1))
    assert (Reason.TOPOLOGY_INVALID, "mesh") in refused


def _version(version: int, **changes: Any) -> Topology:
    return parse_topology(payload(document(version=version, **changes)))


def test_a_higher_version_or_the_same_topology_may_follow() -> None:
    check_succession(_version(3), _version(3))
    check_succession(_version(3), _version(4))
    check_succession(_version(3), _version(3 + MAX_VERSION_STEP))


def test_T4_an_older_version_that_was_validly_signed_is_refused() -> None:
    refused = refusals(lambda: check_succession(_version(3), _version(2)))
    assert refused == {(Reason.TOPOLOGY_ROLLBACK, "version")}


def test_T5_two_contents_under_one_version_are_an_alarm() -> None:
    refused = refusals(lambda: check_succession(_version(3), _version(3, attestation_port=9999)))
    assert refused == {(Reason.TOPOLOGY_EQUIVOCATION, "digest")}


@pytest.mark.parametrize("version", [3 + MAX_VERSION_STEP + 1, MAX_VERSION])
def test_T6_a_step_that_burns_the_numbers_is_refused(version: int) -> None:
    refused = refusals(lambda: check_succession(_version(3), _version(version)))
    assert refused == {(Reason.TOPOLOGY_FAST_FORWARD, "version")}

"""The leaves with their private keys: what Envoy is sent."""

from __future__ import annotations

from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import Secret
from support.envoy import leaf_secrets
from support.forge import TestMember

from toposeal.dataplane.discovery import Kind
from toposeal.dataplane.envoy_secrets import secrets

(KIND, OFFER) = next(iter(secrets("mesh chain", "mesh key", "ingress chain", "ingress key").items()))


def test_each_secret_holds_one_leaf_and_its_key_in_envoys_schema() -> None:
    assert KIND is Kind.SECRET
    for name, chain, key in (("id", "mesh chain", "mesh key"), ("ingress", "ingress chain", "ingress key")):
        secret = Secret.parse(OFFER.resources[name])
        assert secret.name == name
        assert secret.tls_certificate is not None
        assert secret.tls_certificate.to_dict() == {
            "certificateChain": {"inlineString": chain},
            "privateKey": {"inlineString": key},
        }
        assert bytes(secret) == OFFER.resources[name]


def test_a_version_follows_from_the_public_chains_alone() -> None:
    def version(*given: str) -> str:
        return secrets(*given)[Kind.SECRET].version

    assert len(OFFER.version) == 16
    assert version("mesh chain", "other", "ingress chain", "other") == OFFER.version
    assert version("other", "mesh key", "ingress chain", "ingress key") != OFFER.version
    assert version("mesh chain", "mesh key", "other", "ingress key") != OFFER.version


def test_F4_K6_no_key_is_in_a_representation() -> None:
    member = TestMember("web")
    found = leaf_secrets(member)
    assert member.key_pem.encode() in found[Kind.SECRET].resources["id"]
    assert "PRIVATE" not in f"{found} {found!r}"

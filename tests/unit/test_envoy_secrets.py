"""The files with private keys: what Envoy is told, and what may be shown."""

from __future__ import annotations

import json

import betterproto2
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryResponse
from support.envoy import leaf_files
from support.forge import TestMember

from toposeal.dataplane.envoy_secrets import secret_version, secret_versions, secrets, withheld_secrets
from toposeal.dataplane.envoy_tls import accepts  # noqa: F401 - registers the types of a secret
from toposeal.dataplane.layout import INGRESS_SECRET_FILE, MESH_SECRET_FILE

FILES = secrets("mesh chain", "mesh key", "ingress chain", "ingress key")


def test_each_file_holds_one_leaf_and_its_key() -> None:
    for file, name, chain, key in (
        (MESH_SECRET_FILE, "id", "mesh chain", "mesh key"),
        (INGRESS_SECRET_FILE, "ingress", "ingress chain", "ingress key"),
    ):
        (secret,) = json.loads(FILES[file])["resources"]
        assert secret["name"] == name
        assert secret["tls_certificate"] == {
            "certificate_chain": {"inline_string": chain},
            "private_key": {"inline_string": key},
        }


def test_a_version_follows_from_the_public_chain_alone() -> None:
    assert secret_versions(FILES) == {
        "id": secret_version("mesh chain"),
        "ingress": secret_version("ingress chain"),
    }
    other_key = secrets("mesh chain", "another key", "ingress chain", "ingress key")
    assert secret_versions(other_key) == secret_versions(FILES)
    assert secret_version("a") != secret_version("b")


def test_the_files_are_messages_of_envoys_schema_in_its_order() -> None:
    for data in leaf_files(TestMember("web")).values():
        value = DiscoveryResponse.from_json(data).to_dict(casing=betterproto2.Casing.SNAKE)
        assert json.dumps(value, indent=2).encode() + b"\n" == data


def test_K6_what_is_shown_instead_of_secrets_is_empty() -> None:
    assert withheld_secrets().keys() == FILES.keys()
    assert all(json.loads(data)["resources"] == [] for data in withheld_secrets().values())

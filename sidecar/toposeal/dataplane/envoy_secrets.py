"""The two files with private keys, for Envoy alone. Written by the daemon itself, so that no other
process ever holds a key. No IO.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from toposeal.dataplane.envoy_json import SECRET_TYPE, response
from toposeal.dataplane.layout import INGRESS_SECRET_FILE, MESH_SECRET_FILE

MESH_SECRET = "id"
INGRESS_SECRET = "ingress"


def secrets(
    mesh_chain_pem: str, mesh_key_pem: str, ingress_chain_pem: str, ingress_key_pem: str
) -> dict[str, bytes]:
    """File name to bytes. A chain is the leaf alone: whoever checks it holds the CA."""
    return {
        MESH_SECRET_FILE: _secret(MESH_SECRET, mesh_chain_pem, mesh_key_pem),
        INGRESS_SECRET_FILE: _secret(INGRESS_SECRET, ingress_chain_pem, ingress_key_pem),
    }


def secret_version(chain_pem: str) -> str:
    """What Envoy acknowledges a secret by: 16 hex digits of SHA-256 over the public chain."""
    return hashlib.sha256(chain_pem.encode("ascii")).hexdigest()[:16]


def secret_versions(files: Mapping[str, bytes]) -> dict[str, str]:
    """Secret name to version, for `files` as `secrets` makes them."""
    contents = [json.loads(data) for data in files.values()]
    return {content["resources"][0]["name"]: content["version_info"] for content in contents}


def withheld_secrets() -> dict[str, bytes]:
    """The same two files without any secret in them: what may be shown to anybody."""
    return {name: response(SECRET_TYPE, "withheld", []) for name in (MESH_SECRET_FILE, INGRESS_SECRET_FILE)}


def _secret(name: str, chain_pem: str, key_pem: str) -> bytes:
    certificate = {
        "certificate_chain": {"inline_string": chain_pem},
        "private_key": {"inline_string": key_pem},
    }
    secret = {"name": name, "tls_certificate": certificate}
    return response(SECRET_TYPE, secret_version(chain_pem), [secret])

"""The pod's two leaves with their private keys, for Envoy alone. Encoded by the daemon itself, so that no
other process ever holds a key. No IO.
"""

from __future__ import annotations

import hashlib

from toposeal._wire import xds_pb2 as wire
from toposeal.dataplane.discovery import Kind, Offer, Update

MESH_SECRET = "id"
INGRESS_SECRET = "ingress"


def secrets(mesh_chain_pem: str, mesh_key_pem: str, ingress_chain_pem: str, ingress_key_pem: str) -> Update:
    """A chain is the leaf alone: whoever checks it holds the CA."""
    resources = {
        MESH_SECRET: _secret(MESH_SECRET, mesh_chain_pem, mesh_key_pem),
        INGRESS_SECRET: _secret(INGRESS_SECRET, ingress_chain_pem, ingress_key_pem),
    }
    return {Kind.SECRET: Offer(_version(mesh_chain_pem, ingress_chain_pem), resources)}


def _version(*chains: str) -> str:
    """16 hex digits of SHA-256 over what is public of both."""
    return hashlib.sha256("".join(chains).encode("ascii")).hexdigest()[:16]


def _secret(name: str, chain_pem: str, key_pem: str) -> bytes:
    leaf = wire.TlsCertificate(
        certificate_chain=wire.DataSource(inline_string=chain_pem),
        private_key=wire.DataSource(inline_string=key_pem),
    )
    return wire.Secret(name=name, tls_certificate=leaf).SerializeToString()

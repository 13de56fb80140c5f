"""Mints the pod's two leaves for Envoy; their keys are in this process and in Envoy, and in no file."""

from __future__ import annotations

import time

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import load_der_x509_certificate

from toposeal.dataplane.discovery import Update
from toposeal.dataplane.envoy_secrets import secrets
from toposeal.host.entropy import new_key, random_bytes
from toposeal.membership.state import Own
from toposeal.pki.mint import mint_ingress_leaf, mint_mesh_leaf, serial_number


def new_leaves(own: Own, lifetime_ms: int) -> Update:
    """Both leaves with fresh keys, valid for `lifetime_ms` from now."""
    lifetime_s = lifetime_ms // 1000
    now, ca = int(time.time()), own.identity.ca.der
    mesh_key, ingress_key = new_key(), new_key()
    mesh = mint_mesh_leaf(
        own.keys.ca, ca, own.identity.role, mesh_key, serial_number(random_bytes(20)), now, lifetime_s
    )
    ingress = mint_ingress_leaf(
        own.keys.ca, ca, ingress_key, serial_number(random_bytes(20)), now, lifetime_s
    )
    return secrets(_pem(mesh), _key_pem(mesh_key), _pem(ingress), _key_pem(ingress_key))


def _pem(der: bytes) -> str:
    return load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode("ascii")


def _key_pem(key: EllipticCurvePrivateKey) -> str:
    encoded = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return encoded.decode("ascii")

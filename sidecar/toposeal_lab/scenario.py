"""The example application: who is in it, what the owner declares and signs. Values only.

docs/examples/shop/topology.yaml is the same declaration as an owner writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from toposeal.topology.dsse import sign
from toposeal.topology.owner import OwnerRoot, spki
from toposeal.topology.strict_json import canonical
from toposeal_lab.simtdx import LabPki, lab_measurements

MESH = "shop"
VERSION = 1
ATTESTATION_PORT = 8444
INGRESS_PORT = 8443
HTTP_PORT = 8080
REDIS_PORT = 6379
MEMBERS: Mapping[str, str] = {"web": "web", "api-1": "api", "api-2": "api", "db": "db"}  # pod: role


@dataclass(frozen=True)
class RoleSpec:
    """What the shop's owner says of one role; `calls` and `ingress` are (role, port) and (port, target)."""

    replicas: int
    serves: int
    calls: tuple[tuple[str, int], ...] = ()
    ingress: tuple[tuple[int, int], ...] = ()


ROLES: Mapping[str, RoleSpec] = {
    "web": RoleSpec(1, HTTP_PORT, calls=(("api", HTTP_PORT),), ingress=((INGRESS_PORT, HTTP_PORT),)),
    "api": RoleSpec(2, HTTP_PORT, calls=(("db", REDIS_PORT),)),
    "db": RoleSpec(1, REDIS_PORT),
}


@dataclass(frozen=True)
class Declaration:
    """What the owner gives to every pod and to every outside verifier."""

    owner: OwnerRoot
    envelope: bytes  # the signed topology, DSSE


def declare(issued_at: int, key: Ed25519PrivateKey) -> Declaration:
    """The shop's topology over the lab's measured values, signed by its one owner `key`.

    `issued_at` in Unix seconds: members and verifiers take it as a lower bound of now.
    """
    root = OwnerRoot.of([([spki(key.public_key())], 1)])
    document = {
        "mesh": MESH,
        "version": VERSION,
        "issued_at": issued_at,
        "owner_root": root.digest.hex(),
        "attestation_port": ATTESTATION_PORT,
        "tdx": {"tcb_status": ["UpToDate"], "advisories": [], "min_tcb_evaluation": 1},
        "roles": {name: _role(name, spec) for name, spec in ROLES.items()},
    }
    return Declaration(root, sign(canonical(document), [key]))


def public_files(declaration: Declaration, vendor: LabPki) -> dict[str, bytes]:
    """What every pod and every outside verifier is given, by file name."""
    return {
        "owner.json": declaration.owner.canonical,
        "topology.json": declaration.envelope,
        "root.der": vendor.root_der,
        "collateral.json": b"[" + vendor.collateral() + b"]",
    }


def _role(name: str, spec: RoleSpec) -> dict[str, object]:
    return {
        "replicas": {"min": spec.replicas, "max": spec.replicas},
        "tdx": [lab_measurements(name, MESH).reference()],
        "platforms": "any",
        "serves": [spec.serves],
        "calls": [{"role": role, "port": port} for role, port in spec.calls],
        "ingress": [{"port": port, "target": target} for port, target in spec.ingress],
    }

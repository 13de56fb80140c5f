"""The example application: who is in it, what the owner declares and signs. Values only.

docs/examples/shop/topology.yaml is the same declaration as an owner writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from toposeal.evidence.bundle import Bundle
from toposeal.topology.dsse import sign
from toposeal.topology.owner import OwnerRoot, spki
from toposeal.topology.strict_json import canonical
from toposeal.topology.tee_schema import INSTANCE
from toposeal_lab.simsnp import LabAmd, lab_snp_measurements
from toposeal_lab.simtdx import LabPki, lab_measurements
from toposeal_lab.tees import TeeChoice

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
class Cast:
    """Which pods there may be, by role; how many of a role the owner allows, where that is no fixed number;
    timers in milliseconds, where they are not the defaults; and calls that the shop has besides.
    """

    members: Mapping[str, str] = field(default_factory=lambda: MEMBERS)
    replicas: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # least, most
    timers: Mapping[str, int] = field(default_factory=dict)
    calls: Mapping[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)  # as in RoleSpec
    version: int = VERSION


# What every role demands of each kind of TEE.
_LEVELS = {"bl": 0, "tee": 0, "snp": 0, "ucode": 0}
POLICIES: Mapping[str, Mapping[str, object]] = {
    "tdx": {"tcb_status": ["UpToDate"], "advisories": [], "min_tcb_evaluation": 1},
    "snp": {
        "endorsements": ["VCEK"],
        "csp_ids": "any",
        "products": {"Genoa": {"reported": _LEVELS, "committed": _LEVELS, "launch": _LEVELS}},
        "vmpl": 0,
        "admit": ["SMT"],
        "require": [],
        "require_platform": [],
        "lowered_tcb": "refused",
        "provisional_firmware": "refused",
        "launch_mitigations": "00" * 8,
        "current_mitigations": "00" * 8,
        "crl": "required",
    },
}
AMD_ROOT = "ark.der"


@dataclass(frozen=True)
class Declaration:
    """What the owner gives to every pod and to every outside verifier."""

    owner: OwnerRoot
    envelope: bytes  # the signed topology, DSSE


def declare(
    issued_at: int, key: Ed25519PrivateKey, choice: TeeChoice = TeeChoice.TDX, cast: Cast | None = None
) -> Declaration:
    """The shop's topology over the lab's measured values, signed by its one owner `key`.

    `issued_at` in Unix seconds: members and verifiers take it as a lower bound of now. `choice` says which
    kinds of TEE every role admits.
    """
    cast = cast or Cast()
    root = OwnerRoot.of([([spki(key.public_key())], 1)])
    document = {
        "mesh": MESH,
        "version": cast.version,
        "issued_at": issued_at,
        "owner_root": root.digest.hex(),
        "attestation_port": ATTESTATION_PORT,
        **({"timers": dict(cast.timers)} if cast.timers else {}),
        **{kind: POLICIES[kind] for kind in choice.kinds},
        "roles": {name: _role(name, spec, choice, cast) for name, spec in ROLES.items()},
    }
    return Declaration(root, sign(canonical(document), [key]))


def public_files(declaration: Declaration, vendor: LabPki, amd: LabAmd | None = None) -> dict[str, bytes]:
    """What every pod and every outside verifier is given, by file name."""
    files = {
        "owner.json": declaration.owner.canonical,
        "topology.json": declaration.envelope,
        "root.der": vendor.root_der,
    }
    if amd is None:
        return files | {"collateral.json": Bundle(tdx=(vendor.collateral(),)).dump()}
    bundle = Bundle(tdx=(vendor.collateral(),), crls=(amd.crl(),))
    return files | {AMD_ROOT: amd.anchors().amd_roots[0], "collateral.json": bundle.dump()}


def _role(name: str, spec: RoleSpec, choice: TeeChoice, cast: Cast) -> dict[str, object]:
    least, most = cast.replicas.get(name, (spec.replicas, spec.replicas))
    references: dict[str, dict[str, object]] = {
        "tdx": {**lab_measurements(name, MESH).reference(), "rtmr3": INSTANCE},
        "snp": lab_snp_measurements(name, MESH).declared(),
    }
    return {
        "replicas": {"min": least, "max": most},
        **{kind: [references[kind]] for kind in choice.kinds},
        "platforms": "any",
        "serves": [spec.serves],
        "calls": [{"role": role, "port": port} for role, port in (*spec.calls, *cast.calls.get(name, ()))],
        "ingress": [{"port": port, "target": target} for port, target in spec.ingress],
    }

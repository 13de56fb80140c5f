"""An owner, signed topologies, and evidence in clear: what the protocol's tests need of the rest.

Only the vendor's part is symbolic: evidence is report_data followed by the measured role, and the
appraisal compares both, as the real one does.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal.errors import Mismatch, Reason
from toposeal.evidence.binding import Binding
from toposeal.limits import REPORT_DATA_SIZE
from toposeal.membership.events import Appraise, Appraised, Refused
from toposeal.topology.accept import SignedTopology, accept
from toposeal.topology.dsse import sign
from toposeal.topology.model import Role
from toposeal.topology.owner import OwnerRoot, spki
from toposeal.topology.strict_json import canonical
from toposeal.verification.model import VerifiedEvidence

MESH = "shop"
WALL = 1_800_000_000


@cache
def owner(seed: int = 1) -> tuple[OwnerRoot, Ed25519PrivateKey]:
    key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return OwnerRoot.of([([spki(key.public_key())], 1)]), key


_NOBODY = "ee" * 48  # what no guest measures


def role_document(
    index: int, low: int, high: int, calls: list[dict[str, Any]] | None = None, wrong: bool = False
) -> dict[str, Any]:
    digest = f"{index + 1:02x}" * 48
    zero = "00" * 48
    return {
        "replicas": {"min": low, "max": high},
        "tdx": [
            {
                "mrtd": digest,
                **{f"rtmr{i}": zero for i in range(4)},
                "mrconfigid": digest,
                "mrowner": _NOBODY if wrong else zero,
                "mrownerconfig": zero,
                "mrseam": "any",
                "td_attributes": "0000001000000000",
                "xfam": "e702060000000000",
            }
        ],
        "platforms": "any",
        "serves": [8080],
        "calls": calls or [],
        "ingress": [],
    }


def signed_topology(
    roles: dict[str, tuple[int, int]],
    version: int = 1,
    mesh: str = MESH,
    owner_seed: int = 1,
    issued_at: int = WALL - 1000,
    on_quorum_loss: str = "regenesis",
    calls: bool = False,
    wrong: Collection[str] = (),
    **timers: int,
) -> SignedTopology:
    """`roles` gives (min, max) by name; `timers` are the document's. `issued_at` changes the digest. With
    `calls` every role calls every other, and itself. The reference values of roles in `wrong` fit nobody.
    """
    root, key = owner(owner_seed)
    edges = [{"role": name, "port": 8080} for name in roles] if calls else []
    document = {
        "mesh": mesh,
        "version": version,
        "issued_at": issued_at,
        "owner_root": root.digest.hex(),
        "attestation_port": 8444,
        "timers": timers,
        "on_quorum_loss": on_quorum_loss,
        "tdx": {"tcb_status": ["UpToDate"], "advisories": [], "min_tcb_evaluation": 1},
        "roles": {
            name: role_document(index, low, high, edges, name in wrong)
            for index, (name, (low, high)) in enumerate(roles.items())
        },
    }
    return accept(sign(canonical(document), [key]), root, mesh, 1)


def symbolic_evidence(binding: Binding, measured_role: str) -> wire_evidence.Evidence:
    return wire_evidence.Evidence(
        tee=wire_evidence.TDX, quote=binding.report_data() + measured_role.encode("ascii")
    )


def symbolic_appraisal(event: Appraise, expires_at: int = 1 << 40) -> Appraised | Refused:
    report_data = event.evidence.quote[:REPORT_DATA_SIZE]
    role = event.evidence.quote[REPORT_DATA_SIZE:].decode("ascii", "replace")
    if report_data != event.binding.report_data():
        return Refused(event.ticket, Mismatch(Reason.REPORT_DATA, "report_data", "another", "this"))
    if role not in event.topology.roles:
        return Refused(event.ticket, Mismatch(Reason.MEASUREMENT, "role", role, "a role of the topology"))
    if _fits_nobody(event.topology.roles[role]):
        return Refused(event.ticket, Mismatch(Reason.MEASUREMENT, "mrowner", "zero", _NOBODY))
    if role != event.binding.role:
        return Refused(event.ticket, Mismatch(Reason.ROLE_MISMATCH, "role", role, event.binding.role))
    verified = VerifiedEvidence("tdx", role, event.binding, "UpToDate", (), bytes(16), expires_at)
    return Appraised(event.ticket, verified)


def _fits_nobody(role: Role) -> bool:
    return any(reference.mrowner == bytes.fromhex(_NOBODY) for reference in role.tdx)

"""toposeal: a distributed confidential application attests itself as a whole, without a coordinator.

The library is the outside verifier, of a running mesh (docs/verify.md) and of one piece of evidence
(docs/evidence.md). Everything else is the command's.

    from toposeal import PolicyError, verify

    mesh = verify("https://shop.example:8444", owner="owner.json", mesh="shop", min_version=3)
    for member in mesh.members:
        print(member.role, member.domain, member.tcb_status)

The names below are loaded when they are first used: importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toposeal.errors import EvidenceError as EvidenceError
    from toposeal.errors import Mismatch as Mismatch
    from toposeal.errors import NetworkError as NetworkError
    from toposeal.errors import PolicyError as PolicyError
    from toposeal.errors import Reason as Reason
    from toposeal.errors import RemoteProtocolError as RemoteProtocolError
    from toposeal.errors import ToposealError as ToposealError
    from toposeal.errors import UsageError as UsageError
    from toposeal.host.evidence_verifier import VerifiedEvidence as VerifiedEvidence
    from toposeal.host.evidence_verifier import verify_evidence as verify_evidence
    from toposeal.host.verifier import verify as verify
    from toposeal.outside.model import VerifiedMember as VerifiedMember
    from toposeal.outside.model import VerifiedMesh as VerifiedMesh

_ORIGINS = {
    "verify": "toposeal.host.verifier",
    "verify_evidence": "toposeal.host.evidence_verifier",
    "VerifiedEvidence": "toposeal.host.evidence_verifier",
    "VerifiedMesh": "toposeal.outside.model",
    "VerifiedMember": "toposeal.outside.model",
    "Reason": "toposeal.errors",
    "Mismatch": "toposeal.errors",
    "ToposealError": "toposeal.errors",
    "UsageError": "toposeal.errors",
    "NetworkError": "toposeal.errors",
    "EvidenceError": "toposeal.errors",
    "RemoteProtocolError": "toposeal.errors",
    "PolicyError": "toposeal.errors",
}

__all__ = [
    "EvidenceError",
    "Mismatch",
    "NetworkError",
    "PolicyError",
    "Reason",
    "RemoteProtocolError",
    "ToposealError",
    "UsageError",
    "VerifiedEvidence",
    "VerifiedMember",
    "VerifiedMesh",
    "verify",
    "verify_evidence",
]


if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> object:
        """Load a public name on first use (PEP 562)."""
        if name not in _ORIGINS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_ORIGINS[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__

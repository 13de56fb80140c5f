"""A member's role is the measured one, never the claimed one. No IO."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from toposeal.errors import Mismatch, PolicyError, Reason
from toposeal.topology.model import Role, Topology

# What differs between the measured guest and each reference that a role has for its kind.
Differences = Callable[[Role], Iterator[list[Mismatch]]]


def measured_role(topology: Topology, expected: str, kind: str, differences: Differences) -> Role:
    """The one role of which a reference fits; it has to be `expected` (E5, E6).

    Raises PolicyError: ROLE_UNKNOWN, ROLE_MISMATCH, ROLES_INDISTINGUISHABLE, or, where no role fits,
    all that differs from the closest reference of `expected`.
    """
    if expected not in topology.roles:
        raise PolicyError.of(Reason.ROLE_UNKNOWN, "role", expected, "a role of the topology")
    fitting = [role for role in topology.roles.values() if any(not found for found in differences(role))]
    if not fitting:
        field = f"roles.{expected}.{kind}"
        nothing = [Mismatch(Reason.EVIDENCE_KIND, field, "no reference", f"references for {kind}")]
        raise PolicyError(*min(differences(topology.roles[expected]), key=len, default=nothing))
    if len(fitting) != 1:
        names = [role.name for role in fitting]
        raise PolicyError.of(Reason.ROLES_INDISTINGUISHABLE, "role", names, "one role by measurement")
    if fitting[0].name != expected:
        raise PolicyError.of(Reason.ROLE_MISMATCH, "role", fitting[0].name, expected)
    return fitting[0]

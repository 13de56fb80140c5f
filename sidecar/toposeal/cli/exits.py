"""Exit codes by cause, one table for every command. No IO."""

from __future__ import annotations

from enum import IntEnum

from toposeal.errors import (
    EvidenceError,
    NetworkError,
    PolicyError,
    Reason,
    RemoteProtocolError,
    TopologyError,
    ToposealError,
    UsageError,
)


class Exit(IntEnum):
    """What a caller can act on: 0 to 4 are stable for `toposeal verify`."""

    OK = 0
    USAGE = 1  # arguments, files or the owner's own declaration
    EVIDENCE = 2  # something is not authentic, or does not say what it must
    NETWORK = 3  # nobody answered in time
    POLICY = 4  # authentic, and not what the owner or the caller accepts
    POD = 5  # firewall, Envoy, state directory, quote source, or a defect of our own


_BY_CLASS = (
    (UsageError, Exit.USAGE),
    (EvidenceError, Exit.EVIDENCE),
    (RemoteProtocolError, Exit.EVIDENCE),
    (NetworkError, Exit.NETWORK),
    (PolicyError, Exit.POLICY),
)
# A declaration may be one's own file or come from a stranger: the reason tells what its fault means.
_BY_REASON = {
    Reason.TOPOLOGY_INVALID: Exit.USAGE,
    Reason.ROLES_INDISTINGUISHABLE: Exit.USAGE,
    Reason.TOPOLOGY_SIGNATURE: Exit.EVIDENCE,
    Reason.TOPOLOGY_THRESHOLD: Exit.EVIDENCE,
    Reason.TOPOLOGY_OWNER: Exit.EVIDENCE,
    Reason.TOPOLOGY_MESH: Exit.EVIDENCE,
    Reason.TOPOLOGY_MISMATCH: Exit.EVIDENCE,
    Reason.TOPOLOGY_EQUIVOCATION: Exit.EVIDENCE,
    Reason.TOPOLOGY_ROLLBACK: Exit.POLICY,
    Reason.TOPOLOGY_FAST_FORWARD: Exit.POLICY,
}


def exit_code(error: ToposealError) -> Exit:
    """The code of a refusal; whatever has no cause of its own is the pod's."""
    for kind, code in _BY_CLASS:
        if isinstance(error, kind):
            return code
    unlisted = Exit.USAGE if isinstance(error, TopologyError) else Exit.POD
    return _BY_REASON.get(error.reason, unlisted)

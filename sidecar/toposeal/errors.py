"""Typed refusals: one stable `Reason` each, split by whose fault it is. No IO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """Stable codes: exception field, log field, metric label and test expectation at once."""

    # Parsing of anything that crosses a trust boundary.
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    NOT_CANONICAL = "not_canonical"
    UNKNOWN_VERSION = "unknown_version"

    # Topology and owner.
    TOPOLOGY_INVALID = "topology_invalid"
    TOPOLOGY_SIGNATURE = "topology_signature"
    TOPOLOGY_THRESHOLD = "topology_threshold"
    TOPOLOGY_OWNER = "topology_owner"
    TOPOLOGY_MESH = "topology_mesh"
    TOPOLOGY_ROLLBACK = "topology_rollback"
    TOPOLOGY_EQUIVOCATION = "topology_equivocation"
    TOPOLOGY_MISMATCH = "topology_mismatch"
    TOPOLOGY_FAST_FORWARD = "topology_fast_forward"
    TOPOLOGY_SUPERSEDED = "topology_superseded"
    ROLES_INDISTINGUISHABLE = "roles_indistinguishable"

    # Evidence: is it authentic?
    QUOTE_SOURCE = "quote_source"
    QUOTE_FORMAT = "quote_format"
    QUOTE_TEE_TYPE = "quote_tee_type"
    QUOTE_SIGNATURE = "quote_signature"
    QUOTE_TRAILING = "quote_trailing"
    COLLATERAL_MISSING = "collateral_missing"
    COLLATERAL_INVALID = "collateral_invalid"
    COLLATERAL_SIGNER = "collateral_signer"
    COLLATERAL_ROLLBACK = "collateral_rollback"
    QE_IDENTITY = "qe_identity"
    PCE_ID = "pce_id"
    EVIDENCE_KIND = "evidence_kind"
    REVOKED = "revoked"

    # Evidence: is it acceptable, and does it say what the message says?
    REPORT_DATA = "report_data"
    TCB_STATUS = "tcb_status"
    TCB_ADVISORY = "tcb_advisory"
    TCB_EVALUATION = "tcb_evaluation"
    TD_ATTRIBUTES = "td_attributes"
    TD_DEBUG = "td_debug"
    TD_MIGRATABLE = "td_migratable"
    SERVICE_TD = "service_td"
    XFAM = "xfam"
    MEASUREMENT = "measurement"
    CONFIG_DIGEST = "config_digest"
    ROLE_UNKNOWN = "role_unknown"
    ROLE_MISMATCH = "role_mismatch"
    PLATFORM_REFUSED = "platform_refused"
    RTMR3_INSTANCE = "rtmr3_instance"

    # Evidence of AMD SEV-SNP besides what it shares with TDX.
    CERTIFICATE_INVALID = "certificate_invalid"
    CERTIFICATE_TABLE = "certificate_table"
    SIGNING_KEY = "signing_key"
    PRODUCT = "product"
    PRODUCT_REFUSED = "product_refused"
    CHIP_ID = "chip_id"
    CSP_ID = "csp_id"
    TCB_MISMATCH = "tcb_mismatch"
    TCB_FLOOR = "tcb_floor"
    GUEST_DEBUG = "guest_debug"
    GUEST_MIGRATABLE = "guest_migratable"
    GUEST_POLICY = "guest_policy"
    PLATFORM_INFO = "platform_info"
    VMPL = "vmpl"
    MITIGATIONS = "mitigations"
    ID_KEY = "id_key"
    PROVISIONAL_FIRMWARE = "provisional_firmware"

    # Guests that cannot speak for themselves, or not for one pod alone.
    PARAVISOR = "paravisor"
    SHARED_CVM = "shared_cvm"

    # Event logs and run-time registers.
    EVENT_LOG = "event_log"
    EVENT_LOG_REPLAY = "event_log_replay"
    RTMR_EXTEND = "rtmr_extend"
    RTMR_ABSENT = "rtmr_absent"

    # Evidence of GPUs besides what it shares with the others.
    GPU_SOURCE = "gpu_source"
    GPU_MODE = "gpu_mode"
    GPU_COUNT = "gpu_count"
    GPU_MODEL = "gpu_model"
    GPU_DUPLICATE = "gpu_duplicate"
    RIM = "rim"

    # Protocol between members.
    PROTOCOL_VERSION = "protocol_version"
    MESH_MISMATCH = "mesh_mismatch"
    SIGNATURE_INVALID = "signature_invalid"
    IDENTITY_MISMATCH = "identity_mismatch"
    REFLECTED = "reflected"
    CA_PROFILE = "ca_profile"
    ADDRESS_REFUSED = "address_refused"
    UNKNOWN_MEMBER = "unknown_member"
    DUPLICATE_MEMBER = "duplicate_member"
    STALE_ATTEMPT = "stale_attempt"
    EPOCH_BOUND = "epoch_bound"
    MANIFEST_INVALID = "manifest_invalid"
    MANIFEST_MISMATCH = "manifest_mismatch"
    MANIFEST_OWN_ENTRY = "manifest_own_entry"
    MANIFEST_BOUNDS = "manifest_bounds"
    MANIFEST_LINEAGE = "manifest_lineage"
    COMMIT_REPEATED = "commit_repeated"
    LATE_SEAL = "late_seal"
    NOT_ACTIVE = "not_active"
    NO_MAJORITY = "no_majority"
    QUORUM_LOST = "quorum_lost"
    SEAL_TOO_OLD = "seal_too_old"
    SIBLING_ACTIVE = "sibling_active"
    CERTIFICATE_UNKNOWN = "certificate_unknown"
    RATE_LIMITED = "rate_limited"
    ILLEGAL_EVENT = "illegal_event"

    # Outside verification.
    NONCE_MISMATCH = "nonce_mismatch"
    MEMBERS_INCOMPLETE = "members_incomplete"
    STATUS_NOT_ACTIVE = "status_not_active"
    LINEAGE_CHANGED = "lineage_changed"
    EPOCH_ROLLBACK = "epoch_rollback"
    NETWORK = "network"
    USAGE = "usage"

    # Kubernetes manifests: what inject does not take.
    MANIFEST_REFUSED = "manifest_refused"

    # The pod itself: each of these closes or keeps closed.
    FIREWALL = "firewall"
    FIREWALL_CHANGED = "firewall_changed"
    ENVOY_FAILED = "envoy_failed"
    ENVOY_REJECTED = "envoy_rejected"
    PROBE_FAILED = "probe_failed"
    QUOTE_ACCESS = "quote_access"
    STATE_DIR = "state_dir"
    ENTROPY = "entropy"
    INTERNAL = "internal"


@dataclass(frozen=True)
class Mismatch:
    """One thing that is wrong: which field, what was found, what was expected."""

    reason: Reason
    field: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.field}: found {self.found}, expected {self.expected} [{self.reason.value}]"


class ToposealError(Exception):
    """Base of every refusal. Carries at least one mismatch; the first one names the reason."""

    def __init__(self, *mismatches: Mismatch) -> None:
        if not mismatches:
            raise ValueError("a refusal without a mismatch says nothing")
        super().__init__("; ".join(str(m) for m in mismatches))
        self.mismatches: Sequence[Mismatch] = mismatches

    @property
    def reason(self) -> Reason:
        return self.mismatches[0].reason

    @classmethod
    def of(cls, reason: Reason, field: str, found: object, expected: object) -> Self:
        """Build the common one-mismatch refusal of this class."""
        return cls(Mismatch(reason, field, printable(found), printable(expected)))


class UsageError(ToposealError):
    """The caller's fault: arguments, files or configuration of this process."""


class TopologyError(ToposealError):
    """The owner's fault: the declaration or its signatures."""


class EvidenceError(ToposealError):
    """The attester's fault: a quote or its collateral is not authentic."""


class PolicyError(ToposealError):
    """Authentic evidence that the owner's policy does not accept."""


class RemoteProtocolError(ToposealError):
    """A peer's fault: a message that PROTOCOL.md does not allow."""


class LocalProtocolError(ToposealError):
    """Our own fault: an event that the current state does not know. Fences."""


class QuoteSourceError(ToposealError):
    """The platform's fault: no quote could be had. `retry` tells whether asking again can help."""

    retry: bool = False


class NetworkError(ToposealError):
    """Nobody's fault: a peer or server could not be reached in time."""


class PodError(ToposealError):
    """The pod's fault: firewall, Envoy, state directory. The gate stays or becomes closed."""


_PRINTABLE_LIMIT = 160


def printable(value: object, limit: int = _PRINTABLE_LIMIT) -> str:
    """Render untrusted `value` for logs and terminals: ASCII, no controls, bounded length (C2)."""
    clean = _text(value, limit)[: limit + 1]
    if not (clean.isascii() and clean.isprintable()):
        clean = "".join(c if " " <= c <= "~" else f"\\u{{{ord(c):x}}}" for c in clean)
    return clean if len(clean) <= limit else clean[:limit] + "..."


def _text(value: object, limit: int) -> str:
    """Of any value: Python writes no number of more than 4300 digits, alone or in a list, and raises."""
    if isinstance(value, (bytes, bytearray)):
        return value[: limit + 1].hex()
    try:
        return str(value)
    except ValueError:
        return f"{type(value).__name__} too long to write"

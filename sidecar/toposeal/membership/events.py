"""What goes into the member's state machine and what comes out (PROTOCOL.md 6). No IO."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal.errors import Mismatch
from toposeal.evidence.binding import ZERO_DIGEST, Binding, Purpose
from toposeal.membership.sealed import SealedManifest
from toposeal.topology.model import Topology
from toposeal.verification.model import VerifiedEvidence


class Subject(StrEnum):
    """What an appraisal is about."""

    JOIN = "join"
    COMMIT = "commit"
    RECORD = "record"  # of a certificate that is being fetched


@dataclass(frozen=True)
class Ticket:
    """Names one appraisal: whose evidence, over which id_digest (JOIN) or manifest digest (the others)."""

    subject: Subject
    iid: bytes
    digest: bytes
    topology: bytes = ZERO_DIGEST  # of JOIN evidence alone: by which topo_digest; a manifest names its own


# Events.


@dataclass(frozen=True)
class Quoted:
    """The platform answered a `Quote` effect."""

    binding: Binding
    evidence: wire_evidence.Evidence


@dataclass(frozen=True)
class QuoteFailed:
    binding: Binding
    mismatch: Mismatch


@dataclass(frozen=True)
class Received:
    """One envelope from the peer link, exact bytes, from anybody."""

    data: bytes


@dataclass(frozen=True)
class Appraised:
    """Verification accepted the evidence of an `Appraise` effect."""

    ticket: Ticket
    verified: VerifiedEvidence


@dataclass(frozen=True)
class Refused:
    """Verification refused it."""

    ticket: Ticket
    mismatch: Mismatch


@dataclass(frozen=True)
class Timer:
    """The deadline has passed. The only way for entropy to enter: 64 fresh random bytes."""

    entropy: bytes = field(repr=False)


@dataclass(frozen=True)
class Fault:
    """Something in the pod failed that the protocol cannot explain."""

    mismatch: Mismatch


@dataclass(frozen=True)
class Leave:
    """The pod is to end: ask to be left out, and serve until that is so or cannot be."""


Event = Quoted | QuoteFailed | Received | Appraised | Refused | Timer | Fault | Leave


# Effects.


@dataclass(frozen=True)
class Quote:
    """Ask the platform for one quote over `binding.report_data()`."""

    binding: Binding

    @property
    def purpose(self) -> Purpose:
        return self.binding.purpose


@dataclass(frozen=True)
class Appraise:
    """Verify `evidence` against `binding` and `topology` outside the machine; answer with the ticket."""

    ticket: Ticket
    evidence: wire_evidence.Evidence
    binding: Binding
    topology: Topology


@dataclass(frozen=True)
class Send:
    """Deliver `data` to member `iid` at any of `addresses`."""

    iid: bytes
    addresses: tuple[str, ...]
    data: bytes


@dataclass(frozen=True)
class Announce:
    """Deliver `messages`, the own Introduction first, to every configured peer address but those `known`: who
    is there is told by itself what it may not know.
    """

    messages: tuple[bytes, ...]
    known: frozenset[str] = frozenset()  # IP literals


@dataclass(frozen=True)
class Alarm:
    """Tell the operator; the state went on."""

    mismatch: Mismatch


@dataclass(frozen=True)
class Activate:
    """Every member has sealed: the gate may open on this manifest, or goes on with it."""

    sealed: SealedManifest


@dataclass(frozen=True)
class Suspend:
    """Serve nobody until `Resume`."""

    mismatch: Mismatch


@dataclass(frozen=True)
class Resume:
    """Serve again, on the manifest of the last `Activate`."""


@dataclass(frozen=True)
class Left:
    """The pod may end: the others go on without us (`replaced`), or cannot do without us. They need the
    `farewell`, our LEAVE: it is sent when nothing is served any more, and the member is fenced.
    """

    replaced: bool
    farewell: tuple[Send, ...] = ()


@dataclass(frozen=True)
class Fence:
    """Close the gate, stop Envoy, wipe the keys, exit."""

    mismatch: Mismatch


Effect = Quote | Appraise | Send | Announce | Alarm | Activate | Suspend | Resume | Left | Fence

"""The state of one member as immutable values (PROTOCOL.md 6.1). No IO, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal.errors import Mismatch
from toposeal.evidence.binding import ZERO_DIGEST
from toposeal.evidence.gpu_certs import GpuEvidence
from toposeal.limits import NONCE_SIZE
from toposeal.membership.certificate import Certificate
from toposeal.membership.hello import Hello
from toposeal.membership.identity import Identity, SignedIdentity
from toposeal.membership.leave import SignedLeave
from toposeal.membership.manifest import Manifest
from toposeal.membership.records import Introduced
from toposeal.membership.sealed import AdmittedPeer, SealedManifest, SealedMember
from toposeal.membership.signing import SigningKeys
from toposeal.membership.votes import SignedCommit
from toposeal.topology.accept import SignedTopology
from toposeal.topology.model import Topology
from toposeal.topology.owner import OwnerRoot
from toposeal.verification.model import VerifiedEvidence


@dataclass(frozen=True)
class Own:
    """What stays the same for the whole boot, but for the topology, whose version only rises."""

    signed: SignedIdentity
    keys: SigningKeys
    owner: OwnerRoot
    topology: SignedTopology  # the newest that is verified
    addresses: tuple[str, ...]
    min_version: int = 1  # as measured: an older topology proves nothing, not even what was

    @property
    def identity(self) -> Identity:
        return self.signed.identity

    @property
    def iid(self) -> bytes:
        return self.signed.identity.iid


@dataclass(frozen=True)
class Attempt:
    """One try to seal one epoch. `hello` is the own HELLO; it stands for nothing after it."""

    hello: Hello
    ping_secret: bytes = field(repr=False)  # 32: nonces of pings are derived from it

    @property
    def epoch(self) -> int:
        return self.hello.target_epoch

    @property
    def previous(self) -> bytes:
        """D of what this attempt follows; zero for a genesis."""
        return self.hello.previous


@dataclass(frozen=True)
class Fetch:
    """A certificate on its way from `source`, record by record; or a topology, which is one message."""

    digest: bytes
    source: bytes  # iid
    asked_at: int  # ms
    held: bool  # whether `source` has said or shown that it holds it; else anything held goes first
    asked: int = 1  # times in a row without an answer
    topology: bytes = ZERO_DIGEST  # topo_digest that its manifest names and that has to come first
    manifest: Manifest | None = None
    records: tuple[
        tuple[Introduced, SignedCommit, tuple[GpuEvidence, ...]], ...
    ] = ()  # in the manifest's order, signatures verified
    seals: Mapping[bytes, bytes] = field(default_factory=dict)
    verified: Mapping[bytes, VerifiedEvidence] = field(default_factory=dict)  # by iid, as appraisals end
    leave: SignedLeave | None = None  # that came with the manifest


@dataclass(frozen=True)
class Prospect:
    """Whom the next manifest would list, if they are others than ours does, and since when (ms)."""

    iids: frozenset[bytes]
    since: int


@dataclass(frozen=True)
class Peer:
    """One other instance: authenticated by signature, admitted once its JOIN evidence is verified."""

    signed: SignedIdentity
    hello: Hello
    gpus: tuple[GpuEvidence, ...] = ()  # what came with JOIN; `hello.aux_digest` is of it
    join: wire_evidence.Evidence | None = None  # judged again under every topology
    admitted: AdmittedPeer | None = None
    refused: bytes = ZERO_DIGEST  # topo_digest under which its JOIN evidence was refused last
    shown_at: int | None = None  # ms: when it last was sent our topology
    greeted: bool = False  # was sent our Introduction: before it a HELLO of ours is a stranger's
    asked: bytes | None = None  # the nonce of its PING that waits for its admission
    pings: int = 0  # sent in the current attempt
    pong_at: int | None = None  # ms; in the current attempt
    silent: int = 0  # pings in a row without an answer
    proposed: bytes | None = None  # the D that its latest PROPOSE of this attempt names
    commit: SignedCommit | None = None  # of this attempt; its evidence may still be under appraisal
    failed_at: int | None = None  # ms: when an attempt last ended for want of its COMMIT
    sealed: bytes | None = None  # the D that its SEALED names,
    seal: bytes = b""  # and that message's signature
    helped_at: int | None = None  # ms: when it last had our votes again
    beats: tuple[tuple[bytes, int], ...] = ()  # our last nonces to it, and when each was sent
    beat_count: int = 0
    beat: bytes = bytes(NONCE_SIZE)  # its last nonce, which our next heartbeat answers
    answered_at: int | None = None  # ms: when it last had a heartbeat out of turn
    parts: tuple[int, int] = (0, 0)  # since when (ms), and how many parts of certificates it was sent
    head: bytes = ZERO_DIGEST  # what its last answer said that it would follow
    alive_at: int | None = None  # ms: no later than its last proof of life
    lease_until: int = 0  # ms: until then we may count on it to hold our manifest
    leaving: bool = False  # asked to be left out; nobody comes back from that
    left: SignedLeave | None = None  # its LEAVE: it is gone

    @property
    def identity(self) -> Identity:
        return self.signed.identity


@dataclass(frozen=True)
class Declined:
    """Evidence that was refused: kept for the operator, and nothing is decided by it."""

    role: str  # as claimed
    mismatch: Mismatch
    at: int  # ms


# Phases. Each carries exactly what it needs.


@dataclass(frozen=True)
class Boot:
    """No JOIN evidence yet, or none that the topology accepts: then why not, and since when (ms)."""

    refused: Mismatch | None = None
    since: int = 0


@dataclass(frozen=True)
class Waiting:
    """Between attempts: the next one is for `epoch` and begins at `until`, or earlier with a peer's."""

    epoch: int
    until: int


@dataclass(frozen=True)
class Gathering:
    """HELLO: collecting candidates. `since` is when the present selection was first complete, and `until`
    says how long it has to stand.
    """

    attempt: Attempt
    selection: tuple[bytes, ...] = ()
    since: int = 0
    until: int = 0


@dataclass(frozen=True)
class Proposed:
    attempt: Attempt
    manifest: Manifest
    deadline: int
    leaver: bytes | None = None  # iid whose LEAVE check 9 needs


@dataclass(frozen=True)
class Committed:
    """The one commitment of this epoch is made; `members` are those whose COMMIT is verified."""

    attempt: Attempt
    manifest: Manifest
    deadline: int
    commit: SignedCommit | None
    members: Mapping[bytes, SealedMember]
    since: int  # ms
    leave: SignedLeave | None = None  # that check 9 needed


@dataclass(frozen=True)
class Sealed:
    """Certificate complete; waiting for SEALED of every member."""

    sealed: SealedManifest
    deadline: int


@dataclass(frozen=True)
class Active:
    sealed: SealedManifest


@dataclass(frozen=True)
class Fenced:
    mismatch: Mismatch


Phase = Boot | Waiting | Gathering | Proposed | Committed | Sealed | Active | Fenced


@dataclass(frozen=True)
class Member:
    """The whole state. `step` returns a new one and never changes an old one."""

    own: Own
    phase: Phase
    join: wire_evidence.Evidence | None
    admitted: VerifiedEvidence | None  # our own JOIN evidence, as every peer will see it
    gpus: tuple[GpuEvidence, ...]  # of our own JOIN evidence
    peers: Mapping[bytes, Peer]  # by iid
    by_id_digest: Mapping[bytes, bytes]  # id_digest -> iid
    resend_at: int  # ms: when to introduce, ping or repeat votes again
    last_commitment: int  # epoch of the highest commitment, 0 before the first (S3)
    last_epoch: int  # of our latest HELLO, 0 before the first: targets only rise
    failures: int  # attempts that failed in a row
    blocked: Mismatch | None  # commitments are stopped: two contents of our version, until a higher one
    topologies: Mapping[bytes, SignedTopology]  # by topo_digest: ours, and those of `chain`
    accepted: bytes = ZERO_DIGEST  # topo_digest under which our own JOIN evidence was accepted last
    refused: bytes = ZERO_DIGEST  # the same for refused
    adopted: tuple[
        tuple[int, int], ...
    ] = ()  # topology versions newer than what is served, and since when (ms)
    chain: Mapping[bytes, Certificate] = field(default_factory=dict)  # certificates held, by D
    past: Mapping[bytes, Manifest] = field(default_factory=dict)  # by D: before `chain`, for whoever asks
    sealed: bytes = ZERO_DIGEST  # D of the last manifest that we sealed
    sealed_at: int = 0  # ms: when we committed to it
    serving_since: int = 0  # ms: when we committed to what we serve
    serving: SealedManifest | None = None  # the newest that is active here
    suspended_at: int | None = None  # ms: since when we may not serve it
    fetch: Fetch | None = None
    prospect: Prospect | None = None
    declined: tuple[Declined, ...] = ()  # of instances that we do not know: the last of each role and reason
    leaving: bool = False  # we have asked to be left out
    beat_at: int = 0  # ms: when to send heartbeats again
    beat_secret: bytes = field(default=b"", repr=False)  # 32: nonces of heartbeats are derived from it

    @property
    def topology(self) -> Topology:
        """The newest that is verified; the rules of everything but what is sealed already."""
        return self.own.topology.topology

    def with_peer(self, peer: Peer) -> Member:
        """This state with `peer` inserted or replaced; an iid has one identity."""
        iid, ids = peer.identity.iid, self.by_id_digest
        if iid not in self.peers:
            ids = {**ids, peer.identity.id_digest: iid}
        return replace(self, peers={**self.peers, iid: peer}, by_id_digest=ids)

    def without_peer(self, iid: bytes) -> Member:
        """This state without `iid`."""
        peers = {k: v for k, v in self.peers.items() if k != iid}
        ids = {k: v for k, v in self.by_id_digest.items() if v != iid}
        return replace(self, peers=peers, by_id_digest=ids)


def initial(own: Own, now: int) -> Member:
    """A member that has made its identity and not yet asked for its JOIN evidence."""
    return Member(
        own=own,
        phase=Boot(),
        join=None,
        admitted=None,
        gpus=(),
        peers={},
        by_id_digest={},
        resend_at=now,
        last_commitment=0,
        last_epoch=0,
        failures=0,
        blocked=None,
        topologies={own.topology.topology.digest: own.topology},
    )


def attempt_of(phase: Phase) -> Attempt | None:
    """The running attempt, if any."""
    return phase.attempt if isinstance(phase, (Gathering, Proposed, Committed)) else None


def sealed_of(phase: Phase) -> SealedManifest | None:
    """The sealed manifest, once there is one."""
    return phase.sealed if isinstance(phase, (Sealed, Active)) else None


def listed_iids(phase: Phase) -> frozenset[bytes]:
    """Whom the manifest that this attempt is about lists; nobody before there is one."""
    members = phase.manifest.members if isinstance(phase, (Proposed, Committed)) else ()
    return frozenset(entry.iid for entry in members)


def is_eligible(member: Member, peer: Peer) -> bool:
    """Whether its JOIN evidence names its role under our topology, not only under an earlier one."""
    return peer.admitted is not None and peer.admitted.topology == member.topology.digest


def superseded(member: Member) -> bool:
    """Whether what we sealed last is of an older topology than the newest that we know."""
    held = member.chain.get(member.sealed)
    return held is not None and held.manifest.topology_digest != member.topology.digest


def mesh_iids(member: Member) -> frozenset[bytes]:
    """Whom any certificate lists that we hold and could follow; nobody before there is one."""
    own = member.chain.get(member.sealed)
    ours = (held for held in member.chain.values() if own is None or held.lineage == own.lineage)
    return frozenset(iid for held in ours for iid in held.sealed.iids)

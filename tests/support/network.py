"""A seeded network of production state machines: real parsers, transcripts, signatures and checks.

Only the vendor's part is symbolic: evidence is report_data and the measured role in clear, and the
appraisal compares both. Time is virtual; the same seed gives the same run.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    derive_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal.errors import Mismatch, Reason, ToposealError
from toposeal.evidence.binding import Binding
from toposeal.membership import machine
from toposeal.membership.events import (
    Activate,
    Alarm,
    Announce,
    Appraise,
    Appraised,
    Effect,
    Event,
    Fence,
    Quote,
    Quoted,
    QuoteFailed,
    Received,
    Refused,
    Send,
    Timer,
)
from toposeal.membership.identity import make_identity
from toposeal.membership.sealed import SealedManifest
from toposeal.membership.signing import SigningKeys
from toposeal.membership.state import Member, Own
from toposeal.names import mesh_id
from toposeal.pki.mint import mint_ca, serial_number
from toposeal.topology.accept import SignedTopology, accept
from toposeal.topology.dsse import sign
from toposeal.topology.owner import OwnerRoot, spki
from toposeal.topology.strict_json import canonical
from toposeal.verification.model import VerifiedEvidence

MESH = "shop"
WALL = 1_800_000_000


@dataclass
class Faults:
    """Chances per message, and what happens to quotes. All zero: a perfect network."""

    loss: float = 0.0
    duplicate: float = 0.0
    delay: tuple[int, int] = (1, 3)  # ms
    quote_ms: int = 40
    quote_failure: float = 0.0
    cut: Callable[[int, int, int], bool] = lambda now, a, b: False  # partition: (now, from, to)


@dataclass
class Node:
    index: int
    address: str
    role: str
    member: Member
    alive: bool = True
    active: SealedManifest | None = None
    fenced: Mismatch | None = None
    alarms: list[Mismatch] = field(default_factory=list)
    refusals: list[Mismatch] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    quotes: list[Binding] = field(default_factory=list)


def owner(seed: int = 1) -> tuple[OwnerRoot, Ed25519PrivateKey]:
    key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return OwnerRoot.of([([spki(key.public_key())], 1)]), key


def role_document(
    index: int, low: int, high: int, calls: list[dict[str, Any]] | None = None
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
                "mrowner": zero,
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
    roles: dict[str, tuple[int, int]], version: int = 1, mesh: str = MESH, **timers: int
) -> SignedTopology:
    root, key = owner()
    document = {
        "mesh": mesh,
        "version": version,
        "issued_at": WALL - 1000,
        "owner_root": root.digest.hex(),
        "attestation_port": 8444,
        "timers": timers,
        "tdx": {"tcb_status": ["UpToDate"], "advisories": [], "min_tcb_evaluation": 1},
        "roles": {
            name: role_document(index, low, high) for index, (name, (low, high)) in enumerate(roles.items())
        },
    }
    return accept(sign(canonical(document), [key]), root, mesh, 1)


def symbolic_evidence(binding: Binding, measured_role: str) -> wire_evidence.Evidence:
    return wire_evidence.Evidence(
        tee=wire_evidence.TDX, quote=binding.report_data() + measured_role.encode("ascii")
    )


def symbolic_appraisal(event: Appraise, expires_at: int = 1 << 40) -> Appraised | Refused:
    report_data, role = event.evidence.quote[:64], event.evidence.quote[64:].decode("ascii")
    if report_data != event.binding.report_data():
        return Refused(event.ticket, Mismatch(Reason.REPORT_DATA, "report_data", "another", "this"))
    if role != event.binding.role:
        return Refused(event.ticket, Mismatch(Reason.ROLE_MISMATCH, "role", role, event.binding.role))
    verified = VerifiedEvidence("tdx", role, event.binding, "UpToDate", (), bytes(16), expires_at)
    return Appraised(event.ticket, verified)


class Network:
    """n members, virtual time in ms, one heap of what happens next."""

    def __init__(self, signed: SignedTopology, seed: int = 0, faults: Faults | None = None) -> None:
        self.signed = signed
        self.random = random.Random(seed)
        self.faults = faults or Faults()
        self.now = 0
        self.nodes: list[Node] = []
        self._heap: list[tuple[int, int, Node, Event | None]] = []
        self._order = count()
        self.delivered: list[tuple[int, int, bytes]] = []

    def boot(self, role: str, signed: SignedTopology | None = None, measured: str | None = None) -> Node:
        """Start one more instance of `role` now; `measured` is what its evidence shows."""
        index = len(self.nodes)
        address = f"10.0.{index // 250}.{index % 250 + 1}"
        own = self._own(role, address, signed or self.signed)
        member, effects = machine.start(own, self.now)
        node = Node(index, address, measured or role, member)
        self.nodes.append(node)
        self._perform(node, effects)
        return node

    def kill(self, node: Node) -> None:
        node.alive = False

    def inject(self, node: Node, event: Event) -> None:
        """Let `event` happen at `node` now."""
        heapq.heappush(self._heap, (self.now, next(self._order), node, event))

    def run(self, until: int, stop: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until `until` ms or until `stop()`."""
        while self._heap and self._heap[0][0] <= until and not stop():
            self.now, _, node, event = heapq.heappop(self._heap)
            self._happen(node, event)
        if not stop():
            self.now = max(self.now, until)

    def all_active(self) -> bool:
        return all(n.active is not None for n in self.nodes if n.alive)

    def _happen(self, node: Node, event: Event | None) -> None:
        if not node.alive:
            return
        if event is None:
            wanted = machine.deadline(node.member)
            if wanted is None or wanted > self.now:
                return
            event = Timer(self.random.randbytes(64))
        try:
            node.member, effects = machine.step(node.member, event, self.now)
        except ToposealError as error:
            node.refusals += error.mismatches
            return
        self._perform(node, effects)

    def _perform(self, node: Node, effects: tuple[Effect, ...]) -> None:
        name = machine.phase_name(node.member.phase)
        if not node.phases or node.phases[-1] != name:
            node.phases.append(name)
        for effect in effects:
            self._effect(node, effect)
        wanted = machine.deadline(node.member)
        if wanted is not None:
            heapq.heappush(self._heap, (max(wanted, self.now), next(self._order), node, None))

    def _effect(self, node: Node, effect: Effect) -> None:
        match effect:
            case Quote(binding):
                self._quote(node, binding)
            case Appraise():
                self._after(1, node, symbolic_appraisal(effect))
            case Send(_, addresses, data):
                for peer in [n for n in self.nodes if n.address in addresses]:
                    self._send(node, peer, data)
            case Announce(data):
                for peer in [n for n in self.nodes if n is not node]:
                    self._send(node, peer, data)
            case Alarm(mismatch):
                node.alarms.append(mismatch)
            case Activate(sealed):
                node.active = sealed
            case Fence(mismatch):
                node.fenced = mismatch

    def _quote(self, node: Node, binding: Binding) -> None:
        node.quotes.append(binding)
        if self.random.random() < self.faults.quote_failure:
            failed = Mismatch(Reason.QUOTE_SOURCE, "outblob", "EIO", "a quote")
            self._after(self.faults.quote_ms, node, QuoteFailed(binding, failed))
            return
        evidence = symbolic_evidence(binding, node.role)
        self._after(self.faults.quote_ms, node, Quoted(binding, evidence))

    def _send(self, source: Node, target: Node, data: bytes) -> None:
        self.delivered.append((source.index, target.index, data))
        copies = 1 + (self.random.random() < self.faults.duplicate)
        for _ in range(copies):
            lost = self.random.random() < self.faults.loss
            if not lost and not self.faults.cut(self.now, source.index, target.index):
                self._after(self.random.randint(*self.faults.delay), target, Received(data))

    def _after(self, delay: int, node: Node, event: Event) -> None:
        heapq.heappush(self._heap, (self.now + delay, next(self._order), node, event))

    def _own(self, role: str, address: str, signed: SignedTopology) -> Own:
        keys = SigningKeys(Ed25519PrivateKey.from_private_bytes(self.random.randbytes(32)), self._p256())
        mesh = signed.topology.mesh
        ca_der = mint_ca(keys.ca, mesh, serial_number(self.random.randbytes(20)), WALL)
        root, _ = owner()
        identity = make_identity(keys, mesh_id(root.canonical, mesh), mesh, role, ca_der)
        return Own(identity, keys, root, signed, (address,))

    def _p256(self) -> EllipticCurvePrivateKey:
        return derive_private_key(int.from_bytes(self.random.randbytes(31), "big") + 1, SECP256R1())

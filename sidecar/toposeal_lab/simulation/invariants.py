"""What must hold after every step of every member, checked apart from the code that must keep it.

Digests, transcripts and signatures are computed here again from the wire bytes, and what a member
was entitled to do is judged by what the network really delivered and what the platform was really
asked for, never by the member's own bookkeeping. Names are those of PROTOCOL.md 6.4.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256

from toposeal._wire import peer_pb2 as wire
from toposeal.evidence.binding import Purpose
from toposeal.limits import MAX_CANDIDATES_PER_ROLE
from toposeal.membership.events import (
    Activate,
    Announce,
    Fence,
    Left,
    Quote,
    Received,
    Send,
    Suspend,
    Timer,
)
from toposeal.membership.machine import TRANSITIONS
from toposeal.membership.sealed import SealedManifest
from toposeal.membership.state import Active, Fenced, Member, Sealed, attempt_of
from toposeal_lab.simulation.channels import Channels
from toposeal_lab.simulation.leaves import Leaves
from toposeal_lab.simulation.network import Network, Node, Step
from toposeal_lab.simulation.settled import SAID
from toposeal_lab.simulation.single import Secrets, no_crash
from toposeal_lab.simulation.transcripts import lp, seal_report_data, sha384
from toposeal_lab.simulation.violation import Violation

_PROPOSE = b"\x2a"  # the key of that field of an envelope, which has no other
MESSAGES_PER_SECOND = 60  # from one member to one other instance, at most, whatever the faults


class Invariants:
    """Attach with `Invariants(network)`; every later step is checked, and a breach raises Violation."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.seals: dict[bytes, list[SealedManifest]] = {}  # iid -> what it sealed, in order
        self.manifests: dict[bytes, wire.Manifest] = {}  # by D: sealed by somebody
        self.actives: dict[bytes, int] = {}  # D -> when it was active anywhere first
        self.clocks: dict[bytes, dict[int, int]] = {}  # D -> what the members' clocks showed then
        self.mesh_of: dict[bytes, bytes] = {}  # iid -> lineage
        self.hellos: dict[
            bytes, tuple[bytes, bytes, int, bytes]
        ] = {}  # digest -> iid, nonce, epoch, topology
        self.proposed: set[tuple[int, bytes, bytes]] = set()  # (receiver, sender, D) delivered and signed
        self.seal_quotes: dict[tuple[bytes, int], bytes] = {}  # (iid, epoch) -> D
        self.leaves, self.secrets = Leaves(), Secrets()
        self.newer: dict[bytes, list[tuple[int, int]]] = {}  # iid -> topology versions, and when it took them
        # Messages of a node in a second to one instance, and to the configured addresses.
        self.windows: Counter[tuple[int, int, bytes]] = Counter()
        self.transitions: Counter[tuple[str, str]] = Counter()
        self.highest: defaultdict[int, int] = defaultdict(int)  # node -> epoch of its last HELLO
        self.channels = Channels(network)
        network.observers.append(self.check)
        network.reviewers.append(self._review)

    def check(self, step: Step) -> None:
        """All that this step can have broken: values never change, so what is the same object is the same."""
        before, after = step.before, step.after
        moved, told = after.phase is not before.phase, {type(effect) for effect in step.effects}
        self.channels.check(step.now)
        no_crash(step)
        if told:
            if not told <= SAID:
                self.channels.note(step)
            self.secrets.check(step, told)
        if moved:
            self._transition(step)
        if after is not before:
            self._monotone(step)
        if moved:
            self._own_hello(step)
        self._delivered(step)
        if told:
            self.leaves.note(step)
            if Quote in told:
                self._quotes(step)
        if after.sealed is not before.sealed:
            self._sealing(step)
        if Activate in told:
            self._activation(step)
        self._leases(step)
        if told or after is not before:
            self._bounded(step)

    def _review(self) -> None:
        """What is looked at in larger pieces."""
        self.secrets.review(self.network.nodes)

    def _transition(self, step: Step) -> None:
        before, after = type(step.before.phase), type(step.after.phase)
        if before is not after:
            self.transitions[before.__name__, after.__name__] += 1
            if after not in TRANSITIONS[before]:
                raise Violation("S9", f"{before.__name__} to {after.__name__}")

    def _monotone(self, step: Step) -> None:
        """S8: nothing that protects against rollback ever decreases."""
        if step.after.last_commitment < step.before.last_commitment:
            raise Violation("S8", "last_commitment decreased")
        before, after = step.before.own.topology.topology, step.after.own.topology.topology
        if after is before and step.after.blocked is step.before.blocked:
            return
        if after.version < before.version:
            raise Violation("S8", "an older topology")
        if after.version == before.version and after.digest != before.digest:
            raise Violation("T5", "another content of the same topology version")
        if step.before.blocked is not None and step.after.blocked is None and after.version == before.version:
            raise Violation("S8", "a topology alarm was forgotten")
        if after.version > before.version:
            self.newer.setdefault(step.after.own.iid, []).append((after.version, step.clock))

    def _follows(self, d: bytes, ancestor: bytes) -> bool:
        """Whether `d`, sealed by somebody, is `ancestor` or comes after it."""
        if not any(ancestor):
            return True
        while d in self.manifests and d != ancestor:
            d = self.manifests[d].previous
        return d == ancestor

    def _own_hello(self, step: Step) -> None:
        """S3, S8: one HELLO per epoch, epochs rise strictly, nonces are never used twice."""
        attempt = attempt_of(step.after.phase)
        if attempt is None or attempt == attempt_of(step.before.phase):
            return
        hello = wire.Hello.FromString(attempt.hello.body)
        digest = sha384("toposeal/v1/hello", attempt.hello.body)
        if hello.target_epoch <= self.highest[step.node.index]:
            raise Violation("S8", f"HELLO for {hello.target_epoch} after {self.highest[step.node.index]}")
        if hello.topology_digest != step.after.own.topology.topology.digest:
            raise Violation("T4", "a HELLO under another topology than the newest")
        if any(nonce == hello.nonce for _, nonce, _, _ in self.hellos.values()):
            raise Violation("S3", "a nonce was used twice")
        self.highest[step.node.index] = hello.target_epoch
        iid = step.after.own.iid
        self.hellos[digest] = (iid, hello.nonce, hello.target_epoch, hello.topology_digest)

    def _delivered(self, step: Step) -> None:
        if not isinstance(step.event, Received) or step.event.data[:1] != _PROPOSE:
            return
        if step.error is not None or isinstance(step.before.phase, Fenced):
            return
        envelope = wire.Envelope.FromString(step.event.data)
        body = wire.Decision.FromString(envelope.propose.body)
        sender = self._find(body.sender)
        if sender is None:  # a boot of another run, replayed
            return
        try:
            key = sender.member.own.identity.ik
            key.verify(envelope.propose.signature, b"toposeal/v1/sig/propose" + lp(envelope.propose.body))
        except InvalidSignature as error:
            raise Violation("S2", "a PROPOSE without its sender's signature was accepted") from error
        self.proposed.add((step.node.index, body.sender, body.manifest_digest))

    def _quotes(self, step: Step) -> None:
        """S3: one SEAL quote an epoch. S8: under the newest topology. L4: after every PROPOSE of this D."""
        own = step.after.own
        for binding in [e.binding for e in step.effects if isinstance(e, Quote)]:
            if binding.purpose is not Purpose.SEAL:
                continue
            if any(iid == own.iid and epoch >= binding.epoch for iid, epoch in self.seal_quotes):
                raise Violation("S3", f"a second commitment at or below epoch {binding.epoch}")
            known = self.highest[step.node.index]
            # Of an attempt that begins in this step and ends in it, fenced, no HELLO is seen.
            unseen = binding.epoch > known and isinstance(step.after.phase, Fenced)
            if binding.epoch != known and not unseen:
                raise Violation("S3", "a commitment outside the current attempt")
            if step.after.blocked is not None:
                raise Violation("S8", "a commitment under a topology that the owner contradicts")
            if own.iid in self.leaves.said:
                raise Violation("S3", "a commitment after its LEAVE")
            self.seal_quotes[own.iid, binding.epoch] = binding.manifest_digest
            phase = step.after.phase
            if isinstance(phase, Fenced):  # in the same step, and nobody will hear of it
                continue
            if binding.topology_digest != own.topology.topology.digest:
                raise Violation("T4", "a commitment under another topology than the newest")
            manifest = phase.sealed.manifest if isinstance(phase, (Sealed, Active)) else phase.manifest  # type: ignore[union-attr]
            self._majority(binding.manifest_digest, wire.Manifest.FromString(manifest.body))
            for entry in manifest.members:
                heard = (step.node.index, entry.iid, binding.manifest_digest) in self.proposed
                if entry.iid != own.iid and not heard:
                    raise Violation("L4", "a SEAL quote before every PROPOSE of the same D")

    def _sealing(self, step: Step) -> None:
        if step.after.sealed == step.before.sealed:
            return
        own, sealed = step.after.own, step.after.chain[step.after.sealed].sealed
        d = sha384("toposeal/v1/manifest", sealed.manifest.body)
        self.manifests.setdefault(d, wire.Manifest.FromString(sealed.manifest.body))
        if self.mesh_of.setdefault(own.iid, self._lineage(d)) != self._lineage(d):
            raise Violation("S6", "sealed in two lineages")
        before = self.seals.setdefault(own.iid, [])
        if before and not self._follows(d, before[-1].manifest.digest):
            raise Violation("S3", "sealed on two branches")
        before.append(sealed)
        latest = max((e for iid, e in self.seal_quotes if iid == own.iid), default=0)
        if sealed.manifest.epoch != latest or latest != self.highest[step.node.index]:
            raise Violation("S3", "a late seal")
        self._certificate(sealed)

    def _certificate(self, sealed: SealedManifest) -> None:
        """S2: n commitments over D, each of them asked of the platform by the member it names."""
        body = sealed.manifest.body
        manifest, d = wire.Manifest.FromString(body), sha384("toposeal/v1/manifest", body)
        entries = list(manifest.members)
        topology = self.network.topologies[manifest.topology_digest].topology
        if sealed.topology != topology or manifest.topology_version != topology.version:
            raise Violation("S2", "not under the topology that it names")
        if any(manifest.previous) != any(manifest.lineage):
            raise Violation("S2", "neither a genesis nor of a lineage")
        if any(manifest.previous):
            parent = self.manifests.get(manifest.previous)
            if parent is None or manifest.lineage != self._lineage(manifest.previous):
                raise Violation("S2", "of another lineage than its predecessor")
            if parent.epoch >= manifest.epoch:
                raise Violation("S8", "an epoch that does not rise")
            if parent.topology_version > manifest.topology_version:
                raise Violation("S8", "a topology older than the predecessor's")
        if [m.identity.iid for m in sealed.members] != [e.iid for e in entries]:
            raise Violation("S2", "the accepted members are not the listed ones")
        count = Counter(e.role for e in entries)
        roles = topology.roles
        if any(not r.min_replicas <= count[r.name] <= r.max_replicas for r in roles.values()):
            raise Violation("S2", "replica bounds")
        if not set(count) <= set(roles):
            raise Violation("T4", "a member that the topology has no role for")
        for entry, member in zip(entries, sealed.members, strict=True):
            self._entry(manifest, d, entry)
            if self.seal_quotes.get((entry.iid, manifest.epoch)) != d:
                raise Violation("S2", "a member that never committed to D")
            if member.commit.evidence.quote[:64] != seal_report_data(manifest, d, entry):
                raise Violation("S2", "SEAL evidence of something else")
            if member.commit.evidence.quote[64:] != entry.role.encode():
                raise Violation("S2", "SEAL evidence of another role")
            self._commit_signatures(
                entry,
                d,
                manifest.epoch,
                wire.Commit(
                    body=member.commit.decision.body,
                    ik_signature=member.commit.ik_signature,
                    ca_signature=member.commit.ca_signature,
                ),
            )

    def _entry(self, manifest: wire.Manifest, d: bytes, entry: wire.Entry) -> None:
        """The entry says of its member what is true of it."""
        node = self._node(entry.iid)
        identity = node.member.own.identity
        made = self.hellos.get(entry.hello_digest)
        if entry.role != node.role or entry.id_digest != sha384("toposeal/v1/identity", identity.body):
            raise Violation("S2", "an entry of another identity or role")
        if entry.ca_digest != sha384("toposeal/v1/ca", identity.ca.spki):
            raise Violation("S2", "an entry with another CA key")
        if made != (entry.iid, entry.nonce, manifest.epoch, manifest.topology_digest):
            raise Violation("S2", "an entry without the member's HELLO of this attempt")

    def _commit_signatures(self, entry: wire.Entry, d: bytes, epoch: int, commit: wire.Commit) -> None:
        identity = self._node(entry.iid).member.own.identity
        signed = b"toposeal/v1/sig/commit" + lp(commit.body)
        if wire.Decision.FromString(commit.body) != wire.Decision(
            sender=entry.iid, epoch=epoch, manifest_digest=d
        ):
            raise Violation("S2", "a COMMIT to something else")
        try:
            identity.ik.verify(commit.ik_signature, signed)
            identity.ca.public_key.verify(commit.ca_signature, signed, ECDSA(SHA256()))
        except InvalidSignature as error:
            raise Violation("S2", "a COMMIT without both signatures") from error

    def _activation(self, step: Step) -> None:
        """S5: active manifests of a lineage form a chain, each sealed by all. S6: nobody is in two."""
        for effect in [e for e in step.effects if isinstance(e, Activate)]:
            d = effect.sealed.manifest.digest
            for entry in effect.sealed.manifest.members:
                theirs = self.seals.get(entry.iid, [])
                if d not in [sealed.manifest.digest for sealed in theirs]:
                    raise Violation("S5", "active before every member has sealed")
                if self.mesh_of[entry.iid] != self._lineage(d):
                    raise Violation("S6", "two active lineages share a member")
            if d not in self.actives:
                self.actives[d] = step.now
                self.clocks[d] = {n.index: self.network.clock(n) for n in self.network.live()}
            for other in self.actives:
                apart = not self._follows(d, other) and not self._follows(other, d)
                if apart and self._lineage(other) == self._lineage(d):
                    raise Violation("S5", "two active manifests side by side")

    def _lineage(self, d: bytes) -> bytes:
        while any(self.manifests[d].previous):
            d = self.manifests[d].previous
        return d

    def _left_to(self, d: bytes, manifest: wire.Manifest) -> set[bytes]:
        """Who counts for `d` without being in it."""
        return self.leaves.to(d, manifest, self.seals, self.seal_quotes)

    def _majority(self, digest: bytes, manifest: wire.Manifest) -> None:
        """Check 9, by what is true: of every ancestor back to the last active one."""
        iids = {entry.iid for entry in manifest.members} | self._left_to(digest, manifest)
        d = manifest.previous
        while any(d):
            listed = {entry.iid for entry in self.manifests[d].members}
            if 2 * len(listed & iids) <= len(listed):
                raise Violation("S5", "a commitment without a majority of an earlier manifest")
            if d in self.actives:
                return
            iids |= self._left_to(d, self.manifests[d])
            d = self.manifests[d].previous

    def _leases(self, step: Step) -> None:
        """L3: whom an active manifest leaves out has stopped serving one lease later, by its own clock."""
        node = step.node
        if node.active is None or step.error is not None or node.suspended or not node.alive or node.fenced:
            return
        if any(isinstance(e, _ENDS) for e in step.effects):
            return
        self._superseded(step, node.active.manifest.topology_version)
        if len(self.actives) < 2:
            return
        serving = node.active.manifest.digest
        lease = step.after.own.topology.topology.timers.lease_ms
        for d, clocks in self.clocks.items():
            late = step.clock > clocks.get(node.index, step.clock) + lease
            if (
                late
                and d != serving
                and self._follows(d, serving)
                and not self._listed(d, step.after.own.iid)
            ):
                raise Violation("L3", "still serves after it was left out")

    def _superseded(self, step: Step, version: int) -> None:
        """T4: what a newer topology replaces is not served for ever, by the member's own clock."""
        told = self.newer.get(step.after.own.iid)
        known = [since for newer, since in told if newer > version] if told else []
        if known and step.clock > min(known) + step.after.topology.timers.topology_ms:
            raise Violation(
                "T4", "still serves under a topology that is superseded for longer than topology_ms"
            )

    def _listed(self, d: bytes, iid: bytes) -> bool:
        return any(entry.iid == iid for entry in self.manifests[d].members)

    def _bounded(self, step: Step) -> None:
        """L4: the table of peers, the epoch number and the number of messages."""
        if len(step.after.peers) > len(step.before.peers):
            roles = step.after.own.topology.topology.roles
            table = Counter(p.identity.role for p in step.after.peers.values())
            if any(table[n] > r.max_replicas + MAX_CANDIDATES_PER_ROLE for n, r in roles.items()):
                raise Violation("L4", "the table of peers grows")
        if len(step.after.by_id_digest) != len(step.after.peers):
            raise Violation("L4", "the index of peers grows")
        second = (step.node.index, step.now // 1000)
        said = [
            (*second, e.iid if isinstance(e, Send) else b"") for e in step.effects if type(e) in _MESSAGES
        ]
        self.windows.update(said)
        if any(self.windows[receiver] > MESSAGES_PER_SECOND for receiver in said):
            raise Violation("L4", f"more than {MESSAGES_PER_SECOND} messages to one receiver in one second")

    def _node(self, iid: bytes) -> Node:
        node = self._find(iid)
        if node is None:
            raise Violation("S2", "an instance that does not exist")
        return node

    def _find(self, iid: bytes) -> Node | None:
        return next((n for n in self.network.nodes if n.member.own.iid == iid), None)


_ENDS = (Activate, Fence, Left, Suspend)
_MESSAGES = {Announce, Send}


def deep_fingerprint(member: Member) -> str:
    """Every value of a state; two calls differ exactly if something inside was changed."""
    return hashlib.sha256(
        repr((member, sorted(member.peers), sorted(member.by_id_digest))).encode()
    ).hexdigest()


__all__ = ["Invariants", "Timer", "Violation", "deep_fingerprint"]

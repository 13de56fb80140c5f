"""Members that only say their lines: what a crowd is made of, beside the few that are production machines.

What they say is genuine: made by production's own functions, with keys, HELLO and evidence of their own, so
that whoever hears it parses and checks all of it. They check nothing but the digest that they are asked to
propose, and do each thing when a machine has done it: no mesh is faster than the machines in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import LocalProtocolError, Mismatch, Reason
from toposeal.evidence.auxiliary import aux_digest, gpu_messages
from toposeal.evidence.binding import ZERO_DIGEST, Binding
from toposeal.evidence.gpu_certs import GpuEvidence
from toposeal.limits import NONCE_SIZE, REPORT_DATA_SIZE
from toposeal.membership.events import Appraise, Appraised, Refused
from toposeal.membership.hello import make_hello
from toposeal.membership.manifest import Entry, Manifest
from toposeal.membership.sealed import join_of, seal_of
from toposeal.membership.signing import Tag
from toposeal.membership.state import Own
from toposeal.membership.votes import (
    Heartbeat,
    commit_message,
    make_commit,
    make_heartbeat,
    make_liveness,
    make_propose,
    make_sealed,
)
from toposeal_lab.simulation.dice import Dice
from toposeal_lab.simulation.symbolic import symbolic_appraisal, symbolic_evidence

# Bytes that genuine ones take.
QUOTE_SIZE = 5_000  # TDX, with its certificates
GPU_REPORT_SIZE = 6_000
GPU_CHAIN_SIZE = 5_000

_END = b"\0"  # of the part of a quote that says something; the rest makes it as large as a genuine one


class Extra:
    """One member of epoch 1, a genesis, and of nothing after it."""

    def __init__(self, own: Own, number: int, gpus: tuple[GpuEvidence, ...] = ()) -> None:
        self.own = own
        self._dice = Dice("extra", number)
        nonce, aux = self._dice.randbytes(NONCE_SIZE), aux_digest(gpus)
        self._hello = make_hello(own.keys, own.identity, own.topology.topology, 1, nonce, own.addresses, aux)
        self._join = sized_evidence(join_of(own.identity))
        self._join.gpus.extend(gpu_messages(gpus))
        self._agreed: set[bytes] = set()  # iids of the machines that propose what we would
        self._quoted = False

    @property
    def entry(self) -> Entry:
        return self._hello.entry(self.own.identity)

    def introduction(self) -> bytes:
        signed = self.own.signed
        message = wire.Introduction(
            identity=signed.identity.body,
            ik_signature=signed.ik_signature,
            ca_signature=signed.ca_signature,
            join=self._join,
            hello=wire.Signed(body=self._hello.body, signature=self._hello.signature),
        )
        return encode(wire.Envelope(introduction=message))

    def answers(self, sender: bytes, data: bytes, manifest: Manifest | None) -> Iterator[bytes]:
        """To the machine `sender`. `manifest`: what the attempt comes to, once all machines have a HELLO."""
        said = wire.Envelope.FromString(data)
        match said.WhichOneof("message"):
            case "introduction":
                yield self._liveness(Tag.PING, sender, self._dice.randbytes(NONCE_SIZE))
            case "ping":
                yield self._liveness(Tag.PONG, sender, wire.Ping.FromString(said.ping.body).nonce)
            case "propose" if manifest is not None and _names(said.propose, manifest):
                self._agreed.add(sender)
                made = make_propose(self.own.keys, self.own.iid, manifest)
                yield encode(wire.Envelope(propose=made))
            case "sealed" if manifest is not None and _names(said.sealed, manifest):
                yield encode(wire.Envelope(sealed=make_sealed(self.own.keys, self.own.iid, manifest)))
            case "heartbeat":
                yield self._beat(sender, wire.Heartbeat.FromString(said.heartbeat.body))

    def wants_quote(self, machines: int) -> bool:
        """True once: as soon as so many machines propose what this member would."""
        if self._quoted or len(self._agreed) < machines:
            return False
        self._quoted = True
        return True

    def commit(self, manifest: Manifest) -> bytes:
        """COMMIT, with the quote that its host has made by now."""
        entry = manifest.entry(self.own.iid)
        if entry is None:
            raise LocalProtocolError.of(Reason.MANIFEST_OWN_ENTRY, "manifest.members", "no own entry", "one")
        evidence = sized_evidence(seal_of(manifest, entry))
        made = make_commit(self.own.keys, self.own.iid, manifest, evidence)
        return encode(wire.Envelope(commit=commit_message(made)))

    def _liveness(self, tag: Tag, receiver: bytes, nonce: bytes) -> bytes:
        made = make_liveness(self.own.keys, tag, self.own.iid, receiver, nonce, 1)
        return encode(wire.Envelope(ping=made) if tag is Tag.PING else wire.Envelope(pong=made))

    def _beat(self, receiver: bytes, heard: wire.Heartbeat) -> bytes:
        """Whoever beats first has sealed, and names what: this member follows the same."""
        nonce = self._dice.randbytes(NONCE_SIZE)
        beat = Heartbeat(self.own.iid, receiver, nonce, heard.nonce, heard.head or ZERO_DIGEST)
        return encode(wire.Envelope(heartbeat=make_heartbeat(self.own.keys, beat)))


def sized_evidence(binding: Binding, size: int = QUOTE_SIZE) -> wire_evidence.Evidence:
    """Symbolic evidence of `size` bytes, no two alike."""
    found = symbolic_evidence(binding, binding.role)
    clear = found.quote + _END
    found.quote = (clear + blake2b(clear).digest() * (size // REPORT_DATA_SIZE))[:size]
    return found


def sized_appraisal(event: Appraise) -> Appraised | Refused:
    """The verdict on what `sized_evidence` has made; every byte counts."""
    expected = sized_evidence(event.binding, len(event.evidence.quote))
    if event.evidence.quote != expected.quote:
        return Refused(event.ticket, Mismatch(Reason.REPORT_DATA, "quote", "another", "this"))
    clear = symbolic_evidence(event.binding, event.binding.role)
    return symbolic_appraisal(Appraise(event.ticket, clear, event.binding, event.topology))


def sized_gpus(number: int, count: int) -> tuple[GpuEvidence, ...]:
    """`count` devices of member `number`, each with a report and a chain."""
    dice = Dice("gpus", number)
    return tuple(
        GpuEvidence(dice.randbytes(GPU_REPORT_SIZE), dice.randbytes(GPU_CHAIN_SIZE)) for _ in range(count)
    )


def _names(said: wire.Signed, manifest: Manifest) -> bool:
    return wire.Decision.FromString(said.body).manifest_digest == manifest.digest

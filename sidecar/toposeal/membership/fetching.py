"""WANT and CERTIFICATE: how a member comes by what others hold (PROTOCOL.md 4.9). No IO."""

from __future__ import annotations

from dataclasses import replace

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import EvidenceError, Reason, RemoteProtocolError
from toposeal.evidence.auxiliary import aux_digest, read_gpus
from toposeal.evidence.binding import ZERO_DIGEST
from toposeal.evidence.gpu_certs import GpuEvidence
from toposeal.limits import CERTIFICATE_PART, MAX_ENVELOPE_SIZE, MAX_PARTS, MAX_TRAIL, MAX_VERSION_STEP
from toposeal.membership.certificate import Certificate, missing, trail
from toposeal.membership.events import Alarm, Appraise, Appraised, Effect, Refused, Send, Subject, Ticket
from toposeal.membership.history import with_chain
from toposeal.membership.leave import SignedLeave, leave_message, require_for, verify_leave
from toposeal.membership.manifest import Entry, Manifest, bounds_mismatches, parse_manifest
from toposeal.membership.peers import Step, admitted_peer, stale
from toposeal.membership.records import committed, introduced, record_message, require_equal
from toposeal.membership.sealed import SealedManifest, SealedMember, check_verified, seal_of
from toposeal.membership.signing import Tag, verify_ik
from toposeal.membership.state import Committed, Fetch, Member, Peer, Proposed
from toposeal.membership.votes import Want, decision_body, make_want, parse_want
from toposeal.topology.accept import SignedTopology
from toposeal.topology.model import Topology

_PATIENCE = 3  # questions in a row without an answer, then somebody else is asked
_HELD = 2 * MAX_TRAIL  # certificates at most


def want(member: Member, peer: Peer, digest: bytes, now: int, *, held: bool = True) -> Step:
    """Ask `peer` for `digest`, and for what it rests on, unless we hold it or ask for one already.

    `held`: `peer` has it by its own word of now. The `previous` of a HELLO may be of an attempt that is long
    over, and held by nobody any more: asking for it keeps nothing else waiting.
    """
    lacking = missing(member.chain, digest)
    if lacking is None or (_is_asking(member) if held else member.fetch is not None):
        return member, ()
    member = replace(member, fetch=Fetch(lacking, peer.identity.iid, now, held=held))
    return member, _ask(member)


def want_topology(member: Member, peer: Peer, now: int) -> Step:
    """Ask `peer` for the topology of its HELLO if that is newer than ours, and nothing is on its way that its
    source surely holds."""
    newer = peer.hello.topology_version - member.topology.version
    if _is_asking(member) or not 0 < newer <= MAX_VERSION_STEP:
        return member, ()
    member = replace(member, fetch=Fetch(peer.hello.topology_digest, peer.identity.iid, now, held=True))
    return member, _ask(member)


def with_topology(member: Member, signed: SignedTopology, now: int) -> Step:
    """Keep a topology that was asked for, and go on with what it is needed for."""
    digest, fetch = signed.topology.digest, member.fetch
    member = replace(member, topologies={**member.topologies, digest: signed})
    if fetch is None or digest not in (fetch.digest, fetch.topology):
        return member, ()
    if fetch.digest == digest:
        return replace(member, fetch=None), ()
    member = replace(member, fetch=replace(fetch, topology=ZERO_DIGEST, asked_at=now, asked=1))
    return member, _ask(member)


def known_topologies(member: Member) -> Member:
    """Without those topologies that nothing held is under."""
    manifests = [held.manifest for held in member.chain.values()]
    manifests += [member.phase.manifest] if isinstance(member.phase, (Proposed, Committed)) else []
    manifests += [member.serving.manifest] if member.serving else []
    manifests += [member.fetch.manifest] if member.fetch and member.fetch.manifest else []
    kept = {member.topology.digest, *(manifest.topology_digest for manifest in manifests)}
    known = {digest: signed for digest, signed in member.topologies.items() if digest in kept}
    return replace(member, topologies=known)


def retry(member: Member, now: int) -> Step:
    """Ask again for what has not come; give up after a while."""
    fetch = member.fetch
    if fetch is None or now - fetch.asked_at < member.own.topology.topology.timers.ping_ms:
        return member, ()
    if fetch.asked >= _PATIENCE or fetch.source not in member.peers:
        return replace(member, fetch=None), ()
    member = replace(member, fetch=replace(fetch, asked_at=now, asked=fetch.asked + 1))
    return member, _ask(member)


def on_want(member: Member, message: wire.Signed, now: int) -> Step:
    """The records from `first` on, as many as one part holds; so seldom that a replay costs little."""
    asked = parse_want(message.body)
    peer = admitted_peer(member, asked.sender, "want.sender")
    require_equal(Reason.IDENTITY_MISMATCH, ("want.receiver", asked.receiver, member.own.iid))
    verify_ik(peer.identity.ik, Tag.WANT, message.body, message.signature)
    data = _answer(member, asked)
    since, count = peer.parts
    if now - since >= member.own.topology.topology.timers.ping_ms:
        since, count = now, 0
    if count >= MAX_PARTS:
        raise RemoteProtocolError.of(
            Reason.RATE_LIMITED, "want.sender", f"{count} parts", f"{MAX_PARTS} in ping_ms"
        )
    member = member.with_peer(replace(peer, parts=(since, count + 1)))
    return member, (Send(peer.identity.iid, peer.hello.addresses, data),)


def on_part(member: Member, message: wire.CertificatePart, now: int) -> Step:
    """Some records: signatures are checked here, SEAL evidence outside. Raises RemoteProtocolError."""
    fetch = member.fetch
    awaited = fetch is not None and fetch.topology == ZERO_DIGEST and message.first == len(fetch.records)
    if fetch is None or not awaited or message.manifest_digest != fetch.digest:
        raise stale("certificate.manifest_digest", message.manifest_digest)
    manifest = fetch.manifest or _manifest(member, message.manifest, fetch.digest)
    signed = member.topologies.get(manifest.topology_digest)
    fetch = replace(fetch, held=True, asked_at=now, asked=1)
    if signed is None:  # nothing of it can be judged before
        member = replace(member, fetch=replace(fetch, topology=manifest.topology_digest))
        return member, _ask(member)
    topology = signed.topology
    _require_bounds(manifest, topology)
    entries = manifest.members[message.first : message.first + len(message.members)]
    if not 0 < len(message.members) == len(message.seals) == len(entries):
        expected = f"1 to {len(manifest.members) - message.first}, each with its seal or none"
        raise RemoteProtocolError.of(
            Reason.MEMBERS_INCOMPLETE, "certificate.members", len(message.members), expected
        )
    records, seals = list(fetch.records), dict(fetch.seals)
    effects: list[Effect] = []
    for record, seal, entry in zip(message.members, message.seals, entries, strict=True):
        found = introduced(record, entry, manifest, topology)
        commit = committed(record, found, manifest)
        if seal:
            verify_ik(found.identity.ik, Tag.SEALED, decision_body(entry.iid, manifest), seal)
            seals[entry.iid] = seal
        gpus = _gpus(record, entry)
        records.append((found, commit, gpus))
        ticket = Ticket(Subject.RECORD, entry.iid, manifest.digest)
        effects.append(Appraise(ticket, commit.evidence, seal_of(manifest, entry), topology))
    fetch = replace(fetch, manifest=manifest, records=tuple(records), seals=seals)
    fetch = replace(fetch, leave=_leave(message, manifest) or fetch.leave)
    member = replace(member, fetch=fetch)
    return member, (*effects, *_ask(member))


def on_record_verified(member: Member, event: Appraised, now: int) -> tuple[Member, Certificate | None]:
    """One more record stands; with all of them the certificate is held, and returned."""
    fetch = member.fetch
    manifest = fetch.manifest if fetch else None
    entry = manifest.entry(event.ticket.iid) if manifest else None
    if fetch is None or manifest is None or entry is None or event.ticket.digest != manifest.digest:
        return member, None
    if all(found.identity.iid != entry.iid for found, _, _ in fetch.records):
        return member, None  # a verdict of an earlier question; this one's will follow its record
    check_verified(event.verified, seal_of(manifest, entry))
    fetch = replace(fetch, verified={**fetch.verified, entry.iid: event.verified}, asked_at=now, asked=1)
    if len(fetch.verified) < len(manifest.members):
        return replace(member, fetch=fetch), None
    member = hold(replace(member, fetch=None), _certificate(member, fetch, manifest))
    return member, member.chain[manifest.digest]


def on_record_refused(member: Member, event: Refused) -> Step:
    """What was sent is no certificate, or not under its topology."""
    if member.fetch is None or event.ticket.digest != member.fetch.digest:
        return member, ()
    return replace(member, fetch=None), (Alarm(event.mismatch),)


def hold(member: Member, certificate: Certificate) -> Member:
    """Keep `certificate`; of too many the oldest go, but none that our own seal rests on or that we serve.

    A SEALED or LEAVE that is known stays known: the same certificate from somebody else may lack it.
    """
    known = member.chain.get(certificate.digest)
    if known is not None:
        seals, leave = {**certificate.seals, **known.seals}, known.leave or certificate.leave
        certificate = replace(certificate, seals=seals, leave=leave)
    chain = {**member.chain, certificate.digest: certificate}
    kept = {link.digest for link in trail(chain, member.sealed) or ()} | {certificate.digest, member.sealed}
    kept |= {member.serving.manifest.digest} if member.serving else set()
    spare = sorted((c.manifest.epoch, d) for d, c in chain.items() if d not in kept)
    for _, digest in spare[: max(0, len(chain) - _HELD)]:
        del chain[digest]
    return known_topologies(with_chain(member, chain))


def _is_asking(member: Member) -> bool:
    """Whether something is on its way that its source surely holds."""
    return member.fetch is not None and member.fetch.held


def _ask(member: Member) -> tuple[Effect, ...]:
    fetch = member.fetch
    peer = member.peers.get(fetch.source) if fetch else None
    if fetch is None or peer is None:
        return ()
    if fetch.manifest is not None and len(fetch.records) == len(fetch.manifest.members):
        return ()  # all are here, and their evidence is being appraised
    missing_topology = fetch.topology != ZERO_DIGEST
    digest, first = (fetch.topology, 0) if missing_topology else (fetch.digest, len(fetch.records))
    asked = Want(member.own.iid, fetch.source, digest, first)
    data = encode(wire.Envelope(want=make_want(member.own.keys, asked)))
    return (Send(fetch.source, peer.hello.addresses, data),)


def _answer(member: Member, asked: Want) -> bytes:
    """What was asked for, as one envelope. Digests of manifests and of topologies are never the same."""
    held, signed = member.chain.get(asked.digest), member.topologies.get(asked.digest)
    if held is not None and asked.first < len(held.sealed.members):
        return encode(wire.Envelope(certificate=_part(held, asked.first)))
    data = encode(wire.Envelope(topology=signed.envelope)) if signed and not asked.first else b""
    if not 0 < len(data) <= MAX_ENVELOPE_SIZE:
        raise RemoteProtocolError.of(
            Reason.CERTIFICATE_UNKNOWN, "want.digest", asked.digest, "one that we hold"
        )
    return data


def _part(held: Certificate, first: int) -> wire.CertificatePart:
    part = wire.CertificatePart(
        manifest_digest=held.digest, first=first, manifest=b"" if first else held.manifest.body
    )
    if held.leave is not None and not first:
        part.leave.CopyFrom(leave_message(held.leave))
    size = len(part.manifest)
    for sealed in held.sealed.members[first:]:
        record = record_message(sealed)
        size += record.ByteSize()
        if part.members and size > CERTIFICATE_PART:
            break
        part.members.append(record)
        part.seals.append(held.seals.get(sealed.identity.iid, b""))
    return part


def _manifest(member: Member, body: bytes, digest: bytes) -> Manifest:
    """The manifest that was asked for, of our mesh."""
    manifest = parse_manifest(body)
    require_equal(Reason.MANIFEST_MISMATCH, ("certificate.manifest", manifest.digest, digest))
    require_equal(Reason.MESH_MISMATCH, ("manifest.mesh_id", manifest.mesh_id, member.own.identity.mesh_id))
    return manifest


def _require_bounds(manifest: Manifest, topology: Topology) -> None:
    require_equal(
        Reason.TOPOLOGY_MISMATCH, ("manifest.topology_version", manifest.topology_version, topology.version)
    )
    wrong = bounds_mismatches(manifest.members, topology)
    if wrong:
        raise RemoteProtocolError(*wrong)


def _leave(message: wire.CertificatePart, manifest: Manifest) -> SignedLeave | None:
    """The LEAVE to this manifest, if the first part came with one."""
    if not message.HasField("leave"):
        return None
    if message.first:
        raise RemoteProtocolError.of(
            Reason.MALFORMED, "certificate.leave", f"in part {message.first}", "in the first"
        )
    leave = verify_leave(message.leave)
    require_for(leave, manifest)
    return leave


def _gpus(record: wire.MemberRecord, entry: Entry) -> tuple[GpuEvidence, ...]:
    """The GPUs that the entry's aux_digest is of; whoever admits the member appraises them."""
    try:
        gpus = read_gpus(record.gpus, "member.gpus")
    except EvidenceError as error:
        raise RemoteProtocolError(*error.mismatches) from error
    require_equal(Reason.MANIFEST_MISMATCH, ("member.gpus", aux_digest(gpus), entry.aux_digest))
    return gpus


def _certificate(member: Member, fetch: Fetch, manifest: Manifest) -> Certificate:
    members = tuple(
        SealedMember(found.signed, found.hello, commit, fetch.verified[found.identity.iid], gpus)
        for found, commit, gpus in fetch.records
    )
    topology = member.topologies[manifest.topology_digest].topology
    return Certificate(SealedManifest(manifest, topology, members), fetch.seals, fetch.leave)

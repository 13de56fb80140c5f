"""WANT and CERTIFICATE: how a member comes by a certificate that others hold (PROTOCOL.md 4.9). No IO."""

from __future__ import annotations

from dataclasses import replace

from toposeal._wire import peer_pb2 as wire
from toposeal.encoding import encode
from toposeal.errors import EvidenceError, Reason, RemoteProtocolError
from toposeal.evidence.auxiliary import aux_digest, read_gpus
from toposeal.evidence.gpu_certs import GpuEvidence
from toposeal.limits import CERTIFICATE_PART, MAX_PARTS, MAX_TRAIL
from toposeal.membership.certificate import Certificate, missing, trail
from toposeal.membership.events import Alarm, Appraise, Appraised, Effect, Refused, Send, Subject, Ticket
from toposeal.membership.manifest import Entry, Manifest, bounds_mismatches, parse_manifest
from toposeal.membership.peers import Step, admitted_peer, stale
from toposeal.membership.records import committed, introduced, record_message, require_equal
from toposeal.membership.sealed import SealedManifest, SealedMember, check_verified, seal_of
from toposeal.membership.signing import Tag, verify_ik
from toposeal.membership.state import Fetch, Member, Peer
from toposeal.membership.votes import Want, decision_body, make_want, parse_want

_PATIENCE = 3  # questions in a row without an answer, then somebody else is asked
_HELD = 2 * MAX_TRAIL  # certificates at most


def want(member: Member, peer: Peer, digest: bytes, now: int) -> Step:
    """Ask `peer` for `digest`, and for what it rests on, unless we hold it or ask for one already."""
    lacking = missing(member.chain, digest)
    if lacking is None or member.fetch is not None:
        return member, ()
    member = replace(member, fetch=Fetch(lacking, peer.identity.iid, now))
    return member, _ask(member)


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
    held = member.chain.get(asked.manifest_digest)
    if held is None or asked.first >= len(held.sealed.members):
        raise RemoteProtocolError.of(
            Reason.CERTIFICATE_UNKNOWN, "want.manifest_digest", asked.manifest_digest, "one that we hold"
        )
    since, count = peer.parts
    if now - since >= member.own.topology.topology.timers.ping_ms:
        since, count = now, 0
    if count >= MAX_PARTS:
        raise RemoteProtocolError.of(
            Reason.RATE_LIMITED, "want.sender", f"{count} parts", f"{MAX_PARTS} in ping_ms"
        )
    member = member.with_peer(replace(peer, parts=(since, count + 1)))
    data = encode(wire.Envelope(certificate=_part(held, asked.first)))
    return member, (Send(peer.identity.iid, peer.hello.addresses, data),)


def on_part(member: Member, message: wire.CertificatePart, now: int) -> Step:
    """Some records: signatures are checked here, SEAL evidence outside. Raises RemoteProtocolError."""
    fetch = member.fetch
    if fetch is None or message.manifest_digest != fetch.digest or message.first != len(fetch.records):
        raise stale("certificate.manifest_digest", message.manifest_digest)
    topology = member.own.topology.topology
    manifest = fetch.manifest or _manifest(member, message.manifest, fetch.digest)
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
        effects.append(Appraise(ticket, commit.evidence, seal_of(manifest, entry)))
    fetch = replace(fetch, manifest=manifest, records=tuple(records), seals=seals, asked_at=now, asked=1)
    member = replace(member, fetch=fetch)
    more = len(records) < len(manifest.members)
    return member, (*effects, *(_ask(member) if more else ()))


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
    """What was sent is no certificate, or not under our topology."""
    if member.fetch is None or event.ticket.digest != member.fetch.digest:
        return member, ()
    return replace(member, fetch=None), (Alarm(event.mismatch),)


def hold(member: Member, certificate: Certificate) -> Member:
    """Keep `certificate`; of too many the oldest go, but none that our own seal rests on or that we serve.

    A SEALED that is known stays known: the same certificate from somebody else may have fewer of them.
    """
    known = member.chain.get(certificate.digest)
    if known is not None:
        certificate = replace(certificate, seals={**certificate.seals, **known.seals})
    chain = {**member.chain, certificate.digest: certificate}
    kept = {link.digest for link in trail(chain, member.sealed) or ()} | {certificate.digest, member.sealed}
    kept |= {member.serving.manifest.digest} if member.serving else set()
    spare = sorted((c.manifest.epoch, d) for d, c in chain.items() if d not in kept)
    for _, digest in spare[: max(0, len(chain) - _HELD)]:
        del chain[digest]
    return replace(member, chain=chain)


def _ask(member: Member) -> tuple[Effect, ...]:
    fetch = member.fetch
    peer = member.peers.get(fetch.source) if fetch else None
    if fetch is None or peer is None:
        return ()
    if fetch.manifest is not None and len(fetch.records) == len(fetch.manifest.members):
        return ()  # all are here, and their evidence is being appraised
    asked = Want(member.own.iid, fetch.source, fetch.digest, len(fetch.records))
    data = encode(wire.Envelope(want=make_want(member.own.keys, asked)))
    return (Send(fetch.source, peer.hello.addresses, data),)


def _part(held: Certificate, first: int) -> wire.CertificatePart:
    part = wire.CertificatePart(
        manifest_digest=held.digest, first=first, manifest=b"" if first else held.manifest.body
    )
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
    """The manifest that was asked for, of our mesh and topology and within its bounds."""
    manifest = parse_manifest(body)
    topology = member.own.topology.topology
    require_equal(Reason.MANIFEST_MISMATCH, ("certificate.manifest", manifest.digest, digest))
    require_equal(Reason.MESH_MISMATCH, ("manifest.mesh_id", manifest.mesh_id, member.own.identity.mesh_id))
    require_equal(
        Reason.TOPOLOGY_MISMATCH, ("manifest.topology_digest", manifest.topology_digest, topology.digest)
    )
    wrong = bounds_mismatches(manifest.members, topology)
    if wrong:
        raise RemoteProtocolError(*wrong)
    return manifest


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
    return Certificate(SealedManifest(manifest, member.own.topology.topology, members), fetch.seals)

"""The attestation document: put together by a member, taken apart by a verifier. No IO.

Taking apart checks form alone; nothing read from it is authentic before `outside.verify` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toposeal._wire import attestation_pb2 as wire
from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal._wire import peer_pb2 as wire_peer
from toposeal.encoding import decode, encode
from toposeal.errors import Reason, RemoteProtocolError
from toposeal.limits import MAX_COLLATERAL_ENTRIES, MAX_COLLATERAL_SIZE, MAX_DOCUMENT_SIZE, MAX_REPLICAS
from toposeal.membership.hello import Hello
from toposeal.membership.identity import SignedIdentity
from toposeal.membership.votes import SignedCommit, commit_message


@dataclass(frozen=True)
class MemberRecord:
    """What every member holds of every member once a manifest is sealed."""

    identity: SignedIdentity
    hello: Hello
    commit: SignedCommit


@dataclass(frozen=True)
class LiveAnswer:
    """The answering member's LIVE evidence on an outside verifier's challenge."""

    iid: bytes  # 48
    challenge: bytes  # 32
    evidence: wire_evidence.Evidence


def build_document(
    envelope: bytes,
    manifest: bytes,
    records: Sequence[MemberRecord],
    live: LiveAnswer,
    collateral: Sequence[bytes] = (),
) -> bytes:
    """The document's bytes: topology envelope, exact manifest, `records` in the manifest's order."""
    return encode(
        wire.AttestationDocument(
            topology=envelope,
            manifest=manifest,
            members=[_record(record) for record in records],
            live=wire.Live(iid=live.iid, challenge=live.challenge, evidence=live.evidence),
            collateral=collateral,
        )
    )


def parse_document(data: bytes) -> wire.AttestationDocument:
    """Exactly one canonical document within its limits, or RemoteProtocolError.

    A part that is absent reads as empty, and each part's own parser refuses empty input.
    """
    document = decode(wire.AttestationDocument, data, "document", MAX_DOCUMENT_SIZE)
    _check_count("document.members", len(document.members), MAX_REPLICAS)
    _check_count("document.collateral", len(document.collateral), MAX_COLLATERAL_ENTRIES)
    for entry in document.collateral:
        _check_count("document.collateral.size", len(entry), MAX_COLLATERAL_SIZE)
    return document


def _record(record: MemberRecord) -> wire.MemberRecord:
    signed = record.identity
    return wire.MemberRecord(
        identity=signed.identity.body,
        ik_signature=signed.ik_signature,
        ca_signature=signed.ca_signature,
        hello=wire_peer.Signed(body=record.hello.body, signature=record.hello.signature),
        commit=commit_message(record.commit),
    )


def _check_count(field: str, found: int, limit: int) -> None:
    if found > limit:
        raise RemoteProtocolError.of(Reason.TOO_LARGE, field, found, f"at most {limit}")

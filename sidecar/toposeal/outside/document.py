"""The attestation document: put together by a member, taken apart by a verifier. No IO.

Taking apart checks form alone; nothing read from it is authentic before `outside.verify` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from toposeal._wire import attestation_pb2 as wire
from toposeal._wire import evidence_pb2 as wire_evidence
from toposeal.encoding import decode, encode
from toposeal.errors import Reason, RemoteProtocolError
from toposeal.evidence.nonce_tree import audit_path, tree_root
from toposeal.limits import (
    MAX_COLLATERAL_ENTRIES,
    MAX_COLLATERAL_SIZE,
    MAX_CRL_SIZE,
    MAX_CRLS,
    MAX_DOCUMENT_SIZE,
    MAX_REPLICAS,
)
from toposeal.membership.records import record_message
from toposeal.membership.sealed import SealedManifest


@dataclass(frozen=True)
class LiveAnswer:
    """The answering member's LIVE evidence on a window of outside verifiers' nonces (32 bytes each)."""

    iid: bytes  # 48
    nonces: Sequence[bytes]
    evidence: wire_evidence.Evidence  # on the root of their tree


def document_parts(
    envelope: bytes,
    sealed: SealedManifest,
    live: LiveAnswer,
    leaf: int = 0,
    collateral: Sequence[bytes] = (),
    crls: Sequence[bytes] = (),
) -> Iterator[bytes]:
    """The document's bytes for nonce number `leaf` of the window, a member at a time, so that who sends them
    need not hold them all. `envelope` is the signed topology that `sealed` rests on.

    Encodings of a message's fields one after another, in ascending order, are the encoding of the message.
    """
    yield encode(wire.AttestationDocument(topology=envelope, manifest=sealed.manifest.body))
    for member in sealed.members:
        yield encode(wire.AttestationDocument(members=[record_message(member)]))
    answer = wire.Live(
        iid=live.iid,
        challenge=tree_root(live.nonces),
        evidence=live.evidence,
        leaf=leaf,
        leaves=len(live.nonces),
        path=audit_path(leaf, live.nonces),
    )
    yield encode(wire.AttestationDocument(live=answer, collateral=collateral, crls=crls))


def parse_document(data: bytes) -> wire.AttestationDocument:
    """Exactly one canonical document within its limits, or RemoteProtocolError.

    A part that is absent reads as empty, and each part's own parser refuses empty input.
    """
    document = decode(wire.AttestationDocument, data, "document", MAX_DOCUMENT_SIZE)
    _check_count("document.members", len(document.members), MAX_REPLICAS)
    _check_count("document.crls", len(document.crls), MAX_CRLS)
    for crl in document.crls:
        _check_count("document.crls.size", len(crl), MAX_CRL_SIZE)
    _check_count("document.collateral", len(document.collateral), MAX_COLLATERAL_ENTRIES)
    for entry in document.collateral:
        _check_count("document.collateral.size", len(entry), MAX_COLLATERAL_SIZE)
    return document


def _check_count(field: str, found: int, limit: int) -> None:
    if found > limit:
        raise RemoteProtocolError.of(Reason.TOO_LARGE, field, found, f"at most {limit}")

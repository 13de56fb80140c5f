"""A damaged or recombined document is refused with a typed error, or says what an honest one says."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.meshes import Mesh, build_mesh

from toposeal._wire.attestation_pb2 import AttestationDocument
from toposeal.encoding import encode
from toposeal.errors import ToposealError
from toposeal.outside.model import VerifiedMesh
from toposeal.outside.verify import verify_document


@cache
def mesh() -> Mesh:
    return build_mesh(slack=1)  # so that a recombination is not refused for its number of members alone


@cache
def sources() -> tuple[AttestationDocument, ...]:
    """The honest document first, then genuine documents of other times, members and declarations."""
    honest = mesh()
    documents = (
        honest.document(),
        honest.document(answering=3),
        honest.document(nonce=bytes([5]) * 32),
        honest.attempt(2).document(),
        honest.attempt(1, honest.pods[1:]).document(),
        build_mesh(seed=2, slack=1, pki=honest.pki).document(),
        build_mesh(version=4, slack=1, pki=honest.pki).document(),
        build_mesh(mesh="other", slack=1, pki=honest.pki).document(),
    )
    return tuple(AttestationDocument.FromString(document) for document in documents)


@cache
def honest_results() -> tuple[VerifiedMesh, ...]:
    """What each source says by itself, where this request accepts it."""
    results = (outcome(encode(source)) for source in sources())
    return tuple(result for result in results if result is not None)


def outcome(data: bytes) -> VerifiedMesh | None:
    try:
        return verify_document(data, mesh().request())
    except ToposealError:
        return None


def test_the_sources_are_genuine() -> None:
    """Each is accepted or refused for its nonce or its mesh alone; otherwise nothing below says much."""
    accepted = [outcome(encode(source)) is not None for source in sources()]
    assert accepted == [True, True, False, True, True, True, True, False]


@given(st.integers(0), st.integers(0, 7))
@settings(max_examples=600)
def test_E13_no_flipped_bit_changes_what_a_document_says(position: int, bit: int) -> None:
    honest = encode(sources()[0])
    data = bytearray(honest)
    data[position % len(data)] ^= 1 << bit
    assert outcome(bytes(data)) in (None, honest_results()[0])


@given(st.integers(0))
@settings(max_examples=100)
@example(0)
def test_no_truncated_document_is_accepted(length: int) -> None:
    honest = encode(sources()[0])
    assert outcome(honest[: length % len(honest)]) is None


@st.composite
def recombined(draw: st.DrawFn) -> AttestationDocument:
    """A genuine document with one to three parts taken from others, dropped or repeated."""
    pick = st.sampled_from(sources())
    document = AttestationDocument()
    document.CopyFrom(draw(pick))
    for _ in range(draw(st.integers(1, 3))):
        source, index = draw(pick), draw(st.integers(0, 2))
        match draw(st.sampled_from(["topology", "manifest", "live", "collateral", "set", "drop", "insert"])):
            case "set":
                document.members[index].CopyFrom(source.members[draw(st.integers(0, 2))])
            case "drop" if len(document.members) > 3:
                document.members.pop(index)
            case "insert":
                document.members.insert(index, source.members[draw(st.integers(0, 2))])
            case part:
                document.ClearField(part if part != "drop" else "collateral")
                document.MergeFrom(only(source, part))
    return document


def only(source: AttestationDocument, part: str) -> AttestationDocument:
    """A document that has nothing but one part of `source`."""
    copy = AttestationDocument()
    copy.CopyFrom(source)
    for field in copy.DESCRIPTOR.fields_by_name:
        if field != part:
            copy.ClearField(field)
    return copy


@given(recombined())
@settings(max_examples=400)
def test_V3_no_recombination_of_genuine_documents_says_anything_new(document: AttestationDocument) -> None:
    found = outcome(encode(document))
    if found is not None:
        assert found in [replace(result, proven=found.proven) for result in honest_results()]

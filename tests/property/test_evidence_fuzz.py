"""Any bytes are refused as evidence with a typed reason, quickly, or they are the genuine ones.

`--hypothesis-profile deep` samples more than 20,000 changes of a quote.
"""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from support.quick import quickly
from support.tdx import BINDING, HOST, PKI, PPID, WEB, context, topology

from toposeal._wire.evidence_pb2 import TDX, Evidence
from toposeal.errors import EvidenceError, PolicyError, Reason
from toposeal.evidence.collateral import parse_collateral
from toposeal.evidence.pck import parse_pck_chain
from toposeal.evidence.tdx_quote import parse_tdx_quote
from toposeal.verification.appraise import appraise
from toposeal.verification.model import AppraisalContext
from toposeal_lab.simtdx import LabHost, QuoteShape

QUOTE = HOST.quote(BINDING.report_data(), WEB)
LATER = [
    LabHost(PKI, PPID, shape=QuoteShape(version=5, body_type=kind)).quote(BINDING.report_data(), WEB)
    for kind in (2, 3, 4)
]
COLLATERAL = PKI.collateral()
CHAIN = parse_tdx_quote(QUOTE).auth.pck_chain
TOPOLOGY, CONTEXT = topology(), context(COLLATERAL)
MANY = settings(max_examples=max(500, settings.default.max_examples if settings.default else 0))
LIMIT_SECONDS, LIMIT_BYTES = 0.05, 10 << 20


def outcome(quote: bytes, context: AppraisalContext = CONTEXT) -> Reason | None:
    """The reason of the refusal, None when believed. Anything but a typed refusal escapes."""
    try:
        appraise(Evidence(tee=TDX, quote=quote), BINDING, TOPOLOGY, context)
    except (EvidenceError, PolicyError) as refused:
        assert refused.mismatches
        return refused.reason
    return None


def refused_or_parsed(parse: Callable[[bytes], object], data: bytes) -> None:
    """Refused with a type or parsed, nothing else."""
    try:
        parse(data)
    except EvidenceError as refused:
        assert refused.mismatches


def quickly_refused_or_parsed(parse: Callable[[bytes], object], data: bytes) -> None:
    """`refused_or_parsed` within the limit of time, this thread's own."""
    quickly(lambda: refused_or_parsed(parse, data), LIMIT_SECONDS)


def changed(data: bytes, offset: int, bit: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ 1 << bit]) + data[offset + 1 :]


@given(st.integers(0, len(QUOTE) - 1), st.integers(0, 7))
@MANY
def test_E13_no_flipped_bit_is_believed(offset: int, bit: int) -> None:
    assert quickly(lambda: outcome(changed(QUOTE, offset, bit)), LIMIT_SECONDS) is not None


def test_E13_every_bit_of_the_lengths_and_types_counts() -> None:
    """Exhaustive where a flip costs least to find: header, lengths, types, and the PEM's edges."""
    offsets = [*range(48), *range(632, 636), *range(764, 770), *range(1218, 1220), *range(1252, 1258)]
    offsets += [*range(1258, 1290), *range(len(QUOTE) - 40, len(QUOTE))]
    assert [(o, b) for o in offsets for b in range(8) if outcome(changed(QUOTE, o, b)) is None] == []


def test_the_unchanged_quote_is_the_positive_control() -> None:
    assert outcome(QUOTE) is None
    assert [outcome(later) for later in LATER] == [None, None, None]


@given(st.sampled_from([0, 1, 2]), st.integers(0, len(QUOTE) - 1), st.integers(0, 7))
@MANY
def test_E13_no_flipped_bit_of_version_5_is_believed(which: int, offset: int, bit: int) -> None:
    assert outcome(changed(LATER[which], offset, bit)) is not None


def test_E13_no_flipped_bit_of_its_header_and_descriptor_is_believed() -> None:
    for later in LATER:
        assert [(o, b) for o in range(54) for b in range(8) if outcome(changed(later, o, b)) is None] == []


@given(st.integers(0, len(QUOTE)), st.integers(0, len(QUOTE)), st.binary(max_size=200))
@MANY
def test_E14_no_cut_or_spliced_quote_is_believed(start: int, end: int, middle: bytes) -> None:
    spliced = QUOTE[:start] + middle + QUOTE[end:]
    only_padded = spliced.startswith(QUOTE) and not spliced[len(QUOTE) :].strip(b"\0")
    assert (outcome(spliced) is None) == only_padded


@given(st.sampled_from([632, 766, 1218, 1254]), st.sampled_from([0, 1, 0xFFFF, 1 << 31, (1 << 32) - 1]))
def test_E14_no_lie_about_a_length_is_believed(offset: int, value: int) -> None:
    size = 2 if offset == 1218 else 4
    lie = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
    assert outcome(QUOTE[:offset] + lie + QUOTE[offset + size :]) is not None


@given(st.binary(max_size=9000))
def test_E14_arbitrary_bytes_are_no_quote(data: bytes) -> None:
    quickly_refused_or_parsed(parse_tdx_quote, data)
    assert outcome(data) is not None


@given(st.binary(max_size=2000))
def test_arbitrary_bytes_are_no_chain(data: bytes) -> None:
    quickly_refused_or_parsed(parse_pck_chain, data)
    quickly_refused_or_parsed(parse_pck_chain, b"-----BEGIN CERTIFICATE-----\n" + data)


@given(st.integers(0, len(CHAIN) - 1), st.integers(0, 7))
@MANY
def test_a_changed_chain_is_refused_or_another_chain(offset: int, bit: int) -> None:
    quickly_refused_or_parsed(parse_pck_chain, changed(CHAIN, offset, bit))


@given(st.binary(max_size=2000))
def test_arbitrary_bytes_are_no_collateral(data: bytes) -> None:
    quickly_refused_or_parsed(parse_collateral, data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(sorted(json.loads(COLLATERAL))), JSON)
def test_a_replaced_member_of_collateral_is_refused(name: str, value: object) -> None:
    parts = json.loads(COLLATERAL)
    forged = json.dumps(parts | {name: value}).encode()
    quickly_refused_or_parsed(parse_collateral, forged)
    assert outcome(QUOTE, context(forged)) is not None


@given(st.sampled_from(["tcb", "qe"]), st.dictionaries(st.text(max_size=12), JSON, max_size=3))
def test_a_signed_document_of_any_shape_is_handled(document: str, members: dict[str, object]) -> None:
    """Even the true signer cannot make the verifier raise anything else."""
    outcome(QUOTE, context(PKI.collateral(**{document: members})))


@given(st.integers(0, len(COLLATERAL) - 1), st.integers(0, 7))
@MANY
def test_a_changed_bit_of_collateral_changes_nothing_but_the_verdict(offset: int, bit: int) -> None:
    """Either it is refused, or the bit had no meaning (the case of a hexadecimal digit)."""
    forged = changed(COLLATERAL, offset, bit)
    if outcome(QUOTE, context(forged)) is None:
        assert meaning(forged) == meaning(COLLATERAL)


def meaning(data: bytes) -> tuple[object, ...]:
    read = parse_collateral(data)
    return read.tcb_info.text, read.qe_identity.text, read.pck_crl.der, read.root_ca_crl.der


def test_E14_refusing_takes_little_memory() -> None:
    hostile = [QUOTE[:632] + b"\xff" * 4 + QUOTE[636:], QUOTE[:100], b"\0" * 8192, b"[" * (256 << 10)]
    tracemalloc.start()
    for data in hostile:
        refused_or_parsed(parse_tdx_quote, data)
        refused_or_parsed(parse_collateral, data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < LIMIT_BYTES

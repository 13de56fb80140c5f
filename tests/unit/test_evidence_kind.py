"""Four bytes tell which parser judges; none of them is believed."""

from __future__ import annotations

import pytest
from support.gpu import gpu
from support.snp import WEB, chip
from support.tdx import HOST
from support.tdx import WEB as TDX_WEB

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.kind import EvidenceKind, detect_kind


def test_genuine_evidence_is_told_apart() -> None:
    assert detect_kind(HOST.quote(bytes(64), TDX_WEB)) is EvidenceKind.TDX
    assert detect_kind(chip().report(bytes(64), WEB)) is EvidenceKind.SNP
    assert detect_kind(gpu().report(bytes(32))) is EvidenceKind.GPU


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        ("03000200", EvidenceKind.TDX),  # SGX: the quote's parser says so
        ("04000200", EvidenceKind.TDX),
        ("05000300", EvidenceKind.TDX),
        ("04000000", EvidenceKind.SNP),  # a version that the report's parser refuses
        ("ff000000", EvidenceKind.SNP),
        ("11e001ff", EvidenceKind.GPU),
        ("11e0", EvidenceKind.GPU),
    ],
)
def test_the_parser_with_the_better_answer_is_chosen(start: str, kind: EvidenceKind) -> None:
    assert detect_kind(bytes.fromhex(start)) is kind


@pytest.mark.parametrize(
    "start", ["", "04", "0200", "020000", "00000000", "00010000", "06000200", "11e101ff", "7b227b22"]
)
def test_E14_anything_else_is_refused(start: str) -> None:
    with pytest.raises(EvidenceError) as refused:
        detect_kind(bytes.fromhex(start))
    assert refused.value.reason is Reason.EVIDENCE_KIND

"""What `make differential` lets pass: agreement, and disagreement that is explained and still there."""

from __future__ import annotations

import pytest
from differential.peers import Verdict
from differential.run import Explanation, _judge, read_explanations

OURS = {name: Verdict(name, "toposeal", error, 0) for name, error in (("a 1", ""), ("b 2", "refused"))}
PEER = "dcap-qvl"
BOTH_AGREE = [Verdict("a 1", PEER, "", 0), Verdict("b 2", PEER, "no", 0)]
SOFTER = [Verdict("a 1", PEER, "", 0), Verdict("b 2", PEER, "", 0)]
WHY = Explanation(PEER, ("b *",), "accepts", "because")


def test_agreement_passes() -> None:
    assert _judge(OURS, BOTH_AGREE, []) == 0


def test_a_disagreement_needs_an_explanation_of_the_same_verifier_and_direction() -> None:
    assert _judge(OURS, SOFTER, []) == 1
    assert _judge(OURS, SOFTER, [WHY]) == 0
    for other in (
        ("go-tdx-guest", ("b *",), "accepts"),
        (PEER, ("a *",), "accepts"),
        (PEER, ("*",), "refuses"),
    ):
        assert _judge(OURS, SOFTER, [Explanation(*other, "because")]) == 1


def test_an_explanation_that_nothing_needs_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert _judge(OURS, BOTH_AGREE, [WHY]) == 1
    assert "NOT NEEDED" in capsys.readouterr().out
    assert _judge(OURS, BOTH_AGREE, [Explanation(PEER, ("b *",), "accepts", "because", sometimes=True)]) == 0
    assert _judge(OURS, BOTH_AGREE, [Explanation("of another", ("b *",), "accepts", "because")]) == 0


def test_every_explanation_names_a_verifier_a_direction_and_a_reason() -> None:
    for each in read_explanations():
        assert each.peer in ("dcap-qvl", "go-tdx-guest", "go-sev-guest", "@phala/dcap-qvl")
        assert each.theirs in ("accepts", "refuses")
        assert each.cases
        assert each.why.endswith(".")
        assert not (each.theirs == "accepts" and "tdx/flip *" in each.cases), "a flip of what is signed"

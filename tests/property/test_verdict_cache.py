"""Whatever is asked in whatever order: with the cache and without it the answers are the same."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from support.tdx import BINDING, DB, NOW, PKI, context, evidence, topology

from toposeal._wire.evidence_pb2 import Evidence
from toposeal.errors import Mismatch, ToposealError
from toposeal.evidence.binding import Binding, Purpose
from toposeal.host.verdict_cache import Appraise, VerdictCache
from toposeal.topology.model import Topology
from toposeal.verification.appraise import appraise
from toposeal.verification.model import AppraisalContext, VerifiedEvidence

DAY = 86400
BINDINGS = (
    BINDING,
    replace(BINDING, epoch=2),
    replace(BINDING, role="db"),
    replace(BINDING, purpose=Purpose.JOIN),
    replace(BINDING, purpose=Purpose.KEYREL),
)
EVIDENCE = (
    evidence(),
    evidence(),  # another signature over the same
    *(evidence(binding) for binding in BINDINGS[1:]),
    evidence(BINDINGS[2], DB),
    Evidence(tee=evidence().tee, quote=evidence().quote[:-1]),
    Evidence(tee=evidence().tee, quote=evidence().quote + bytes(9)),
    Evidence(),
)
TOPOLOGIES = (topology(), topology(min_tcb_evaluation=21), topology(tcb_status=["OutOfDate"]))
COLLATERAL = ((PKI.collateral(),), (PKI.collateral(status="OutOfDate"),), (PKI.collateral(days=3),), ())
TIMES = tuple(NOW + days * DAY for days in (-2, 0, 1, 2, 4, 40))

Question = tuple[Evidence, Binding, Topology, AppraisalContext]
QUESTIONS = st.builds(
    lambda given, expected, rules, parts, now: (
        given,
        expected,
        rules,
        replace(context(*parts), collateral=parts, now=now),
    ),
    st.sampled_from(EVIDENCE),
    st.sampled_from(BINDINGS),
    st.sampled_from((*TOPOLOGIES[:1] * 3, *TOPOLOGIES)),
    st.sampled_from((*COLLATERAL[:1] * 3, *COLLATERAL)),
    st.sampled_from((*TIMES[1:3] * 3, *TIMES)),
)


def answer(judge: Appraise, question: Question) -> VerifiedEvidence | tuple[Mismatch, ...]:
    try:
        return judge(*question)
    except ToposealError as refusal:
        return tuple(refusal.mismatches)


@settings(max_examples=60)
@given(st.lists(QUESTIONS, min_size=2, max_size=12), st.integers(1, 4))
def test_E2_E3_the_cache_changes_no_answer(questions: list[Question], capacity: int) -> None:
    cache = VerdictCache(appraise, capacity)
    for question in (*questions, *questions):
        assert answer(cache.appraise, question) == answer(appraise, question)

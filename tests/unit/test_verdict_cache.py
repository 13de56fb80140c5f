"""A remembered verdict answers only for what it was made for; everything else is judged."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from support.tdx import BINDING, NOW, PKI, context, evidence, refusal, topology

from toposeal._wire.evidence_pb2 import Evidence
from toposeal.errors import Reason
from toposeal.evidence.binding import Binding, Purpose, Status
from toposeal.evidence.tdx_quote import parse_tdx_quote
from toposeal.host.verdict_cache import VerdictCache
from toposeal.verification.appraise import appraise
from toposeal.verification.model import VerifiedEvidence

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
TOPOLOGY = topology()
COLLATERAL = PKI.collateral()
CONTEXT = context(COLLATERAL)
EVIDENCE = evidence()


class Counted:
    """A cache in front of the real appraisal, and how often that was asked."""

    def __init__(self, capacity: int = 8) -> None:
        self.asked = 0
        self.cache = VerdictCache(self._judge, capacity)

    def _judge(self, *words: Any) -> VerifiedEvidence:
        self.asked += 1
        return appraise(*words)

    def __call__(self, given: Evidence = EVIDENCE, **changes: Any) -> VerifiedEvidence:
        words: dict[str, Any] = {"expected": BINDING, "topology": TOPOLOGY, "context": CONTEXT} | changes
        return self.cache.appraise(given, words["expected"], words["topology"], words["context"])


@pytest.fixture
def warm() -> Counted:
    """It has accepted EVIDENCE once."""
    counted = Counted()
    counted()
    return counted


def test_the_same_question_is_judged_once(warm: Counted) -> None:
    for _ in range(3):
        assert warm() == appraise(EVIDENCE, BINDING, TOPOLOGY, CONTEXT)
    copies = replace(CONTEXT, collateral=(bytes(bytearray(COLLATERAL)),))
    assert warm(Evidence.FromString(EVIDENCE.SerializeToString()), topology=topology(), context=copies)
    assert warm.asked == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"challenge": b"\1" * 32}, Reason.REPORT_DATA),
        ({"iid": b"j" * 48}, Reason.REPORT_DATA),
        ({"epoch": 2}, Reason.REPORT_DATA),
        ({"role": "db"}, Reason.REPORT_DATA),
        ({"purpose": Purpose.JOIN}, Reason.REPORT_DATA),
        ({"status": Status.ACTIVE}, Reason.REPORT_DATA),
        ({"purpose": Purpose.KEYREL}, Reason.EVIDENCE_KIND),
    ],
)
def test_E2_E3_another_binding_is_refused_by_a_warm_cache(
    warm: Counted, changes: dict[str, Any], reason: Reason
) -> None:
    assert refusal(lambda: warm(expected=replace(BINDING, **changes))) is reason
    assert warm() and warm.asked == 2


class _Agreeable(Binding):
    """Equal to every binding."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = Binding.__hash__


class _Colliding(Binding):
    """Of the same report_data as BINDING."""

    def report_data(self) -> bytes:
        return BINDING.report_data()


def test_E2_bindings_and_the_64_bytes_are_compared_both(warm: Counted) -> None:
    fields = {name: getattr(BINDING, name) for name in BINDING.__dataclass_fields__}
    assert refusal(lambda: warm(expected=_Agreeable(**fields | {"epoch": 2}))) is Reason.REPORT_DATA
    assert refusal(lambda: warm(expected=_Colliding(**fields | {"role": "db"}))) is Reason.ROLE_MISMATCH


def test_a_refusal_is_not_remembered() -> None:
    counted, strange = Counted(), Evidence(tee=EVIDENCE.tee, quote=b"\4" * 600)
    for count in (1, 2):
        refusal(counted, strange)
        assert counted.asked == count


def test_a_verdict_does_not_outlive_what_it_rests_on(warm: Counted) -> None:
    expiry = warm().expires_at
    assert warm(context=replace(CONTEXT, now=expiry - 1)) and warm.asked == 1
    late = replace(CONTEXT, now=expiry + 1)
    assert refusal(lambda: warm(context=late)) is Reason.COLLATERAL_INVALID


def test_a_verdict_says_nothing_of_the_time_before_it(warm: Counted) -> None:
    assert warm(context=replace(CONTEXT, now=NOW - 1)) and warm.asked == 2
    early = replace(CONTEXT, now=NOW - 3 * 86400)
    assert refusal(lambda: warm(context=early)) is Reason.COLLATERAL_INVALID


def test_other_rules_are_other_verdicts(warm: Counted) -> None:
    demanding = topology(min_tcb_evaluation=21)
    assert refusal(lambda: warm(topology=demanding)) is Reason.TCB_EVALUATION
    recovered = replace(CONTEXT, collateral=(PKI.collateral(status="OutOfDate"),))
    assert refusal(lambda: warm(context=recovered)) is Reason.TCB_STATUS
    assert refusal(lambda: warm(context=replace(CONTEXT, collateral=()))) is Reason.COLLATERAL_MISSING
    unknown = replace(CONTEXT, anchors=replace(CONTEXT.anchors, intel_sgx_root_ca=b"another"))
    assert refusal(lambda: warm(context=unknown)) is Reason.QUOTE_SIGNATURE
    assert warm(context=replace(CONTEXT, crls=(b"list",))) and warm.asked == 6


def test_a_variant_of_the_signature_is_judged_by_itself(warm: Counted) -> None:
    quote = parse_tdx_quote(EVIDENCE.quote)
    s = P256_ORDER - int.from_bytes(quote.auth.signature[32:], "big")
    variant = quote.auth.signature[:32] + s.to_bytes(32, "big")
    given = Evidence(tee=EVIDENCE.tee, quote=EVIDENCE.quote.replace(quote.auth.signature, variant))
    assert warm(given) == warm() and warm.asked == 2


def test_the_least_used_verdict_is_forgotten_first() -> None:
    counted = Counted(capacity=2)
    first, second, third = (evidence() for _ in range(3))
    for given in (first, second, first, third, first):
        counted(given)
    assert counted.asked == 3
    counted(second)
    assert counted.asked == 4


def test_a_repeat_takes_at_most_a_tenth_of_a_millisecond(warm: Counted) -> None:
    took = []
    for _ in range(200):
        started = time.perf_counter()
        warm()
        took.append(time.perf_counter() - started)
    assert min(took) < 1e-4  # the best of many: what else runs on this machine is not measured

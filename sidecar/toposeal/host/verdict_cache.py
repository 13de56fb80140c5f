"""Verdicts remembered: evidence that was accepted is not judged anew while nothing about it has changed."""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from toposeal._wire.evidence_pb2 import Evidence
from toposeal.encoding import encode
from toposeal.evidence.binding import Binding
from toposeal.limits import MAX_REMEMBERED_VERDICTS
from toposeal.topology.model import Topology
from toposeal.verification.model import AppraisalContext, VerifiedEvidence

Appraise = Callable[[Evidence, Binding, Topology, AppraisalContext], VerifiedEvidence]


class VerdictCache:
    """An `appraise` with a memory of at most `capacity` verdicts, the least used forgotten first.

    It answers from memory only what `judge` was asked before and accepted: the same bytes of evidence, under
    the same topology, roots, collateral and lists, for the same binding, at a time between that verdict and
    the first expiry of what it rests on. All else goes to `judge`; refusals are not remembered. Evidence with
    a changed signature that still holds is other evidence here, judged by itself. For one thread.
    """

    def __init__(self, judge: Appraise, capacity: int = MAX_REMEMBERED_VERDICTS) -> None:
        self._judge = judge
        self._capacity = capacity
        self._rules: object = None
        self._verdicts: OrderedDict[bytes, _Verdict] = OrderedDict()

    def appraise(
        self, evidence: Evidence, expected: Binding, topology: Topology, context: AppraisalContext
    ) -> VerifiedEvidence:
        """As `verification.appraise.appraise`, whose refusals it raises."""
        self._under((topology, context.anchors, context.collateral, context.crls))
        key = hashlib.sha384(encode(evidence)).digest()
        known = self._verdicts.get(key)
        if known is None or not known.answers(expected, context.now):
            verified = self._judge(evidence, expected, topology, context)
            known = self._verdicts[key] = _Verdict(verified, expected.report_data(), context.now)
        self._verdicts.move_to_end(key)
        if len(self._verdicts) > self._capacity:
            self._verdicts.popitem(last=False)
        return known.verified

    def _under(self, rules: object) -> None:
        """Forget everything if the rules are others. They are compared by value, which is instant for
        the objects of the last call."""
        if rules != self._rules:
            self._verdicts.clear()
            self._rules = rules


@dataclass(frozen=True)
class _Verdict:
    verified: VerifiedEvidence
    report_data: bytes  # 64, as in the evidence
    since: int  # Unix seconds

    def answers(self, expected: Binding, now: int) -> bool:
        """Whether `judge` would say the same of `expected` at `now`."""
        return (
            self.since <= now < self.verified.expires_at
            and expected == self.verified.binding  # purpose, role, instance and all else
            and hmac.compare_digest(expected.report_data(), self.report_data)
        )

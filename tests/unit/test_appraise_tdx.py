"""What comes with a TDX quote: nothing of another kind, and events that RTMR3 holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from support.tdx import BINDING, DB, HOST, WEB, context, refusal, topology

from toposeal._wire.evidence_pb2 import TDX, Evidence
from toposeal.errors import EvidenceError, PolicyError, Reason
from toposeal.evidence.binding import Binding, Purpose
from toposeal.evidence.rtmr import ZERO, instance_event, replay
from toposeal.limits import MAX_RTMR3_EVENTS
from toposeal.verification.appraise import appraise
from toposeal_lab.simtdx import TdxMeasurements

INSTANCE = topology(rtmr3="instance")
BASE, BOOT, CONTAINER = b"b" * 48, b"o" * 48, b"c" * 48
MEASURED = topology(rtmr3={"base": BASE.hex(), "events": [BOOT.hex(), CONTAINER.hex()]})
OWN = instance_event(BINDING.iid)
CONTEXT = context()


def evidence(
    extended: Sequence[bytes],
    logged: Sequence[bytes] = (),
    base: bytes = ZERO,
    binding: Binding = BINDING,
    measured: TdxMeasurements = WEB,
) -> Evidence:
    """Of a genuine guest that extended `base` by `extended` and says that it was by `logged`."""
    guest = replace(measured, rtmr=(*measured.rtmr[:3], replay(base, extended)))
    quote = HOST.quote(binding.report_data(), guest)
    return Evidence(tee=TDX, quote=quote, rtmr3_events=list(logged))


def reason(given: Evidence, expected: Binding = BINDING, by: object = INSTANCE) -> Reason:
    return refusal(appraise, given, expected, by, CONTEXT)


@pytest.mark.parametrize("purpose", [Purpose.JOIN, Purpose.SEAL, Purpose.LIVE])
def test_the_event_of_the_very_instance_is_believed_with_or_without_a_log(purpose: Purpose) -> None:
    binding = replace(BINDING, purpose=purpose)
    for logged in ((), (OWN,)):
        given = evidence((OWN,), logged, binding=binding)
        assert appraise(given, binding, INSTANCE, CONTEXT).role == "web"


def test_admitted_events_may_stand_around_it() -> None:
    for log in ((OWN,), (BOOT, OWN), (OWN, CONTAINER), (BOOT, BOOT, OWN, CONTAINER, BOOT)):
        assert appraise(evidence(log, log, BASE), BINDING, MEASURED, CONTEXT).role == "web"


@pytest.mark.parametrize(
    ("extended", "logged"),
    [
        ((), ()),
        ((BOOT,), (BOOT,)),
        ((OWN, OWN), (OWN, OWN)),
        ((BOOT, OWN, CONTAINER, OWN), (BOOT, OWN, CONTAINER, OWN)),
        ((OWN, b"x" * 48), (OWN, b"x" * 48)),
        ((b"x" * 48, OWN), (b"x" * 48, OWN)),
        ((OWN, instance_event(b"j" * 48)), (OWN, instance_event(b"j" * 48))),
        ((OWN, CONTAINER), (CONTAINER, OWN)),
        ((OWN, CONTAINER), (OWN,)),
        ((OWN,), (OWN, CONTAINER)),
        ((BOOT, OWN), ()),
    ],
    ids=[
        "never extended",
        "without the instance",
        "twice",
        "twice, apart",
        "a stranger afterwards",
        "a stranger before",
        "another member's",
        "another order",
        "one that is not logged",
        "one that was not extended",
        "no log",
    ],
)
def test_the_sidecar_was_there_first_once_and_nobody_else_was(
    extended: Sequence[bytes], logged: Sequence[bytes]
) -> None:
    assert reason(evidence(extended, logged, BASE), by=MEASURED) is Reason.RTMR3_INSTANCE


def test_another_members_event_is_not_ones_own() -> None:
    other = replace(BINDING, iid=b"j" * 48)
    assert reason(evidence((OWN,), (OWN,), binding=other), other) is Reason.RTMR3_INSTANCE
    assert reason(evidence((OWN,), binding=other), other) is Reason.RTMR3_INSTANCE


def test_another_base_is_refused() -> None:
    assert reason(evidence((OWN,), (OWN,), BASE)) is Reason.RTMR3_INSTANCE
    assert reason(evidence((OWN,), (OWN,)), by=MEASURED) is Reason.RTMR3_INSTANCE


def test_a_log_changes_nothing_where_the_owner_wants_a_value_or_any() -> None:
    """It is believed for the register of which it is replayed, and for nothing else."""
    given = evidence((BOOT,), (b"x" * 48,))
    assert appraise(given, BINDING, topology(rtmr3="any"), CONTEXT).role == "web"
    assert reason(given, by=topology(rtmr3=WEB.rtmr[3].hex())) is Reason.MEASUREMENT
    exact = topology(rtmr3=replay(ZERO, (BOOT,)).hex())
    assert appraise(given, BINDING, exact, CONTEXT).role == "web"


def test_E6_an_event_of_the_instance_does_not_make_its_role() -> None:
    claim = replace(BINDING, role="db")
    assert reason(evidence((OWN,), binding=claim), claim) is Reason.ROLE_MISMATCH
    assert appraise(evidence((OWN,), binding=claim, measured=DB), claim, INSTANCE, CONTEXT).role == "db"


@pytest.mark.parametrize("name", ["endorsement", "endorsement_ca"])
def test_E14_what_belongs_to_SNP_is_refused_beside_TDX(name: str) -> None:
    given = evidence((OWN,))
    setattr(given, name, b"x")
    with pytest.raises(EvidenceError) as refused:
        appraise(given, BINDING, INSTANCE, CONTEXT)
    (found,) = refused.value.mismatches
    assert (found.reason, found.field) == (Reason.MALFORMED, f"evidence.{name}")


def test_the_number_of_events_is_bounded() -> None:
    admitted = [BOOT] * (MAX_RTMR3_EVENTS - 1)
    assert appraise(evidence([*admitted, OWN], [*admitted, OWN], BASE), BINDING, MEASURED, CONTEXT)
    assert reason(evidence((OWN,), [OWN] * (MAX_RTMR3_EVENTS + 1))) is Reason.TOO_LARGE


@pytest.mark.parametrize("size", [0, 47, 49, 96])
def test_an_event_is_one_digest(size: int) -> None:
    """Whether or not the topology asks for a replay."""
    for declared in (INSTANCE, topology(rtmr3="any")):
        with pytest.raises(EvidenceError) as refused:
            appraise(evidence((OWN,), [OWN, b"x" * size]), BINDING, declared, CONTEXT)
        (found,) = refused.value.mismatches
        assert (found.reason, found.field) == (Reason.MALFORMED, "evidence.rtmr3_events")


def test_all_that_is_wrong_with_a_log_is_reported() -> None:
    with pytest.raises(PolicyError) as refused:
        appraise(evidence((), (OWN, OWN, b"x" * 48)), BINDING, INSTANCE, CONTEXT)
    found = [(m.reason, m.found) for m in refused.value.mismatches]
    assert found[:2] == [
        (Reason.RTMR3_INSTANCE, "2 events of the instance"),
        (Reason.RTMR3_INSTANCE, f"event {'78' * 48}"),
    ]
    assert refused.value.mismatches[2].found == bytes(48).hex()
    assert {m.field for m in refused.value.mismatches} == {"quote.rtmr3"}

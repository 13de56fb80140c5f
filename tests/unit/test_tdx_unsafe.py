"""What no topology can admit in a TD, and that dcap-qvl admits none of it either."""

from __future__ import annotations

import pytest
from support.tdx import NOW, PKI, PPID, quote

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.tdx_quote import TdxQuote
from toposeal.verification.tdx_authentic import authenticate
from toposeal.verification.tdx_unsafe import unsafe_fields
from toposeal_lab.simtdx import LabHost, QuoteShape

SEPT_VE_DISABLE = 28
OWNERS_CHOICE = {16: "ICSSD", 27: "LASS", SEPT_VE_DISABLE: "", 30: "PKS", 31: "KL", 62: "TPA", 63: "PERFMON"}
PASSED_BY_THE_LIBRARY = range(18, 23)
NAMED = {**dict.fromkeys(range(8), Reason.TD_DEBUG), 17: Reason.SERVICE_TD, 29: Reason.TD_MIGRATABLE}


def with_bit(bit: int) -> TdxQuote:
    return quote(td_attributes=(1 << SEPT_VE_DISABLE | 1 << bit).to_bytes(8, "little"))


@pytest.mark.parametrize("bit", range(64))
def test_E7_every_attribute_is_known_or_refused(bit: int) -> None:
    found = [mismatch.reason for mismatch in unsafe_fields(with_bit(bit))]
    assert found == ([] if bit in OWNERS_CHOICE else [NAMED.get(bit, Reason.TD_ATTRIBUTES)])


@pytest.mark.parametrize("bit", range(64))
def test_E7_what_the_library_refuses_is_refused_by_its_true_name(bit: int) -> None:
    """It lets five bits pass whose meaning Intel has not published."""
    made = with_bit(bit)
    try:
        authenticate(made, (PKI.collateral(),), PKI.anchors(), NOW)
    except EvidenceError as refused:
        assert refused.reason is unsafe_fields(made)[0].reason
    else:
        assert bit in PASSED_BY_THE_LIBRARY or not unsafe_fields(made)


def test_E7_without_sept_ve_disable_the_host_may_inject() -> None:
    (found,) = unsafe_fields(quote(td_attributes=bytes(8)))
    assert found.reason is Reason.TD_ATTRIBUTES
    assert "SEPT_VE_DISABLE" in found.expected


@pytest.mark.parametrize("body_type", [3, 4])
def test_E7_a_service_td_shares_the_trust(body_type: int) -> None:
    shape = QuoteShape(version=5, body_type=body_type, later={"mrservicetd": b"\1" * 48})
    (found,) = unsafe_fields(quote(LabHost(PKI, PPID, shape=shape)))
    assert (found.reason, found.field) == (Reason.SERVICE_TD, "quote.mrservicetd")

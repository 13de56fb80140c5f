"""What a peer or a document carries is used after the same checks as our own, and raises no mark."""

from __future__ import annotations

import json

import pytest
from support.collateral import DAY, authentic, crl
from support.snp import NOW as SNP_NOW
from support.snp import amd
from support.snp import crl as snp_crl
from support.tdx import NOW, PKI, refusal

from toposeal.errors import Reason
from toposeal.evidence.collateral import parse_collateral
from toposeal.evidence.snp_tcb import Product
from toposeal.limits import MAX_COLLATERAL_ENTRIES
from toposeal.verification.collateral_authentic import authenticate_collateral
from toposeal.verification.high_water import Marks
from toposeal.verification.stapled import accept_stapled, accept_stapled_lists, with_newest_lists
from toposeal_lab.simtdx import LabPki

ANCHORS = PKI.anchors()
GOOD = PKI.collateral()
FOREIGN = LabPki.create(NOW).collateral()


def test_what_holds_is_accepted_as_it_came() -> None:
    assert accept_stapled((GOOD,), ANCHORS, Marks(), NOW) == (GOOD,)
    assert accept_stapled((), ANCHORS, Marks(), NOW) == ()


@pytest.mark.parametrize("now", [NOW - 2 * DAY, NOW + 31 * DAY])
def test_E9_what_is_not_in_force_is_not(now: int) -> None:
    assert refusal(accept_stapled, (GOOD,), ANCHORS, Marks(), now) is Reason.COLLATERAL_INVALID


def test_E9_what_is_below_the_marks_is_refused_with_that_reason() -> None:
    marks = Marks().raised(authentic(evaluation=21))
    assert refusal(accept_stapled, (GOOD,), ANCHORS, marks, NOW) is Reason.COLLATERAL_ROLLBACK
    newer = Marks().raised(authentic(parts={"pck_crl": crl(PKI.platform_ca, days=1).hex()}))
    assert refusal(accept_stapled, (GOOD,), ANCHORS, newer, NOW) is Reason.COLLATERAL_ROLLBACK


def test_E10_a_strangers_own_signer_is_refused() -> None:
    assert refusal(accept_stapled, (FOREIGN,), ANCHORS, Marks(), NOW) is Reason.COLLATERAL_SIGNER
    assert refusal(accept_stapled, (b"{}",), ANCHORS, Marks(), NOW) is Reason.COLLATERAL_INVALID


def test_one_bad_entry_spoils_no_other() -> None:
    assert accept_stapled((FOREIGN, GOOD, b""), ANCHORS, Marks(), NOW) == (GOOD,)


def test_L4_no_more_entries_are_looked_at_than_a_document_may_have() -> None:
    entries = (*[b""] * MAX_COLLATERAL_ENTRIES, GOOD)
    assert refusal(accept_stapled, entries, ANCHORS, Marks(), NOW) is Reason.COLLATERAL_INVALID


def test_families_share_the_newest_lists() -> None:
    older = PKI.collateral(tcb={"fmspc": "00" * 6})
    newer = PKI.collateral(parts={"pck_crl": crl(PKI.platform_ca, days=1).hex()})
    shared = with_newest_lists((older, newer))
    first, second = (parse_collateral(entry) for entry in shared)
    assert (first.fmspc, second.fmspc) == (bytes(6), PKI.fmspc)
    assert first.pck_crl.der == second.pck_crl.der == parse_collateral(newer).pck_crl.der
    assert first.tcb_info == parse_collateral(older).tcb_info
    marks = Marks().raised(authenticate_collateral(newer, ANCHORS, NOW))
    assert accept_stapled(shared, ANCHORS, marks, NOW) == shared
    assert json.loads(with_newest_lists((older,))[0]) == json.loads(older)
    assert with_newest_lists(()) == ()


def test_lists_of_amds_that_no_pinned_root_signed_are_as_if_not_carried() -> None:
    genuine, expired = snp_crl(1), snp_crl(2, until=SNP_NOW - 1)
    turin = snp_crl(3, on=amd(Product.TURIN))
    forged, of_a_ca = amd().crl([amd().ask], signer=amd().keys.ask), amd().crl(issuer=amd().ask)
    carried = (b"", forged, genuine, b"x", turin, of_a_ca, expired)
    assert accept_stapled_lists(carried, amd().anchors()) == (genuine, expired)
    assert accept_stapled_lists((forged,), amd().anchors()) == ()

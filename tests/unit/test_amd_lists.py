"""The list that counts is the root's own, names the CA if any does, and is the newest by number."""

from __future__ import annotations

import pytest
from support.snp import NOW, amd, crl

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.amd_lists import list_for
from toposeal.evidence.amd_x509 import parse_amd_certificate
from toposeal.evidence.snp_tcb import Product
from toposeal_lab.simsnp.pki import der

ROOT, ASK, ASVK = (parse_amd_certificate(der(each), "x") for each in (amd().ark, amd().ask, amd().asvk))


def test_E9_the_newest_by_number_and_not_by_date() -> None:
    older, newer = crl(4, until=NOW + 900), crl(5, until=NOW + 100)
    assert list_for((older, newer), ASK, ROOT) == list_for((newer, older), ASK, ROOT) == newer


def test_E10_one_that_names_the_ca_goes_before_a_newer_one() -> None:
    revoking, of_the_other = crl(5, amd().ask), crl(6, amd().asvk)
    for lists in ((revoking, of_the_other), (of_the_other, revoking)):
        assert list_for(lists, ASK, ROOT) == revoking
        assert list_for(lists, ASVK, ROOT) == of_the_other


def test_E10_lists_of_others_say_nothing() -> None:
    forged = amd().crl([amd().ask], signer=amd().keys.ask)
    assert list_for((crl(9, amd().ask, on=amd(Product.TURIN)), forged), ASK, ROOT) is None
    assert list_for((), ASK, ROOT) is None


def test_what_is_no_list_is_refused() -> None:
    with pytest.raises(EvidenceError) as refused:
        list_for((b"x",), ASK, ROOT)
    assert refused.value.reason is Reason.COLLATERAL_INVALID

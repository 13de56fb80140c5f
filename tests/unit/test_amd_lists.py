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
    of_another_product, of_a_ca = crl(9, amd().ask, on=amd(Product.TURIN)), amd().crl(issuer=amd().ask)
    assert list_for((of_another_product, of_a_ca), ASK, ROOT) is None
    assert list_for((), ASK, ROOT) is None


@pytest.mark.parametrize("beside", [(), (crl(9),), (crl(9, amd().ask),)], ids=["alone", "clean", "revoking"])
def test_E10_a_list_in_the_roots_name_that_it_did_not_sign_is_refused(beside: tuple[bytes, ...]) -> None:
    """Damaged, it may have been the one that revokes: leaving it out would be the attacker's choice."""
    revoking = bytearray(crl(5, amd().ask))
    revoking[-1] ^= 1
    for forged in (amd().crl([amd().ask], signer=amd().keys.ask), bytes(revoking)):
        for lists in ((forged, *beside), (*beside, forged)):
            for _ in range(2):  # a refusal is not remembered as something else
                with pytest.raises(EvidenceError) as refused:
                    list_for(lists, ASK, ROOT)
                (found,) = refused.value.mismatches
                assert (found.reason, found.field) == (Reason.COLLATERAL_SIGNER, "crl.signature")
                assert found.expected == "one of ARK-Genoa that holds"


def test_what_is_no_list_is_refused() -> None:
    with pytest.raises(EvidenceError) as refused:
        list_for((b"x",), ASK, ROOT)
    assert refused.value.reason is Reason.COLLATERAL_INVALID

"""evidence.kds: the paths of AMD's service, as its specification writes them."""

from __future__ import annotations

import pytest

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.kds import chain_path, list_path, vcek_path
from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_tcb import Product, SnpTcb

GENOA = SnpTcb(bl=10, tee=0, snp=23, ucode=125)
TURIN = SnpTcb(bl=1, tee=2, snp=3, ucode=80, fmc=0)


def test_a_chip_before_turin_has_64_bytes_and_four_levels() -> None:
    chip = bytes(range(64))
    assert vcek_path(Product.GENOA, chip, GENOA) == (
        f"/vcek/v1/Genoa/{chip.hex()}?blSPL=10&teeSPL=00&snpSPL=23&ucodeSPL=125"
    )


def test_turin_has_8_bytes_and_the_fmc() -> None:
    chip = bytes(range(1, 9)) + bytes(56)
    assert vcek_path(Product.TURIN, chip, TURIN) == (
        "/vcek/v1/Turin/0102030405060708?fmcSPL=00&blSPL=01&teeSPL=02&snpSPL=03&ucodeSPL=80"
    )


@pytest.mark.parametrize("chip", [bytes(64), bytes(8) + b"\1" + bytes(55), bytes([1] * 64)])
def test_a_chip_that_has_no_certificate_is_not_asked_for(chip: bytes) -> None:
    with pytest.raises(EvidenceError) as refused:
        vcek_path(Product.TURIN, chip, TURIN)
    assert refused.value.reason is Reason.CHIP_ID


def test_chain_and_list_differ_by_whose_key_it_is() -> None:
    assert chain_path(Product.MILAN, KeyKind.VCEK) == "/vcek/v1/Milan/cert_chain"
    assert chain_path(Product.MILAN, KeyKind.VLEK) == "/vlek/v1/Milan/cert_chain"
    assert list_path(Product.MILAN, KeyKind.VLEK) == "/vlek/v1/Milan/crl"

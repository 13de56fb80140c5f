"""A VCEK names a chip, a VLEK a provider; both name product and firmware, exactly once, in range."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from support.snp import amd, chip, endorsements

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.snp_certs import Endorsement, KeyKind, parse_endorsement, parse_endorsements
from toposeal.evidence.snp_tcb import Product, SnpTcb
from toposeal_lab.simsnp import LabChip, LeafShape
from toposeal_lab.simsnp.chip import default_tcb
from toposeal_lab.simsnp.pki import pem

HWID = bytes(range(64))
TURIN_HWID = bytes(range(8))
ARC = "1.3.6.1.4.1.3704.1."
ZERO, NUMBER = b"\x02\x01\x00", b"\x02\x01\x07"


def leaf(product: Product = Product.GENOA, kind: KeyKind = KeyKind.VCEK, **shape: Any) -> bytes:
    hwid = TURIN_HWID if product is Product.TURIN else HWID
    return LabChip(amd(product), hwid, kind, shape=LeafShape(**shape)).certificate


def parsed(product: Product = Product.GENOA, kind: KeyKind = KeyKind.VCEK, **shape: Any) -> Endorsement:
    return parse_endorsement(leaf(product, kind, **shape))


def refused(product: Product = Product.GENOA, kind: KeyKind = KeyKind.VCEK, **shape: Any) -> str:
    data = leaf(product, kind, **shape)
    with pytest.raises(EvidenceError) as caught:
        parse_endorsement(data)
    assert caught.value.reason is Reason.CERTIFICATE_INVALID
    return str(caught.value)


@pytest.mark.parametrize("product", Product)
def test_a_vcek_names_chip_product_and_firmware(product: Product) -> None:
    found = parsed(product)
    assert (found.kind, found.product, found.tcb) == (KeyKind.VCEK, product, default_tcb(product))
    assert found.hwid == (TURIN_HWID if product is Product.TURIN else HWID)
    assert found.csp_id is None
    assert found.product_name.startswith(product)


@pytest.mark.parametrize("product", Product)
def test_a_vlek_names_the_provider(product: Product) -> None:
    found = parsed(product, KeyKind.VLEK)
    assert (found.kind, found.product, found.tcb) == (KeyKind.VLEK, product, default_tcb(product))
    assert (found.hwid, found.csp_id) == (b"", "simulated provider")


def test_the_levels_stand_under_amds_arcs() -> None:
    assert parsed().levels == {"3.1": 10, "3.2": 2, "3.3": 25, "3.8": 210}
    assert parsed(Product.TURIN).levels == {"3.1": 10, "3.2": 2, "3.3": 25, "3.8": 210, "3.9": 1}


@pytest.mark.parametrize("level", [0, 127, 128, 255])
def test_a_level_is_a_der_integer(level: int) -> None:
    tcb = SnpTcb(bl=level, tee=level, snp=level, ucode=level)
    assert parse_endorsement(LabChip(amd(), HWID, tcb=tcb).certificate).tcb == tcb


@pytest.mark.parametrize("arc", ["3.1", "3.2", "3.3", "3.8"])
def test_a_level_fits_one_byte_and_is_there(arc: str) -> None:
    assert "one byte" in refused(extensions={arc: b"\x02\x02\x01\x00"})
    assert "nothing" in refused(extensions={arc: None})
    for other in (
        b"",
        b"\x02\x00",
        b"\x02\x01\xff",
        b"\x02\x02\x00\x05",
        b"\x04\x01\x05",
        b"\x02\x01\x05\x00",
    ):
        refused(extensions={arc: other})


@pytest.mark.parametrize("arc", ["3.4", "3.5", "3.6", "3.7", "3.9"])
def test_a_reserved_level_is_zero_or_absent(arc: str) -> None:
    assert parsed(extensions={arc: None})
    assert parsed(extensions={arc: ZERO})
    assert arc in refused(extensions={arc: NUMBER})


def test_turin_has_an_fmc() -> None:
    assert parsed(Product.TURIN, extensions={"3.9": NUMBER}).tcb.fmc == 7
    assert "nothing" in refused(Product.TURIN, extensions={"3.9": None})


@pytest.mark.parametrize("name", ["Milan-B0", "Milan-B1", "Milan"])
def test_the_stepping_is_no_part_of_the_product(name: str) -> None:
    found = parsed(product_name=name)
    assert (found.product, found.product_name) == (Product.MILAN, name)


@pytest.mark.parametrize(
    "name", ["", "Rome", "milan", "Milan-", "Milan-B10", "Genoa ", "GenoaMilan", "Naples-B0"]
)
def test_a_product_that_is_not_known_is_refused(name: str) -> None:
    assert "productName" in refused(product_name=name)


def test_the_structure_is_of_a_known_version() -> None:
    for version in (0, 1):
        assert parsed(extensions={"1": bytes([2, 1, version])})
    assert "structVersion" in refused(extensions={"1": b"\x02\x01\x02"})
    assert "a number of 1900 bytes" in refused(extensions={"1": b"\x02\x82\x07\x6c\x01" + bytes(1899)})
    assert "nothing" in refused(extensions={"1": None})
    assert "nothing" in refused(extensions={"2": None})


def test_the_hwid_is_raw_or_exactly_one_octet_string() -> None:
    assert parsed(hwid_in_der=True).hwid == HWID
    assert parsed(Product.TURIN, hwid_in_der=True).hwid == TURIN_HWID
    inside = b"\x04\x40" + bytes(62)  # 64 bytes that only look like the start of one
    assert parsed(extensions={"4": inside}).hwid == inside


@pytest.mark.parametrize(
    "value",
    [b"", None, bytes(8), bytes(63), bytes(65), bytes(66), b"\x04\x3f" + bytes(64), b"\x04\x40" + bytes(65)],
)
def test_a_hwid_has_the_size_of_its_product(value: bytes | None) -> None:
    assert "hwID" in refused(extensions={"4": value})


@pytest.mark.parametrize("size", [0, 7, 9, 10, 64])
def test_turins_hwid_has_8_bytes(size: int) -> None:
    assert "hwID" in refused(Product.TURIN, extensions={"4": bytes(size)})


def test_chip_and_provider_exclude_each_other() -> None:
    assert "cspID" in refused(extensions={"5": b"\x16\x01x"})
    assert "cspID" in refused(kind=KeyKind.VLEK, extensions={"5": None})
    assert "hwID" in refused(kind=KeyKind.VLEK, extensions={"4": HWID})
    assert "tag" in refused(kind=KeyKind.VLEK, extensions={"5": b"\x04\x01x"})


@pytest.mark.parametrize("name", ["VCEK", "SEV-ASK", "sev-vcek", "SEV-VCEK ", "SEV-Genoa", "ARK-Genoa"])
def test_the_name_is_exactly_amds(name: str) -> None:
    """Verifiers that looked for VCEK never ran the checks of a SEV-VCEK."""
    assert "SEV-VCEK or SEV-VLEK" in refused(common_name=name)


def test_no_extension_is_critical() -> None:
    assert "critical" in refused(critical=frozenset({ARC + "2"}))


def test_the_key_is_on_p384() -> None:
    key = rsa.generate_private_key(65537, 4096).public_key()
    data = amd().issue(KeyKind.VCEK, key, default_tcb(Product.GENOA), HWID)
    with pytest.raises(EvidenceError, match="P-384"):
        parse_endorsement(data)


def test_endorsements_are_one_certificate_and_two() -> None:
    machine = chip()
    found = endorsements(crl=amd().crl())
    assert found.crl is not None
    assert (found.ca.common_name, found.root.common_name) == ("SEV-Genoa", "ARK-Genoa")
    assert endorsements(key=pem(machine.certificate)) == replace(endorsements(), crl=None)
    for key, chain in (
        (machine.chain, machine.chain),
        (machine.certificate, pem(machine.certificate)),
        (machine.certificate, machine.chain + pem(machine.certificate)),
    ):
        with pytest.raises(EvidenceError) as caught:
            parse_endorsements(key, chain)
        assert caught.value.reason is Reason.CERTIFICATE_INVALID

"""The simulated AMD is structurally genuine and says everywhere that it is not."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from support.snp import NOW, WEB, amd, chip

from toposeal.evidence.snp_tcb import Product
from toposeal_lab.simsnp import LabChip, RsaKeys, SnpMeasurements, lab_snp_measurements


@pytest.mark.parametrize("product", Product)
def test_E17_every_certificate_says_that_it_is_simulated(product: Product) -> None:
    vendor = amd(product)
    for certificate in (vendor.ark, vendor.ask, vendor.asvk):
        for name in (certificate.subject, certificate.issuer):
            values = [each.value for each in name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
            assert values == ["SIMULATED - not AMD"]
    assert chip(product).certificate.count(b"SIMULATED - not AMD") == 2


def test_its_keys_are_made_once_and_never_stored() -> None:
    assert RsaKeys.shared() is RsaKeys.shared()
    assert amd(Product.MILAN).keys is amd(Product.TURIN).keys


def test_authorities_chain_as_amds_do() -> None:
    vendor = amd()
    for certificate in (vendor.ark, vendor.ask, vendor.asvk):
        certificate.verify_directly_issued_by(vendor.ark)
        limit = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        assert limit == (None if certificate is vendor.ark else 0)
    assert vendor.created == NOW


def test_roles_are_told_apart_by_their_measured_configuration_alone() -> None:
    db = lab_snp_measurements("db", "shop")
    assert WEB.measurement == db.measurement
    assert len({WEB.host_data, db.host_data, lab_snp_measurements("web", "other").host_data}) == 3


@pytest.mark.parametrize("size", [0, 63, 65])
def test_report_data_of_another_size_makes_no_report(size: int) -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        chip().report(bytes(size), SnpMeasurements())


def test_a_chip_has_the_identity_of_its_product() -> None:
    with pytest.raises(ValueError, match="of 8 bytes"):
        LabChip(amd(Product.TURIN), bytes(64))

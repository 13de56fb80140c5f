"""The simulated NVIDIA is structurally genuine and says everywhere that it is not."""

from __future__ import annotations

import pytest
from cryptography.x509.oid import NameOID
from support.gpu import MODELS, NONCE, NOW, gpu, nvidia, signer

from toposeal_lab.simgpu import LabGpu


def test_E17_every_certificate_says_that_it_is_simulated() -> None:
    for model in MODELS:
        device = gpu(model)
        for certificate in (device.leaf, device.device, *device.vendor.authorities(), *signer().certificates):
            for name in (certificate.subject, certificate.issuer):
                values = [each.value for each in name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
                assert values == ["SIMULATED - not NVIDIA"]


def test_one_vendor_makes_all_models() -> None:
    assert {nvidia(model).root for model in MODELS} == {nvidia().root}
    assert len({nvidia(model).provisioner for model in MODELS}) == len(MODELS)
    assert nvidia().created == NOW


def test_devices_of_a_model_differ_in_their_keys_and_measure_the_same() -> None:
    first, second = gpu(), LabGpu(nvidia(), 2)
    assert (first.serial, first.pdi) != (second.serial, second.pdi)
    assert first.measurements() == second.measurements()
    assert first.measurements() != gpu("GB100").measurements()


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_nonce_has_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        gpu().report(bytes(size))
    assert gpu().report(NONCE)[4:36] == NONCE

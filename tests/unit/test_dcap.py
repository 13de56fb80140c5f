"""Whatever dcap-qvl does, its caller sees a verdict or one typed refusal."""

from __future__ import annotations

import dcap_qvl  # type: ignore[import-untyped]
import pytest
from support.tdx import HOST, NOW, PKI, WEB, refusal

from toposeal.errors import Reason
from toposeal.evidence import dcap
from toposeal.evidence.collateral import parse_collateral

QUOTE = HOST.quote(bytes(64), WEB)


def test_every_status_is_handed_on_in_the_vendors_words() -> None:
    """The library alone calls this UpToDate: the QE's status is lost in its summary."""
    collateral = parse_collateral(PKI.collateral(qe_status="ConfigurationNeeded"))
    verdict = dcap.verify(QUOTE, collateral, PKI.root_der, NOW)
    assert (verdict.status, verdict.platform_status) == ("UpToDate", "UpToDate")
    assert verdict.qe_status == "ConfigurationNeeded"


def test_advisories_are_sorted_and_unique() -> None:
    advisories = ("INTEL-SA-00002", "INTEL-SA-00001", "INTEL-SA-00002")
    collateral = parse_collateral(PKI.collateral(status="OutOfDate", advisories=advisories))
    verdict = dcap.verify(QUOTE, collateral, PKI.root_der, NOW)
    assert verdict.status == "OutOfDate"
    assert verdict.advisories == ("INTEL-SA-00001", "INTEL-SA-00002")


@pytest.mark.parametrize("now", [-1, 0, NOW - 90_000, NOW + 40 * 86400, 1 << 63, 1 << 64])
def test_every_refusal_is_typed(now: int) -> None:
    collateral = parse_collateral(PKI.collateral())
    assert refusal(dcap.verify, QUOTE, collateral, PKI.root_der, now) is Reason.QUOTE_SIGNATURE


def test_a_panic_of_the_library_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})

    def explode(pem: bytes) -> None:
        raise panic("index out of bounds")

    monkeypatch.setattr(dcap_qvl, "parse_pck_extension_from_pem", explode)
    assert refusal(dcap.pck_identity, b"") is Reason.QUOTE_FORMAT


def test_an_interrupt_is_not_taken_for_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(pem: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dcap_qvl, "parse_pck_extension_from_pem", interrupt)
    with pytest.raises(KeyboardInterrupt):
        dcap.pck_identity(b"")


def test_the_firmware_of_a_pck_is_handed_on() -> None:
    assert dcap.pck_firmware(HOST.pck.pem().encode()) == (bytes([2] * 16), 11, 1)
    assert refusal(dcap.pck_firmware, PKI.platform_ca.pem().encode()) is Reason.QUOTE_FORMAT

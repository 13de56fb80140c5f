"""A quote is authentic only under the pinned root and collateral that its proper signer signed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import dcap_qvl  # type: ignore[import-untyped]
import pytest
from support.tdx import HOST, NOW, PKI, PPID, WEB, quote, refusal

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence import dcap
from toposeal.evidence.collateral import parse_collateral
from toposeal.evidence.tdx_quote import TdxQuote, parse_tdx_quote
from toposeal.verification.anchors import VENDOR_ANCHORS
from toposeal.verification.model import TrustAnchors
from toposeal.verification.tdx_authentic import authenticate
from toposeal.verification.tdx_module import running_module
from toposeal_lab.simtdx import LabHost, LabPki, QuoteShape
from toposeal_lab.simtdx.pki import PLATFORM_CA_NAME, TCB_SIGNING_NAME, Authority, issue

DAY = 86400
QUOTE = quote()


def reason(
    quote: TdxQuote = QUOTE,
    *collateral: bytes,
    now: int = NOW,
    anchors: TrustAnchors | None = None,
    **spec: Any,
) -> Reason:
    """Why `quote` is refused under collateral made to `spec`."""
    supplied = collateral or (PKI.collateral(**spec),)
    return refusal(authenticate, quote, supplied, anchors or PKI.anchors(), now)


def test_a_genuine_quote_is_authentic() -> None:
    collateral = PKI.collateral(status="SWHardeningNeeded", advisories=("INTEL-SA-00001",), evaluation=21)
    authentic = authenticate(QUOTE, (collateral,), PKI.anchors(), NOW)
    assert authentic.quote is QUOTE
    assert authentic.ppid == PPID
    assert authentic.tcb_status == "SWHardeningNeeded"
    assert authentic.statuses == {"SWHardeningNeeded", "UpToDate"}
    assert authentic.advisories == ("INTEL-SA-00001",)
    assert authentic.evaluation == 21
    assert authentic.expires_at == NOW + 30 * DAY


def test_padding_changes_nothing() -> None:
    padded = parse_tdx_quote(QUOTE.raw.ljust(8000, b"\0"))
    assert authenticate(padded, (PKI.collateral(),), PKI.anchors(), NOW).ppid == PPID


def test_E17_the_simulated_root_is_refused_by_a_production_build() -> None:
    with pytest.raises(EvidenceError) as refused:
        authenticate(QUOTE, (PKI.collateral(),), VENDOR_ANCHORS, NOW)
    assert refused.value.reason is Reason.QUOTE_SIGNATURE
    assert "SIMULATED - not Intel" in str(refused.value)


def test_E10_a_quote_under_another_root_is_refused() -> None:
    other = LabPki.create(NOW)
    assert reason(anchors=other.anchors()) is Reason.QUOTE_SIGNATURE
    foreign = quote(LabHost(other, PPID))
    assert reason(foreign) is Reason.QUOTE_SIGNATURE
    assert reason(foreign, other.collateral()) is Reason.QUOTE_SIGNATURE


def test_E10_a_foreign_leaf_under_our_root_is_refused() -> None:
    """The chain carries our CA and root, the leaf was signed by somebody else."""
    other = LabHost(LabPki.create(NOW), PPID)
    chain = other.pck.pem() + PKI.platform_ca.pem() + PKI.root.pem()
    forged = LabHost(PKI, PPID, pck=other.pck, shape=QuoteShape(pck_chain=chain))
    assert reason(quote(forged)) is Reason.QUOTE_SIGNATURE


@pytest.mark.parametrize(
    "leaf", ["Intel SGX TCB Signing", "Intel SGX PCK Platform CA", "intel sgx pck certificate"]
)
def test_E10_a_certificate_of_another_role_is_no_pck(leaf: str) -> None:
    extension = HOST.pck.certificate.extensions
    sgx = next(each.value.value for each in extension if each.oid.dotted_string.startswith("1.2.840.113741"))
    imposter = issue(leaf, PKI.platform_ca, NOW, extension=sgx)
    assert reason(quote(LabHost(PKI, PPID, pck=imposter))) is Reason.QUOTE_SIGNATURE


def test_E10_an_intermediate_of_another_name_is_no_platform_ca() -> None:
    processor = issue("Intel SGX PCK Processor CA", PKI.root, NOW, path_length=0)
    pki = replace(PKI, platform_ca=processor)
    assert reason(quote(LabHost(pki, PPID)), pki.collateral()) is Reason.QUOTE_SIGNATURE


def test_E10_revoked_certificates_are_refused() -> None:
    for revoked in (HOST.pck, PKI.platform_ca, PKI.tcb_signing):
        assert reason(revoked=(revoked.certificate,)) is Reason.REVOKED


def signers() -> list[tuple[str, tuple[Authority, ...]]]:
    """Everybody under the pinned root, or near it, who must not sign collateral."""
    root, pck = PKI.root, HOST.pck
    from_platform_ca = issue(TCB_SIGNING_NAME, PKI.platform_ca, NOW)
    self_signed = issue(TCB_SIGNING_NAME, None, NOW)
    other = LabPki.create(NOW)
    return [
        ("a PCK, as leaf of its own chain", (pck, PKI.platform_ca, root)),
        ("a PCK, as if the root had issued it", (pck, root)),
        ("the right name from the platform CA", (from_platform_ca, root)),
        ("the right name from the platform CA, whole chain", (from_platform_ca, PKI.platform_ca, root)),
        ("the right name, self-signed", (self_signed, root)),
        ("the root itself", (root, root)),
        ("another vendor", (other.tcb_signing, other.root)),
        ("another vendor's signer under our root", (other.tcb_signing, root)),
        ("the signer twice", (PKI.tcb_signing, PKI.tcb_signing)),
        ("the signer without root", (PKI.tcb_signing,)),
        ("root first", (root, PKI.tcb_signing)),
    ]


@pytest.mark.parametrize(("who", "chain"), signers(), ids=[who for who, _ in signers()])
@pytest.mark.parametrize("document", ["tcb_signer", "qe_signer"])
def test_only_the_tcb_signer_signs_collateral(who: str, chain: tuple[Authority, ...], document: str) -> None:
    spec: dict[str, Any] = {document: chain}
    assert reason(**spec) is Reason.COLLATERAL_SIGNER, who


def test_the_library_alone_would_believe_a_pck_that_signs_collateral() -> None:
    """The positive control of the test above: without our check an old machine declares itself good."""
    pck_chain = HOST.pck.pem() + PKI.platform_ca.pem() + PKI.root.pem()
    spec: dict[str, Any] = {"tcb_signer": (HOST.pck, PKI.root), "qe_signer": (HOST.pck, PKI.root)}
    collateral = parse_collateral(PKI.collateral(**spec))
    believed = dcap_qvl.QuoteCollateralV3(
        pck_crl_issuer_chain=PKI.platform_ca.pem() + PKI.root.pem(),
        root_ca_crl=collateral.root_ca_crl.der,
        pck_crl=collateral.pck_crl.der,
        tcb_info_issuer_chain=pck_chain,
        tcb_info=collateral.tcb_info.text,
        tcb_info_signature=collateral.tcb_info.signature,
        qe_identity_issuer_chain=pck_chain,
        qe_identity=collateral.qe_identity.text,
        qe_identity_signature=collateral.qe_identity.signature,
    )
    assert dcap_qvl.verify_with_root_ca(QUOTE.raw, believed, PKI.root_der, NOW).status == "UpToDate"


def test_a_list_under_another_root_is_refused() -> None:
    other = LabPki.create(NOW)
    chain = other.platform_ca.pem() + other.root.pem()
    assert reason(parts={"pck_crl_issuer_chain": chain}) is Reason.COLLATERAL_SIGNER


def list_issuers() -> list[tuple[str, Authority, str]]:
    """Everybody under the pinned root, or near it, who must not issue lists of PCKs; the field at fault."""
    other = LabPki.create(NOW)
    return [
        ("the processor CA", issue("Intel SGX PCK Processor CA", PKI.root, NOW, path_length=0), "subject"),
        ("the TCB signer", PKI.tcb_signing, "subject"),
        ("a PCK", HOST.pck, "subject"),
        ("the root itself", PKI.root, "subject"),
        ("the right name from the platform CA", issue(PLATFORM_CA_NAME, PKI.platform_ca, NOW), "issuer"),
        ("the right name, self-signed", issue(PLATFORM_CA_NAME, None, NOW, path_length=0), "issuer"),
        ("another vendor's under our root", other.platform_ca, "issuer"),
    ]


@pytest.mark.parametrize(("who", "issuer", "field"), list_issuers(), ids=[who for who, *_ in list_issuers()])
def test_E10_only_the_platform_ca_issues_lists_of_pcks(who: str, issuer: Authority, field: str) -> None:
    collateral = PKI.collateral(parts={"pck_crl_issuer_chain": issuer.pem() + PKI.root.pem()})
    with pytest.raises(EvidenceError) as refused:
        authenticate(QUOTE, (collateral,), PKI.anchors(), NOW)
    assert refused.value.reason is Reason.COLLATERAL_SIGNER, who
    assert refused.value.mismatches[0].field == f"collateral.pck_crl_issuer_chain.{field}", who


@pytest.mark.parametrize("made", [NOW - 3660 * DAY, NOW + 2 * DAY])
def test_O1_the_issuer_of_the_list_of_pcks_is_in_force(made: int) -> None:
    """Under the same root, which is: nothing but this certificate has run out, or is dated ahead."""
    issuer = issue(PLATFORM_CA_NAME, PKI.root, made, path_length=0)
    collateral = PKI.collateral(parts={"pck_crl_issuer_chain": issuer.pem() + PKI.root.pem()})
    with pytest.raises(EvidenceError) as refused:
        authenticate(QUOTE, (collateral,), PKI.anchors(), NOW)
    assert refused.value.reason is Reason.COLLATERAL_INVALID
    assert refused.value.mismatches[0].field == "collateral.pck_crl_issuer_chain"


def test_missing_collateral_is_a_refusal() -> None:
    elsewhere = replace(PKI, fmspc=bytes(6)).collateral()
    assert refusal(authenticate, QUOTE, (), PKI.anchors(), NOW) is Reason.COLLATERAL_MISSING
    assert reason(QUOTE, elsewhere) is Reason.COLLATERAL_MISSING


def test_the_first_entry_for_the_platform_is_used() -> None:
    elsewhere = replace(PKI, fmspc=bytes(6)).collateral()
    entries = (elsewhere, PKI.collateral(evaluation=30), PKI.collateral(evaluation=31), b"never read")
    assert authenticate(QUOTE, entries, PKI.anchors(), NOW).evaluation == 30


def test_a_malformed_entry_before_it_is_a_refusal() -> None:
    assert reason(QUOTE, b"{}", PKI.collateral()) is Reason.COLLATERAL_INVALID


def test_another_pce_is_refused() -> None:
    assert reason(tcb={"pceId": "0001"}) is Reason.PCE_ID


def test_E9_documents_of_two_tcb_recoveries_are_refused() -> None:
    assert reason(qe={"tcbEvaluationDataNumber": 19}) is Reason.COLLATERAL_INVALID
    assert reason(tcb={"tcbEvaluationDataNumber": 19}) is Reason.COLLATERAL_INVALID


@pytest.mark.parametrize("now", [-1, 0, NOW - DAY - 1, NOW + 30 * DAY, NOW + 400 * DAY, 1 << 63, 1 << 70])
def test_O1_collateral_that_is_not_in_force_is_refused(now: int) -> None:
    assert reason(now=now) is Reason.COLLATERAL_INVALID


@pytest.mark.parametrize("document", ["tcb", "qe"])
def test_each_document_has_its_own_window(document: str) -> None:
    early: dict[str, Any] = {document: {"nextUpdate": "2026-09-01T00:00:00Z"}}
    late: dict[str, Any] = {document: {"issueDate": "2026-10-01T00:00:00Z"}}
    assert reason(**early) is Reason.COLLATERAL_INVALID
    assert reason(**late) is Reason.COLLATERAL_INVALID


def test_expired_certificates_are_refused() -> None:
    """Collateral issued anew under certificates that ran out ten years after they were made."""
    old = LabPki.create(NOW - 3660 * DAY)
    collateral = old.collateral(issued=NOW - DAY)
    assert reason(quote(LabHost(old, PPID)), collateral, anchors=old.anchors()) is Reason.COLLATERAL_INVALID


def test_the_qe_report_carries_nothing_besides_the_binding() -> None:
    tail = LabHost(PKI, PPID, shape=QuoteShape(qe_report_tail=bytes(31) + b"\x01"))
    assert reason(quote(tail)) is Reason.QE_IDENTITY


def test_the_verdict_is_the_librarys(monkeypatch: pytest.MonkeyPatch) -> None:
    """When every fact holds and the library still says no, it stays no."""

    def refuse(*_: object) -> None:
        raise EvidenceError.of(Reason.QUOTE_SIGNATURE, "quote", "no", "yes")

    monkeypatch.setattr(dcap, "verify", refuse)
    assert reason() is Reason.TCB_STATUS


def test_E13_a_quote_of_another_body_is_refused() -> None:
    for offset in (48, 184, 568, 631):
        changed = bytearray(HOST.quote(bytes(64), WEB))
        changed[offset] ^= 0x80
        assert reason(parse_tdx_quote(bytes(changed))) is Reason.QUOTE_SIGNATURE


@pytest.mark.parametrize("body_type", [2, 3, 4])
def test_version_5_is_authentic_too(body_type: int) -> None:
    host = LabHost(PKI, PPID, shape=QuoteShape(version=5, body_type=body_type))
    made = quote(host)
    assert authenticate(made, (PKI.collateral(),), PKI.anchors(), NOW).tcb_status == "UpToDate"
    for offset in (48, 50, 54, 54 + 584 - 1, len(made.signed) - 1):
        changed = bytearray(made.raw)
        changed[offset] ^= 0x80
        with pytest.raises(EvidenceError):
            authenticate(parse_tdx_quote(bytes(changed)), (PKI.collateral(),), PKI.anchors(), NOW)


def levels(newest: tuple[int, int], older: tuple[int, int]) -> dict[str, Any]:
    """TCB info with an older level that is out of date; each is the SVN of the module and of its loader."""
    document = json.loads(parse_collateral(PKI.collateral()).tcb_info.text)
    level = document["tcbLevels"][0]
    made = []
    for (first, third), status in ((newest, "UpToDate"), (older, "OutOfDate")):
        components = [{"svn": svn} for svn in (first, 0, third, *([0] * 13))]
        made.append(level | {"tcb": level["tcb"] | {"tdxtcbcomponents": components}, "tcbStatus": status})
    return {"tcbLevels": made}


@pytest.mark.parametrize("body_type", [3, 4])
def test_E8_a_td_that_was_started_under_older_firmware_is_not_up_to_date(body_type: int) -> None:
    """TEE_TCB_SVN is what the TD was started under, TEE_TCB_SVN2 what runs now."""
    now, then = WEB.tee_tcb_svn, bytes([5, 1, 5]) + bytes(13)
    tcb = levels((5, 6), (5, 5))

    def status(started: bytes, current: bytes) -> str:
        shape = QuoteShape(version=5, body_type=body_type, later={"tee_tcb_svn2": current})
        made = quote(LabHost(PKI, PPID, shape=shape), tee_tcb_svn=started)
        return authenticate(made, (PKI.collateral(tcb=tcb),), PKI.anchors(), NOW).tcb_status

    assert status(now, now) == "UpToDate"
    assert status(then, now) == "TDRelaunchAdvised"
    assert status(then, then) == "OutOfDate"
    made = quote(
        LabHost(PKI, PPID, shape=QuoteShape(version=5, body_type=body_type, later={"tee_tcb_svn2": then}))
    )
    assert reason(made, tcb=tcb) is Reason.TCB_STATUS


def test_the_library_alone_would_believe_a_module_that_was_rolled_back() -> None:
    """The positive control of the test above."""
    shape = QuoteShape(version=5, body_type=3, later={"tee_tcb_svn2": bytes([5, 1, 5]) + bytes(13)})
    made = quote(LabHost(PKI, PPID, shape=shape))
    collateral = parse_collateral(PKI.collateral(tcb=levels((5, 6), (5, 5))))
    assert dcap.verify(made.raw, collateral, PKI.root_der, NOW).status == "UpToDate"


def _modules(generation: int, *levels: tuple[int, str, list[str]]) -> dict[str, object]:
    """The entry of TCB info for modules of `generation`: by level its ISVSVN, status and advisories."""
    date = "2026-01-01T00:00:00Z"
    return {
        "id": f"TDX_{generation:02X}",
        "mrsigner": "00" * 48,
        "attributes": "00" * 8,
        "attributesMask": "FF" * 8,
        "tcbLevels": [
            {"tcb": {"isvsvn": svn}, "tcbDate": date, "tcbStatus": status, "advisoryIDs": advisories}
            for svn, status, advisories in levels
        ],
    }


@pytest.mark.parametrize(
    ("running", "statuses", "advisories"),
    [
        ((5, 1), {"UpToDate"}, ()),
        ((9, 2), {"UpToDate"}, ()),
        ((3, 2), {"UpToDate"}, ()),
        ((2, 2), {"UpToDate", "OutOfDate"}, ("INTEL-SA-00002",)),
        ((1, 2), {"UpToDate", "OutOfDate"}, ("INTEL-SA-00002",)),
        ((0, 2), None, ()),
        ((9, 3), None, ()),
        ((9, 16), {"UpToDate", "OutOfDate"}, ()),
    ],
)
def test_E8_a_module_of_a_later_generation_has_a_status_of_its_own(
    running: tuple[int, int], statuses: set[str] | None, advisories: tuple[str, ...]
) -> None:
    """The library reports by what the TD was started under: generation 1, up to date."""
    known = [
        _modules(1, (5, "UpToDate", [])),
        _modules(2, (3, "UpToDate", []), (1, "OutOfDate", ["INTEL-SA-00002"]), (0, "Revoked", [])),
        _modules(16, (1, "OutOfDate", [])),
    ]
    shape = QuoteShape(version=5, body_type=3, later={"tee_tcb_svn2": bytes((*running, 6)) + bytes(13)})
    made = quote(LabHost(PKI, PPID, shape=shape), tee_tcb_svn=bytes((5, 1, 6)) + bytes(13))
    collateral = (PKI.collateral(tcb={"tdxModuleIdentities": known}),)
    if statuses is None:
        with pytest.raises(EvidenceError) as refused:
            authenticate(made, collateral, PKI.anchors(), NOW)
        assert refused.value.reason is Reason.TCB_STATUS
        if running == (0, 2):
            first = refused.value.mismatches[0]
            assert (first.field, first.found) == ("quote.tee_tcb_svn2", "a revoked TCB level")
    else:
        found = authenticate(made, collateral, PKI.anchors(), NOW)
        assert (set(found.statuses), found.advisories) == (statuses, advisories)


@pytest.mark.parametrize("known", [[], [_modules(2, (3, "UpToDate", []))]], ids=["no module", "no level"])
def test_E8_a_module_of_a_later_generation_that_intel_does_not_know_is_refused(known: list[Any]) -> None:
    """By itself too, whatever the library made of it."""
    shape = QuoteShape(version=5, body_type=3, later={"tee_tcb_svn2": bytes((2, 2, 6)) + bytes(13)})
    made = quote(LabHost(PKI, PPID, shape=shape), tee_tcb_svn=bytes((5, 1, 6)) + bytes(13))
    collateral = parse_collateral(PKI.collateral(tcb={"tdxModuleIdentities": known}))
    with pytest.raises(EvidenceError) as refused:
        running_module(made, collateral)
    assert (refused.value.reason, refused.value.mismatches[0].field) == (
        Reason.TCB_STATUS,
        "quote.tee_tcb_svn2",
    )


@pytest.mark.parametrize(
    ("then", "now", "older"),
    [
        ((5, 1, 6), (5, 1, 6), False),
        ((5, 1, 6), (6, 1, 6), False),
        ((5, 1, 6), (4, 1, 6), True),
        ((5, 1, 6), (5, 1, 5), True),
        ((5, 1, 6), (0, 2, 6), False),
        ((5, 2, 6), (9, 1, 6), True),
        ((5, 1, 6), (0, 2, 5), True),
    ],
)
def test_E8_what_runs_is_compared_with_what_was_started(
    then: tuple[int, ...], now: tuple[int, ...], older: bool
) -> None:
    started, running = (bytes(each) + bytes(13) for each in (then, now))
    shape = QuoteShape(version=5, body_type=3, later={"tee_tcb_svn2": running})
    made = quote(LabHost(PKI, PPID, shape=shape), tee_tcb_svn=started)
    try:
        authenticate(made, (PKI.collateral(),), PKI.anchors(), NOW)
        field = None
    except EvidenceError as refused:
        field = refused.mismatches[0].field
    assert (field == "quote.tee_tcb_svn2") == older


def test_E8_a_td_under_firmware_of_no_level_is_refused() -> None:
    lower = bytes([5, 1, 5]) + bytes(13)
    host = LabHost(PKI, PPID, shape=QuoteShape(version=5, body_type=3, later={"tee_tcb_svn2": lower}))
    assert reason(quote(host)) is Reason.TCB_STATUS

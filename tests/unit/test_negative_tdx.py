"""TDX: what other verifiers test and no other file here does. docs/evidence-checks.md is the whole list."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from support.tdx import HOST, NOW, PKI, PPID, quote, refusal, topology

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.collateral import parse_collateral
from toposeal.evidence.tdx_quote import TdxQuote, parse_tdx_quote
from toposeal.topology.tee_schema import TCB_STATUSES
from toposeal.verification.tdx_authentic import AuthenticTdx, authenticate
from toposeal.verification.tdx_policy import require_tcb
from toposeal_lab.simtdx import LabHost, LabPki
from toposeal_lab.simtdx.pki import PCK_NAME, Authority
from toposeal_lab.simtdx.sgx_extension import SGX_EXTENSION_OID

DAY = 86400
QUOTE = quote()
SOFTENED = {"SWHardeningNeeded", "ConfigurationAndSWHardeningNeeded"}
RELAUNCH = {"TDRelaunchAdvised", "TDRelaunchAdvisedConfigurationNeeded"}
UNKNOWN_TO_THE_LIBRARY = {
    *((part, status) for part in ("qe_status", "module_status") for status in SOFTENED),
    *((part, status) for part in ("status", "qe_status", "module_status") for status in RELAUNCH),
    ("module_status", "ConfigurationNeeded"),
    ("module_status", "OutOfDateConfigurationNeeded"),
}
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def authentic(quote: TdxQuote = QUOTE, now: int = NOW, **spec: Any) -> AuthenticTdx:
    return authenticate(quote, (PKI.collateral(**spec),), PKI.anchors(), now)


def reason(quote: TdxQuote = QUOTE, **spec: Any) -> Reason:
    return refusal(lambda: authentic(quote, **spec))


def policy(**tdx: Any) -> Any:
    return topology(**tdx).tdx


@pytest.mark.parametrize("status", TCB_STATUSES[1:])
@pytest.mark.parametrize("part", ["status", "qe_status", "module_status"])
def test_every_other_status_needs_the_owners_word(part: str, status: str) -> None:
    """dcap-qvl returns what it does not refuse, of platform, module and quoting enclave each."""
    spec: dict[str, Any] = {part: status}
    try:
        found = authentic(**spec)
    except EvidenceError as refused:  # a word that Intel does not use of this part
        assert refused.reason is Reason.TCB_STATUS
        assert (part, status) in UNKNOWN_TO_THE_LIBRARY
    else:
        assert refusal(require_tcb, found, policy()) is Reason.TCB_STATUS
        require_tcb(found, policy(tcb_status=list(TCB_STATUSES)))


@pytest.mark.parametrize("part", ["status", "qe_status", "module_status"])
def test_what_is_revoked_no_policy_admits(part: str) -> None:
    spec: dict[str, Any] = {part: "Revoked"}
    with pytest.raises(EvidenceError):
        authentic(**spec)


def test_the_tdx_module_has_a_status_of_its_own() -> None:
    found = authentic(module_status="OutOfDate")
    assert refusal(require_tcb, found, policy()) is Reason.TCB_STATUS


def test_a_tdx_module_below_every_level_of_its_identity_is_refused() -> None:
    low = quote(tee_tcb_svn=bytes([4, 1, 6]) + bytes(13))
    assert reason(low) is Reason.TCB_STATUS


@pytest.mark.parametrize("count", [0, 1, 15, 17, 32])
@pytest.mark.parametrize("name", ["sgxtcbcomponents", "tdxtcbcomponents"])
def test_a_list_of_components_is_neither_cut_nor_longer(name: str, count: int) -> None:
    """Compared pair by pair, a short list would be a low floor."""
    tcb: dict[str, Any] = {
        "sgxtcbcomponents": [{"svn": 2}] * 16,
        "pcesvn": 11,
        "tdxtcbcomponents": [{"svn": svn} for svn in (5, 0, 6, *([0] * 13))],
    }
    tcb[name] = (tcb[name] * 2)[:count]
    level = {"tcb": tcb, "tcbDate": "2026-01-01T00:00:00Z", "tcbStatus": "UpToDate"}
    with pytest.raises(EvidenceError):
        authentic(tcb={"tcbLevels": [level]})


@pytest.mark.parametrize(
    "part",
    ["tcb_info_issuer_chain", "qe_identity_issuer_chain", "pck_crl_issuer_chain", "root_ca_crl", "pck_crl"],
)
def test_an_absent_part_of_collateral_is_never_a_skip(part: str) -> None:
    for empty in ("", "00", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"):
        assert reason(parts={part: empty}) in {Reason.COLLATERAL_INVALID, Reason.COLLATERAL_SIGNER}


@pytest.mark.parametrize(("part", "issuer"), [("root_ca_crl", PKI.root), ("pck_crl", PKI.platform_ca)])
def test_each_list_has_its_own_next_update(part: str, issuer: Authority) -> None:
    """The rest is in force for a month, this list until now."""
    older = replace(PKI, created=NOW - 30 * DAY)
    listed = older.crl(issuer).hex()
    assert authentic(parts={part: listed}, now=NOW - 1, issued=NOW - 2 * DAY)
    assert reason(parts={part: listed}, now=NOW + DAY) is Reason.COLLATERAL_INVALID


def test_E10_a_revoked_signer_of_collateral_is_refused() -> None:
    assert reason(revoked=(PKI.tcb_signing.certificate,)) is Reason.REVOKED


def leaf(key: Any = None, digest: hashes.SHA384 | hashes.SHA512 | None = None) -> x509.Certificate:
    """The PCK of `HOST` again: the same names and extensions, another key or digest."""
    own, signer = HOST.pck.certificate, PKI.platform_ca
    start = datetime.fromtimestamp(NOW, UTC) - timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(own.subject)
        .issuer_name(signer.certificate.subject)
        .public_key((key or HOST.pck.key).public_key())
        .serial_number(own.serial_number)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=100))
    )
    for extension in own.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(signer.key, digest or hashes.SHA256())


def carried(certificate: x509.Certificate | bytes, pki: LabPki = PKI) -> TdxQuote:
    """The genuine quote with another leaf in its chain."""
    pem = certificate if isinstance(certificate, bytes) else certificate.public_bytes(Encoding.PEM)
    whole = pem + pki.platform_ca.pem().encode() + pki.root.pem().encode() + b"\0"
    return replace(QUOTE, auth=replace(QUOTE.auth, pck_chain=whole), raw=rebuilt(whole))


def rebuilt(chain: bytes) -> bytes:
    """The quote's bytes with `chain` in the place of its own, lengths adjusted."""
    raw, old = bytearray(QUOTE.raw), QUOTE.auth.pck_chain
    start = raw.index(old)
    raw[start:] = chain
    for offset in (632, 766, 1254):
        size = int.from_bytes(raw[offset : offset + 4], "little") + len(chain) - len(old)
        raw[offset : offset + 4] = size.to_bytes(4, "little")
    return bytes(raw)


def test_the_positive_control_of_the_leaves_below() -> None:
    assert authentic(parse_tdx_quote(carried(leaf()).raw)).ppid == PPID


@pytest.mark.parametrize("digest", [hashes.SHA384(), hashes.SHA512()])
def test_a_pck_signed_with_another_algorithm_is_refused(digest: hashes.SHA384 | hashes.SHA512) -> None:
    """Intel signs with ECDSA and SHA-256 alone."""
    assert reason(parse_tdx_quote(carried(leaf(digest=digest)).raw)) is Reason.QUOTE_FORMAT


def test_a_pck_on_another_curve_is_refused() -> None:
    other = ec.generate_private_key(ec.SECP384R1())
    assert reason(parse_tdx_quote(carried(leaf(other)).raw)) is Reason.QUOTE_FORMAT


def test_a_pck_of_another_x509_version_is_refused() -> None:
    """Version 1 has no extensions: neither an identity nor the word that it is no CA."""
    made = leaf()
    tbs = made.tbs_certificate_bytes
    content = tbs[4 + 5 :]  # after tag, length and the version
    extensions = content.rindex(b"\xa3\x82")
    first = tlv(0x30, content[:extensions])
    signature = PKI.platform_ca.key.sign(first, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    whole = tlv(0x30, first + algorithm + tlv(0x03, b"\0" + signature))
    certificate = x509.load_der_x509_certificate(whole)
    assert certificate.version is x509.Version.v1
    assert reason(parse_tdx_quote(carried(certificate).raw)) is Reason.QUOTE_FORMAT


def tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
    return bytes([tag]) + length + content


def test_a_home_made_pki_with_intels_names_is_nobody() -> None:
    """A whole chain, collateral and quote: everything but the root is as it should be."""
    other = LabPki.create(NOW)
    forged = quote(LabHost(other, PPID))
    assert refusal(authenticate, forged, (other.collateral(),), PKI.anchors(), NOW) is Reason.QUOTE_SIGNATURE


def test_the_other_form_of_a_signature_holds_too() -> None:
    """(r, n - s) verifies wherever (r, s) does: no identity may ever be made of a quote's bytes."""
    s = int.from_bytes(QUOTE.auth.signature[32:], "big")
    other = bytearray(QUOTE.raw)
    other[636 + 32 : 636 + 64] = (P256_ORDER - s).to_bytes(32, "big")
    found = parse_tdx_quote(bytes(other))
    assert found.signed == QUOTE.signed
    assert authentic(found).ppid == PPID


def test_the_platform_is_that_of_the_verified_leaf() -> None:
    """Names in the header are the quoting enclave's, and signed; the PPID that counts is Intel's."""
    elsewhere = LabHost(PKI, b"\x07" * 16, pck=HOST.pck)
    assert quote(elsewhere).user_data[:16] == b"\x07" * 16
    assert authentic(quote(elsewhere)).ppid == PPID


def test_a_certificate_that_names_two_subjects_is_none() -> None:
    """One reader would take the first name, another the last."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in (PCK_NAME, "x")])
    own = HOST.pck.certificate
    sgx = next(each for each in own.extensions if each.oid.dotted_string == SGX_EXTENSION_OID)
    start = datetime.fromtimestamp(NOW, UTC) - timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(PKI.platform_ca.certificate.subject)
        .public_key(HOST.pck.key.public_key())
        .serial_number(7)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=100))
        .add_extension(sgx.value, critical=False)
    )
    made = builder.sign(PKI.platform_ca.key, hashes.SHA256())
    assert reason(parse_tdx_quote(carried(made).raw)) is Reason.QUOTE_FORMAT


def test_collateral_is_of_tdx_and_not_of_sgx() -> None:
    """SGX collateral of the same platform has the same signer."""
    for spec in ({"tcb": {"id": "SGX"}}, {"qe": {"id": "QE"}}):
        made: dict[str, Any] = spec
        assert refusal(parse_collateral, PKI.collateral(**made)) is Reason.COLLATERAL_INVALID

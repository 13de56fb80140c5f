"""Why did dcap-qvl refuse? Names the reason for people, metrics and tests; never changes a verdict. No IO.

The library explains itself in English, which is no interface. So its refusal is explained by looking
at the same facts again, in the order in which an attacker would have to break them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from toposeal.errors import EvidenceError, Mismatch, Reason
from toposeal.evidence.certificates import Certificate
from toposeal.evidence.collateral import Collateral, Crl
from toposeal.evidence.dcap import pck_firmware
from toposeal.evidence.pck import PckChain
from toposeal.evidence.strict_json import parse_object
from toposeal.evidence.tdx_quote import TdxQuote
from toposeal.verification.tdx_module import level_reached, module_identity
from toposeal.verification.tdx_unsafe import unsafe_fields
from toposeal.x509_errors import X509_ERRORS

Fact = tuple[Reason, str, bool]
# Of what cannot even be read: documents are signed, and still of any shape below their heads.
_UNREADABLE = (*X509_ERRORS, EvidenceError, KeyError, AttributeError)


def diagnose(quote: TdxQuote, pck: PckChain, collateral: Collateral, refusal: EvidenceError) -> EvidenceError:
    """The refusal to raise: the first fact that does not hold, else the TCB level if none fits and all that
    is unsafe about the guest, then the library's own words.

    When every fact holds, nothing is revoked and the guest is safe, what is left is that no TCB level is
    reached (TCB_STATUS).
    """
    try:
        wrong = _first_wrong(quote, pck, collateral)
    except _UNREADABLE:  # a fact that cannot even be read explains nothing
        return refusal
    return EvidenceError(*wrong, *refusal.mismatches)


def _first_wrong(quote: TdxQuote, pck: PckChain, collateral: Collateral) -> list[Mismatch]:
    for reason, field, holds in (*_quote_facts(quote, pck), *_collateral_facts(pck, collateral)):
        if not holds:
            return [Mismatch(reason, field, "one that does not hold", "one that holds")]
    for reason, field, holds in _qe_facts(quote, collateral):
        if not holds:
            return [Mismatch(reason, field, "another", "that of Intel's TD quoting enclave")]
    for reason, field, holds in _module_facts(quote, collateral):
        if not holds:
            return [Mismatch(reason, field, "another", "that of Intel's TDX module")]
    unsafe = unsafe_fields(quote)
    for field, holds in _revoked_facts(quote, collateral):
        if not holds:
            revoked = Mismatch(Reason.TCB_STATUS, field, "a revoked TCB level", "one that is not revoked")
            return [revoked, *unsafe]
    if unsafe and _has_level(quote, pck, collateral):
        return unsafe
    level = Mismatch(Reason.TCB_STATUS, "quote.tee_tcb_svn", "no TCB level", "one that is not revoked")
    return [level, *unsafe]


def _quote_facts(quote: TdxQuote, pck: PckChain) -> Iterator[Fact]:
    auth = quote.auth
    bound = hashlib.sha256(auth.attestation_key + auth.qe_auth_data).digest()
    reason = Reason.QUOTE_SIGNATURE
    yield reason, "quote.attestation_key", hmac.compare_digest(bound, auth.qe_report.report_data[:32])
    yield reason, "quote.signature", _signed_by_point(auth.attestation_key, auth.signature, quote.signed)
    report_signed = _verifies(pck.leaf.public_key, auth.qe_report_signature, auth.qe_report.raw)
    yield reason, "quote.qe_report_signature", report_signed
    yield reason, "quote.pck_chain.leaf", pck.leaf.issued_by(pck.platform_ca)
    yield reason, "quote.pck_chain.platform_ca", pck.platform_ca.issued_by(pck.root)


def _collateral_facts(pck: PckChain, collateral: Collateral) -> Iterator[Fact]:
    for field, document in (("tcb_info", collateral.tcb_info), ("qe_identity", collateral.qe_identity)):
        holds = _verifies(document.chain[0].public_key, document.signature, document.text.encode("ascii"))
        yield Reason.COLLATERAL_INVALID, f"collateral.{field}_signature", holds
    lists = (
        ("root_ca_crl", collateral.root_ca_crl, pck.root),
        ("pck_crl", collateral.pck_crl, pck.platform_ca),
    )
    for field, crl, issuer in lists:
        holds = crl.x509.is_signature_valid(issuer.public_key)
        yield Reason.COLLATERAL_INVALID, f"collateral.{field}", holds
    yield Reason.REVOKED, "quote.pck_chain.leaf", _not_on(collateral.pck_crl, pck.leaf)
    yield Reason.REVOKED, "quote.pck_chain.platform_ca", _not_on(collateral.root_ca_crl, pck.platform_ca)
    for signer in (collateral.tcb_info.chain[0], collateral.qe_identity.chain[0]):
        holds = _not_on(collateral.root_ca_crl, signer)
        yield Reason.REVOKED, "collateral.tcb_info_issuer_chain", holds


def _qe_facts(quote: TdxQuote, collateral: Collateral) -> Iterator[Fact]:
    """Intel SGX DCAP, Enclave Identity: what the quoting enclave has to be."""
    report, reason = quote.auth.qe_report, Reason.QE_IDENTITY
    yield reason, "quote.qe_report.mrsigner", report.mrsigner == collateral.qe_mrsigner
    identity = parse_object(collateral.qe_identity.text, "collateral.qe_identity")
    for name, found in (("miscselect", report.raw[16:20]), ("attributes", report.raw[48:64])):
        yield reason, f"quote.qe_report.{name}", _as_masked(found, identity, name, f"{name}Mask")
    yield reason, "quote.qe_report.isvprodid", report.isvprodid == identity["isvprodid"]
    lowest = min(level["tcb"]["isvsvn"] for level in identity["tcbLevels"])
    yield reason, "quote.qe_report.isvsvn", report.isvsvn >= lowest


def _module_facts(quote: TdxQuote, collateral: Collateral) -> Iterator[Fact]:
    """Intel PCS, TCB info: the module by its generation, or the only one there was before generations."""
    info = parse_object(collateral.tcb_info.text, "collateral.tcb_info")
    generation = quote.tee_tcb_svn[1]
    module = module_identity(info, generation) if generation else info["tdxModule"]
    field = f"collateral.tcb_info.tdxModuleIdentities TDX_{generation:02X}"
    yield Reason.TCB_STATUS, field, module is not None
    yield Reason.MEASUREMENT, "quote.mrsignerseam", quote.mrsignerseam == bytes.fromhex(module["mrsigner"])
    holds = _as_masked(quote.seam_attributes, module, "attributes", "attributesMask")
    yield Reason.MEASUREMENT, "quote.seam_attributes", holds


def _revoked_facts(quote: TdxQuote, collateral: Collateral) -> Iterator[tuple[str, bool]]:
    """That the TCB level of the quoting enclave, and of each module with a generation, is not revoked."""
    info = parse_object(collateral.tcb_info.text, "collateral.tcb_info")
    enclave = parse_object(collateral.qe_identity.text, "collateral.qe_identity")
    found = [("quote.qe_report.isvsvn", enclave, quote.auth.qe_report.isvsvn)]
    for name in ("tee_tcb_svn", "tee_tcb_svn2"):
        svn = getattr(quote, name)
        if svn and svn[1]:
            found.append((f"quote.{name}", module_identity(info, svn[1]), svn[0]))
    for field, identity, isvsvn in found:
        level = level_reached(identity, isvsvn) if identity is not None else None
        yield field, level is None or level["tcbStatus"] != "Revoked"


def _has_level(quote: TdxQuote, pck: PckChain, collateral: Collateral) -> bool:
    """Whether Intel knows a TCB level for the platform, and the highest one is not revoked.

    Of a module with a generation the first two TDX components are left to the module's own identity.
    """
    info = parse_object(collateral.tcb_info.text, "collateral.tcb_info")
    cpu_svn, pce_svn, _ = pck_firmware(pck.leaf.pem)
    own = 2 if quote.tee_tcb_svn[1] else 0
    for level in info["tcbLevels"]:
        tcb = level["tcb"]
        parts = ((cpu_svn, "sgxtcbcomponents", 0), (quote.tee_tcb_svn, "tdxtcbcomponents", own))
        reached = all(_reaches(found, tcb[name], start) for found, name, start in parts)
        if reached and pce_svn >= tcb["pcesvn"]:
            return bool(level["tcbStatus"] != "Revoked")
    return False


def _reaches(found: bytes, components: list[dict[str, int]], start: int) -> bool:
    pairs = list(zip(found, components, strict=True))
    return all(svn >= component["svn"] for svn, component in pairs[start:])


def _as_masked(found: bytes, document: dict[str, Any], name: str, mask_name: str) -> bool:
    wanted, mask = bytes.fromhex(document[name]), bytes.fromhex(document[mask_name])
    return [a & m for a, m in zip(found, mask, strict=True)] == list(wanted)


def _not_on(crl: Crl, certificate: Certificate) -> bool:
    return crl.x509.get_revoked_certificate_by_serial_number(certificate.x509.serial_number) is None


def _signed_by_point(point: bytes, signature: bytes, data: bytes) -> bool:
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + point)
    except ValueError:
        return False
    return _verifies(key, signature, data)


def _verifies(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> bool:
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True

"""Why did dcap-qvl refuse? Names the reason for people, metrics and tests; never changes a verdict. No IO.

The library explains itself in English, which is no interface. So its refusal is explained by looking
at the same facts again, in the order in which an attacker would have to break them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from toposeal.errors import EvidenceError, Mismatch, Reason
from toposeal.evidence.certificates import X509_ERRORS, Certificate
from toposeal.evidence.collateral import Collateral, Crl
from toposeal.evidence.pck import PckChain
from toposeal.evidence.tdx_quote import TdxQuote


def diagnose(quote: TdxQuote, pck: PckChain, collateral: Collateral, refusal: EvidenceError) -> EvidenceError:
    """The refusal to raise: the first fact that does not hold, then the library's own words.

    When every fact holds, what is left is that no TCB level admits the platform (TCB_STATUS).
    """
    try:
        for reason, field, holds in _facts(quote, pck, collateral):
            if not holds:
                wrong = Mismatch(reason, field, "one that does not hold", "one that holds")
                return EvidenceError(wrong, *refusal.mismatches)
    except X509_ERRORS:  # a fact that cannot even be read explains nothing
        return refusal
    level = Mismatch(Reason.TCB_STATUS, "quote.tee_tcb_svn", "no TCB level", "one that is not revoked")
    return EvidenceError(level, *refusal.mismatches)


def _facts(quote: TdxQuote, pck: PckChain, collateral: Collateral) -> Iterator[tuple[Reason, str, bool]]:
    yield from _quote_facts(quote, pck)
    yield from _collateral_facts(pck, collateral)
    mrsigner = quote.auth.qe_report.mrsigner
    yield Reason.QE_IDENTITY, "quote.qe_report.mrsigner", mrsigner == collateral.qe_mrsigner


def _quote_facts(quote: TdxQuote, pck: PckChain) -> Iterator[tuple[Reason, str, bool]]:
    auth = quote.auth
    bound = hashlib.sha256(auth.attestation_key + auth.qe_auth_data).digest()
    reason = Reason.QUOTE_SIGNATURE
    yield reason, "quote.attestation_key", hmac.compare_digest(bound, auth.qe_report.report_data[:32])
    yield reason, "quote.signature", _signed_by_point(auth.attestation_key, auth.signature, quote.signed)
    report_signed = _verifies(pck.leaf.public_key, auth.qe_report_signature, auth.qe_report.raw)
    yield reason, "quote.qe_report_signature", report_signed
    yield reason, "quote.pck_chain.leaf", pck.leaf.issued_by(pck.platform_ca)
    yield reason, "quote.pck_chain.platform_ca", pck.platform_ca.issued_by(pck.root)


def _collateral_facts(pck: PckChain, collateral: Collateral) -> Iterator[tuple[Reason, str, bool]]:
    for field, document in (("tcb_info", collateral.tcb_info), ("qe_identity", collateral.qe_identity)):
        holds = _verifies(document.chain[0].public_key, document.signature, document.text.encode("ascii"))
        yield Reason.COLLATERAL_INVALID, f"collateral.{field}_signature", holds
    root_list, pck_list = collateral.root_ca_crl, collateral.pck_crl
    yield (
        Reason.COLLATERAL_INVALID,
        "collateral.root_ca_crl",
        root_list.x509.is_signature_valid(pck.root.public_key),
    )
    yield (
        Reason.COLLATERAL_INVALID,
        "collateral.pck_crl",
        pck_list.x509.is_signature_valid(pck.platform_ca.public_key),
    )
    yield Reason.REVOKED, "quote.pck_chain.leaf", _not_on(pck_list, pck.leaf)
    yield Reason.REVOKED, "quote.pck_chain.platform_ca", _not_on(root_list, pck.platform_ca)
    for signer in (collateral.tcb_info.chain[0], collateral.qe_identity.chain[0]):
        yield Reason.REVOKED, "collateral.tcb_info_issuer_chain", _not_on(root_list, signer)


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

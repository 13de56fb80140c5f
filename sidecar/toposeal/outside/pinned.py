"""Which verified member a new connection leads to, by the leaf that it showed (PROTOCOL.md 3). No IO."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID

from toposeal.errors import Reason, RemoteProtocolError, printable
from toposeal.limits import MAX_CERTIFICATE_SIZE
from toposeal.outside.model import VerifiedMember
from toposeal.x509_errors import X509_ERRORS


def member_behind(leaf: bytes, members: Iterable[VerifiedMember]) -> VerifiedMember:
    """The one of `members` whose own CA signed the ingress leaf `leaf` (DER), which names it and nobody else.

    Raises RemoteProtocolError(IDENTITY_MISMATCH). Dates, and that the server has the leaf's key, are what the
    TLS handshake has checked; it trusts all pins at once, and this is what makes a pin good for one member
    alone (ADR 4).
    """
    if len(leaf) > MAX_CERTIFICATE_SIZE:
        raise _refusal(f"{len(leaf)} bytes", f"at most {MAX_CERTIFICATE_SIZE}")
    try:
        certificate = x509.load_der_x509_certificate(leaf)
        _check_form(certificate)
        (name,) = _names(certificate)
        member = next((each for each in members if each.domain == name), None)
        if member is None:
            raise _refusal(printable(name), "the name of a verified member of this role")
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(member.ca_pem.encode("ascii")))
    except (*X509_ERRORS, InvalidSignature, x509.ExtensionNotFound) as error:
        raise _refusal(
            type(error).__name__, "an ingress leaf, signed by the CA of the member it names"
        ) from error
    return member


def _check_form(certificate: x509.Certificate) -> None:
    """A leaf for servers, and no mesh leaf, which another role's members accept."""
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    if list(usages) != [ExtendedKeyUsageOID.SERVER_AUTH]:
        raise _refusal("another extended key usage", "serverAuth alone")
    if certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
        raise _refusal("a CA", "a leaf")


def _names(certificate: x509.Certificate) -> tuple[str]:
    names = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    if len(names) != 1 or not isinstance(names[0], x509.DNSName):
        raise _refusal(f"{len(names)} names", "one DNS name and no other")
    return (names[0].value,)


def _refusal(found: str, expected: str) -> RemoteProtocolError:
    return RemoteProtocolError.of(Reason.IDENTITY_MISMATCH, "server.certificate", found, expected)

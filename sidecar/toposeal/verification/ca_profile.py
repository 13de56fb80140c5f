"""The one CA certificate profile: built here for minting, compared here byte for byte. No IO.

PROTOCOL.md 3: a member's CA is P-256, self-signed, path length 0, and constrained to the member's
own name. What is not exactly that is refused, so no two validators can read one CA differently.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from toposeal.errors import Mismatch, Reason, RemoteProtocolError, printable
from toposeal.limits import MAX_CA_LIFETIME, MAX_CERTIFICATE_SIZE
from toposeal.names import ca_digest, member_domain
from toposeal.x509_errors import X509_ERRORS

SERIAL_BYTES = range(16, 21)  # DER content: unpredictable, and RFC 5280 4.1.2.2 allows at most 20
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")  # AlgorithmIdentifier, RFC 5758 3.2
# Signs the template whose to-be-signed part is compared; the signature itself is thrown away.
_TEMPLATE_KEY = ec.derive_private_key(1, ec.SECP256R1())


@dataclass(frozen=True)
class CaCertificate:
    """A CA that has exactly the profile. Only `parse_ca` makes it."""

    der: bytes
    pem: str
    spki: bytes
    ca_digest: bytes  # 48
    domain: str  # the only name below which this CA can issue
    public_key: ec.EllipticCurvePublicKey = field(compare=False, repr=False)


def parse_ca(der: bytes, mesh: str) -> CaCertificate:
    """Accept `der` as the CA of one member of `mesh`, or raise RemoteProtocolError(CA_PROFILE).

    The validity is bounded but not compared with a clock: clocks decide nothing here, and Envoy
    checks both dates at every handshake.
    """
    if len(der) > MAX_CERTIFICATE_SIZE:
        raise _refusal("ca", f"{len(der)} bytes", f"at most {MAX_CERTIFICATE_SIZE}")
    try:
        certificate = x509.load_der_x509_certificate(der)
        public_key = certificate.public_key()
    except X509_ERRORS as error:
        raise _refusal("ca", type(error).__name__, "one DER certificate") from error
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(
        public_key.curve, ec.SECP256R1
    ):
        raise _refusal("ca.public_key", type(public_key).__name__, "ECDSA P-256")
    spki = encode_spki(public_key)
    key_digest = ca_digest(spki)
    domain = member_domain(key_digest, mesh)
    _check_profile(certificate, public_key, domain)
    _check_signature(certificate, der)
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
    return CaCertificate(der, pem, spki, key_digest, domain, public_key)


def ca_profile(
    public_key: ec.EllipticCurvePublicKey, domain: str, serial: int, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    """The profile as an unsigned certificate; everything but the five parameters is fixed.

    Raises ValueError for values that no certificate can hold.
    """
    name = ca_name(domain)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(certificate_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(_name_constraints(domain), critical=True)
    )


def ca_name(domain: str) -> x509.Name:
    """Subject and issuer: the first label of `domain`, since a common name has at most 64 characters."""
    label = domain.partition(".")[0]
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, label)])


def key_usage(*, certificate_sign: bool) -> x509.KeyUsage:
    """Either signing certificates or signing handshakes, never both and nothing else."""
    return x509.KeyUsage(
        digital_signature=not certificate_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificate_sign,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def encode_spki(public_key: ec.EllipticCurvePublicKey) -> bytes:
    """SubjectPublicKeyInfo, DER, uncompressed point: 91 bytes for P-256."""
    return public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _name_constraints(domain: str) -> x509.NameConstraints:
    """Own URI host and own DNS name; no IP address at all.

    Directory names are left out: Go refuses a CA that constrains them, and no leaf has a subject.
    E-mail is left out: OpenSSL has no form that excludes every address, and nothing here reads one.
    """
    return x509.NameConstraints(
        permitted_subtrees=[x509.UniformResourceIdentifier(domain), x509.DNSName(domain)],
        excluded_subtrees=[
            x509.IPAddress(ipaddress.ip_network("0.0.0.0/0")),
            x509.IPAddress(ipaddress.ip_network("::/0")),
        ],
    )


def _check_profile(certificate: x509.Certificate, key: ec.EllipticCurvePublicKey, domain: str) -> None:
    """Compare with the template: field by field for the message, then the exact bytes for the verdict."""
    try:
        found = _fields(certificate)
        wrong = _range_mismatches(certificate)
    except X509_ERRORS as error:
        raise _refusal("ca.fields", error, "the profile") from error
    if wrong:
        raise RemoteProtocolError(*wrong)
    template = _template(certificate, key, domain)
    expected = _fields(template)
    wrong = [
        _mismatch(f"ca.{name}", found.get(name, "absent"), expected.get(name, "absent"))
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]
    if not wrong and certificate.tbs_certificate_bytes != template.tbs_certificate_bytes:
        wrong = [_mismatch("ca.encoding", "another encoding", "the profile's encoding")]
    if wrong:
        raise RemoteProtocolError(*wrong)


def _template(certificate: x509.Certificate, key: ec.EllipticCurvePublicKey, domain: str) -> x509.Certificate:
    """What mint would have made of the parameters, in range by now, that `certificate` claims."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    profile = ca_profile(key, domain, certificate.serial_number, start, end)
    return profile.sign(_TEMPLATE_KEY, hashes.SHA256(), ecdsa_deterministic=True)


def _fields(certificate: x509.Certificate) -> dict[str, str]:
    fields = {
        "version": certificate.version.name,
        "signature_algorithm": certificate.signature_algorithm_oid.dotted_string,
        "issuer": certificate.issuer.rfc4514_string(),
        "subject": certificate.subject.rfc4514_string(),
    }
    for extension in certificate.extensions:
        critical = "critical " if extension.critical else ""
        fields[f"extension {extension.oid.dotted_string}"] = critical + repr(extension.value)
    return fields


def _range_mismatches(certificate: x509.Certificate) -> list[Mismatch]:
    """The three parameters of the template that are the member's choice, each within its bounds."""
    wrong = []
    serial = certificate.serial_number
    if serial.bit_length() // 8 + 1 not in SERIAL_BYTES or serial < 0:
        wrong.append(_mismatch("ca.serial", serial, "positive, 16 to 20 bytes"))
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if start < datetime.fromtimestamp(0, UTC):
        wrong.append(_mismatch("ca.not_before", start, "1970 or later"))
    if not 0 <= (end - start).total_seconds() <= MAX_CA_LIFETIME:
        wrong.append(_mismatch("ca.not_after", end, f"at most {MAX_CA_LIFETIME} s after {start}"))
    return wrong


def _check_signature(certificate: x509.Certificate, der: bytes) -> None:
    """The own key signed it, and the rest of the bytes leave no freedom but the signature's value."""
    try:
        certificate.verify_directly_issued_by(certificate)
    except (InvalidSignature, *X509_ERRORS) as error:
        raise _refusal("ca.signature", error or "invalid", "a signature of its own key") from error
    signature = certificate.signature
    end = _ECDSA_SHA256 + bytes([0x03, len(signature) + 1, 0]) + signature
    if not der.endswith(certificate.tbs_certificate_bytes + end):
        raise _refusal("ca.signature", "another encoding", "DER of a whole number of bytes")


def _mismatch(name: str, found: object, expected: object) -> Mismatch:
    return Mismatch(Reason.CA_PROFILE, name, printable(found), printable(expected))


def _refusal(name: str, found: object, expected: object) -> RemoteProtocolError:
    return RemoteProtocolError(_mismatch(name, found, expected))

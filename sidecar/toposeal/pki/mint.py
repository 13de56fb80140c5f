"""Mints a member's CA and its leaves from given keys, serials and times: same input, same bytes. No IO.

PROTOCOL.md 3: the mesh leaf proves the role to other members, the ingress leaf the DNS name to
outside clients, the application's SVID whatever its holder makes of it; they are separate, so that none
is of use where another is expected.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from toposeal.errors import LocalProtocolError, Reason, ToposealError
from toposeal.limits import CLOCK_SKEW, MAX_CA_LIFETIME
from toposeal.names import app_spiffe_id, ca_digest, is_name, member_domain, spiffe_id
from toposeal.verification.ca_profile import ca_name, ca_profile, encode_spki, key_usage

_SERIAL_SIZE = 20
_CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
_SERVER = ExtendedKeyUsageOID.SERVER_AUTH


def serial_number(entropy: bytes) -> int:
    """A serial of exactly 20 DER bytes from 20 bytes of `entropy`: 157 unpredictable bits."""
    if len(entropy) != _SERIAL_SIZE:
        raise _refusal("serial.entropy", f"{len(entropy)} bytes", f"{_SERIAL_SIZE} bytes")
    top = 1 << (8 * _SERIAL_SIZE - 2)
    return int.from_bytes(entropy, "big") % top | top


def mint_ca(key: ec.EllipticCurvePrivateKey, mesh: str, serial: int, now: int) -> bytes:
    """The self-signed CA of one boot, DER; `now` in Unix seconds, `serial` from `serial_number`."""
    domain = _domain(key, mesh)
    start = now - CLOCK_SKEW
    profile = ca_profile(key.public_key(), domain, serial, _time(start), _time(start + MAX_CA_LIFETIME))
    return _signed(profile, key)


def mint_mesh_leaf(
    ca_key: ec.EllipticCurvePrivateKey,
    ca_der: bytes,
    role: str,
    leaf_key: ec.EllipticCurvePrivateKey,
    serial: int,
    now: int,
    lifetime_s: int,
) -> bytes:
    """A leaf with the one URI SAN spiffe://<domain>/<role>, for client and server use, DER."""
    leaf = _named_leaf(ca_key, ca_der, role, leaf_key, spiffe_id)
    return _signed(_valid(leaf, serial, now, lifetime_s), ca_key)


def mint_app_svid(
    ca_key: ec.EllipticCurvePrivateKey,
    ca_der: bytes,
    role: str,
    app_key: ec.EllipticCurvePrivateKey,
    serial: int,
    now: int,
    lifetime_s: int,
) -> bytes:
    """The application's own, spiffe://<domain>/<role>/app, for client and server use, DER: no Envoy takes
    it, since each demands the exact URI of a mesh leaf.
    """
    leaf = _named_leaf(ca_key, ca_der, role, app_key, app_spiffe_id)
    return _signed(_valid(leaf, serial, now, lifetime_s), ca_key)


def mint_ingress_leaf(
    ca_key: ec.EllipticCurvePrivateKey,
    ca_der: bytes,
    leaf_key: ec.EllipticCurvePrivateKey,
    serial: int,
    now: int,
    lifetime_s: int,
) -> bytes:
    """A leaf with the one DNS SAN <domain>, for server use alone, DER."""
    domain = _issuer_domain(ca_key, ca_der)
    leaf = _leaf(ca_key, domain, leaf_key, x509.DNSName(domain), [_SERVER])
    return _signed(_valid(leaf, serial, now, lifetime_s), ca_key)


def _named_leaf(
    ca_key: ec.EllipticCurvePrivateKey,
    ca_der: bytes,
    role: str,
    leaf_key: ec.EllipticCurvePrivateKey,
    uri: Callable[[str, str], str],
) -> x509.CertificateBuilder:
    if not is_name(role):
        raise _refusal("leaf.role", role, "a role name")
    domain = _issuer_domain(ca_key, ca_der)
    name = x509.UniformResourceIdentifier(uri(domain, role))
    return _leaf(ca_key, domain, leaf_key, name, [_SERVER, _CLIENT])


def _leaf(
    ca_key: ec.EllipticCurvePrivateKey,
    domain: str,
    leaf_key: ec.EllipticCurvePrivateKey,
    name: x509.GeneralName,
    usages: list[x509.ObjectIdentifier],
) -> x509.CertificateBuilder:
    """No subject, so the one SAN is the whole identity and critical (RFC 5280 4.2.1.6)."""
    return (
        x509.CertificateBuilder(ca_name(domain), x509.Name([]), leaf_key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(certificate_sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=True)
        .add_extension(x509.SubjectAlternativeName([name]), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
    )


def _valid(leaf: x509.CertificateBuilder, serial: int, now: int, lifetime_s: int) -> x509.CertificateBuilder:
    if lifetime_s <= 0:
        raise _refusal("leaf.lifetime", lifetime_s, "positive seconds")
    start, end = _time(now - CLOCK_SKEW), _time(now + lifetime_s)
    return leaf.serial_number(serial).not_valid_before(start).not_valid_after(end)


def _signed(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> bytes:
    certificate = builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    return certificate.public_bytes(serialization.Encoding.DER)


def _issuer_domain(ca_key: ec.EllipticCurvePrivateKey, ca_der: bytes) -> str:
    """The name that the CA may issue; a CA of another key is our own fault."""
    ca = x509.load_der_x509_certificate(ca_der)
    if ca.public_key() != ca_key.public_key():
        raise _refusal("leaf.issuer", "a CA of another key", "the CA of this key")
    constraints = ca.extensions.get_extension_for_class(x509.NameConstraints).value
    names = [n.value for n in constraints.permitted_subtrees or () if isinstance(n, x509.DNSName)]
    return names[0]


def _domain(key: ec.EllipticCurvePrivateKey, mesh: str) -> str:
    return member_domain(ca_digest(encode_spki(key.public_key())), mesh)


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _refusal(name: str, found: object, expected: str) -> ToposealError:
    return LocalProtocolError.of(Reason.INTERNAL, name, found, expected)

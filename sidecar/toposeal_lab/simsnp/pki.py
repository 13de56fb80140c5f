"""A simulated AMD: ARK, ASK, ASVK, revocation lists, VCEK and VLEK certificates of one product.

Every subject and issuer says SIMULATED; the common names are AMD's, since verifiers check them.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from toposeal.evidence.snp_certs import KeyKind
from toposeal.evidence.snp_tcb import Product, SnpTcb
from toposeal.verification.model import TrustAnchors

ORGANIZATION = "SIMULATED - not AMD"
_ARC = "1.3.6.1.4.1.3704.1."
_PSS = padding.PSS(padding.MGF1(hashes.SHA384()), salt_length=48)
_BACKDATED = timedelta(days=1)
_CA_LIFETIME, _LEAF_LIFETIME, _CRL_LIFETIME = timedelta(days=9125), timedelta(days=2557), timedelta(days=365)
_STEPPING = {Product.MILAN: "-B1", Product.GENOA: "", Product.TURIN: ""}


@dataclass(frozen=True)
class RsaKeys:
    """The keys of one simulated AMD. RSA-4096 takes about a second each, so products share them."""

    ark: rsa.RSAPrivateKey
    ask: rsa.RSAPrivateKey
    asvk: rsa.RSAPrivateKey

    @classmethod
    @lru_cache(1)
    def shared(cls) -> RsaKeys:
        """Made once in this process and never stored."""
        return cls(*(rsa.generate_private_key(65537, 4096) for _ in range(3)))


@dataclass(frozen=True)
class LeafShape:
    """The parts of a VCEK or VLEK that no chip chooses; the defaults are genuine, tests change them."""

    common_name: str | None = None
    product_name: str | None = None
    serial: int = 0  # as on every genuine VCEK
    hwid_in_der: bool = False
    extensions: Mapping[str, bytes | None] = field(default_factory=dict)  # by last arcs; None leaves one out
    critical: frozenset[str] = frozenset()
    not_before: int | None = None  # Unix seconds
    lifetime: timedelta = _LEAF_LIFETIME


GENUINE = LeafShape()


@dataclass(frozen=True)
class LabAmd:
    """One simulated vendor for one product; valid from a day before `created`, in Unix seconds."""

    product: Product
    created: int
    keys: RsaKeys
    ark: x509.Certificate
    ask: x509.Certificate
    asvk: x509.Certificate

    @classmethod
    def create(cls, product: Product, now: int, keys: RsaKeys | None = None) -> LabAmd:
        """A fresh vendor; without `keys` those that all of this process's vendors share."""
        made = keys or RsaKeys.shared()
        ark_name = _name(f"ARK-{product}")
        ark = _ca(ark_name, made.ark, ark_name, made.ark, now)
        ask = _ca(_name(f"SEV-{product}"), made.ask, ark_name, made.ark, now)
        asvk = _ca(_name(f"SEV-VLEK-{product}"), made.asvk, ark_name, made.ark, now)
        return cls(product, now, made, ark, ask, asvk)

    def anchors(self) -> TrustAnchors:
        """The anchors under which this vendor's reports verify. For the lab's composition root alone."""
        return TrustAnchors(intel_sgx_root_ca=b"", amd_roots=(der(self.ark),))

    def chain(self, kind: KeyKind) -> bytes:
        """PEM of ASK or ASVK, then ARK, as the KDS serves it."""
        ca = self.ask if kind is KeyKind.VCEK else self.asvk
        return ca.public_bytes(Encoding.PEM) + self.ark.public_bytes(Encoding.PEM)

    def crl(
        self,
        revoked: Sequence[x509.Certificate] = (),
        signer: rsa.RSAPrivateKey | None = None,
        issuer: x509.Certificate | None = None,
    ) -> bytes:
        """DER of a list of the ARK; of `issuer` or signed by `signer` instead, when a test asks for it."""
        start = datetime.fromtimestamp(self.created, UTC) - _BACKDATED
        builder = x509.CertificateRevocationListBuilder().issuer_name((issuer or self.ark).subject)
        builder = builder.last_update(start).next_update(start + _CRL_LIFETIME)
        for certificate in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(start).build())
        signed = builder.sign(signer or self.keys.ark, hashes.SHA384(), rsa_padding=_PSS)
        return signed.public_bytes(Encoding.DER)

    def issue(
        self,
        kind: KeyKind,
        key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
        tcb: SnpTcb,
        hwid: bytes,
        shape: LeafShape = GENUINE,
    ) -> bytes:
        """DER of the certificate of one chip's `key`, or of one that is lent to a provider."""
        ca, ca_key = (self.ask, self.keys.ask) if kind is KeyKind.VCEK else (self.asvk, self.keys.asvk)
        made = self.created if shape.not_before is None else shape.not_before
        start = datetime.fromtimestamp(made, UTC) - _BACKDATED
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(shape.common_name or f"SEV-{kind}"))
            .issuer_name(ca.subject)
            .public_key(key)
            .serial_number(1)
            .not_valid_before(start)
            .not_valid_after(start + shape.lifetime)
        )
        for arcs, value in self._extensions(kind, tcb, hwid, shape).items():
            extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(arcs), value)
            builder = builder.add_extension(extension, critical=arcs in shape.critical)
        return _with_serial(builder.sign(ca_key, hashes.SHA384(), rsa_padding=_PSS), shape.serial, ca_key)

    def _extensions(self, kind: KeyKind, tcb: SnpTcb, hwid: bytes, shape: LeafShape) -> dict[str, bytes]:
        genuine = self.product + (_STEPPING[self.product] if kind is KeyKind.VCEK else "")
        name = genuine if shape.product_name is None else shape.product_name
        levels = {"bl": "3.1", "tee": "3.2", "snp": "3.3", "ucode": "3.8", "fmc": "3.9"}
        values: dict[str, bytes | None] = {
            "1": _integer(1 if self.product is Product.TURIN else 0),
            "2": _text(name),
            **{arcs: _integer(0) for arcs in ("3.4", "3.5", "3.6", "3.7")},
            **{levels[part]: _integer(level) for part, level in tcb.components().items()},
        }
        if kind is KeyKind.VLEK:
            values["5"] = _text("simulated provider")
        else:
            values["4"] = b"\x04" + bytes([len(hwid)]) + hwid if shape.hwid_in_der else hwid
        chosen = values | dict(shape.extensions)
        return {_ARC + arcs: value for arcs, value in chosen.items() if value is not None}


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def pem(data: bytes) -> bytes:
    """One certificate in PEM."""
    text = base64.b64encode(data)
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return b"\n".join([b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""])


def _ca(
    subject: x509.Name, key: rsa.RSAPrivateKey, issuer: x509.Name, issuer_key: rsa.RSAPrivateKey, now: int
) -> x509.Certificate:
    """Path length and usage are those of AMD's own: an ARK signs lists too, an ASK leaves alone."""
    start = datetime.fromtimestamp(now, UTC) - _BACKDATED
    is_root = subject == issuer
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + _CA_LIFETIME)
        .add_extension(x509.BasicConstraints(True, None if is_root else 0), critical=True)
        .add_extension(_usage(is_root), critical=True)
    )
    return builder.sign(issuer_key, hashes.SHA384(), rsa_padding=_PSS)


def _usage(signs_lists: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=signs_lists,
        encipher_only=False,
        decipher_only=False,
    )


def _with_serial(certificate: x509.Certificate, serial: int, key: rsa.RSAPrivateKey) -> bytes:
    """The certificate again under a serial number that the builder would refuse."""
    body = certificate.tbs_certificate_bytes[4:]  # after tag and a length of three bytes
    version, rest = body[:5], body[8:]  # the builder's serial number 1 takes three bytes
    signed = _tlv(0x30, version + _integer(serial) + rest)
    whole = certificate.public_bytes(Encoding.DER)
    algorithm = whole[4 + len(certificate.tbs_certificate_bytes) : -(len(certificate.signature) + 5)]
    signature = key.sign(signed, _PSS, hashes.SHA384())
    return _tlv(0x30, signed + algorithm + _tlv(0x03, b"\0" + signature))


def _name(common_name: str) -> x509.Name:
    parts = (
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "Engineering"),
        (NameOID.COUNTRY_NAME, "US"),
        (NameOID.LOCALITY_NAME, "Santa Clara"),
        (NameOID.STATE_OR_PROVINCE_NAME, "CA"),
        (NameOID.ORGANIZATION_NAME, ORGANIZATION),
        (NameOID.COMMON_NAME, common_name),
    )
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


def _integer(value: int) -> bytes:
    return _tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _text(value: str) -> bytes:
    return _tlv(0x16, value.encode("ascii"))


def _tlv(tag: int, content: bytes) -> bytes:
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    return bytes([tag, 0x82]) + len(content).to_bytes(2, "big") + content

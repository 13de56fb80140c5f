"""AMD's certificates and revocation lists: DER or PEM in, frozen values or a typed refusal out. No IO.

Profile: AMD 57230 (VCEK certificate and KDS interface): X.509 version 3, RSASSA-PSS with SHA-384 and a
salt of 48 bytes, whoever signs. The frame is read here because every VCEK has the serial number 0, which
RFC 5280 forbids and `cryptography` will cease to load; keys and signatures stay with `cryptography`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence import der
from toposeal.evidence.der import DerReader
from toposeal.evidence.pem import decode_canonical
from toposeal.limits import MAX_AMD_CERTIFICATE_SIZE, MAX_AMD_CHAIN_LENGTH, MAX_CRL_SIZE
from toposeal.x509_errors import X509_ERRORS

_REASON = Reason.CERTIFICATE_INVALID
_REMEMBERED = 64  # three certificates of each machine, most of them shared
_REMEMBERED_LISTS = 8  # of at most 64 KiB: one for each root, and the last few before it
_RSA_BITS = 4096
_COMMON_NAME, _BASIC_CONSTRAINTS, _KEY_USAGE = "2.5.4.3", "2.5.29.19", "2.5.29.15"
_KEY_CERT_SIGN = 0x04
_MAX_SERIAL_SIZE = 20
_MAX_NUMBER_BITS = 160  # of a CRLNumber: RFC 5280 5.2.3
_EXPLICIT_VERSION, _EXPLICIT_EXTENSIONS = 0xA0, 0xA3
_PSS = padding.PSS(padding.MGF1(hashes.SHA384()), salt_length=48)


@dataclass(frozen=True)
class AmdCertificate:
    """One certificate; times in Unix seconds, names and key as the DER that the signature covers."""

    der: bytes
    signed: bytes
    signature: bytes
    serial: int
    issuer: bytes
    issuer_name: str  # common name
    subject: bytes
    common_name: str
    not_before: int
    not_after: int
    public_key_info: bytes
    extensions: Mapping[str, bytes]  # by dotted object identifier
    critical: frozenset[str]
    public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey

    def issued_by(self, issuer: AmdCertificate) -> bool:
        """Whether `issuer`'s subject and key are those that this certificate names and verifies with."""
        return self.issuer == issuer.subject and _verifies(issuer, self.signature, self.signed)

    def may_sign_certificates(self) -> bool:
        """A CA by its basic constraints and its key usage, with an RSA key of 4096 bits, and without another
        critical extension: whoever does not understand one may not use the certificate (RFC 5280, 4.2)."""
        constraints = self.extensions.get(_BASIC_CONSTRAINTS, b"")
        usage = self.extensions.get(_KEY_USAGE, b"")
        is_ca = constraints in (b"\x30\x03\x01\x01\xff", b"\x30\x06\x01\x01\xff\x02\x01\x00")
        signs = len(usage) == 4 and usage[:2] == b"\x03\x02" and bool(usage[3] & _KEY_CERT_SIGN)
        understood = self.critical <= {_BASIC_CONSTRAINTS, _KEY_USAGE}
        return is_ca and signs and understood and isinstance(self.public_key, rsa.RSAPublicKey)


@dataclass(frozen=True)
class AmdCrl:
    """A revocation list of one ARK; `next_update` in Unix seconds, `number` its CRLNumber, 0 without one."""

    signed: bytes
    signature: bytes
    issuer: bytes
    serials: frozenset[int]
    next_update: int
    number: int

    def issued_by(self, root: AmdCertificate) -> bool:
        """Whether it stands in the name of `root` and verifies with its key."""
        return self.issuer == root.subject and _verifies(root, self.signature, self.signed)

    def lists(self, certificate: AmdCertificate) -> bool:
        return certificate.serial in self.serials


def split_certificates(data: bytes, field: str) -> tuple[bytes, ...]:
    """The DER of one certificate as it stands, or of each in canonical PEM (`pem.decode_canonical`).

    Raises EvidenceError(CERTIFICATE_INVALID), or TOO_LARGE.
    """
    if len(data) > MAX_AMD_CHAIN_LENGTH * 2 * MAX_AMD_CERTIFICATE_SIZE:
        raise EvidenceError.of(Reason.TOO_LARGE, field, f"{len(data)} bytes", "a few certificates")
    if not data.startswith(b"-----"):
        return (data,)
    found = decode_canonical(data, field)
    if len(found) > MAX_AMD_CHAIN_LENGTH:
        expected = f"at most {MAX_AMD_CHAIN_LENGTH}"
        raise EvidenceError.of(_REASON, field, f"{len(found)} certificates", expected)
    return found


@lru_cache(_REMEMBERED)
def parse_amd_certificate(data: bytes, field: str) -> AmdCertificate:
    """Parse one DER certificate, or remember it. Raises EvidenceError(CERTIFICATE_INVALID) or TOO_LARGE."""
    if len(data) > MAX_AMD_CERTIFICATE_SIZE:
        expected = f"at most {MAX_AMD_CERTIFICATE_SIZE}"
        raise EvidenceError.of(Reason.TOO_LARGE, field, f"{len(data)} bytes", expected)
    outer = DerReader(data, field, _REASON)
    frame = outer.inside(der.SEQUENCE)
    outer.end()
    signed, algorithm, signature = frame.whole(der.SEQUENCE), frame.whole(der.SEQUENCE), frame.bits()
    frame.end()
    tbs = DerReader(signed, field, _REASON).inside(der.SEQUENCE)
    version = tbs.inside(_EXPLICIT_VERSION)
    if version.integer() != 2:
        raise tbs.refusal("another version", "X.509 version 3")
    version.end()
    serial = _serial(tbs)
    if tbs.whole(der.SEQUENCE) != algorithm or algorithm not in _ALGORITHMS:
        raise tbs.refusal(algorithm.hex(), "RSASSA-PSS, SHA-384, salt 48")
    issuer = tbs.whole(der.SEQUENCE)
    not_before, not_after = _validity(tbs.inside(der.SEQUENCE))
    subject, key = tbs.whole(der.SEQUENCE), tbs.whole(der.SEQUENCE)
    extensions, critical = _extensions(tbs)
    tbs.end()
    return AmdCertificate(
        der=data,
        signed=signed,
        signature=signature,
        serial=serial,
        issuer=issuer,
        issuer_name=_common_name(issuer, f"{field}.issuer"),
        subject=subject,
        common_name=_common_name(subject, f"{field}.subject"),
        not_before=not_before,
        not_after=not_after,
        public_key_info=key,
        extensions=extensions,
        critical=critical,
        public_key=_public_key(key, field),
    )


@lru_cache(_REMEMBERED_LISTS)
def parse_amd_crl(data: bytes) -> AmdCrl:
    """Parse one DER revocation list, or remember it.

    Raises EvidenceError(COLLATERAL_INVALID) or TOO_LARGE.
    """
    if len(data) > MAX_CRL_SIZE:
        raise EvidenceError.of(Reason.TOO_LARGE, "crl", f"{len(data)} bytes", f"at most {MAX_CRL_SIZE}")
    frame = DerReader(data, "crl", Reason.COLLATERAL_INVALID).inside(der.SEQUENCE)
    signed, algorithm, signature = frame.whole(der.SEQUENCE), frame.whole(der.SEQUENCE), frame.bits()
    if algorithm not in _ALGORITHMS:
        raise frame.refusal(algorithm.hex(), "RSASSA-PSS, SHA-384, salt 48")
    try:
        crl = x509.load_der_x509_crl(data)
        # All of it is read here: the library reads lazily, and hostile parts fail only when touched.
        issuer, next_update = crl.issuer.public_bytes(), crl.next_update_utc
        serials = frozenset(each.serial_number for each in crl)
        critical = sorted(each.oid.dotted_string for each in crl.extensions if each.critical)
        numbers = [each.value for each in crl.extensions if isinstance(each.value, x509.CRLNumber)]
    except X509_ERRORS as error:
        raise EvidenceError.of(Reason.COLLATERAL_INVALID, "crl", error, "a DER revocation list") from error
    if next_update is None:
        expected = "a date: a list without one never expires"
        raise EvidenceError.of(Reason.COLLATERAL_INVALID, "crl.nextUpdate", "nothing", expected)
    if critical:  # a delta, or a list of some reasons or issuers alone: not the whole that it passes for
        expected = "no critical extension"
        raise EvidenceError.of(Reason.COLLATERAL_INVALID, "crl.extensions", critical, expected)
    number = numbers[0].crl_number if numbers else 0
    if number.bit_length() > _MAX_NUMBER_BITS:
        found, expected = f"{number.bit_length()} bits", f"at most {_MAX_NUMBER_BITS}"
        raise EvidenceError.of(Reason.COLLATERAL_INVALID, "crl.crlNumber", found, expected)
    return AmdCrl(signed, signature, issuer, serials, int(next_update.timestamp()), number)


def _verifies(issuer: AmdCertificate, signature: bytes, signed: bytes) -> bool:
    key = issuer.public_key
    if not isinstance(key, rsa.RSAPublicKey):
        return False
    try:
        key.verify(signature, signed, _PSS, hashes.SHA384())
    except InvalidSignature:
        return False
    return True


def _pss_algorithm(null: bytes, trailer: bytes) -> bytes:
    """AlgorithmIdentifier of RSASSA-PSS, in the spellings that writers of DER disagree about."""
    sha384 = _tlv(0x30, bytes.fromhex("0609608648016503040202") + null)
    mgf1 = _tlv(0x30, bytes.fromhex("06092a864886f70d010108") + sha384)
    salt = bytes.fromhex("a203020130")
    parameters = _tlv(0x30, _tlv(0xA0, sha384) + _tlv(0xA1, mgf1) + salt + trailer)
    return _tlv(0x30, bytes.fromhex("06092a864886f70d01010a") + parameters)


def _tlv(tag: int, content: bytes) -> bytes:
    return bytes([tag, len(content)]) + content


_NULLS, _TRAILERS = (b"\x05\x00", b""), (b"", bytes.fromhex("a303020101"))  # AMD has written both trailers
_ALGORITHMS = frozenset(_pss_algorithm(null, trailer) for null in _NULLS for trailer in _TRAILERS)


def _serial(tbs: DerReader) -> int:
    serial = tbs.integer()
    if serial >> 8 * _MAX_SERIAL_SIZE:
        raise tbs.refusal("a longer serial number", f"at most {_MAX_SERIAL_SIZE} bytes")
    return serial


def _validity(reader: DerReader) -> tuple[int, int]:
    first, last = _time(reader), _time(reader)
    reader.end()
    return first, last


def _time(reader: DerReader) -> int:
    """RFC 5280, 4.1.2.5: UTCTime until 2049, GeneralizedTime after it, both in Zulu and with seconds."""
    tag, content = reader.tagged(der.UTC_TIME, der.GENERALIZED_TIME)
    year = "" if tag == der.GENERALIZED_TIME else "20" if content[:1] < b"5" else "19"
    text = year + content.decode("ascii", "replace")
    if re.fullmatch(r"[0-9]{14}Z", text, re.ASCII) is None:
        raise reader.refusal(content, "a time like 20260131000000Z")
    try:
        month, day, hour, minute, second = (int(text[at : at + 2]) for at in range(4, 14, 2))
        return int(datetime(int(text[:4]), month, day, hour, minute, second, tzinfo=UTC).timestamp())
    except ValueError as error:
        raise reader.refusal(text, "a time of the calendar") from error


def _extensions(tbs: DerReader) -> tuple[dict[str, bytes], frozenset[str]]:
    explicit = tbs.inside(_EXPLICIT_EXTENSIONS)
    each = explicit.inside(der.SEQUENCE)
    explicit.end()
    values: dict[str, bytes] = {}
    critical: set[str] = set()
    while each.more():
        extension = each.inside(der.SEQUENCE)
        name = extension.oid()
        if name in values:
            raise each.refusal(f"{name} twice", "every extension once")
        if extension.has(der.BOOLEAN):
            extension.true()
            critical.add(name)
        values[name] = extension.element(der.OCTET_STRING)
        extension.end()
    return values, frozenset(critical)


def _common_name(name: bytes, field: str) -> str:
    reader = DerReader(name, field, _REASON).inside(der.SEQUENCE)
    found: list[str] = []
    while reader.more():
        relative = reader.inside(der.SET)
        attribute = relative.inside(der.SEQUENCE)
        relative.end()
        if attribute.oid() == _COMMON_NAME:
            text = attribute.element(der.UTF8_STRING, der.PRINTABLE_STRING)
            found.append(text.decode("ascii", "replace"))
    if len(found) != 1:
        raise reader.refusal(f"{len(found)} common names", "one")
    return found[0]


def _public_key(info: bytes, field: str) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    expected = f"an RSA key of {_RSA_BITS} bits or one on P-384"
    try:
        key = load_der_public_key(info)
    except X509_ERRORS as error:
        raise EvidenceError.of(_REASON, f"{field}.public_key", error, expected) from error
    if isinstance(key, rsa.RSAPublicKey) and key.key_size == _RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1):
        return key
    raise EvidenceError.of(_REASON, f"{field}.public_key", type(key).__name__, expected)

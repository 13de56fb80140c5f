"""The certificates of an NVIDIA device, leaf first: canonical PEM in, frozen values or a refusal out. No IO.

A chain has five levels: the key that signs reports (of the running firmware), the device's own key, which
NVIDIA certified when it made the chip, and three CAs of NVIDIA's, the last of which is the root. All are
ECDSA on P-384 with SHA-384. Nothing here is trusted: see `verification.gpu_authentic`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.certificates import is_ca, is_whole
from toposeal.evidence.gpu_firmware import FIRMWARE_EXTENSIONS, Firmware, read_firmware
from toposeal.evidence.pem import decode_canonical
from toposeal.limits import MAX_GPU_CHAIN_SIZE
from toposeal.x509_errors import X509_ERRORS

LEVELS = 5
_REASON = Reason.CERTIFICATE_INVALID
_CRITICAL = frozenset({"2.5.29.15", "2.5.29.19"})  # key usage and basic constraints, both of which are read
_DEVICE_NAME = "1.3.6.1.4.1.412.274.1"  # DMTF's otherName: manufacturer, product, serial number
_NAMED = re.compile(rb"\x0c.NVIDIA:(?P<model>[A-Z0-9_]+):(?P<pdi>[0-9A-F]{16})", re.DOTALL)


@dataclass(frozen=True)
class GpuEvidence:
    """What one device shows, as its driver hands it out; nothing of it is believed."""

    report: bytes  # SPDM GET_MEASUREMENTS and MEASUREMENTS
    chain: bytes  # PEM, leaf first, root last


@dataclass(frozen=True)
class NvidiaCertificate:
    """One certificate with the facts that the checks need; times in Unix seconds."""

    x509: x509.Certificate
    der: bytes
    public_key: ec.EllipticCurvePublicKey  # P-384
    public_key_info: bytes
    common_name: str
    serial_name: str  # the subject's serialNumber; empty on NVIDIA's CAs
    is_ca: bool  # by basic constraints and key usage
    not_before: int
    not_after: int

    def issued_by(self, issuer: NvidiaCertificate) -> bool:
        """Whether `issuer`'s subject and key are those that this certificate names and verifies with."""
        try:
            self.x509.verify_directly_issued_by(issuer.x509)
        except (*X509_ERRORS, InvalidSignature):
            return False
        return True


@dataclass(frozen=True)
class GpuChain:
    """The five levels, and what the leaf says about the firmware whose key it certifies."""

    leaf: NvidiaCertificate
    device: NvidiaCertificate
    provisioner: NvidiaCertificate
    identity: NvidiaCertificate
    root: NvidiaCertificate
    firmware: Firmware
    model: str  # by the leaf's DMTF name: "GH100"
    pdi: bytes  # 8, the device's public identifier by the same name

    def levels(self) -> tuple[NvidiaCertificate, ...]:
        """Leaf first."""
        return (self.leaf, self.device, self.provisioner, self.identity, self.root)


def parse_gpu_chain(pem: bytes) -> GpuChain:
    """Parse a chain in PEM. Raises EvidenceError: CERTIFICATE_INVALID, or TOO_LARGE.

    The text is canonical PEM (`pem.decode_canonical`), NULs after it admitted. The root may stand there
    twice: NVIDIA's tools append it to chains that hold it.
    """
    if len(pem) > MAX_GPU_CHAIN_SIZE:
        expected = f"at most {MAX_GPU_CHAIN_SIZE}"
        raise EvidenceError.of(Reason.TOO_LARGE, "chain", f"{len(pem)} bytes", expected)
    found = _load(pem)
    if len(found) == LEVELS + 1 and found[-1] == found[-2]:
        found.pop()
    if len(found) != LEVELS:
        raise _refusal("chain", f"{len(found)} certificates", LEVELS)
    leaf, device, provisioner, identity, root = (
        read_certificate(each, f"chain[{level}]") for level, each in enumerate(found)
    )
    model, pdi = _device_name(leaf.x509)
    firmware = _firmware(leaf.x509)
    return GpuChain(leaf, device, provisioner, identity, root, firmware, model, pdi)


def _load(pem: bytes) -> list[x509.Certificate]:
    try:
        return [x509.load_der_x509_certificate(each) for each in decode_canonical(pem.rstrip(b"\0"), "chain")]
    except X509_ERRORS as error:
        raise _refusal("chain", error, "PEM certificates") from error


def read_certificate(certificate: x509.Certificate, field: str) -> NvidiaCertificate:
    """Raises EvidenceError(CERTIFICATE_INVALID). The library reads lazily: all that a check will touch is
    read here."""
    try:
        key, version = certificate.public_key(), certificate.version
        algorithm, hash_algorithm = certificate.signature_algorithm_oid, certificate.signature_hash_algorithm
        names = _attribute(certificate, NameOID.COMMON_NAME), _attribute(certificate, NameOID.SERIAL_NUMBER)
        a_ca = is_ca(certificate.extensions)
        unknown = {e.oid.dotted_string for e in certificate.extensions if e.critical} - _CRITICAL
        not_before = int(certificate.not_valid_before_utc.timestamp())
        not_after = int(certificate.not_valid_after_utc.timestamp())
    except X509_ERRORS as error:
        raise _refusal(field, error, "an X.509 certificate") from error
    if version is not x509.Version.v3:
        raise _refusal(f"{field}.version", version.name, "v3")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise _refusal(f"{field}.public_key", type(key).__name__, "a key on P-384")
    if algorithm != SignatureAlgorithmOID.ECDSA_WITH_SHA384 or not isinstance(hash_algorithm, hashes.SHA384):
        raise _refusal(f"{field}.signature", algorithm.dotted_string, "ECDSA with SHA-384")
    if not is_whole(certificate):
        raise _refusal(f"{field}.signature", "unused bits", "whole bytes")
    if unknown:
        raise _refusal(f"{field}.extensions", sorted(unknown), "no other critical extension")
    return NvidiaCertificate(
        x509=certificate,
        der=certificate.public_bytes(Encoding.DER),
        public_key=key,
        public_key_info=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        common_name=names[0],
        serial_name=names[1],
        is_ca=a_ca,
        not_before=not_before,
        not_after=not_after,
    )


def _attribute(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    found = certificate.subject.get_attributes_for_oid(oid)
    if len(found) > 1:
        raise ValueError(f"{len(found)} of {oid.dotted_string} in one subject")
    return str(found[0].value) if found else ""


def _device_name(leaf: x509.Certificate) -> tuple[str, bytes]:
    """Model and identifier from the leaf's subject alternative name, which holds nothing else."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise _refusal("chain[0].subject_alternative_name", "nothing", "a device name") from error
    found = [
        _NAMED.fullmatch(name.value)
        for name in names
        if isinstance(name, x509.OtherName) and name.type_id.dotted_string == _DEVICE_NAME
    ]
    if len(names) != 1 or len(found) != 1 or found[0] is None:
        raise _refusal(
            "chain[0].subject_alternative_name", f"{len(names)} names", "one like NVIDIA:GH100:..."
        )
    return found[0]["model"].decode("ascii"), bytes.fromhex(found[0]["pdi"].decode("ascii"))


def _firmware(leaf: x509.Certificate) -> Firmware:
    found = [each for each in leaf.extensions if each.oid.dotted_string in FIRMWARE_EXTENSIONS]
    if len(found) != 1 or not isinstance(found[0].value, x509.UnrecognizedExtension):
        raise _refusal("chain[0].firmware", f"{len(found)} DICE extensions", 1)
    return read_firmware(found[0].oid.dotted_string, found[0].value.value)


def _refusal(field: str, found: object, expected: object) -> EvidenceError:
    return EvidenceError.of(_REASON, field, found, expected)

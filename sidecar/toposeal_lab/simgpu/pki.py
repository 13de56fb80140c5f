"""A simulated NVIDIA: root, CAs of one model, the certificates of a device and of its firmware's key.

Every subject says SIMULATED; the common names are NVIDIA's, since verifiers check them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from toposeal.verification.model import TrustAnchors

ORGANIZATION = "SIMULATED - not NVIDIA"
FWID = bytes(range(0x30, 0x60))
_SHA384 = bytes.fromhex("0609608648016503040202")
_DEVICE_NAME = x509.ObjectIdentifier("1.3.6.1.4.1.412.274.1")
_COMPOSITE_DEVICE_ID = x509.ObjectIdentifier("2.23.133.5.4.1")
_TCB_INFO = x509.ObjectIdentifier("2.23.133.5.4.1.1")
_BACKDATED = timedelta(days=1)
_NEVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)

Key = ec.EllipticCurvePrivateKey
Extension = tuple[x509.ExtensionType, bool]


@dataclass(frozen=True)
class DeviceShape:
    """The parts of a device's certificates that no device chooses; the defaults are genuine."""

    model: str = "GH100"
    stepping: str = "A01"
    responder: str | None = None  # default: FSP on a switch, GSP else
    serial: str | None = None
    pdi: bytes | None = None
    name: bytes | None = None  # the otherName's whole value
    leaf_name: str | None = None
    leaf_is_ca: bool = False
    fwid: bytes = FWID
    flags: bytes = bytes.fromhex("0080000001")  # of a TcbInfo: no unused bits, then the flags
    firmware: tuple[x509.ObjectIdentifier, bytes] | None = None  # the DICE extension
    extra: Sequence[Extension] = field(default_factory=tuple)  # in the leaf
    not_after: datetime = _NEVER


GENUINE = DeviceShape()


@dataclass(frozen=True)
class LabNvidia:
    """One simulated vendor with the CAs of one model; valid from a day before `created`, in Unix seconds."""

    model: str
    created: int
    root_key: Key
    root: x509.Certificate
    identity_key: Key
    identity: x509.Certificate
    provisioner_key: Key
    provisioner: x509.Certificate

    @classmethod
    def create(cls, now: int, model: str = "GH100", vendor: LabNvidia | None = None) -> LabNvidia:
        """A fresh vendor, or another model of `vendor`."""
        root_key = vendor.root_key if vendor else new_key()
        root_name = subject("NVIDIA Device Identity CA")
        root = vendor.root if vendor else issue(root_name, root_key, root_name, root_key, now, ca())
        identity_key, provisioner_key = new_key(), new_key()
        identity_name = subject(f"NVIDIA {model} Identity")
        identity = issue(identity_name, identity_key, root.subject, root_key, now, ca())
        name = subject(f"NVIDIA {model} Provisioner ICA 1")
        provisioner = issue(name, provisioner_key, identity_name, identity_key, now, ca())
        return cls(model, now, root_key, root, identity_key, identity, provisioner_key, provisioner)

    def anchors(self) -> TrustAnchors:
        """The anchors under which this vendor's devices verify. For the lab's composition root alone."""
        return TrustAnchors(intel_sgx_root_ca=b"", nvidia_roots=(self.root.public_bytes(Encoding.DER),))

    def authorities(self) -> tuple[x509.Certificate, ...]:
        """Lowest first."""
        return (self.provisioner, self.identity, self.root)

    def device(self, key: Key, serial: str, shape: DeviceShape) -> x509.Certificate:
        """The certificate that a device gets when it is made."""
        responder = shape.responder or ("FSP" if shape.model == "LS_10" else "GSP")
        name = subject(f"{shape.model} {shape.stepping} {responder} BROM", serial)
        extensions = ca(signs_lists=False)
        issuer = self.provisioner.subject
        return issue(name, key, issuer, self.provisioner_key, self.created, extensions, shape.not_after)

    def leaf(
        self, key: Key, device: x509.Certificate, device_key: Key, pdi: bytes, shape: DeviceShape
    ) -> x509.Certificate:
        """The certificate that a device's boot ROM gives to the key of the firmware that it starts."""
        responder = shape.responder or ("FSP" if shape.model == "LS_10" else "GSP")
        name = shape.leaf_name or f"{shape.model} {shape.stepping} {responder} FMC LF"
        said = shape.name
        if said is None:
            text = f"NVIDIA:{shape.model}:{pdi.hex().upper()}".encode()
            said = tlv(0x0C, text)
        oid, value = shape.firmware or firmware(device_key, shape)
        extensions: list[Extension] = [
            *(ca() if shape.leaf_is_ca else [(_usage(False, False), True)]),
            (x509.SubjectAlternativeName([x509.OtherName(_DEVICE_NAME, said)]), False),
            (x509.UnrecognizedExtension(oid, value), False),
            *shape.extra,
        ]
        number = "5" * 40
        return issue(subject(name, number), key, device.subject, device_key, self.created, extensions)


def firmware(device_key: Key, shape: DeviceShape) -> tuple[x509.ObjectIdentifier, bytes]:
    """The DICE extension in the form of the architecture."""
    digest = fwid(shape.fwid)
    if shape.model.startswith("GB"):
        names = tlv(0x80, b"NVIDIA") + tlv(0x81, f"{shape.model} A01 GSP".encode()) + tlv(0x82, b"01")
        numbers = tlv(0x83, b"\x01") + tlv(0x84, b"\0") + tlv(0x85, b"\0")
        digests = tlv(0xA6, digest + fwid(bytes(48)))
        flags = tlv(0x87, shape.flags) + tlv(0x88, b"\xc0") + tlv(0x89, b"\0")
        return _TCB_INFO, tlv(0x30, names + numbers + digests + flags)
    info = device_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return _COMPOSITE_DEVICE_ID, tlv(0x30, b"\x02\x01\x01" + info + digest)


def fwid(value: bytes) -> bytes:
    """One FWID: the algorithm, the digest."""
    return tlv(0x30, _SHA384 + tlv(0x04, value))


def tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 0x80 else bytes([0x81, size])
    return bytes([tag]) + length + content


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP384R1())


def subject(common_name: str, serial: str | None = None) -> x509.Name:
    parts = [(NameOID.COMMON_NAME, common_name), (NameOID.ORGANIZATION_NAME, ORGANIZATION)]
    if serial is not None:
        parts.insert(0, (NameOID.SERIAL_NUMBER, serial))
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


def ca(signs_lists: bool = True) -> list[Extension]:
    return [(x509.BasicConstraints(True, None), True), (_usage(True, signs_lists), True)]


def issue(
    name: x509.Name,
    key: Key,
    issuer: x509.Name,
    issuer_key: Key,
    now: int,
    extensions: Sequence[Extension],
    not_after: datetime = _NEVER,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(now, UTC) - _BACKDATED)
        .not_valid_after(not_after)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA384())


def _usage(signs_certificates: bool, signs_lists: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_lists,
        encipher_only=False,
        decipher_only=False,
    )

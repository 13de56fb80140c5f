"""Certificates taken apart, changed, put together and signed again: what no builder would make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from support.forge import tlv

_PSS = padding.PSS(padding.MGF1(hashes.SHA384()), salt_length=48)


@dataclass(frozen=True)
class Extension:
    oid: bytes  # content of the OBJECT IDENTIFIER
    critical: bool
    value: bytes


@dataclass(frozen=True)
class Tbs:
    """A certificate without its signature; every field but the serial number's content is a whole element."""

    version: bytes  # empty for version 1
    serial: bytes
    algorithm: bytes
    issuer: bytes
    not_before: bytes
    not_after: bytes
    subject: bytes
    key: bytes
    extensions: tuple[Extension, ...]
    outer: bytes  # the algorithm beside the signature

    @classmethod
    def parse(cls, certificate: bytes) -> Tbs:
        """Of a well-formed certificate of version 3."""
        signed, outer, _ = elements(content(certificate))
        version, serial, algorithm, issuer, validity, subject, key, extensions = elements(content(signed))
        not_before, not_after = elements(content(validity))
        listed = elements(content(content(extensions)))
        found = tuple(_extension(list(elements(content(each)))) for each in listed)
        return cls(
            version, content(serial), algorithm, issuer, not_before, not_after, subject, key, found, outer
        )

    def signed(self, key: Any) -> bytes:
        """A whole certificate over this, by the algorithm that `key` is for."""
        extensions = b"".join(_encoded(each) for each in self.extensions)
        body = tlv(
            0x30,
            self.version
            + tlv(0x02, self.serial)
            + self.algorithm
            + self.issuer
            + tlv(0x30, self.not_before + self.not_after)
            + self.subject
            + self.key
            + (tlv(0xA3, tlv(0x30, extensions)) if extensions else b""),
        )
        return tlv(0x30, body + self.outer + tlv(0x03, b"\0" + _signature(key, body)))

    def with_extension(self, value: x509.ExtensionType | None, oid: str, critical: bool = False) -> Tbs:
        """In the place of the one with that name, else as the last; without it for None."""
        raw = None if value is None else _value(value)
        return self.with_raw(raw, oid, critical)

    def with_raw(self, value: bytes | None, oid: str, critical: bool = False) -> Tbs:
        name = _oid(oid)
        made = () if value is None else (Extension(name, critical, value),)
        places = [at for at, each in enumerate(self.extensions) if each.oid == name]
        at = places[0] if places else len(self.extensions)
        rest = [each for each in self.extensions[at:] if each.oid != name]
        return replace(self, extensions=(*self.extensions[:at], *made, *rest))

    def has(self, oid: str) -> bool:
        return any(each.oid == _oid(oid) for each in self.extensions)

    def with_criticality(self, oid: str, critical: bool) -> Tbs:
        name = _oid(oid)
        changed = (replace(e, critical=critical) if e.oid == name else e for e in self.extensions)
        return replace(self, extensions=tuple(changed))


def elements(data: bytes) -> Iterator[bytes]:
    """The DER elements that stand one behind the other."""
    at = 0
    while at < len(data):
        start, size = _content_at(data, at)
        yield data[at : start + size]
        at = start + size


def content(element: bytes) -> bytes:
    start, size = _content_at(element, 0)
    return element[start : start + size]


def _content_at(data: bytes, at: int) -> tuple[int, int]:
    size = data[at + 1]
    if size < 0x80:
        return at + 2, size
    start = at + 2 + (size & 0x7F)
    return start, int.from_bytes(data[at + 2 : start], "big")


def _extension(parts: list[bytes]) -> Extension:
    return Extension(content(parts[0]), len(parts) == 3, content(parts[-1]))


def _encoded(extension: Extension) -> bytes:
    critical = b"\x01\x01\xff" if extension.critical else b""
    return tlv(0x30, tlv(0x06, extension.oid) + critical + tlv(0x04, extension.value))


def _oid(dotted: str) -> bytes:
    """An object identifier's content, by way of an extended key usage, which is a list of them."""
    usage = x509.ExtendedKeyUsage([x509.ObjectIdentifier(dotted)])
    return content(content(usage.public_bytes()))


def _value(value: x509.ExtensionType) -> bytes:
    return value.value if isinstance(value, x509.UnrecognizedExtension) else value.public_bytes()


def _signature(key: Any, body: bytes) -> bytes:
    signature: bytes
    if isinstance(key, ec.EllipticCurvePrivateKey):
        digest = hashes.SHA384() if isinstance(key.curve, ec.SECP384R1) else hashes.SHA256()
        signature = key.sign(body, ec.ECDSA(digest))
    else:
        signature = key.sign(body, _PSS, hashes.SHA384())
    return signature

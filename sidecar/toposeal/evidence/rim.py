"""NVIDIA's reference manifests (RIM): one signed SWID tag in, its golden values or a refusal out. No IO.

Formats: TCG Reference Integrity Manifest over ISO/IEC 19770-2 tags, with one enveloped XML signature (W3C
XML Signature, ECDSA P-384 and SHA-384 over Canonical XML 1.1) that covers the whole document. Nothing here
is believed before `verification.gpu_rim` has checked that signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cryptography import x509

from toposeal.evidence.gpu_certs import NvidiaCertificate, read_certificate
from toposeal.evidence.spdm import MEASUREMENT_SIZE, SIGNATURE_SIZE
from toposeal.evidence.strict_xml import Element, canonical, parse_xml, refusal
from toposeal.x509_errors import X509_ERRORS

_SWID = "{http://standards.iso.org/iso/19770/-2/2015/schema.xsd}"
_DS = "{http://www.w3.org/2000/09/xmldsig#}"
_HASH = "{http://www.w3.org/2001/04/xmlenc#sha384}Hash"
_C14N = "http://www.w3.org/2006/12/xml-c14n11"
_ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_ECDSA_SHA384 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
_SHA384 = "http://www.w3.org/2001/04/xmldsig-more#sha384"
_MAX_CERTIFICATES = 6
_MAX_INDEX, _MAX_ALTERNATIVES = 254, 64
_NUMBER = re.compile(r"0|[1-9][0-9]{0,2}", re.ASCII)
_DIGEST = re.compile(rf"[0-9a-fA-F]{{{2 * MEASUREMENT_SIZE}}}", re.ASCII)
_ACTIVE = {"True": True, "False": False}


@dataclass(frozen=True)
class Rim:
    """One manifest. `golden` has the active indices alone: each one's admitted values, 48 bytes each."""

    product: str  # "GH100"
    version: str  # of the driver or of the VBIOS, as the report writes it
    golden: Mapping[int, frozenset[bytes]]
    covered: bytes  # 48, SHA-384 of the canonical document without its signature
    digest: bytes  # 48, what the signature says that is
    signed_info: bytes  # canonical: what the key signs
    signature_r: int
    signature_s: int
    certificates: tuple[NvidiaCertificate, ...]  # leaf first, root last


def parse_rim(data: bytes) -> Rim:
    """Parse one manifest. Raises EvidenceError: RIM, CERTIFICATE_INVALID or TOO_LARGE."""
    root = parse_xml(data)
    if root.name != f"{_SWID}SoftwareIdentity":
        raise refusal("root", root.name, "a SoftwareIdentity")
    _, meta, payload, signature = _children(root, _SWID, "Entity", "Meta", "Payload", f"{_DS}Signature")
    info, value, keys = _children(signature, _DS, "SignedInfo", "SignatureValue", "KeyInfo")
    signed = _base64(value, SIGNATURE_SIZE)
    half = SIGNATURE_SIZE // 2
    return Rim(
        product=_attribute(meta, "product"),
        version=_attribute(meta, "colloquialVersion"),
        golden=MappingProxyType(_golden(payload)),
        covered=hashlib.sha384(canonical(root, signature)).digest(),
        digest=_reference(info),
        signed_info=canonical(info),
        signature_r=int.from_bytes(signed[:half], "big"),
        signature_s=int.from_bytes(signed[half:], "big"),
        certificates=_certificates(keys),
    )


def _reference(info: Element) -> bytes:
    """The one reference: to the whole document, by exactly these algorithms (else other octets would be
    signed than those that are read here)."""
    method, algorithm, reference = _children(
        info, _DS, "CanonicalizationMethod", "SignatureMethod", "Reference"
    )
    transforms, digest_method, digest = _children(reference, _DS, "Transforms", "DigestMethod", "DigestValue")
    enveloped, last = _children(transforms, _DS, "Transform", "Transform")
    expected = (
        (method, _C14N),
        (algorithm, _ECDSA_SHA384),
        (enveloped, _ENVELOPED),
        (last, _C14N),
        (digest_method, _SHA384),
    )
    for element, name in expected:
        if dict(element.attributes) != {"Algorithm": name} or element.children:
            raise refusal(element.raw, dict(element.attributes), name)
    if dict(reference.attributes) != {"URI": ""}:
        raise refusal("Reference", dict(reference.attributes), "the whole document")
    return _base64(digest, MEASUREMENT_SIZE)


def _golden(payload: Element) -> dict[int, frozenset[bytes]]:
    found: dict[int, frozenset[bytes]] = {}
    seen: set[int] = set()
    for resource in payload.elements():
        kind = resource.attributes.get("type")
        if resource.name != f"{_SWID}Resource" or kind != "Measurement":
            raise refusal(resource.raw, kind, "a Measurement")
        index = _number(resource, "index", _MAX_INDEX)
        if index in seen:
            raise refusal("Resource.index", index, "every index once")
        seen.add(index)
        active = _ACTIVE.get(_attribute(resource, "active"))
        if active is None or _number(resource, "size", _MAX_INDEX) != MEASUREMENT_SIZE:
            raise refusal(f"Resource[{index}]", dict(resource.attributes), "an active state, and 48 bytes")
        values = _values(resource)
        if active:
            found[index] = values
    if not found:
        raise refusal("Payload", "no active measurement", "one or more")
    return found


def _values(resource: Element) -> frozenset[bytes]:
    """Hash0 up to the number of alternatives, and no other."""
    wanted = {f"{_HASH}{number}" for number in range(_number(resource, "alternatives", _MAX_ALTERNATIVES))}
    hashes = {name: value for name, value in resource.attributes.items() if name.startswith(_HASH)}
    wrong = [value for value in hashes.values() if _DIGEST.fullmatch(value) is None]
    if not wanted or set(hashes) != wanted or wrong:
        raise refusal("Resource.Hash", wrong or sorted(hashes), f"{len(wanted)} digests, one at least")
    return frozenset(bytes.fromhex(value) for value in hashes.values())


def _certificates(keys: Element) -> tuple[NvidiaCertificate, ...]:
    (data,) = _children(keys, _DS, "X509Data")
    found = data.elements()
    if not 2 <= len(found) <= _MAX_CERTIFICATES or any(e.name != f"{_DS}X509Certificate" for e in found):
        raise refusal("X509Data", f"{len(found)} elements", f"2 to {_MAX_CERTIFICATES} certificates")
    return tuple(_certificate(each, place) for place, each in enumerate(found))


def _certificate(element: Element, place: int) -> NvidiaCertificate:
    field = f"rim.certificates[{place}]"
    try:
        certificate = x509.load_der_x509_certificate(_base64(element, None))
    except X509_ERRORS as error:
        raise refusal(f"certificates[{place}]", error, "an X.509 certificate") from error
    return read_certificate(certificate, field)


def _children(parent: Element, namespace: str, *names: str) -> tuple[Element, ...]:
    """Its child elements, which have these names in this order; a name may bring its own namespace."""
    found = parent.elements()
    wanted = [name if name.startswith("{") else namespace + name for name in names]
    if [each.name for each in found] != wanted:
        raise refusal(parent.raw, [each.raw for each in found], list(names))
    return found


def _attribute(element: Element, name: str) -> str:
    value = element.attributes.get(name, "")
    if not value:
        raise refusal(f"{element.raw}.{name}", "nothing", "a value")
    return value


def _number(element: Element, name: str, limit: int) -> int:
    text = _attribute(element, name)
    if _NUMBER.fullmatch(text) is None or int(text) > limit:
        raise refusal(f"{element.raw}.{name}", text, f"a number up to {limit}")
    return int(text)


def _base64(element: Element, size: int | None) -> bytes:
    joined = element.text().replace("\n", "")
    try:
        decoded = base64.b64decode(joined, validate=True)
    except binascii.Error as error:
        raise refusal(element.raw, error, "base64") from error
    if base64.b64encode(decoded).decode("ascii") != joined:
        raise refusal(element.raw, "another spelling", "canonical base64")
    if size is not None and len(decoded) != size:
        raise refusal(element.raw, f"{len(decoded)} bytes", f"{size} bytes")
    return decoded

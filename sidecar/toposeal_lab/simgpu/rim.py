"""Simulated reference manifests: SWID tags like NVIDIA's, signed by a simulated manifest signer."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding

from toposeal.verification.model import TrustAnchors
from toposeal_lab.simgpu.pki import Key, ca, issue, new_key, subject

_SWID = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
_HASHES = "http://www.w3.org/2001/04/xmlenc#sha384"
_DS = "http://www.w3.org/2000/09/xmldsig#"
_C14N = "http://www.w3.org/2006/12/xml-c14n11"
_PREFIXED = f'xmlns:ns0="{_SWID}" xmlns:ns2="{_HASHES}"'


@dataclass(frozen=True)
class LabRimSigner:
    """A simulated signer of manifests: its key, and the certificates up to its root, lowest first."""

    key: Key
    certificates: Sequence[x509.Certificate]

    @classmethod
    def create(cls, now: int) -> LabRimSigner:
        root_key, ca_key, key = new_key(), new_key(), new_key()
        root_name, ca_name = (
            subject("NVIDIA CoRIM signing Root CA"),
            subject("NVIDIA Reference Value L3 GH100 1"),
        )
        root = issue(root_name, root_key, root_name, root_key, now, ca())
        middle = issue(ca_name, ca_key, root_name, root_key, now, ca())
        leaf = issue(subject("HCC RIM L4 Signer"), key, ca_name, ca_key, now, ())
        return cls(key, (leaf, middle, root))

    def anchors(self, base: TrustAnchors) -> TrustAnchors:
        """`base` with this signer's root beside its own."""
        root = self.certificates[-1].public_bytes(Encoding.DER)
        return replace(base, nvidia_rim_roots=(root,))

    def manifest(self, product: str, version: str, golden: Mapping[int, Sequence[bytes]]) -> bytes:
        """A signed manifest of `golden`: by index, the values that are admitted there."""
        return self.sign(document(product, version, golden))

    def sign(self, text: str) -> bytes:
        """`text` is canonical but for its last tag, before which the signature goes."""
        end = text.rindex("</")
        signature = self.signature(hashlib.sha384(text.encode("ascii")).digest())
        return (text[:end] + signature + text[end:]).encode("ascii")

    def signature(self, digest: bytes) -> str:
        """A `ds:Signature` over a document of this digest."""
        info = _signed_info(digest)
        whole = info.replace(
            "<ds:SignedInfo>", f'<ds:SignedInfo xmlns="{_SWID}" xmlns:ds="{_DS}" {_PREFIXED}>', 1
        )
        signed = self.key.sign(whole.encode("ascii"), ec.ECDSA(hashes.SHA384()))
        r, s = utils.decode_dss_signature(signed)
        value = _base64(r.to_bytes(48, "big") + s.to_bytes(48, "big"))
        chain = "".join(
            f"<ds:X509Certificate>{_base64(each.public_bytes(Encoding.DER))}\n</ds:X509Certificate>"
            for each in self.certificates
        )
        return (
            f'<ds:Signature xmlns:ds="{_DS}">{info}<ds:SignatureValue>{value}</ds:SignatureValue>'
            f"<ds:KeyInfo><ds:X509Data>{chain}</ds:X509Data></ds:KeyInfo></ds:Signature>"
        )


def document(product: str, version: str, golden: Mapping[int, Sequence[bytes]], inactive: int = 63) -> str:
    """A manifest without its signature, in canonical form."""
    resources = "".join(_resource(index, values) for index, values in golden.items())
    unused = _resource(inactive, [bytes(48)], "False")
    return (
        f'<SoftwareIdentity xmlns="{_SWID}" {_PREFIXED} name="{product}" version="1.0">\n'
        '    <ns0:Entity name="SIMULATED - not NVIDIA" role="softwareCreator tagCreator"></ns0:Entity>\n'
        f'    <ns0:Meta colloquialVersion="{version}" edition="GPU" product="{product}"></ns0:Meta>\n'
        f"    <ns0:Payload>\n{resources}{unused}    </ns0:Payload>\n</SoftwareIdentity>"
    )


def _resource(index: int, values: Sequence[bytes], active: str = "True") -> str:
    digests = "".join(f' ns2:Hash{place}="{value.hex()}"' for place, value in enumerate(values))
    return (
        f'        <ns0:Resource active="{active}" alternatives="{len(values)}" index="{index}"'
        f' name="Measurement_{index}" size="48" type="Measurement"{digests}></ns0:Resource>\n'
    )


def _signed_info(digest: bytes) -> str:
    def method(name: str, algorithm: str) -> str:
        return f'<ds:{name} Algorithm="{algorithm}"></ds:{name}>'

    transforms = method("Transform", f"{_DS}enveloped-signature") + method("Transform", _C14N)
    more = "http://www.w3.org/2001/04/xmldsig-more"
    return (
        f"<ds:SignedInfo>{method('CanonicalizationMethod', _C14N)}"
        f"{method('SignatureMethod', f'{more}#ecdsa-sha384')}"
        f'<ds:Reference URI=""><ds:Transforms>{transforms}</ds:Transforms>'
        f"{method('DigestMethod', f'{more}#sha384')}<ds:DigestValue>{_base64(digest)}</ds:DigestValue>"
        "</ds:Reference></ds:SignedInfo>"
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")

"""A reference manifest is one SWID tag with one signature over all of it, or it is refused."""

from __future__ import annotations

import hashlib

import pytest
from support.gpu import golden, gpu, manifests, signer
from support.tdx import refusal

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.rim import parse_rim
from toposeal_lab.simgpu.rim import document

VALUE = bytes(range(48))
HASH0 = f'ns2:Hash0="{VALUE.hex()}"'


def manifest() -> str:
    return signer().manifest("GH100", "1.0", {5: [VALUE]}).decode()


def test_a_manifest_is_read() -> None:
    found = parse_rim(manifests()[1])
    assert (found.product, found.version) == ("GH100", "96.00.9F.00.01")
    wanted = golden(gpu(), range(10))
    assert found.golden == {index: frozenset(values) for index, values in wanted.items()}
    assert found.covered == found.digest
    assert [each.is_ca for each in found.certificates] == [False, True, True]
    assert found.signed_info.startswith(b'<ds:SignedInfo xmlns="http://standards.iso.org/iso/19770')


def test_what_is_covered_is_the_document_without_its_signature() -> None:
    text = document("GH100", "1.0", {5: [VALUE]})
    assert parse_rim(signer().sign(text)).covered == hashlib.sha384(text.encode()).digest()


def test_an_inactive_index_has_no_value() -> None:
    assert parse_rim(manifest().encode()).golden == {5: frozenset([VALUE])}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<SoftwareIdentity ", '<ns0:Other xmlns:o="1" '),
        ("</ns0:Entity>", "</ns0:Entity><ns0:Link></ns0:Link>"),
        ("</ns0:Entity>", "</ns0:Entity>text"),
        ("ns0:Payload>", "ns0:Evidence>"),
        (' product="GH100"', ""),
        (' product="GH100"', ' product=""'),
        (' colloquialVersion="1.0"', ""),
        ('type="Measurement" ns2:Hash0="00', 'type="Opaque" ns2:Hash0="00'),
        ('index="63"', 'index="5"'),
        ('index="5"', 'index="05"'),
        ('index="5"', 'index="-5"'),
        ('index="5"', 'index="255"'),
        ('index="5"', 'index="9999"'),
        ('active="True"', 'active="true"'),
        ('active="True"', 'active="False"'),
        ('size="48"', 'size="32"'),
        ('alternatives="1"', 'alternatives="2"'),
        ('alternatives="1"', 'alternatives="0"'),
        ('alternatives="1"', 'alternatives="65"'),
        (HASH0, ""),
        (HASH0, f'ns2:Hash1="{VALUE.hex()}"'),
        (HASH0, f'Hash0="{VALUE.hex()}"'),
        (HASH0, f"{HASH0} {HASH0.replace('Hash0', 'Hash1')}"),
        (HASH0, HASH0.replace("00", "0g", 1)),
        (HASH0, f'ns2:Hash0="{VALUE.hex()[2:]}"'),
        ("ns0:Resource", "ns0:File"),
        ("xml-c14n11", "xml-c14n"),
        ("#ecdsa-sha384", "#ecdsa-sha256"),
        ("#ecdsa-sha384", "#hmac-sha384"),
        ("#enveloped-signature", "#base64"),
        ("more#sha384", "more#sha224"),
        ('<ds:Reference URI="">', '<ds:Reference URI="#a">'),
        ('<ds:Reference URI="">', "<ds:Reference>"),
        ('<ds:Reference URI="">', '<ds:Reference URI="" Type="t">'),
        ("<ds:DigestMethod ", '<ds:DigestMethod Id="1" '),
        ("<ds:DigestValue>", "<ds:DigestValue>!"),
        ("<ds:DigestValue>", "<ds:DigestValue>AAAA"),
        ("<ds:SignatureValue>", "<ds:SignatureValue>AAAA"),
        ("<ds:X509Data>", "<ds:X509Data><ds:X509CRL></ds:X509CRL>"),
        ("<ds:KeyInfo>", "<ds:KeyInfo><ds:KeyValue></ds:KeyValue>"),
        ("<ds:X509Certificate>", "<ds:X509Certificate>AAAA"),
        ("</ds:Signature>", "<ds:Object></ds:Object></ds:Signature>"),
    ],
)
def test_E14_another_document_is_refused(old: str, new: str) -> None:
    text = manifest()
    assert old in text
    changed = text.replace(old, new)
    if old.startswith("<SoftwareIdentity"):
        changed = changed.replace("</SoftwareIdentity>", "</ns0:Other>")
    with pytest.raises(EvidenceError) as refused:
        parse_rim(changed.encode())
    assert refused.value.reason in (Reason.RIM, Reason.CERTIFICATE_INVALID)


def test_E14_a_signature_stands_once_and_at_the_end() -> None:
    text = manifest()
    signature = text[text.index("<ds:Signature ") : text.index("</SoftwareIdentity>")]
    for wrong in (
        text.replace(signature, signature * 2),
        text.replace(signature, ""),
        text.replace(signature, "").replace("<ns0:Payload>", f"<ns0:Payload>{signature}"),
        text.replace(signature, "").replace("    <ns0:Entity", f"{signature}    <ns0:Entity"),
    ):
        assert refusal(parse_rim, wrong.encode()) is Reason.RIM


def test_E14_base64_is_spelled_in_one_way() -> None:
    text = manifest()
    start = text.index("<ds:X509Certificate>") + len("<ds:X509Certificate>")
    end = text.index("</ds:X509Certificate>")
    with pytest.raises(EvidenceError) as refused:
        parse_rim(f"{text[:start]}AB=={text[end:]}".encode())
    assert refused.value.mismatches[0].expected == "canonical base64"


@pytest.mark.parametrize("count", [1, 7])
def test_E14_the_number_of_certificates_is_bounded(count: int) -> None:
    text = manifest()
    start, end = text.index("<ds:X509Certificate>"), text.index("</ds:X509Data>")
    first = text[start : text.index("</ds:X509Certificate>") + len("</ds:X509Certificate>")]
    assert refusal(parse_rim, (text[:start] + first * count + text[end:]).encode()) is Reason.RIM

"""outside.pinned: a leaf leads to the one member whose CA signed it, or to nobody."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st
from support.meshes import NOW, Mesh, Pod, build_mesh

from toposeal.errors import Reason, RemoteProtocolError
from toposeal.limits import MAX_CERTIFICATE_SIZE
from toposeal.outside.model import VerifiedMesh
from toposeal.outside.pinned import member_behind
from toposeal.outside.verify import verify_document
from toposeal.pki.mint import mint_app_svid, mint_ingress_leaf, mint_mesh_leaf
from toposeal.verification.ca_profile import ca_name

WEB, API = 3, 0
KEY = ec.derive_private_key(77, ec.SECP256R1())
SERIAL = 1 << 150
Change = Callable[[x509.CertificateBuilder], x509.CertificateBuilder]


@cache
def mesh() -> Mesh:
    return build_mesh()


@cache
def verified() -> VerifiedMesh:
    return verify_document(mesh().document(), mesh().request())


def domain(pod: Pod) -> str:
    return pod.signed.identity.ca.domain


def leaf(pod: Pod) -> bytes:
    return mint_ingress_leaf(pod.keys.ca, pod.signed.identity.ca.der, KEY, SERIAL, NOW, 3600)


def forged(
    signer: Pod, names: list[Any], usages: Any = (ExtendedKeyUsageOID.SERVER_AUTH,), **how: Any
) -> bytes:
    """What whoever has the CA key of `signer` can sign."""
    start = datetime.fromtimestamp(NOW, UTC)
    issuer = how.get("issuer", ca_name(domain(signer)))
    builder = x509.CertificateBuilder(issuer, x509.Name([]), KEY.public_key(), SERIAL)
    builder = builder.not_valid_before(start).not_valid_after(start + timedelta(hours=1))
    builder = builder.add_extension(x509.BasicConstraints(how.get("ca", False), None), critical=True)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    return builder.sign(how.get("key", signer.keys.ca), hashes.SHA256()).public_bytes(Encoding.DER)


def refused(certificate: bytes) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        member_behind(certificate, verified().members)
    assert caught.value.reason is Reason.IDENTITY_MISMATCH
    return caught.value.mismatches[0].found


def test_each_members_own_leaf_leads_to_it() -> None:
    for pod, member in zip(mesh().pods, verified().members, strict=True):
        assert member_behind(leaf(pod), verified().members) == member
        assert member_behind(forged(pod, [x509.DNSName(domain(pod))]), verified().members) == member


def test_V2_a_member_that_is_not_among_those_asked_for_is_nobody() -> None:
    others = [member for member in verified().members if member.role != "web"]
    with pytest.raises(RemoteProtocolError):
        member_behind(leaf(mesh().pods[WEB]), others)


def test_V2_a_stranger_is_nobody() -> None:
    assert refused(leaf(build_mesh(seed=2, pki=mesh().pki).pods[WEB])).startswith("m-")


def test_K1_no_member_signs_for_another() -> None:
    """With the pins as one trust store, OpenSSL has only the name constraints against it."""
    web, api = mesh().pods[WEB], mesh().pods[API]
    name = [x509.DNSName(domain(web))]
    assert refused(forged(api, name)) == "ValueError"  # another issuer
    assert refused(forged(api, name, issuer=ca_name(domain(web)))) == "InvalidSignature"


@pytest.mark.parametrize("others", ["two", "twice", "uri", "none", "address"])
def test_K2_a_leaf_names_its_member_once_and_nothing_else(others: str) -> None:
    web, api = mesh().pods[WEB], mesh().pods[API]
    own = x509.DNSName(domain(web))
    choices: dict[str, list[Any]] = {
        "two": [own, x509.DNSName(domain(api))],
        "twice": [own, own],
        "uri": [x509.UniformResourceIdentifier(f"spiffe://{domain(web)}/web")],
        "none": [],
        "address": [x509.IPAddress(ip_address("127.0.0.1"))],
    }
    assert refused(forged(web, choices[others]))


def test_K2_neither_a_mesh_leaf_nor_an_applications_is_an_ingress_leaf() -> None:
    web = mesh().pods[WEB]
    mesh_leaf = mint_mesh_leaf(web.keys.ca, web.signed.identity.ca.der, "web", KEY, SERIAL, NOW, 3600)
    assert refused(mesh_leaf) == "another extended key usage"
    svid = mint_app_svid(web.keys.ca, web.signed.identity.ca.der, "web", KEY, SERIAL, NOW, 3600)
    assert refused(svid) == "another extended key usage"
    both = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
    assert refused(forged(web, [x509.DNSName(domain(web))], both)) == "another extended key usage"
    assert refused(forged(web, [x509.DNSName(domain(web))], ())) == "ExtensionNotFound"


def test_K4_what_a_leaf_signs_and_a_ca_itself_lead_nowhere() -> None:
    web = mesh().pods[WEB]
    name = [x509.DNSName(domain(web))]
    assert refused(forged(web, name, ca=True)) == "a CA"
    below = forged(web, name, key=ec.derive_private_key(78, ec.SECP256R1()))
    assert refused(below) == "InvalidSignature"
    assert refused(web.signed.identity.ca.der) == "ExtensionNotFound"


def test_a_certificate_above_the_limit_is_not_parsed() -> None:
    assert refused(bytes(MAX_CERTIFICATE_SIZE + 1)) == f"{MAX_CERTIFICATE_SIZE + 1} bytes"


@given(st.binary(max_size=80), st.integers(0, 700), st.integers(0, 7))
def test_any_bytes_are_refused_by_name(data: bytes, place: int, bit: int) -> None:
    refused(data)
    good = bytearray(leaf(mesh().pods[WEB]))
    good[place % len(good)] ^= 1 << bit
    refused(bytes(good))

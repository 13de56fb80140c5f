"""K5: so does who connects from outside: OpenSSL's handshake under the pins, then the member's one name."""

from __future__ import annotations

import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from support.forge import DAY, NOW, SERIAL, TestMember, new_key
from support.limbo import LEAF, NAMED, Case, build, for_use, same
from support.suites import deviations

from toposeal.errors import ToposealError
from toposeal.evidence import pem
from toposeal.host import pinned_tls
from toposeal.outside.pinned import member_behind
from toposeal.pki.mint import mint_ingress_leaf

UNCHANGED = Case("nothing is wrong")
MEMBER, OTHER = TestMember("web"), TestMember("web")
LEAF_DER = mint_ingress_leaf(MEMBER.ca_key, MEMBER.ca_der, MEMBER.leaf_key, SERIAL, NOW, DAY)
KNOWN: list[Any] = [SimpleNamespace(domain=each.domain, ca_pem=each.ca_pem) for each in (MEMBER, OTHER)]
# No server in Python shows these, so that what reads the leaf has to refuse them by itself.
UNLOADABLE = {"rfc5280::duplicate-extensions", "rfc5280::san::malformed"}
NO_HANDSHAKE = {"webpki::forbidden-p192-spki-leaf"}  # no scheme of TLS 1.3 signs with such a key
CASES = [
    case
    for case in (*LEAF, *NAMED, *for_use(Usage.SERVER_AUTH, Usage.CLIENT_AUTH))
    if case.issuer is same and case.name not in NO_HANDSHAKE  # the pins are CAs of a verified manifest
]

pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")


def accepts(case: Case, directory: Path) -> bool:
    """Anything but an answer, a refusal of OpenSSL's or a typed one fails the test."""
    leaf, _ = build(case, LEAF_DER, MEMBER.ca_der, MEMBER.ca_key, MEMBER.ca_key, new_key())
    try:
        shown = leaf if case.name in UNLOADABLE else handshake(leaf, directory)
        return member_behind(shown, KNOWN) is KNOWN[0]
    except (ssl.SSLCertVerificationError, ToposealError):
        return False


def handshake(leaf: bytes, directory: Path) -> bytes:
    """The leaf that a client has taken from a server, both in memory."""
    file = directory / "server.pem"
    file.write_text(pem.encode(leaf).decode() + MEMBER.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = pinned_tls._context(KNOWN).wrap_bio(back, there, server_hostname=MEMBER.domain)
    server = context.wrap_bio(there, back, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    with pytest.raises(ssl.SSLWantReadError):
        server.do_handshake()
    client.do_handshake()
    return client.getpeercert(binary_form=True) or b""


def test_K5_no_server_outside_passes_that_limbo_refuses(tmp_path: Path) -> None:
    """OpenSSL is the machine's: a newer one may refuse more."""
    assert accepts(UNCHANGED, tmp_path)
    accepted = {case.name for case in CASES if accepts(case, tmp_path)}
    assert accepted >= {"rfc5280::ee-aia", "rfc5280::no-keyusage"}
    assert accepted - {case.name for case in CASES if case.valid} <= deviations("toposeal connect")


def test_K5_a_connection_without_openssls_word_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired = next(case for case in CASES if case.name == "rfc5280::validity::expired-leaf")
    assert not accepts(expired, tmp_path)
    monkeypatch.setitem(globals(), "handshake", lambda leaf, _: leaf)
    assert accepts(expired, tmp_path)

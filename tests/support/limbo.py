"""Cases of x509-limbo, rebuilt as changes of a chain that would be accepted: one issuer, one leaf.

The suite's own certificates name example.com, so whatever demands another name refuses them for that
alone, and for most no key is published. Here the fault of a case is all that is wrong with a chain.
`docs/x509-suites.md` says which cases these are and which not.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import ExtensionOID

from support.forge import tlv
from support.tbs import Tbs, content, elements

BASIC, KEY_USAGE = ExtensionOID.BASIC_CONSTRAINTS.dotted_string, ExtensionOID.KEY_USAGE.dotted_string
AKI = ExtensionOID.AUTHORITY_KEY_IDENTIFIER.dotted_string
SKI = ExtensionOID.SUBJECT_KEY_IDENTIFIER.dotted_string
EKU, NAMES = (
    ExtensionOID.EXTENDED_KEY_USAGE.dotted_string,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME.dotted_string,
)
CONSTRAINTS = ExtensionOID.NAME_CONSTRAINTS.dotted_string
POLICY = ExtensionOID.POLICY_CONSTRAINTS.dotted_string
AIA = ExtensionOID.AUTHORITY_INFORMATION_ACCESS.dotted_string
UNKNOWN = "1.3.6.1.4.1.55738.666.1"
PRECERTIFICATE = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.4")
DNS, DN = x509.DNSName, x509.DirectoryName
# By the suite's self-signed-root-missing-aki this is well where a certificate is its own issuer's.
NOT_OF_ROOTS = {"rfc5280::aki::leaf-missing-aki", "rfc5280::aki::intermediate-missing-aki"}
Change = Callable[[Tbs], Tbs]


def same(tbs: Tbs) -> Tbs:
    return tbs


@dataclass(frozen=True)
class Case:
    """`leaf` and `issuer` are changed before they are signed; `valid` is the suite's verdict."""

    name: str
    leaf: Change = same
    issuer: Change = same
    valid: bool = False
    stranger: bool = False  # another key than the issuer's signs the leaf


def name(common: str | None) -> x509.Name:
    return x509.Name([] if common is None else [x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])


def usage(*asserted: str) -> x509.KeyUsage:
    every = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement"
        " key_cert_sign crl_sign encipher_only decipher_only"
    )
    return x509.KeyUsage(**{each: each in asserted for each in every.split()})


def add(value: x509.ExtensionType | None, oid: str, critical: bool = False) -> Change:
    return lambda tbs: tbs.with_extension(value, oid, critical)


def drop(oid: str) -> Change:
    return add(None, oid)


def raw(value: bytes, oid: str, critical: bool = False) -> Change:
    return lambda tbs: tbs.with_raw(value, oid, critical)


def critical(oid: str, value: bool = True) -> Change:
    return lambda tbs: tbs.with_criticality(oid, value)


def put(**fields: Any) -> Change:
    return lambda tbs: replace(tbs, **fields)


def uses(*purposes: x509.ObjectIdentifier, must: bool = False) -> Change:
    return add(x509.ExtendedKeyUsage(purposes), EKU, must)


def subject(common: str) -> Change:
    return put(subject=name(common).public_bytes())


def also(*names: x509.GeneralName) -> Change:
    """More names behind the one that the leaf must have."""
    return also_raw(content(x509.SubjectAlternativeName(names).public_bytes()))


def also_raw(names: bytes) -> Change:
    def change(tbs: Tbs) -> Tbs:
        own = next(each.value for each in tbs.extensions if each.oid == b"\x55\x1d\x11")
        return tbs.with_raw(tlv(0x30, content(own) + names), NAMES, True)

    return change


def within(
    permitted: Sequence[x509.GeneralName] = (), excluded: Sequence[x509.GeneralName] = (), must: bool = True
) -> Change:
    return add(x509.NameConstraints(permitted or None, excluded or None), CONSTRAINTS, must)


def within_raw(permitted: bytes) -> Change:
    """One permitted subtree, its general name given as an element: what the builder would not make."""
    return raw(tlv(0x30, tlv(0xA0, tlv(0x30, permitted))), CONSTRAINTS, True)


def both(*changes: Change) -> Change:
    def change(tbs: Tbs) -> Tbs:
        for each in changes:
            tbs = each(tbs)
        return tbs

    return change


def twice(tbs: Tbs) -> Tbs:
    return replace(tbs, extensions=(*tbs.extensions, tbs.extensions[-1]))


def other_outer(tbs: Tbs) -> Tbs:
    """Beside the signature stands another algorithm than in what is signed: ECDSA with SHA-512."""
    return replace(tbs, outer=bytes.fromhex("300a06082a8648ce3d040304"))


def critical_ski(tbs: Tbs) -> Tbs:
    own = x509.SubjectKeyIdentifier(bytes(20))
    return (tbs if tbs.has(SKI) else tbs.with_extension(own, SKI)).with_criticality(SKI, True)


def at(year: int) -> bytes:
    return tlv(0x17, f"{year % 100:02}0101000000Z".encode())


def identifier(issuer: bool = False, serial: bool = False) -> Change:
    """An authority key identifier that says more than the key."""

    def change(tbs: Tbs) -> Tbs:
        parts = _key_identifier(tbs)
        if issuer:
            parts += tlv(0xA1, tlv(0xA4, name("myCN").public_bytes()))
        if serial:
            parts += tlv(0x82, b"\x04\xd2")
        return tbs.with_raw(tlv(0x30, parts), AKI)

    return change


def _key_identifier(tbs: Tbs) -> bytes:
    """What names the issuer's key there, else its own as a root does; an element."""
    named = {each.oid: each.value for each in tbs.extensions}
    if b"\x55\x1d\x23" in named:
        return next(elements(content(named[b"\x55\x1d\x23"])))
    own = named.get(b"\x55\x1d\x0e")
    return tlv(0x80, bytes(20) if own is None else content(own))


def _aia() -> x509.AuthorityInformationAccess:
    where = x509.AccessDescription(x509.OID_CA_ISSUERS, DNS("example.com"))
    return x509.AuthorityInformationAccess([where])


def _p192() -> bytes:
    """The curve's base point: nobody signs with it here."""
    public = ec.derive_private_key(1, ec.SECP192R1()).public_key()
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


_FOO, _NOT_FOO = DN(name("foo")), DN(name("not-foo"))
_SITE = DNS("example.com")
_NET = x509.IPAddress(ipaddress.ip_network("192.0.2.0/24"))
_NET6 = x509.IPAddress(ipaddress.ip_network("::1/128"))
_ADDRESS, _ADDRESS6 = (x509.IPAddress(ipaddress.ip_address(each)) for each in ("192.0.2.1", "::1"))
_OTHER_ADDRESS = x509.IPAddress(ipaddress.ip_address("192.0.3.1"))

_MAIL = x509.RFC822Name("foo@example.com")
_PRIVATE = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.55738.666.3"), b"\x05\0")

# Of the leaf, whatever it is for.
LEAF = (
    Case("rfc5280::ee-empty-issuer", put(issuer=name(None).public_bytes())),
    Case("rfc5280::unknown-critical-extension-ee", raw(b"", UNKNOWN, True)),
    Case("rfc5280::leaf-ku-keycertsign", add(usage("digital_signature", "key_cert_sign"), KEY_USAGE)),
    Case("rfc5280::ee-critical-aia-invalid", add(_aia(), AIA, True)),
    Case("rfc5280::duplicate-extensions", twice),
    Case("rfc5280::mismatching-signature-algorithm", other_outer),
    Case("rfc5280::chain-untrusted-root", stranger=True),
    Case("rfc5280::aki::leaf-missing-aki", drop(AKI)),
    Case("rfc5280::serial::serial-number-too-long", put(serial=b"\x7f" * 22)),
    Case("rfc5280::serial::serial-number-zero", put(serial=b"\0")),
    Case("rfc5280::serial::serial-number-negative", put(serial=b"\x80" + bytes(15))),
    Case("rfc5280::validity::expired-leaf", put(not_before=at(2018), not_after=at(2021))),
    Case("rfc5280::validity::notbefore-fractional", put(not_before=at(2048), not_after=at(2049))),
    Case("rfc5280::nc::not-allowed-in-ee-noncritical", within([DNS("example.com")], must=False)),
    Case("rfc5280::nc::not-allowed-in-ee-critical", within([DNS("example.com")])),
    Case("webpki::v1-cert", put(version=b"", extensions=())),
    Case("webpki::malformed-aia", raw(b"malformed", AIA)),
    Case("webpki::ee-basicconstraints-ca", add(x509.BasicConstraints(True, None), BASIC, True)),
    Case("webpki::forbidden-p192-spki-leaf", put(key=_p192())),
    Case("rfc5280::ee-aia", add(_aia(), AIA), valid=True),
    Case("rfc5280::no-keyusage", drop(KEY_USAGE), valid=True),
    Case("rfc5280::no-basicconstraints", drop(BASIC), valid=True),
)

# Of the issuer, whatever it issues; the suite has most of them for a root and for an intermediate.
ISSUER = (
    Case("rfc5280::ca-empty-subject", issuer=put(subject=name(None).public_bytes())),
    Case("rfc5280::unknown-critical-extension-root", issuer=raw(b"", UNKNOWN, True)),
    Case("rfc5280::root-missing-basic-constraints", issuer=drop(BASIC)),
    Case("rfc5280::root-non-critical-basic-constraints", issuer=critical(BASIC, False)),
    Case(
        "rfc5280::intermediate-ca-without-ca-bit",
        issuer=add(x509.BasicConstraints(False, None), BASIC, True),
    ),
    Case("rfc5280::root-inconsistent-ca-extensions", issuer=add(usage("crl_sign"), KEY_USAGE)),
    Case("rfc5280::aki::critical-aki", issuer=both(identifier(), critical(AKI))),
    Case("rfc5280::aki::intermediate-missing-aki", issuer=drop(AKI)),
    Case("rfc5280::ski::critical-ski", issuer=critical_ski),
    Case("rfc5280::ski::root-missing-ski", issuer=drop(SKI)),
    Case("rfc5280::validity::expired-root", issuer=put(not_before=at(2016), not_after=at(2020))),
    Case("rfc5280::nc::permitted-dn-mismatch", subject("not-foo"), within([_FOO])),
    Case("rfc5280::pc::ica-noncritical-pc", issuer=add(x509.PolicyConstraints(3, None), POLICY)),
    Case("webpki::aki::root-with-aki-missing-keyidentifier", issuer=raw(tlv(0x30, b""), AKI)),
    Case("webpki::aki::root-with-aki-authoritycertissuer", issuer=identifier(issuer=True)),
    Case("webpki::aki::root-with-aki-authoritycertserialnumber", issuer=identifier(serial=True)),
    Case("webpki::aki::root-with-aki-all-fields", issuer=identifier(issuer=True, serial=True)),
    Case("webpki::aki::root-with-aki-ski-mismatch", issuer=raw(tlv(0x30, tlv(0x80, bytes(20))), AKI)),
    Case(
        "webpki::nc::intermediate-permitted-excluded-subtrees-both-null",
        issuer=raw(tlv(0x30, b""), CONSTRAINTS, True),
    ),
    Case(
        "webpki::nc::intermediate-permitted-excluded-subtrees-both-empty-sequences",
        issuer=raw(tlv(0x30, b"\xa0\0\xa1\0"), CONSTRAINTS, True),
    ),
    Case("webpki::eku::root-has-eku", issuer=uses(Usage.SERVER_AUTH)),
)


# Of names, for a leaf that has a subject alternative name and no subject.
NAMED = (
    Case("rfc5280::san::malformed", raw(b"example.com", NAMES)),
    Case("rfc5280::san::noncritical-with-empty-subject", critical(NAMES, False)),
    Case("webpki::no-san", both(subject("example.com"), drop(NAMES))),
    Case("webpki::san-critical-with-nonempty-subject", subject("something-else")),
    Case("rfc5280::nc::permitted-dns-mismatch", also(DNS("not-example.com")), within([_SITE])),
    Case("rfc5280::nc::excluded-dns-match", also(_SITE), within(excluded=[_SITE])),
    Case("rfc5280::nc::permitted-dns-match-noncritical", also(_SITE), within([_SITE], must=False)),
    Case(
        "rfc5280::nc::excluded-dns-match-second",
        also(_SITE, DNS("not-allowed.example.com")),
        within(excluded=[DNS("not-allowed.example.com")]),
    ),
    Case("rfc5280::nc::permitted-ip-mismatch", also(_OTHER_ADDRESS), within([_NET])),
    Case("rfc5280::nc::excluded-ipv4-match", also(_ADDRESS), within(excluded=[_NET])),
    Case("rfc5280::nc::excluded-ipv6-match", also(_ADDRESS6), within(excluded=[_NET6])),
    Case("rfc5280::nc::excluded-dn-match", both(subject("foo"), also(_FOO)), within(excluded=[_FOO])),
    Case(
        "rfc5280::nc::permitted-dn-match-subject-san-mismatch",
        both(subject("not-foo"), also(_FOO)),
        within([_FOO]),
    ),
    Case(
        "rfc5280::nc::excluded-dn-match-sub-mismatch",
        both(subject("foo"), also(_NOT_FOO)),
        within(excluded=[_FOO]),
    ),
    Case("rfc5280::nc::excluded-match-permitted-and-excluded", also(_SITE), within([_SITE], [_SITE])),
    Case(
        "rfc5280::nc::invalid-dnsname-wildcard",
        also(DNS("foo.example.com")),
        within_raw(tlv(0x82, b"*.example.com")),
    ),
    Case(
        "rfc5280::nc::invalid-dnsname-leading-period",
        also(DNS("foo.example.com")),
        within_raw(tlv(0x82, b".example.com")),
    ),
    Case("rfc5280::nc::invalid-ipv4-address", also(_ADDRESS), within_raw(tlv(0x87, b"\xc0\0\2\1"))),
    Case("rfc5280::nc::invalid-ipv6-address", also(_ADDRESS6), within_raw(tlv(0x87, bytes(15) + b"\1"))),
    Case(
        "rfc5280::nc::invalid-email-address",
        also(x509.RFC822Name("example@example.com")),
        within_raw(tlv(0x81, b"invalid@invalid@example.com")),
    ),
    Case(
        "rfc5280::nc::excluded-self-issued-leaf",
        both(lambda tbs: replace(tbs, subject=tbs.issuer), also(DNS("not-example.com"))),
        within([_SITE]),
    ),
    Case("rfc5280::nc::nc-permits-invalid-dns-san", also(DNS(".example.com"), _SITE), within([_SITE])),
    Case("rfc5280::nc::nc-permits-invalid-ip-san", also(_NET, _ADDRESS), within([_NET])),
    Case(
        "rfc5280::nc::nc-permits-invalid-email-san",
        also_raw(tlv(0x81, b"good@example.com") + tlv(0x81, b"invalid@address@example.com")),
        within([x509.RFC822Name("example.com")]),
    ),
    Case("rfc5280::nc::nc-forbids-othername", also(_PRIVATE), within(excluded=[_PRIVATE])),
    Case("rfc5280::nc::nc-forbids-othername-noop", same, within(excluded=[_PRIVATE]), valid=True),
    Case("rfc5280::nc::nc-permits-email-exact", also(_MAIL), within([_MAIL]), valid=True),
    Case(
        "rfc5280::nc::nc-permits-email-domain",
        also(_MAIL),
        within([x509.RFC822Name("example.com")]),
        valid=True,
    ),
    Case("rfc5280::nc::permitted-dns-match", also(_SITE), within([_SITE]), valid=True),
    Case(
        "rfc5280::nc::permitted-dns-match-more", also(DNS("foo.bar.example.com")), within([_SITE]), valid=True
    ),
    Case("rfc5280::nc::permitted-ipv4-match", also(_ADDRESS), within([_NET]), valid=True),
    Case("rfc5280::nc::permitted-ipv6-match", also(_ADDRESS6), within([_NET6]), valid=True),
    Case("rfc5280::nc::permitted-dn-match", both(subject("foo"), also(_FOO)), within([_FOO]), valid=True),
    Case("rfc5280::nc::permitted-different-constraint-type", also(_SITE), within([_NET]), valid=True),
    Case("rfc5280::nc::excluded-different-constraint-type", also(_SITE), within(excluded=[_NET]), valid=True),
)


def for_use(own: x509.ObjectIdentifier, other: x509.ObjectIdentifier) -> tuple[Case, ...]:
    """Of extended key usage, for a leaf that is looked at for `own`: the suite's server, or a client."""
    beside = {
        "ee-anyeku": Usage.ANY_EXTENDED_KEY_USAGE,
        "ee-precertificate-with-serverauth": PRECERTIFICATE,
        "ee-codesigning-with-serverauth": Usage.CODE_SIGNING,
        "ee-emailprotection-with-serverauth": Usage.EMAIL_PROTECTION,
        "ee-timestamping-with-serverauth": Usage.TIME_STAMPING,
        "ee-ocspsigning-with-serverauth": Usage.OCSP_SIGNING,
    }
    return (
        Case("rfc5280::eku::ee-wrong-eku", uses(other)),
        Case("webpki::eku::ee-critical-eku", uses(own, must=True)),
        Case("webpki::eku::ee-without-eku", drop(EKU)),
        Case("webpki::eku::ee-precertificate-only", uses(PRECERTIFICATE)),
        *(Case(f"webpki::eku::{name}", uses(own, more)) for name, more in beside.items()),
        Case("webpki::eku::ee-serverauth-with-additional", uses(own, other), valid=True),
    )


def build(
    case: Case, leaf: bytes, issuer: bytes, issuer_key: Any, signer: Any, stranger: Any
) -> tuple[bytes, bytes]:
    """Leaf and issuer of `case`, made of two that are well; `signer` signs the issuer's certificate."""
    before = Tbs.parse(issuer)
    changed = case.issuer(before)
    if before.issuer == before.subject:
        changed = replace(changed, issuer=changed.subject)
    made = case.leaf(replace(Tbs.parse(leaf), issuer=changed.subject))
    return made.signed(stranger if case.stranger else issuer_key), changed.signed(signer)

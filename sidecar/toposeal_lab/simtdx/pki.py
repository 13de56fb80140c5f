"""A simulated Intel PKI: root, platform CA, PCK and TCB signing certificates, CRLs.

Every subject and issuer says SIMULATED; the common names are Intel's, since verifiers check them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from toposeal.verification.model import TrustAnchors
from toposeal_lab.simtdx.collateral import CollateralSpec, render_collateral
from toposeal_lab.simtdx.sgx_extension import SGX_EXTENSION_OID, PlatformIdentity

ORGANIZATION = "SIMULATED - not Intel"
ROOT_NAME = "Intel SGX Root CA"
PLATFORM_CA_NAME = "Intel SGX PCK Platform CA"
TCB_SIGNING_NAME = "Intel SGX TCB Signing"
PCK_NAME = "Intel SGX PCK Certificate"
# Where Intel's certificates say that their lists are; nothing here ever fetches them.
_ROOT_LIST = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
_PCK_LIST = "https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=platform&encoding=der"
_BACKDATED = timedelta(days=1)
_LIFETIME = timedelta(days=3650)


@dataclass(frozen=True)
class Authority:
    """A key with its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode("ascii")

    def dump(self) -> dict[str, str]:
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return {"key": key.decode("ascii"), "certificate": self.pem()}

    @classmethod
    def load(cls, state: dict[str, str]) -> Authority:
        key = load_pem_private_key(state["key"].encode("ascii"), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the simulated PKI uses EC keys alone")
        return cls(key, x509.load_pem_x509_certificate(state["certificate"].encode("ascii")))


@dataclass(frozen=True)
class LabPki:
    """One simulated vendor: keys, certificates, and the platform family (FMSPC) that it serves."""

    created: int  # Unix seconds: certificates and collateral are valid from a day before
    root: Authority
    platform_ca: Authority
    tcb_signing: Authority
    fmspc: bytes = bytes.fromhex("50696d000001")
    pce_id: bytes = bytes(2)

    @classmethod
    def create(cls, now: int) -> LabPki:
        """A fresh vendor; `now` in Unix seconds. Certificates last ten years, collateral 30 days."""
        root = issue(ROOT_NAME, None, now, path_length=1)
        platform_ca = issue(PLATFORM_CA_NAME, root, now, path_length=0)
        return cls(now, root, platform_ca, issue(TCB_SIGNING_NAME, root, now))

    @property
    def root_der(self) -> bytes:
        return self.root.certificate.public_bytes(Encoding.DER)

    def anchors(self) -> TrustAnchors:
        """The anchors under which this vendor's quotes verify. For the lab's composition root alone."""
        return TrustAnchors(intel_sgx_root_ca=self.root_der)

    def issue_pck(self, identity: PlatformIdentity) -> Authority:
        """The PCK certificate of one machine."""
        return issue(PCK_NAME, self.platform_ca, self.created, extension=identity.extension())

    def collateral(self, **overrides: Any) -> bytes:
        """One dcap-qvl QuoteCollateralV3 as JSON; `overrides` are fields of CollateralSpec."""
        return render_collateral(self, CollateralSpec(**overrides))

    def crl(
        self, issuer: Authority, revoked: Sequence[x509.Certificate] = (), signer: Authority | None = None
    ) -> bytes:
        """DER of a CRL in `issuer`'s name, valid as long as the collateral; signed by `signer` or it."""
        start = datetime.fromtimestamp(self.created, UTC) - _BACKDATED
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.certificate.subject)
            .last_update(start)
            .next_update(start + timedelta(days=31))
            .add_extension(_authority_key(issuer), critical=False)
            .add_extension(x509.CRLNumber(1), critical=False)
        )
        for certificate in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(start).build())
        return builder.sign((signer or issuer).key, hashes.SHA256()).public_bytes(Encoding.DER)

    def dump(self) -> bytes:
        """JSON with every key and certificate; `load` reads it back."""
        authorities = {name: getattr(self, name).dump() for name in _AUTHORITIES}
        state = {"created": self.created, "fmspc": self.fmspc.hex(), "pce_id": self.pce_id.hex()}
        return json.dumps(state | authorities).encode("ascii")

    @classmethod
    def load(cls, data: bytes) -> LabPki:
        """Read `dump`'s form. Raises ValueError, KeyError or TypeError for anything else."""
        state = json.loads(data)
        authorities = {name: Authority.load(state[name]) for name in _AUTHORITIES}
        return cls(
            created=int(state["created"]),
            fmspc=bytes.fromhex(state["fmspc"]),
            pce_id=bytes.fromhex(state["pce_id"]),
            **authorities,
        )


_AUTHORITIES = ("root", "platform_ca", "tcb_signing")


def issue(
    common_name: str,
    issuer: Authority | None,
    now: int,
    path_length: int | None = None,
    extension: bytes | None = None,
) -> Authority:
    """A P-256 certificate with Intel's profile: a CA when `path_length` is given, self-signed
    without `issuer`, with the SGX `extension` when it is a PCK certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(common_name)
    start = datetime.fromtimestamp(now, UTC) - _BACKDATED
    is_ca = path_length is not None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + _LIFETIME)
        .add_extension(x509.BasicConstraints(is_ca, path_length), critical=True)
        .add_extension(_key_usage(is_ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_authority_key(issuer) if issuer else _key_identifier(key), critical=False)
        .add_extension(_list_of(_PCK_LIST if extension else _ROOT_LIST), critical=False)
    )
    if extension is not None:
        sgx = x509.UnrecognizedExtension(x509.ObjectIdentifier(SGX_EXTENSION_OID), extension)
        builder = builder.add_extension(sgx, critical=False)
    return Authority(key, builder.sign(issuer.key if issuer else key, hashes.SHA256()))


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
        ]
    )


def _list_of(address: str) -> x509.CRLDistributionPoints:
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(address)], None, None, None)
    return x509.CRLDistributionPoints([point])


def _key_usage(is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=not is_ca,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key(issuer: Authority) -> x509.AuthorityKeyIdentifier:
    return _key_identifier(issuer.key)


def _key_identifier(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())

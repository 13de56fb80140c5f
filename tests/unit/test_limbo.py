"""K5: our validators refuse what x509-limbo says to refuse, but for the table in docs/x509-suites.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from support import gpu, snp, tdx
from support.forge import NOW, SERIAL, der, new_key
from support.limbo import ISSUER, LEAF, NAMED, NOT_OF_ROOTS, Case, build, for_use, same, usage
from support.suites import deviations, everybody
from support.tbs import Tbs

from toposeal.errors import ToposealError
from toposeal.evidence import amd_x509, pem
from toposeal.evidence.gpu_certs import GpuEvidence
from toposeal.evidence.rim import parse_rim
from toposeal.pki.mint import mint_ca
from toposeal.verification import ca_profile, gpu_authentic, tdx_authentic
from toposeal.verification.ca_profile import parse_ca
from toposeal.verification.gpu_authentic import authenticate_gpu
from toposeal.verification.gpu_rim import authenticate_rim
from toposeal.verification.snp_authentic import authenticate as authenticate_snp
from toposeal.verification.tdx_authentic import authenticate as authenticate_tdx
from toposeal_lab.simgpu import LabRimSigner, pki
from toposeal_lab.simgpu.pki import Key
from toposeal_lab.simtdx import LabHost, QuoteShape

UNCHANGED = Case("nothing is wrong")
P384 = ec.generate_private_key(ec.SECP384R1())
KEY = new_key()
CA = mint_ca(KEY, "shop", SERIAL, NOW)
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
Validator = Callable[[Case], object]


def member_ca(case: Case) -> object:
    """The CA of a member, which is its own issuer: leaf and root at once."""
    tbs = case.issuer(case.leaf(Tbs.parse(CA)))
    return parse_ca(tbs.signed(new_key() if case.stranger else KEY), "shop")


def pck(case: Case) -> object:
    """A TDX quote whose PCK certificate, or the platform CA that issued it, is at fault."""
    vendor, host = tdx.PKI, tdx.HOST
    leaf, issuer = build(
        case,
        der(host.pck.certificate),
        der(vendor.platform_ca.certificate),
        vendor.platform_ca.key,
        vendor.root.key,
        KEY,
    )
    chain = pem.encode(leaf, issuer, vendor.root_der).decode()
    quote = tdx.quote(LabHost(vendor, tdx.PPID, pck=host.pck, shape=QuoteShape(pck_chain=chain)))
    return authenticate_tdx(quote, (vendor.collateral(),), vendor.anchors(), tdx.NOW)


def tcb_signer(case: Case) -> object:
    """Collateral whose signer's certificate is at fault; its issuer is the root, pinned byte for byte."""
    vendor = tdx.PKI
    leaf, _ = build(
        case,
        der(vendor.tcb_signing.certificate),
        der(vendor.root.certificate),
        vendor.root.key,
        vendor.root.key,
        KEY,
    )
    chain = pem.encode(leaf, vendor.root_der).decode()
    parts = {"tcb_info_issuer_chain": chain, "qe_identity_issuer_chain": chain}
    return authenticate_tdx(tdx.quote(), (vendor.collateral(parts=parts),), vendor.anchors(), tdx.NOW)


def vcek(case: Case) -> object:
    """An SNP report whose key's certificate, or the ASK that issued it, is at fault."""
    amd, chip = snp.amd(), snp.chip()
    key, ask = build(case, chip.certificate, der(amd.ask), amd.keys.ask, amd.keys.ark, amd.keys.asvk)
    return by_amd(key, ask, der(amd.ark))


def ask(case: Case) -> object:
    """The same of the ASK and the ARK, whose key and name are pinned."""
    amd = snp.amd()
    made, ark = build(case, der(amd.ask), der(amd.ark), amd.keys.ark, amd.keys.ark, amd.keys.asvk)
    return by_amd(snp.chip().certificate, made, ark)


def by_amd(key: bytes, ca: bytes, root: bytes) -> object:
    endorsements = snp.endorsements(key=key, chain=pem.encode(ca, root))
    return authenticate_snp(snp.report(), endorsements, snp.amd().anchors(), snp.NOW)


def gpu_leaf(case: Case) -> object:
    """A GPU's report whose leaf, or the device's own certificate that issued it, is at fault."""
    device, vendor = gpu.gpu(), gpu.nvidia()
    leaf, made = build(case, der(device.leaf), der(device.device), device.key, vendor.provisioner_key, P384)
    return by_nvidia(leaf, made, *(der(each) for each in vendor.authorities()))


def gpu_device(case: Case) -> object:
    """The same of the device's certificate and the provisioner's."""
    device, vendor = gpu.gpu(), gpu.nvidia()
    provisioner, identity, root = (der(each) for each in vendor.authorities())
    made, issuer = build(
        case, der(device.device), provisioner, vendor.provisioner_key, vendor.identity_key, P384
    )
    return by_nvidia(der(device.leaf), made, issuer, identity, root)


def by_nvidia(*chain: bytes) -> object:
    evidence = GpuEvidence(gpu.gpu().report(gpu.NONCE), pem.encode(*chain))
    return authenticate_gpu(evidence, gpu.NONCE, gpu.anchors(), gpu.NOW)


def rim_signer(case: Case) -> object:
    """A manifest of reference values whose signer's certificate, or the CA that issued it, is at fault."""
    keys, (leaf, issuer, root) = rim_chain()
    made = build(case, leaf, issuer, keys[1], keys[2], P384)
    shown: Any = [SimpleNamespace(public_bytes=lambda _, each=each: each) for each in (*made, root)]
    manifest = LabRimSigner(keys[0], shown).manifest("GH100", "550.90.07", {10: [bytes(48)]})
    anchors = replace(gpu.nvidia().anchors(), nvidia_rim_roots=(root,))
    return authenticate_rim(parse_rim(manifest), anchors, gpu.NOW)


@cache
def rim_chain() -> tuple[list[Key], tuple[bytes, bytes, bytes]]:
    """Signer, CA and root: their keys and certificates."""
    keys = [pki.new_key() for _ in range(3)]
    signer, middle, root = (pki.subject(f"SIMULATED {each}") for each in ("signer", "CA", "root"))
    made = (
        pki.issue(signer, keys[0], middle, keys[1], gpu.NOW, [(usage("digital_signature"), True)]),
        pki.issue(middle, keys[1], root, keys[2], gpu.NOW, pki.ca()),
        pki.issue(root, keys[2], root, keys[2], gpu.NOW, pki.ca()),
    )
    return keys, (der(made[0]), der(made[1]), der(made[2]))


VALIDATORS: dict[str, Validator] = {
    "member's CA": member_ca,
    "PCK": pck,
    "TCB signer": tcb_signer,
    "VCEK": vcek,
    "ASK": ask,
    "GPU leaf": gpu_leaf,
    "GPU device": gpu_device,
    "RIM signer": rim_signer,
}
# The issuer is the pinned root, byte for byte; or a certificate is its own issuer, which may lack more.
LEFT_OUT = {
    "TCB signer": {case.name for case in ISSUER},
    "ASK": NOT_OF_ROOTS - {"rfc5280::aki::leaf-missing-aki"},
    "member's CA": NOT_OF_ROOTS,
}
# What an issuer may say of its leaves' names; the leaf itself is another matter.
CONSTRAINED = tuple(replace(case, leaf=same) for case in NAMED if case.issuer is not same)


def cases(validator: str) -> tuple[Case, ...]:
    out = LEFT_OUT.get(validator, set())
    every = (*LEAF, *ISSUER, *(CONSTRAINED if validator == "member's CA" else ()))
    return tuple(case for case in every if case.name not in out)


def accepts(validator: Validator, case: Case) -> bool:
    """Anything but an answer or a typed refusal fails the test."""
    try:
        validator(case)
    except ToposealError:
        return False
    return True


def deviating(name: str) -> set[str]:
    """The cases that this validator accepts and the suite does not."""
    return {case.name for case in cases(name) if not case.valid and accepts(VALIDATORS[name], case)}


@pytest.mark.parametrize("name", VALIDATORS)
def test_K5_no_chain_passes_that_limbo_refuses(name: str) -> None:
    assert accepts(VALIDATORS[name], UNCHANGED)
    assert deviating(name) == deviations(name)


@pytest.mark.parametrize("name", ["PCK", "TCB signer", "VCEK", "GPU leaf"])
def test_K5_what_limbo_accepts_of_a_leaf_is_accepted_where_a_vendor_might_write_it(name: str) -> None:
    assert all(accepts(VALIDATORS[name], case) for case in LEAF if case.valid)


def test_K5_the_table_of_deviations_speaks_of_what_is_run() -> None:
    elsewhere = {"toposeal connect", "Envoy of a client", "Envoy of a server"}
    assert everybody() == {*VALIDATORS, *elsewhere}
    known = {case.name for case in (*LEAF, *ISSUER, *NAMED, *for_use(Usage.SERVER_AUTH, Usage.CLIENT_AUTH))}
    assert frozenset().union(*map(deviations, everybody())) <= known


def anything(*_: object) -> bool:
    return True


FLAWS: dict[str, tuple[str, object, str, set[str]]] = {
    "whoever issued it": ("VCEK", amd_x509.AmdCertificate, "issued_by", {"rfc5280::chain-untrusted-root"}),
    "whoever issues": (
        "VCEK",
        amd_x509.AmdCertificate,
        "may_sign_certificates",
        {
            "rfc5280::intermediate-ca-without-ca-bit",
            "rfc5280::root-inconsistent-ca-extensions",
            "rfc5280::root-missing-basic-constraints",
            "rfc5280::unknown-critical-extension-root",
        },
    ),
    "whenever it ended": (
        "GPU leaf",
        gpu_authentic,
        "_expect_in_force",
        {"rfc5280::validity::expired-leaf", "rfc5280::validity::notbefore-fractional"},
    ),
    "who may issue": (
        "PCK",
        tdx_authentic,
        "_expect_pck_chain",
        {"rfc5280::root-inconsistent-ca-extensions"},  # dcap-qvl knows the CA bit and no usage
    ),
    "whatever it says beside the key": (
        "member's CA",
        ca_profile,
        "_check_profile",
        {"rfc5280::root-missing-basic-constraints", "webpki::v1-cert", "webpki::eku::root-has-eku"},
    ),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_K5_a_validator_with_a_check_left_out_is_noticed(flaw: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, owner, check, passed = FLAWS[flaw]
    monkeypatch.setattr(owner, check, anything)
    assert deviating(name) - deviations(name) >= passed

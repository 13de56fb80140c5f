"""Simulated collateral: TCB info, TD QE identity and CRLs as one dcap-qvl QuoteCollateralV3 JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

if TYPE_CHECKING:
    from toposeal_lab.simtdx.pki import Authority, LabPki

QE_MRSIGNER = bytes.fromhex("51" * 32)
QE_ISVSVN = 4
_MODULE_SVN = 5
_SGX_SVN = 2


@dataclass(frozen=True)
class CollateralSpec:
    """What to make; the defaults are an up-to-date platform. Every fault a test needs is a field."""

    status: str = "UpToDate"
    advisories: tuple[str, ...] = ()
    module_status: str = "UpToDate"
    qe_status: str = "UpToDate"
    evaluation: int = 20
    issued: int | None = None  # Unix seconds; default a day before the PKI was made
    days: int = 31
    tcb: Mapping[str, object] = field(default_factory=dict)  # members of TCB info to replace
    qe: Mapping[str, object] = field(default_factory=dict)  # members of the QE identity to replace
    tcb_signer: tuple[Authority, ...] = ()  # leaf first, root last; default TCB signing, root
    qe_signer: tuple[Authority, ...] = ()
    revoked: tuple[x509.Certificate, ...] = ()  # each lands on the CRL of its issuer
    parts: Mapping[str, object] = field(default_factory=dict)  # members of the whole to replace


def render_collateral(pki: LabPki, spec: CollateralSpec) -> bytes:
    """The JSON bytes. TCB info and QE identity are signed as the exact strings that they hold."""
    normal = (pki.tcb_signing, pki.root)
    tcb_signer, qe_signer = spec.tcb_signer or normal, spec.qe_signer or normal
    tcb_info = _compact(_tcb_info(pki, spec) | dict(spec.tcb))
    qe_identity = _compact(_qe_identity(pki, spec) | dict(spec.qe))
    parts = {
        "pck_crl_issuer_chain": pki.platform_ca.pem() + pki.root.pem(),
        "root_ca_crl": pki.crl(pki.root, _revoked_by(pki.root, spec)).hex(),
        "pck_crl": pki.crl(pki.platform_ca, _revoked_by(pki.platform_ca, spec)).hex(),
        "tcb_info_issuer_chain": "".join(authority.pem() for authority in tcb_signer),
        "tcb_info": tcb_info,
        "tcb_info_signature": raw_signature(tcb_signer[0].key, tcb_info.encode()).hex(),
        "qe_identity_issuer_chain": "".join(authority.pem() for authority in qe_signer),
        "qe_identity": qe_identity,
        "qe_identity_signature": raw_signature(qe_signer[0].key, qe_identity.encode()).hex(),
    }
    return json.dumps(parts | dict(spec.parts)).encode("ascii")


def raw_signature(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """r | s, 32 bytes each, big-endian, as Intel's formats have it; ECDSA P-256 with SHA-256."""
    r, s = utils.decode_dss_signature(key.sign(data, _SHA256))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


_SHA256 = ec.ECDSA(hashes.SHA256())


def _tcb_info(pki: LabPki, spec: CollateralSpec) -> dict[str, object]:
    module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    date = _window(pki, spec)["issueDate"]
    level: dict[str, object] = {
        "tcb": {
            "sgxtcbcomponents": [{"svn": _SGX_SVN}] * 16,
            "pcesvn": 11,
            "tdxtcbcomponents": [{"svn": svn} for svn in (5, 0, 6, *([0] * 13))],
        },
        "tcbDate": date,
        "tcbStatus": spec.status,
    }
    if spec.advisories:
        level["advisoryIDs"] = list(spec.advisories)
    module_level = {"tcb": {"isvsvn": _MODULE_SVN}, "tcbDate": date, "tcbStatus": spec.module_status}
    return {
        "id": "TDX",
        "version": 3,
        **_window(pki, spec),
        "fmspc": pki.fmspc.hex().upper(),
        "pceId": pki.pce_id.hex(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": spec.evaluation,
        "tdxModule": module,
        "tdxModuleIdentities": [{"id": "TDX_01", **module, "tcbLevels": [module_level]}],
        "tcbLevels": [level],
    }


def _qe_identity(pki: LabPki, spec: CollateralSpec) -> dict[str, object]:
    window = _window(pki, spec)
    level = {"tcb": {"isvsvn": QE_ISVSVN}, "tcbDate": window["issueDate"], "tcbStatus": spec.qe_status}
    return {
        "id": "TD_QE",
        "version": 2,
        **window,
        "tcbEvaluationDataNumber": spec.evaluation,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11" + "00" * 15,
        "attributesMask": "FBFFFFFFFFFFFFFF" + "00" * 8,
        "mrsigner": QE_MRSIGNER.hex().upper(),
        "isvprodid": 2,
        "tcbLevels": [level],
    }


def _window(pki: LabPki, spec: CollateralSpec) -> dict[str, str]:
    issued = datetime.fromtimestamp(pki.created - 86400 if spec.issued is None else spec.issued, UTC)
    return {"issueDate": _iso(issued), "nextUpdate": _iso(issued + timedelta(days=spec.days))}


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _compact(value: Mapping[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"))


def _revoked_by(issuer: Authority, spec: CollateralSpec) -> list[x509.Certificate]:
    return [certificate for certificate in spec.revoked if certificate.issuer == issuer.certificate.subject]

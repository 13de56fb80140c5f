"""What a bundle says, part by part, for people to read: nothing here is verified. No IO."""

from __future__ import annotations

import json
from typing import Any

from cryptography import x509

from toposeal.evidence.amd_x509 import parse_amd_crl
from toposeal.evidence.bundle import Bundle, SnpChain
from toposeal.evidence.collateral import Crl, SignedDocument, parse_collateral
from toposeal.evidence.snp_certs import parse_endorsement, read_authorities
from toposeal.verification.collateral_authentic import list_age

Facts = dict[str, Any]


def bundle_facts(bundle: Bundle) -> dict[str, list[Facts]]:
    """Times in Unix seconds, bytes in lower-case hexadecimal; names are Intel's, AMD's and RFC 5280's. `part`
    and `valid_until` are ours: which part it is, and the earliest end of what it is made of."""
    return {
        "tdx": [_tdx(entry) for entry in bundle.tdx],
        "snp": [
            *(_endorsement(der) for der in bundle.endorsements),
            *(_chain(chain) for chain in bundle.chains),
            *(_amd_list(der) for der in bundle.crls),
        ],
    }


def _tdx(entry: bytes) -> Facts:
    parsed = parse_collateral(entry)
    tcb, identity = json.loads(parsed.tcb_info.text), json.loads(parsed.qe_identity.text)
    return {
        "part": parsed.fmspc.hex(),
        "fmspc": parsed.fmspc.hex(),
        "pceId": parsed.pce_id.hex(),
        "tcbType": tcb.get("tcbType"),
        "tcbLevels": _count(tcb, "tcbLevels"),
        **_document("tcbInfo", tcb["id"], parsed.tcb_info),
        **_document("enclaveIdentity", identity["id"], parsed.qe_identity),
        **_list("pck_crl", parsed.pck_crl, parsed.pck_crl_chain[0].common_name),
        **_list("root_ca_crl", parsed.root_ca_crl, parsed.pck_crl_chain[-1].common_name),
        "valid_until": parsed.valid_until,
    }


def _document(name: str, identifier: str, document: SignedDocument) -> Facts:
    return {
        f"{name}.id": identifier,
        f"{name}.tcbEvaluationDataNumber": document.evaluation,
        f"{name}.issueDate": document.issued,
        f"{name}.nextUpdate": document.next_update,
        f"{name}.signer": document.chain[0].common_name,
    }


def _list(name: str, crl: Crl, issuer: str) -> Facts:
    age = list_age(crl.x509, f"collateral.{name}")
    return {
        f"{name}.issuer": issuer,
        f"{name}.cRLNumber": age.number,
        f"{name}.thisUpdate": age.issued,
        f"{name}.nextUpdate": crl.next_update,
        f"{name}.revokedCertificates": len(crl.x509),
    }


def _endorsement(der: bytes) -> Facts:
    key = parse_endorsement(der)
    return {
        "part": f"{key.kind} {key.product_name}",
        "kind": key.kind.value,
        "productName": key.product_name,
        "hwID": key.hwid.hex(),
        "cspID": key.csp_id,
        "tcb": str(key.tcb),
        "issuer": key.certificate.issuer_name,
        "notBefore": key.certificate.not_before,
        "valid_until": key.certificate.not_after,
    }


def _chain(chain: SnpChain) -> Facts:
    ca, root = read_authorities(chain.pem, "chain")
    return {
        "part": f"chain {ca.common_name}",
        "ca": ca.common_name,
        "root": root.common_name,
        "valid_until": min(ca.not_after, root.not_after),
    }


def _amd_list(der: bytes) -> Facts:
    parsed, crl = parse_amd_crl(der), x509.load_der_x509_crl(der)
    age = list_age(crl, "crl")
    return {
        "part": "revocation list",
        "issuer": crl.issuer.rfc4514_string(),
        "cRLNumber": age.number,
        "thisUpdate": age.issued,
        "nextUpdate": parsed.next_update,
        "revokedCertificates": len(parsed.serials),
    }


def _count(document: Facts, name: str) -> int:
    """What has no list there, has none."""
    found = document.get(name)
    return len(found) if isinstance(found, list) else 0

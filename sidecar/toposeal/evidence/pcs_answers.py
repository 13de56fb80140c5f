"""Answers of Intel's PCS (API version 4) or of a PCCS: one collateral entry out of four of them. No IO.

Forms: Intel SGX and TDX Registration and Provisioning Certification Service API, version 4; a PCCS
passes on the same answers, revocation lists as DER, PEM or hexadecimal. Nothing here is believed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence import pem
from toposeal.evidence.collateral import parse_collateral
from toposeal.x509_errors import X509_ERRORS

TCB_INFO_CHAINS = ("tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain")  # version 4, and as version 3 has it
QE_IDENTITY_CHAIN = "sgx-enclave-identity-issuer-chain"
PCK_CRL_CHAIN = "sgx-pck-crl-issuer-chain"
_MAX_CHAIN_TEXT = 32 << 10
_PEM_LIST = b"-----BEGIN X509 CRL-----"
_HEX = re.compile(rb"\s*((?:[0-9a-fA-F]{2})+)\s*")
_SPACE = re.compile(r"[ \t\r\n]*")
_DER_SEQUENCE = b"\x30"


@dataclass(frozen=True)
class Answer:
    """One response of status 200: header names in lower case, the body as it came."""

    headers: Mapping[str, str]
    body: bytes


def collateral_entry(tcb: Answer, qe: Answer, pck_crl: Answer, root_crl: Answer) -> bytes:
    """The answers as one dcap-qvl QuoteCollateralV3 in JSON, each signed text byte for byte as it came.

    Raises EvidenceError for what is not of the expected form: COLLATERAL_INVALID, COLLATERAL_SIGNER or
    CERTIFICATE_INVALID.
    """
    tcb_info, tcb_signature = signed_part(tcb.body, "tcbInfo")
    qe_identity, qe_signature = signed_part(qe.body, "enclaveIdentity")
    parts = {
        "pck_crl_issuer_chain": _chain(pck_crl, PCK_CRL_CHAIN),
        "root_ca_crl": _list(root_crl.body, "root_ca_crl"),
        "pck_crl": _list(pck_crl.body, "pck_crl"),
        "tcb_info_issuer_chain": _chain(tcb, *TCB_INFO_CHAINS),
        "tcb_info": tcb_info,
        "tcb_info_signature": tcb_signature,
        "qe_identity_issuer_chain": _chain(qe, QE_IDENTITY_CHAIN),
        "qe_identity": qe_identity,
        "qe_identity_signature": qe_signature,
    }
    entry = json.dumps(parts).encode("ascii")
    parse_collateral(entry)
    return entry


def signed_part(body: bytes, name: str) -> tuple[str, str]:
    """The exact text of member `name`, which is what is signed, and the signature in hexadecimal.

    Parsing and writing it anew could change a byte of it. Raises EvidenceError(COLLATERAL_INVALID).
    """
    try:
        members = _members(body.decode("ascii"))
        signature = json.loads(members.pop("signature", "null"))
        text = members.pop(name, "")
    except (ValueError, RecursionError) as error:
        raise _invalid(name, error, "a JSON object in ASCII") from error
    if members or not text.startswith("{") or not isinstance(signature, str):
        raise _invalid(name, "other members", f"{name}, an object, and signature, a string")
    return text, signature


def evaluation_number(body: bytes, name: str) -> int:
    """tcbEvaluationDataNumber of member `name`, as claimed. Raises EvidenceError(COLLATERAL_INVALID)."""
    number = json.loads(signed_part(body, name)[0]).get("tcbEvaluationDataNumber")
    if type(number) is not int or number < 0:
        raise _invalid(f"{name}.tcbEvaluationDataNumber", number, "a whole number")
    return number


def _members(text: str) -> dict[str, str]:
    """Each member of one JSON object with the text of its value. ValueError for anything else."""
    read = json.JSONDecoder().raw_decode
    members: dict[str, str] = {}
    position = _after(text, 0, "{")
    while True:
        name, position = read(text, position)
        if not isinstance(name, str) or name in members:
            raise ValueError("a name that is no string, or one twice")
        start = _after(text, position, ":")
        _, position = read(text, start)
        members[name] = text[start:position]
        position = _skip(text, position)
        if text[position : position + 1] != ",":
            break
        position = _after(text, position, ",")
    if _after(text, position, "}") != len(text):
        raise ValueError("something after the object")
    return members


def _after(text: str, position: int, expected: str) -> int:
    """Where the next token starts after the one character `expected` and the space around it."""
    position = _skip(text, position)
    if text[position : position + 1] != expected:
        raise ValueError(f"no {expected} at {position}")
    return _skip(text, position + 1)


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _chain(answer: Answer, *names: str) -> str:
    """The issuer chain out of the first header of `names` that is there, each certificate as canonical PEM:
    no signature covers the text between them, and servers write it differently."""
    value = next((answer.headers[name] for name in names if name in answer.headers), None)
    if value is None or len(value) > _MAX_CHAIN_TEXT:
        raise _invalid(names[0], "nothing" if value is None else f"{len(value)} characters", "a PEM chain")
    certificates = pem.decode(unquote(value, errors="replace").encode("ascii", "replace"), names[0])
    return pem.encode(*certificates).decode("ascii")


def _list(body: bytes, field: str) -> str:
    """A revocation list in DER, PEM or hexadecimal, as hexadecimal of its DER."""
    match = _HEX.fullmatch(body)
    if match is not None:
        return match[1].decode("ascii").lower()
    if body.lstrip().startswith(_PEM_LIST):
        try:
            return x509.load_pem_x509_crl(body).public_bytes(Encoding.DER).hex()
        except X509_ERRORS as error:
            raise _invalid(field, error, "a revocation list in PEM") from error
    if not body.startswith(_DER_SEQUENCE):
        raise _invalid(field, body[:8], "a revocation list in DER, PEM or hexadecimal")
    return body.hex()


def _invalid(member: str, found: object, expected: str) -> EvidenceError:
    return EvidenceError.of(Reason.COLLATERAL_INVALID, f"answer.{member}", found, expected)

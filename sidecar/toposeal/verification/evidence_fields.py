"""Evidence as plain values: every field under its vendor's name, as JSON takes it. No IO, no trust."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from toposeal.evidence import dcap
from toposeal.evidence.pck import parse_pck_chain
from toposeal.evidence.snp_certs import Endorsement
from toposeal.evidence.snp_report import SnpReport
from toposeal.evidence.snp_tcb import Product, decode_tcb
from toposeal.evidence.tdx_quote import TEE_TYPE_TDX, TdxQuote
from toposeal.verification.snp_policy import GUEST_POLICY_BITS, PLATFORM_INFO_BITS

Fields = dict[str, Any]

_TDX_BYTES = (
    *("tee_tcb_svn", "mrseam", "mrsignerseam", "seam_attributes", "td_attributes", "xfam", "mrtd"),
    *("mrconfigid", "mrowner", "mrownerconfig", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "report_data"),
)
_TDX_LATER = (  # only where the body has them
    *("tee_tcb_svn2", "mrservicetd", "vmid", "td_id", "dev_info", "init_servtd_hash", "init_servtd_attr"),
    *("init_cpu_svn", "init_tee_tcb_svn", "init_fmspc", "cur_servtd_hash", "cur_servtd_attr"),
)
_PCK_CERTIFICATION = 5
_SNP_NUMBERS = ("version", "guest_svn", "vmpl", "sig_algo", "platform_info", "key_info")
_SNP_BYTES = (
    *("family_id", "image_id", "report_data", "measurement", "host_data", "id_key_digest"),
    *("author_key_digest", "report_id", "report_id_ma", "chip_id"),
)
_SNP_OCTETS = (
    *("cpuid_fam", "cpuid_mod", "cpuid_step", "cur_build", "cur_minor", "cur_major"),
    *("com_build", "com_minor", "com_major"),
)
_TCBS = ("current_tcb", "reported_tcb", "committed_tcb", "launch_tcb")
_RESERVED = {"rsvd4c": (0x4C, 4), "rsvd18b": (0x18B, 21), "rsvd1eb": (0x1EB, 1), "rsvd1ef": (0x1EF, 1)}


def tdx_fields(quote: TdxQuote) -> Fields:
    """Quote and PCK certificate. Raises EvidenceError where the certificate cannot be read."""
    pck = parse_pck_chain(quote.auth.pck_chain)
    cpu_svn, pce_svn, sgx_type = dcap.pck_firmware(pck.leaf.pem)
    return {
        "version": quote.version,
        "body_type": quote.body_type,
        "tee": TEE_TYPE_TDX,
        **{name: getattr(quote, name).hex() for name in _TDX_BYTES},
        **{name: getattr(quote, name).hex() for name in _TDX_LATER if getattr(quote, name)},
        "trailing": quote.padding,
        "quote_len": len(quote.raw) + quote.padding,
        "signed_len": len(quote.signed),
        "inner_cert_type": _PCK_CERTIFICATION,
        "pck_issuer": pck.leaf.issuer,
        "pck_not_before": rfc3339(pck.leaf.not_before),
        "pck_not_after": rfc3339(pck.leaf.not_after),
        "fmspc": pck.fmspc.hex(),
        "ppid": pck.ppid.hex(),
        "cpu_svn": cpu_svn.hex(),
        "pce_svn": pce_svn,
        "pce_id": pck.pce_id.hex(),
        "sgx_type": sgx_type,
    }


def snp_fields(report: SnpReport, key: Endorsement | None) -> Fields:
    """Report and certificate, or null for that. Raises EvidenceError where a TCB cannot be decoded."""
    product = key.product if key is not None else report.product
    return {
        **{name: getattr(report, name) for name in _SNP_NUMBERS},
        "policy": f"{report.policy:#x}",
        **{name: getattr(report, name).hex() for name in (*_SNP_BYTES, *_TCBS)},
        **{name: f"{getattr(report, name):02x}" for name in _SNP_OCTETS},
        **{name: report.raw[start : start + size].hex() for name, (start, size) in _RESERVED.items()},
        "launch_mit_vector": report.launch_mit_vector.to_bytes(8, "little").hex(),
        "current_mit_vector": report.current_mit_vector.to_bytes(8, "little").hex(),
        **{f"{name}_decoded": _tcb(report, name, product) for name in _TCBS},
        "policy_decoded": _policy(report.policy),
        "platform_info_decoded": _platform_info(report.platform_info),
        "key_info_decoded": {
            "author_key_en": report.key_info & 1,
            "mask_chip_key": report.key_info >> 1 & 1,
            "signing_key": report.signing_key,
        },
        "cert": None if key is None else _certificate(key),
    }


def rfc3339(seconds: int) -> str:
    """UTC, `2026-01-31T12:00:00Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _tcb(report: SnpReport, name: str, product: Product | None) -> dict[str, int]:
    return decode_tcb(getattr(report, name), product, f"report.{name}").components()


def _policy(policy: int) -> dict[str, int]:
    bits = {"SMT": 16, "RSVD_MUST_BE_ONE": 17, **GUEST_POLICY_BITS}  # in the order of the bits
    versions = {"abi_minor": policy & 0xFF, "abi_major": policy >> 8 & 0xFF}
    return versions | {name.lower(): policy >> bit & 1 for name, bit in bits.items()}


def _platform_info(platform: int) -> dict[str, int]:
    bits = {**PLATFORM_INFO_BITS, "BIT6": 6}
    ordered = sorted(bits.items(), key=lambda each: each[1])
    return {name.lower(): platform >> bit & 1 for name, bit in ordered}


def _certificate(key: Endorsement) -> Fields:
    return {
        "cn": key.certificate.common_name,
        "issuer": key.certificate.issuer_name,
        "serial": key.certificate.serial,
        "product": key.product_name,
        "hwid_len": len(key.hwid),
        "csp_id": key.csp_id,
        "spl": dict(key.levels),
    }

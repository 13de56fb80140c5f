"""Azure's reports are refused by name, whichever parser gets them."""

from __future__ import annotations

import struct

import pytest
from support.snp import WEB, chip
from support.tdx import refusal

from toposeal.errors import Reason
from toposeal.evidence.hcl import refuse_hcl_report
from toposeal.evidence.kind import detect_kind
from toposeal.evidence.snp_report import parse_snp_report
from toposeal.evidence.tdx_quote import inspect_tdx_quote, parse_tdx_quote

RUNTIME = b'{"keys":[{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA"}]}'


def wrapped(report: bytes) -> bytes:
    """What the NV index 0x01400001 of Azure's virtual TPM holds."""
    header = struct.pack("<4s7I", b"HCLA", 2, 1236 + len(RUNTIME), 2, 0, 0, 0, 0)
    request = struct.pack("<5I", 20 + len(RUNTIME), 1, 2, 1, len(RUNTIME))
    return header + report + request + RUNTIME


@pytest.mark.parametrize("parse", [detect_kind, parse_snp_report, parse_tdx_quote, inspect_tdx_quote])
def test_an_hcl_report_is_refused_by_name(parse: object) -> None:
    assert refusal(parse, wrapped(chip().report(bytes(64), WEB))) is Reason.PARAVISOR


@pytest.mark.parametrize("data", [b"", b"HCL", b"hcla" + bytes(64), b"\0HCLA"])
def test_nothing_else_is_called_one(data: bytes) -> None:
    refuse_hcl_report(data, "evidence")

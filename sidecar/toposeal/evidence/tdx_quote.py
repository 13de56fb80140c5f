"""TDX quotes: bytes in, one frozen value or a refusal that names field and offset out. No IO, no trust.

Layout: Intel TDX DCAP Quoting Library API, appendix A.3 (quote version 4) and A.4 (version 5). Everything
is little-endian.
Nothing here is believed before `verification.tdx_authentic` has checked the signatures over it.
"""

from __future__ import annotations

from dataclasses import dataclass

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.hcl import refuse_hcl_report
from toposeal.limits import MAX_TDX_QUOTE_SIZE

TEE_TYPE_TDX = 0x81
INTEL_QE_VENDOR_ID = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_VERSIONS = (4, 5)
TD_10, TD_15, TD_15_EXTENDED = 2, 3, 4
_DESCRIBED = 5  # from this version on a descriptor says what the body is
_BODY_SIZES = {TD_10: 584, TD_15: 648, TD_15_EXTENDED: 885}
_KEY_TYPE_ECDSA_P256 = 2
_CERTIFICATION_QE_REPORT = 6
_CERTIFICATION_PCK_CHAIN = 5
_QE_AUTH_DATA_SIZE = 32  # what every genuine TD quoting enclave writes, and all that dcap-qvl takes


@dataclass(frozen=True)
class QeReport:
    """SGX REPORT body of the TD quoting enclave. `raw` is 384 bytes; the hashes are 32, report_data 64."""

    raw: bytes
    mrsigner: bytes
    isvprodid: int
    isvsvn: int
    report_data: bytes


@dataclass(frozen=True)
class QuoteAuth:
    """What vouches for the body: the quote's signature and the certification of the key that made it."""

    signature: bytes  # 64, r | s, big-endian
    attestation_key: bytes  # 64, x | y, big-endian
    qe_report: QeReport
    qe_report_signature: bytes  # 64, r | s, by the PCK
    qe_auth_data: bytes  # 32
    pck_chain: bytes  # PEM as carried


@dataclass(frozen=True)
class TdxQuote:
    """A quote under its vendor's field names. Sizes in bytes: registers 48, attributes 8.

    What a body of an older type does not have is empty.
    """

    version: int
    body_type: int | None  # None in version 4, else TD_10, TD_15 or TD_15_EXTENDED
    user_data: bytes  # 20
    tee_tcb_svn: bytes  # 16
    mrseam: bytes
    mrsignerseam: bytes
    seam_attributes: bytes
    td_attributes: bytes
    xfam: bytes
    mrtd: bytes
    mrconfigid: bytes
    mrowner: bytes
    mrownerconfig: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    report_data: bytes  # 64
    tee_tcb_svn2: bytes  # 16, from TD_15 on: the TDX module that runs now
    mrservicetd: bytes
    vmid: bytes  # 1, in TD_15_EXTENDED, as are the rest: not zero in a partition of a TD
    td_id: bytes  # 32
    dev_info: bytes  # 48: devices that the TD trusts
    init_servtd_hash: bytes
    init_servtd_attr: bytes  # 8
    init_cpu_svn: bytes  # 16
    init_tee_tcb_svn: bytes  # 16
    init_fmspc: bytes  # 12
    cur_servtd_hash: bytes
    cur_servtd_attr: bytes  # 8
    signed: bytes  # header, body and what describes the body: what the attestation key signs
    auth: QuoteAuth
    raw: bytes  # the quote without its padding
    padding: int  # zero bytes that followed; a platform's habit, never hashed

    @property
    def rtmr(self) -> tuple[bytes, bytes, bytes, bytes]:
        return self.rtmr0, self.rtmr1, self.rtmr2, self.rtmr3


def parse_tdx_quote(data: bytes) -> TdxQuote:
    """Parse exactly one TDX quote of version 4 or 5, followed by nothing but zero bytes.

    Raises EvidenceError: TOO_LARGE, QUOTE_TEE_TYPE, UNKNOWN_VERSION, QUOTE_FORMAT, QUOTE_TRAILING or
    PARAVISOR.
    """
    quote = inspect_tdx_quote(data)
    end = len(quote.raw)
    if bytes(data)[end:].strip(b"\0"):
        raise EvidenceError.of(
            Reason.QUOTE_TRAILING, f"quote.trailing at {end}", "other bytes", "zero padding alone"
        )
    return quote


def inspect_tdx_quote(data: bytes) -> TdxQuote:
    """Parse what stands at the start of `data`, whatever follows it: for display, never for a verdict.

    Raises EvidenceError as `parse_tdx_quote`, but for QUOTE_TRAILING.
    """
    if len(data) > MAX_TDX_QUOTE_SIZE:
        raise EvidenceError.of(
            Reason.TOO_LARGE, "quote", f"{len(data)} bytes", f"at most {MAX_TDX_QUOTE_SIZE}"
        )
    refuse_hcl_report(data, "quote")
    reader = _Reader(bytes(data), "quote")
    version, user_data = _header(reader)
    body_type = _body_type(reader) if version == _DESCRIBED else None
    body = _body(reader, TD_10 if body_type is None else body_type)
    signed = reader.data[: reader.offset]
    auth = _auth_data(reader.nested(reader.u32("auth_data_len"), "auth_data"))
    end = reader.offset
    return TdxQuote(
        version=version,
        body_type=body_type,
        user_data=user_data,
        signed=signed,
        auth=auth,
        raw=reader.data[:end],
        padding=len(reader.data) - end,
        **body,
    )


def _header(reader: _Reader) -> tuple[int, bytes]:
    """The 48-byte header; returns its version and user data. The TEE type is judged first: it is zero in
    every SGX quote, version 3 included, and that is the more helpful answer."""
    version, key_type = reader.u16("version"), reader.u16("attestation_key_type")
    reader.expect("tee_type", reader.u32("tee_type"), TEE_TYPE_TDX, Reason.QUOTE_TEE_TYPE)
    if version not in _VERSIONS:
        reader.expect("version", version, _VERSIONS, Reason.UNKNOWN_VERSION, at=0)
    reader.expect("attestation_key_type", key_type, _KEY_TYPE_ECDSA_P256, at=2)
    reader.expect("reserved", reader.u32("reserved"), 0)
    reader.expect("qe_vendor_id", reader.take(16, "qe_vendor_id").hex(), INTEL_QE_VENDOR_ID.hex())
    return version, reader.take(20, "user_data")


def _body_type(reader: _Reader) -> int:
    """The body's descriptor of 6 bytes: its type, and the one size that belongs to that."""
    kind = reader.u16("body_type")
    if kind not in _BODY_SIZES:
        reader.expect("body_type", kind, tuple(_BODY_SIZES))
    reader.expect("body_size", reader.u32("body_size"), _BODY_SIZES[kind])
    return kind


_BODY_FIELDS = (
    ("tee_tcb_svn", 16),
    ("mrseam", 48),
    ("mrsignerseam", 48),
    ("seam_attributes", 8),
    ("td_attributes", 8),
    ("xfam", 8),
    ("mrtd", 48),
    ("mrconfigid", 48),
    ("mrowner", 48),
    ("mrownerconfig", 48),
    ("rtmr0", 48),
    ("rtmr1", 48),
    ("rtmr2", 48),
    ("rtmr3", 48),
    ("report_data", 64),
)
_TD_15_FIELDS = (("tee_tcb_svn2", 16), ("mrservicetd", 48))
_TD_15_EXTENDED_FIELDS = (
    ("vmid", 1),
    ("td_id", 32),
    ("dev_info", 48),
    ("init_servtd_hash", 48),
    ("init_servtd_attr", 8),
    ("init_cpu_svn", 16),
    ("init_tee_tcb_svn", 16),
    ("init_fmspc", 12),
    ("cur_servtd_hash", 48),
    ("cur_servtd_attr", 8),
)


def _body(reader: _Reader, kind: int) -> dict[str, bytes]:
    """The TD report of `kind`; fields that it does not have are empty."""
    later = ((TD_15, _TD_15_FIELDS), (TD_15_EXTENDED, _TD_15_EXTENDED_FIELDS))
    body = {name: reader.take(size, name) for name, size in _BODY_FIELDS}
    for since, fields in later:
        body |= {name: reader.take(size, name) if kind >= since else b"" for name, size in fields}
    return body


def _auth_data(reader: _Reader) -> QuoteAuth:
    """Signature, attestation key, and the QE's certification, each filling its length exactly."""
    signature, key = reader.take(64, "signature"), reader.take(64, "attestation_key")
    outer = _certification(reader, _CERTIFICATION_QE_REPORT, "qe_certification")
    report, report_signature = outer.take(384, "qe_report"), outer.take(64, "qe_report_signature")
    outer.expect("qe_auth_data.size", outer.u16("qe_auth_data.size"), _QE_AUTH_DATA_SIZE)
    auth_data = outer.take(_QE_AUTH_DATA_SIZE, "qe_auth_data")
    chain = _certification(outer, _CERTIFICATION_PCK_CHAIN, "pck_certification")
    return QuoteAuth(
        signature=signature,
        attestation_key=key,
        qe_report=_qe_report(report),
        qe_report_signature=report_signature,
        qe_auth_data=auth_data,
        pck_chain=chain.data[chain.offset :],
    )


def _certification(reader: _Reader, kind: int, field: str) -> _Reader:
    """A certification block of `kind` that must reach the end of `reader` exactly."""
    reader.expect(f"{field}.type", reader.u16(f"{field}.type"), kind)
    size = reader.u32(f"{field}.size")
    reader.expect(f"{field}.size", size, len(reader.data) - reader.offset)
    return reader.nested(size, field)


def _qe_report(raw: bytes) -> QeReport:
    return QeReport(
        raw=raw,
        mrsigner=raw[128:160],
        isvprodid=int.from_bytes(raw[256:258], "little"),
        isvsvn=int.from_bytes(raw[258:260], "little"),
        report_data=raw[320:384],
    )


class _Reader:
    """A cursor over `data` that refuses to run past its end. `offset` counts from the quote's start."""

    def __init__(self, data: bytes, path: str, offset: int = 0) -> None:
        self.data = data
        self.offset = offset
        self._path = path
        self._field_at = offset

    def take(self, size: int, field: str) -> bytes:
        self._field_at, end = self.offset, self.offset + size
        if end > len(self.data):
            found = f"{len(self.data) - self.offset} bytes"
            raise EvidenceError.of(Reason.QUOTE_FORMAT, self._name(field), found, f"{size} bytes")
        piece = self.data[self.offset : end]
        self.offset = end
        return piece

    def u16(self, field: str) -> int:
        return int.from_bytes(self.take(2, field), "little")

    def u32(self, field: str) -> int:
        return int.from_bytes(self.take(4, field), "little")

    def nested(self, size: int, field: str) -> _Reader:
        """A reader of the next `size` bytes alone, which this one skips; offsets stay absolute."""
        start = self.offset
        self.take(size, field)
        return _Reader(self.data[: self.offset], f"{self._path}.{field}", start)

    def expect(
        self,
        field: str,
        found: object,
        wanted: object,
        reason: Reason = Reason.QUOTE_FORMAT,
        at: int | None = None,
    ) -> None:
        """Refuse with `reason` unless the field, by default the last one read, is the one legal value."""
        if found != wanted:
            raise EvidenceError.of(reason, self._name(field, at), found, wanted)

    def _name(self, field: str, at: int | None = None) -> str:
        return f"{self._path}.{field} at {self._field_at if at is None else at}"

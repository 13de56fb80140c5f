"""What no topology can admit in a TD: attributes and fields by which somebody else gets inside. No IO.

Intel TDX module ABI specification, ATTRIBUTES and TDREPORT.
"""

from __future__ import annotations

from toposeal.errors import Mismatch, Reason
from toposeal.evidence.tdx_quote import TdxQuote

_SEPT_VE_DISABLE = 1 << 28  # without it the host can inject exceptions into the guest at will
_ICSSD, _LASS, _PKS, _KL, _TPA, _PERFMON = 1 << 16, 1 << 27, 1 << 30, 1 << 31, 1 << 62, 1 << 63
_OWNERS_CHOICE = _ICSSD | _LASS | _SEPT_VE_DISABLE | _PKS | _KL | _TPA | _PERFMON  # compared as td_attributes
_UNTRUSTED, _SERVTD_EXT, _MIGRATABLE = 0xFF, 1 << 17, 1 << 29
_RESERVED = ~(_OWNERS_CHOICE | _UNTRUSTED | _SERVTD_EXT | _MIGRATABLE)
_FORBIDDEN = (
    (_UNTRUSTED, Reason.TD_DEBUG, "bits 0 to 7 clear: no debug, no profiling"),
    (_SERVTD_EXT, Reason.SERVICE_TD, "bit 17 (SERVTD_EXT) clear"),
    (_MIGRATABLE, Reason.TD_MIGRATABLE, "bit 29 (MIGRATABLE) clear"),
    (_RESERVED, Reason.TD_ATTRIBUTES, "bits without a known meaning clear"),
)
# Fields of newer bodies that have to be zero: each names somebody else inside the guest's trust, and no
# topology can name whom.
_ZERO = (
    ("mrservicetd", Reason.SERVICE_TD, "zero: no service TD is bound"),
    ("init_servtd_hash", Reason.SERVICE_TD, "zero: no service TD was bound"),
    ("init_servtd_attr", Reason.SERVICE_TD, "zero: no service TD was bound"),
    ("cur_servtd_hash", Reason.SERVICE_TD, "zero: no service TD is bound"),
    ("cur_servtd_attr", Reason.SERVICE_TD, "zero: no service TD is bound"),
    ("vmid", Reason.TD_ATTRIBUTES, "zero: a TD, no partition of one"),
    ("dev_info", Reason.TD_ATTRIBUTES, "zero: no device is trusted"),
)


def unsafe_fields(quote: TdxQuote) -> list[Mismatch]:
    """Everything by which the host may look into the guest or move it, or by which a service TD, a partition
    or a device shares its trust (E7): TD_DEBUG, SERVICE_TD, TD_MIGRATABLE, TD_ATTRIBUTES. Empty if safe."""
    bits, found = int.from_bytes(quote.td_attributes, "little"), quote.td_attributes.hex()
    field = "quote.td_attributes"
    wrong = [Mismatch(reason, field, found, rule) for mask, reason, rule in _FORBIDDEN if bits & mask]
    if not bits & _SEPT_VE_DISABLE:
        wrong.append(Mismatch(Reason.TD_ATTRIBUTES, field, found, "bit 28 (SEPT_VE_DISABLE) set"))
    bound = [(name, getattr(quote, name), reason, rule) for name, reason, rule in _ZERO]
    return wrong + [
        Mismatch(why, f"quote.{name}", value.hex(), rule) for name, value, why, rule in bound if any(value)
    ]

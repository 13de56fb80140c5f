"""The part of the verifier's page that shows the evidence behind each member. No IO."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from toposeal.evidence.snp_report import parse_snp_report
from toposeal.evidence.tdx_quote import parse_tdx_quote
from toposeal.limits import MAX_PAGE_LIST
from toposeal.outside.markup import Markup, element, joined
from toposeal.outside.model import VerifiedMember

# What the topology's references are compared with, and what binds the quote to this manifest.
_TDX = (
    *("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrconfigid", "mrowner", "mrownerconfig", "mrseam"),
    *("td_attributes", "xfam", "tee_tcb_svn", "report_data"),
)
_SNP = (
    *("measurement", "host_data", "id_key_digest", "author_key_digest", "report_id", "reported_tcb"),
    *("report_data",),
)
Rows = Iterator[tuple[str, str]]


def member_details(member: VerifiedMember, proven: bool) -> Markup:
    """Closed at first: one line, and behind it what was verified."""
    state = "active now" if proven else "committed"
    summary = element(
        "summary",
        element("code", member.domain),
        " ",
        element("span", state, class_="now" if proven else "was"),
        f" {member.tee}, TCB {listed((member.tcb_status, *member.advisories))}",
    )
    tables = (
        _table("Who it is, and where", _identity(member)),
        _table("What its hardware signed, in its SEAL quote", _evidence(member)),
    )
    return element("details", summary, *tables, id=_anchor(member))


def listed(items: Sequence[str]) -> str:
    """The first few, and how many more."""
    more = len(items) - MAX_PAGE_LIST
    shown = ", ".join(items[:MAX_PAGE_LIST])
    return f"{shown} and {more} more" if more > 0 else shown


def _identity(member: VerifiedMember) -> Rows:
    yield "role, by its measured values", member.role
    yield "instance", member.iid.hex()
    yield "SHA-384 of its CA's key", member.ca_spki_sha384.hex()
    yield "platform", member.platform.hex() or "not shown: masked by the host, or a VLEK"
    yield "address, as it announced it", listed(member.addresses)
    for gpu in member.gpus[:MAX_PAGE_LIST]:
        versions = f"driver {gpu.driver_version}, VBIOS {gpu.vbios_version}"
        yield "GPU", f"{gpu.model}, {versions}, {gpu.device_id.hex()}"
    if len(member.gpus) > MAX_PAGE_LIST:
        yield "GPU", f"{len(member.gpus) - MAX_PAGE_LIST} more"


def _evidence(member: VerifiedMember) -> Rows:
    """Read once more from what was verified. Bytes in lower-case hexadecimal."""
    if member.tee == "tdx":
        quote = parse_tdx_quote(member.quote)
        yield from ((name, getattr(quote, name).hex()) for name in _TDX)
        return
    report = parse_snp_report(member.quote)
    yield "policy", f"{report.policy:#x}"
    yield "vmpl", str(report.vmpl)
    yield from ((name, getattr(report, name).hex()) for name in _SNP)


def _table(caption: str, rows: Rows) -> Markup:
    body = joined(
        element("tr", element("th", name, scope="row"), element("td", element("code", value)))
        for name, value in rows
    )
    return element("table", element("caption", caption), element("tbody", body))


def _anchor(member: VerifiedMember) -> str:
    return member.domain.partition(".")[0]

"""The verdict as one HTML page that needs no script, no network and nothing beside it. No IO.

The same mesh and time give the same bytes, at most MAX_PAGE_SIZE of them.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from toposeal.errors import ToposealError
from toposeal.limits import MAX_PAGE_MEMBERS, MAX_PAGE_MISMATCHES, MAX_PAGE_ROLES
from toposeal.outside.drawing import draw
from toposeal.outside.graph import graph_of
from toposeal.outside.markup import Markup, element, joined, style
from toposeal.outside.model import VerifiedMember, VerifiedMesh
from toposeal.outside.page_members import listed, member_details
from toposeal.outside.verdict import Verdict, proven_line
from toposeal.topology.model import Role

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;color:#1a1a1a;background:#fff;max-width:70rem;margin:0 auto;"
    "padding:1rem;overflow-wrap:anywhere}h1{margin:0}.good{color:#0b5d1e}.bad{color:#a3000b}a{color:#0b3d91}"
    ".wide{overflow-x:auto;overflow-wrap:normal}table{border-collapse:collapse;margin:.5rem 0}"
    "caption{text-align:left;font-weight:600;padding:.3rem 0}"
    "th,td{border:1px solid #767676;padding:.25rem .5rem;text-align:left;vertical-align:top}"
    "code{font-size:.9em}details{border:1px solid #767676;"
    "border-radius:4px;margin:.4rem 0;padding:.3rem .6rem}summary{cursor:pointer}"
    ".now{background:#0b5d1e;color:#fff;padding:0 .4rem;border-radius:3px}"
    ".was{background:#e6e6e6;padding:0 .4rem;border-radius:3px}"
    ":focus-visible{outline:3px solid #0b3d91;outline-offset:2px}"
    "svg{font:14px system-ui,sans-serif}svg text{text-anchor:middle;fill:#1a1a1a}"
    "rect{fill:#eef3fb;stroke:#0b3d91;stroke-width:2}rect.outside{fill:#fff;stroke-dasharray:6 4}"
    ".edge{fill:none;stroke:#4a4a4a;stroke-width:1.5;marker-end:url(#arrow)}.name{font-weight:600}"
    ".small{font-size:12px}.port{font-size:12px;paint-order:stroke;stroke:#fff;stroke-width:4px}"
)
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode("ascii")).digest()).decode("ascii")
# Nothing may be loaded, run, sent or embedded, even if a text got through as markup.
_POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"


def page(verdict: Verdict, made_at: int) -> bytes:
    """The page, UTF-8; `made_at` in Unix seconds is only shown."""
    outcome = verdict.outcome
    good = not isinstance(outcome, ToposealError)
    title = f"VERIFIED {outcome.mesh}" if isinstance(outcome, VerifiedMesh) else "NOT VERIFIED"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width,initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", f"{title} - toposeal"),
        style(_STYLE),
    )
    content = _mesh(outcome) if isinstance(outcome, VerifiedMesh) else _refusal(outcome)
    notes = [element("p", element("strong", "Note: "), note) for note in verdict.notes]
    main = element(
        "main",
        element("h1", title, class_="good" if good else "bad"),
        element("p", f"Checked at {_time(made_at)}, by this verifier's clock."),
        *content,
        *notes,
    )
    html = element("html", head, element("body", main), lang="en")
    return f"<!DOCTYPE html>\n{html}\n".encode("ascii")


def _refusal(error: ToposealError) -> Iterator[Markup]:
    yield element("p", "Nothing that this mesh says of itself is to be relied on.")
    shown = error.mismatches[:MAX_PAGE_MISMATCHES]
    rows = [(m.field, m.found, m.expected, m.reason.value) for m in shown]
    yield _table("What did not hold", ("field", "found", "expected", "reason"), rows)
    if len(shown) < len(error.mismatches):
        yield element("p", f"And {len(error.mismatches) - len(shown)} more.")


def _mesh(mesh: VerifiedMesh) -> Iterator[Markup]:
    yield element("p", element("strong", proven_line(mesh)))
    yield element("h2", "What this says, and what not")
    yield _limits(mesh)
    yield element("h2", "The topology")
    yield from _topology(mesh)
    yield element("h2", "The members, and the evidence behind each")
    yield from _members(mesh)
    yield element("h2", "What it rests on")
    facts = [
        ("mesh", mesh.mesh),
        ("topology version", str(mesh.topology_version)),
        ("epoch", str(mesh.epoch)),
        ("owner root, SHA-384", mesh.owner_root.hex()),
        ("topology, digest", mesh.topology.digest.hex()),
        ("lineage", mesh.lineage.hex()),
        ("manifest", mesh.manifest_digest.hex()),
        ("collateral in force until", _time(mesh.expires_at)),
    ]
    yield _table("Digests and numbers to compare with one's own", ("what", "value"), facts)


def _limits(mesh: VerifiedMesh) -> Markup:
    now, every = len(mesh.proven), len(mesh.members)
    others = f"The other {every - now} committed to this manifest; that they still run is not proven."
    says = [
        "The owner's keys signed this topology; every member's hardware signed exactly this list of members.",
        f"{now} of {every} answered a nonce of this check, as active: what is marked active now.",
        *([others] if every > now else []),
        "Not proven: that the code is good, where an address is, and that there is no second mesh of the "
        "same topology; that one would have another lineage.",
        "This page is a record and proves nothing to others: they run toposeal verify themselves.",
    ]
    return element("ul", *(element("li", each) for each in says))


def _topology(mesh: VerifiedMesh) -> Iterator[Markup]:
    graph = graph_of(mesh.topology)
    counts = Counter(member.role for member in mesh.members)
    proven = Counter(member.role for member in mesh.proven)
    said = {name: f"{counts[name]} listed, {proven[name]} active now" for name in mesh.topology.roles}
    yield _wide("Graph of the roles", draw(graph, said))
    if graph.roles_left_out or graph.edges_left_out:
        left = f"Not shown: {graph.roles_left_out} roles and {graph.edges_left_out} edges, verified alike."
        yield element("p", left)
    names = ("role", "members", "may be", "serves", "calls", "open to the outside", "goes outside")
    roles = list(mesh.topology.roles.values())[:MAX_PAGE_ROLES]
    rows = [_role_row(role, counts[role.name]) for role in roles]
    yield _wide("Roles", _table("Who may reach whom, as the owner signed it", names, rows))


def _role_row(role: Role, count: int) -> tuple[str, ...]:
    return (
        role.name,
        str(count),
        f"{role.min_replicas} to {role.max_replicas}",
        listed([str(port) for port in role.serves]) or "nothing",
        listed([f"{call.role}:{call.port}" for call in role.calls]) or "nobody",
        listed([str(entry.port) for entry in role.ingress]) or "nothing",
        listed([f"{to.host or to.cidr}:{to.port}" for to in role.egress]) or "nowhere",
    )


def _members(mesh: VerifiedMesh) -> Iterator[Markup]:
    proven = {member.iid for member in mesh.proven}
    shown = _shown(mesh)
    if len(shown) < len(mesh.members):
        yield element(
            "p",
            f"Shown are {len(shown)} of {len(mesh.members)} members, all verified alike; "
            "toposeal verify --json lists every one.",
        )
    for name in list(mesh.topology.roles)[:MAX_PAGE_ROLES]:
        members = [member for member in shown if member.role == name]
        yield element("h3", "Role ", element("code", name), id=f"role-{name}")
        yield from (member_details(member, member.iid in proven) for member in members)
        if not members:
            yield element("p", "No member of it is shown.")


def _shown(mesh: VerifiedMesh) -> Sequence[VerifiedMember]:
    """In the manifest's order; who was asked first is among them."""
    if len(mesh.members) <= MAX_PAGE_MEMBERS:
        return mesh.members
    others = [member for member in mesh.members if member.iid != mesh.proven_now.iid]
    kept = {mesh.proven_now.iid, *(member.iid for member in others[: MAX_PAGE_MEMBERS - 1])}
    return [member for member in mesh.members if member.iid in kept]


def _wide(label: str, content: Markup) -> Markup:
    """What may be wider than a screen scrolls by itself, with the keyboard too."""
    return element("div", content, class_="wide", tabindex=0, role="region", aria_label=label)


def _table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    heads = element("tr", *(element("th", name, scope="col") for name in header))
    body = joined(
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:]))
        for row in rows
    )
    return element("table", element("caption", caption), element("thead", heads), element("tbody", body))


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"

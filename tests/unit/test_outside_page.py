"""outside.page: what it shows, that nothing from outside becomes markup, and that it stays small."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.golden import REPORT, REPORTED, report_page
from support.meshes import NOW, build_mesh
from support.page import Page
from support.snp import chip

from toposeal.errors import Mismatch, PolicyError, Reason
from toposeal.limits import (
    MAX_PAGE_LIST,
    MAX_PAGE_MEMBERS,
    MAX_PAGE_MISMATCHES,
    MAX_PAGE_ROLES,
    MAX_PAGE_SIZE,
)
from toposeal.outside.model import VerifiedMember, VerifiedMesh
from toposeal.outside.page import page
from toposeal.outside.verdict import Verdict
from toposeal.outside.verify import verify_document
from toposeal.topology.egress import Egress
from toposeal.topology.model import Call, Ingress, Role
from toposeal.verification.model import GpuDevice
from toposeal_lab.simsnp import lab_snp_measurements

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&\u202e\x1b[2J\n--></title>{{}}"
GPU = GpuDevice("H100", bytes(32), "550.1", "96.00", NOW)


@cache
def verified() -> VerifiedMesh:
    mesh = build_mesh(role_fields=lambda role: REPORTED[role])
    return verify_document(mesh.document(answering=3), mesh.request())


def read(mesh: VerifiedMesh, *notes: str) -> Page:
    return Page.of(page(Verdict(mesh, notes), NOW))


def words(found: Page) -> str:
    return " ".join(text for name, text in found.texts if name != "style")


def of_role(role: Role, **changes: Any) -> Role:
    return replace(role, **changes)


def test_the_page_is_the_example_in_the_documentation() -> None:
    assert REPORT.read_bytes() == report_page(), "run `python -I tests/support/golden.py`"


def test_it_says_the_verdict_its_limits_and_what_each_member_has_proven() -> None:
    found = read(verified(), "a note")
    assert found.said("h1") == ["VERIFIED shop"]
    label = verified().proven_now.domain.partition(".")[0]
    assert found.said("strong") == [
        f"proven now: 1 member (web {label}); committed to this manifest: 4",
        "Note: ",
    ]
    assert "The other 3 committed to this manifest; that they still run is not proven." in words(found)
    assert found.said("span") == ["committed", "committed", "committed", "active now"]
    every = read(replace(verified(), proven=verified().members))
    assert "still run" not in words(every)
    assert every.said("span") == ["active now"] * 4


def test_every_member_has_its_evidence_behind_it() -> None:
    found = read(verified())
    shown = found.said("code")
    for member in verified().members:
        for value in (member.domain, member.iid.hex(), member.ca_spki_sha384.hex(), member.platform.hex()):
            assert value in shown
    details = found.all("details")
    assert [each["id"] for each in details] == [m.domain.partition(".")[0] for m in verified().members]
    assert all("open" not in each for each in details)
    assert found.said("th").count("mrtd") == found.said("th").count("report_data") == 4


def test_an_snp_member_shows_what_amd_signs() -> None:
    report = chip().report(bytes(64), lab_snp_measurements("web", "shop"))
    first, *others = verified().members
    snp = replace(first, tee="snp", quote=report, platform=b"", gpus=(GPU,) * 10)
    found = read(replace(verified(), members=(snp, *others)))
    rows = found.said("th")
    assert {"measurement", "host_data", "policy", "vmpl", "GPU"} <= set(rows)
    assert rows.count("GPU") == MAX_PAGE_LIST + 1
    assert "2 more" in found.said("code")
    assert "not shown: masked by the host, or a VLEK" in found.said("code")


def test_the_graph_has_every_edge_and_leads_to_the_roles() -> None:
    found = read(verified())
    assert found.said("title")[1:] == [
        "The topology that the owner signed",
        "outside may call web at 8443",
        "api may call api at 8080",
        "api may call db at 8080",
        "web may call api at 8080",
    ]
    links = {each["href"] for each in found.all("a")}
    assert links == {"#role-api", "#role-db", "#role-web"}
    assert links <= {f"#{attributes['id']}" for _, attributes in found.elements if "id" in attributes}
    assert "backup.example.com:443" in found.said("td")


def test_a_refusal_names_every_mismatch_and_shows_no_mesh() -> None:
    error = PolicyError(
        Mismatch(Reason.TCB_STATUS, "tcb.status", "OutOfDate", "UpToDate"),
        Mismatch(Reason.TCB_ADVISORY, "tcb.advisories", HOSTILE, "an admitted advisory"),
    )
    found = Page.of(page(Verdict(error), NOW))
    assert found.said("h1") == ["NOT VERIFIED"]
    assert found.said("td")[:3] == ["OutOfDate", "UpToDate", "tcb_status"]
    assert "script" not in {name for name, _ in found.elements}
    assert found.all("svg") == []


# Nothing is loaded, run or taken for markup.


def test_it_loads_and_runs_nothing() -> None:
    found = read(verified())
    names = {name for name, _ in found.elements}
    forbidden = words_of("script link iframe img object embed form input base audio video foreignobject use")
    assert names & forbidden == set()
    attributes = {name for _, given in found.elements for name in given}
    assert attributes & words_of("src style action srcset data background ping") == set()
    assert not any(name.startswith("on") for name in attributes)
    assert {each["href"][0] for each in found.all("a")} == {"#"}
    (policy,) = (each["content"] for each in found.all("meta") if "http-equiv" in each)
    (style,) = found.said("style")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'")
    assert "url(" not in style.replace("url(#arrow)", "") and "@import" not in style


def words_of(text: str) -> set[str]:
    return set(text.split())


def all_said_by(text: str, mesh: VerifiedMesh) -> VerifiedMesh:
    """`mesh`, where whatever a stranger or an owner can choose is `text`."""
    names = {name: f"{text}{name}" for name in mesh.topology.roles}
    roles = {
        names[name]: of_role(
            role,
            name=names[name],
            calls=tuple(Call(names[call.role], call.port) for call in role.calls),
            egress=tuple(Egress(entry.port, host=text) for entry in role.egress),
        )
        for name, role in mesh.topology.roles.items()
    }

    def changed(member: VerifiedMember) -> VerifiedMember:
        return replace(
            member,
            role=names[member.role],
            tcb_status=text,
            advisories=(text,) * len(member.advisories),
            domain=f"{member.domain.partition('.')[0]}{text}.{text}",
            addresses=(text,),
            gpus=tuple(GpuDevice(text, bytes(32), text, text, NOW) for _ in member.gpus),
        )

    members = {member.iid: changed(member) for member in mesh.members}
    return replace(
        mesh,
        mesh=text,
        members=tuple(members.values()),
        proven=tuple(members[member.iid] for member in mesh.proven),
        topology=replace(mesh.topology, mesh=text, roles=roles),
    )


def with_devices(mesh: VerifiedMesh) -> VerifiedMesh:
    members = tuple(replace(m, gpus=(GPU,), advisories=("INTEL-SA-00001",)) for m in mesh.members)
    return replace(mesh, members=members, proven=members[-1:])


def plain(found: Page) -> list[tuple[str, tuple[str, ...]]]:
    """Long names are pressed together in the drawing, which is the one attribute that text decides."""
    pressed = {"textlength", "lengthadjust"}
    return [(tag, tuple(a for a in attributes if a not in pressed)) for tag, attributes in found.skeleton]


def test_C2_hostile_names_in_every_field_stay_text() -> None:
    honest = with_devices(verified())
    found = read(all_said_by(HOSTILE, honest), HOSTILE)
    assert plain(found) == plain(read(honest, "a note"))
    assert HOSTILE.partition("\u202e")[0] in words(found)  # as text, which is where it belongs


@settings(max_examples=30)
@given(st.text(min_size=1, max_size=60))
def test_C2_no_text_at_all_becomes_markup(text: str) -> None:
    honest = with_devices(verified())
    data = page(Verdict(all_said_by(text, honest), (text,)), NOW)
    assert plain(Page.of(data)) == plain(read(honest, "a note"))
    assert all(byte == 10 or 32 <= byte < 127 for byte in data)


# Who uses no mouse, or no eyes.


def test_its_structure_can_be_read_aloud() -> None:
    found = read(verified())
    assert found.all("html") == [{"lang": "en"}]
    assert len(found.all("main")) == len(found.all("h1")) == 1
    levels = [int(name[1]) for name, _ in found.elements if re.fullmatch("h[1-6]", name)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert {each["scope"] for each in found.all("th")} == {"row", "col"}
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    (svg,) = found.all("svg")
    assert set(svg["aria-labelledby"].split()) <= set(ids)
    assert {"title", "desc"} <= {name for name, _ in found.elements}
    assert all(each["aria-label"].startswith("role ") for each in found.all("a"))
    assert len(found.all("summary")) == len(found.all("details")) == 4
    assert all("aria-label" in each for each in found.all("div") if "tabindex" in each)


# Size.


def test_R3_a_page_is_small_whatever_the_mesh() -> None:
    mesh = largest()
    data = page(Verdict(mesh, ("a" * 300,) * 2), NOW)
    assert len(data) <= MAX_PAGE_SIZE
    found = Page.of(data)
    assert len(found.all("details")) == MAX_PAGE_MEMBERS
    assert f"Shown are {MAX_PAGE_MEMBERS} of 1000 members, all verified alike; " in words(found)
    assert mesh.proven_now.domain in found.said("code")
    assert f"Not shown: {256 - MAX_PAGE_ROLES} roles and " in words(found)


def test_R3_a_refusal_is_small_whatever_is_wrong() -> None:
    wrong = Mismatch(Reason.MALFORMED, "'" * 400, '"' * 400, "&" * 400)
    data = page(Verdict(PolicyError(*[wrong] * 1000)), NOW)
    assert len(data) <= MAX_PAGE_SIZE
    assert f"And {1000 - MAX_PAGE_MISMATCHES} more." in words(Page.of(data))


def test_the_page_of_a_usual_mesh_is_a_tenth_of_that() -> None:
    assert len(report_page()) < MAX_PAGE_SIZE / 10


def largest() -> VerifiedMesh:
    """Every list as long as it can be, every text as long as its field."""
    names = [f"{number:03d}" + "r" * 37 for number in range(256)]
    sample = next(iter(verified().topology.roles.values()))
    ports = tuple(range(10_000, 10_064))
    roles = {
        name: of_role(
            sample,
            name=name,
            serves=ports,
            calls=tuple(Call(other, 10_000) for other in names),
            ingress=tuple(Ingress(port, port) for port in ports),
            egress=tuple(Egress(port, host="a" * 250 + ".b") for port in ports),
        )
        for name in names
    }
    report = chip().report(bytes(64), lab_snp_measurements("web", "shop"))
    gpu = GpuDevice("NVIDIA " + "G" * 60, bytes(32), "d" * 60, "v" * 60, NOW)
    some = verified().members[0]
    members = tuple(
        replace(
            some,
            iid=number.to_bytes(48, "big"),
            role=names[number % 8],
            domain=f"m-{number:032x}.{'s' * 40}",
            tee="snp" if number % 2 else "tdx",
            quote=report if number % 2 else some.quote,
            platform=bytes(64),
            tcb_status="Genoa " + "t" * 120,
            advisories=tuple(f"INTEL-SA-{each:05d}" for each in range(256)),
            addresses=("fd00:1111:2222:3333:4444:5555:6666:7777",) * 8,
            gpus=(gpu,) * 16,
        )
        for number in range(1000)
    )
    topology = replace(verified().topology, roles=roles)
    return replace(verified(), members=members, proven=members[-1:], topology=topology)

"""The verifier's page in a real Chromium: what it shows, loads and runs, and who can use it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.chromium import ABSENT, PROGRAM, Tab, chromium
from support.golden import REPORT, REPORTED
from support.meshes import NOW, build_mesh

from toposeal.errors import Reason, RemoteProtocolError
from toposeal.outside.page import page
from toposeal.outside.verdict import Verdict
from toposeal.outside.verify import verify_document

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=ABSENT)

TAB, ENTER = ("Tab", 9), ("Enter", 13)
SCRIPT = "<script>document.title = 'it ran'</script>"

# Every text with the colours that it has and stands on: the lowest ratio of WCAG 2.2, 1.4.3.
CONTRAST = """(() => {
  const parts = text => text.match(/[\\d.]+/g).map(Number);
  const linear = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = node => {
    for (let at = node; at instanceof Element; at = at.parentElement) {
      const rect = at.parentElement?.querySelector(':scope > rect');
      if (rect && at.tagName === 'text') return parts(getComputedStyle(rect).fill);
      const colour = getComputedStyle(at).backgroundColor;
      if (parts(colour)[3] !== 0) return parts(colour);
    }
    return [255, 255, 255];
  };
  let worst = 21;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || ['title', 'desc'].includes(node.tagName)) continue;
    const style = getComputedStyle(node);
    const ink = light(parts(node.tagName === 'text' ? style.fill : style.color)), paper = light(behind(node));
    worst = Math.min(worst, (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05));
  }
  return worst;
})()"""


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with chromium() as made:
        yield made


def spoken(tab: Tab) -> list[tuple[str, str, dict[str, Any]]]:
    """What assistive technology is told: role, name and properties of each node."""
    nodes = tab.ask("Accessibility.getFullAXTree")["nodes"]
    return [
        (
            str(node["role"]["value"]),
            str(node.get("name", {}).get("value", "")),
            {each["name"]: each["value"].get("value") for each in node.get("properties", ())},
        )
        for node in nodes
        if not node.get("ignored")
    ]


def test_it_loads_itself_and_nothing_else_and_breaks_no_rule_of_its_own(tab: Tab) -> None:
    tab.show(REPORT)
    asked = [event["request"]["url"] for event in tab.told("Network.requestWillBeSent")]
    assert asked == [REPORT.as_uri()]
    assert tab.told("Log.entryAdded") == tab.told("Runtime.exceptionThrown") == []
    assert tab.run("document.title") == "VERIFIED shop - toposeal"
    # The style sheet is in force, so the policy's digest is that of the style sheet.
    assert tab.run("getComputedStyle(document.querySelector('.now')).backgroundColor") == "rgb(11, 93, 30)"


def test_C2_a_script_would_not_run_even_if_it_got_through(tab: Tab, tmp_path: Path) -> None:
    """The second wall, next to what happens without it."""
    data = REPORT.read_bytes()
    inside, policy = tmp_path / "inside.html", b"http-equiv"
    inside.write_bytes(data.replace(b"</main>", SCRIPT.encode() + b"</main>"))
    tab.show(inside)
    assert tab.run("document.title") == "VERIFIED shop - toposeal"
    assert any("Content Security Policy" in each["entry"]["text"] for each in tab.told("Log.entryAdded"))
    inside.write_bytes(inside.read_bytes().replace(policy, b"data-nothing"))
    tab.show(inside)
    assert tab.run("document.title") == "it ran"


def test_C2_hostile_text_is_shown_as_text(tab: Tab, tmp_path: Path) -> None:
    text = f'"><svg onload=alert(1)>{SCRIPT}</style></title>'
    shown = tmp_path / "hostile.html"
    mesh = build_mesh(role_fields=lambda role: REPORTED[role])
    found = verify_document(mesh.document(answering=3), mesh.request())
    members = tuple(replace(member, tcb_status=text, addresses=(text,)) for member in found.members)
    hostile = replace(found, members=members, proven=members[-1:], mesh=text)
    refusal = RemoteProtocolError.of(Reason.MALFORMED, "field", text, "something else")
    for verdict in (Verdict(hostile, (text,)), Verdict(refusal)):
        shown.write_bytes(page(verdict, NOW))
        tab.show(shown)
        assert tab.run("document.scripts.length") == 0
        assert tab.run("[...document.querySelectorAll('[onload]')].length") == 0
        assert text in tab.run("document.body.textContent")
        assert tab.told("Page.javascriptDialogOpening") == []


def test_the_keyboard_reaches_every_role_and_opens_the_evidence(tab: Tab) -> None:
    tab.show(REPORT)
    links = []
    for _ in range(8):
        tab.press(*TAB)
        name = tab.run("document.activeElement.getAttribute('aria-label') || ''")
        if name.startswith("role "):
            tab.press(*ENTER)
            links.append((name, tab.run("location.hash")))
            tab.run(f"document.querySelector('[href=\"{links[-1][1]}\"]').focus()")
    assert links == [
        ("role web: 1 listed, 1 active now", "#role-web"),
        ("role api: 2 listed, 0 active now", "#role-api"),
        ("role db: 1 listed, 0 active now", "#role-db"),
    ]
    tab.run("document.querySelector('summary').focus()")
    tab.press(*ENTER)
    assert tab.run("document.querySelector('details').open") is True


def test_assistive_technology_is_told_what_there_is(tab: Tab) -> None:
    tab.show(REPORT)
    told = spoken(tab)
    names = [(role, name) for role, name, _ in told]
    assert ("heading", "VERIFIED shop") in names
    assert ("link", "role web: 1 listed, 1 active now") in names
    assert ("region", "Graph of the roles") in names
    assert ("columnheader", "open to the outside") in names
    assert ("rowheader", "owner root, SHA-384") in names
    levels = [properties["level"] for role, _, properties in told if role == "heading"]
    assert levels == [1, 2, 2, 2, 3, 3, 3, 2]
    closed = [properties for role, _, properties in told if role == "DisclosureTriangle"]
    assert [each["expanded"] for each in closed] == [False] * 4
    assert all(name for role, name in names if role in ("link", "region", "table", "DisclosureTriangle"))


@pytest.mark.parametrize("width", [320, 1200])
def test_nothing_is_out_of_reach_on_a_narrow_screen_and_all_text_has_contrast(tab: Tab, width: int) -> None:
    tab.show(REPORT, width)
    assert tab.run("document.documentElement.scrollWidth <= innerWidth") is True
    tab.run("document.querySelectorAll('details').forEach(each => { each.open = true })")
    assert tab.run("document.documentElement.scrollWidth <= innerWidth") is True
    assert tab.run(CONTRAST) >= 4.5

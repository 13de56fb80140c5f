"""YAML in, payload bytes out: what YAML would guess is refused, and refusals name the line."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support.topologies import DELETE, changed, document, refusals

from toposeal.errors import Reason, TopologyError
from toposeal.limits import MAX_TOPOLOGY_SIZE
from toposeal.topology.author import compile_yaml, payload_from_yaml
from toposeal.topology.owner import OwnerRoot, spki
from toposeal.topology.parse import parse_topology

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "shop" / "topology.yaml"
ROOT = OwnerRoot.of([([spki(Ed25519PrivateKey.from_private_bytes(b"k" * 32).public_key())], 1)])
INVALID, MALFORMED, TOO_LARGE = Reason.TOPOLOGY_INVALID, Reason.MALFORMED, Reason.TOO_LARGE


def _yaml(value: dict[str, object] | None = None, issued_at: object = "2026-01-01T00:00:00Z") -> str:
    """The document as an author could write it."""
    authored = changed("owner_root", DELETE, document() if value is None else value)
    return yaml.safe_dump({**authored, "issued_at": issued_at})


def _refused(text: str | bytes) -> set[tuple[Reason, str]]:
    data = text if isinstance(text, bytes) else text.encode()
    return refusals(lambda: payload_from_yaml(data, ROOT))


def _message(text: str) -> str:
    with pytest.raises(TopologyError) as caught:
        payload_from_yaml(text.encode(), ROOT)
    return str(caught.value)


def test_the_payload_is_the_document_with_time_and_owner_filled_in() -> None:
    payload = payload_from_yaml(_yaml().encode(), ROOT)
    assert json.loads(payload) == document(owner_root=ROOT.digest.hex(), issued_at=1_767_225_600)
    assert parse_topology(payload).owner_root_digest == ROOT.digest
    assert payload == compile_yaml(_yaml().encode(), ROOT.digest)


def test_the_example_is_a_topology() -> None:
    topology = parse_topology(payload_from_yaml(EXAMPLE.read_bytes(), ROOT))
    assert topology.mesh == "shop"
    assert {name: role.max_replicas for name, role in topology.roles.items()} == {"web": 1, "api": 2, "db": 1}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-01T00:00:00Z", 1_767_225_600),
        ("1970-01-01T00:00:01Z", 1),
        ("9999-12-31T23:59:59Z", 253_402_300_799),
    ],
)
def test_issued_at_is_a_time_in_utc_bare_or_quoted(text: str, seconds: int) -> None:
    for written in (f'"{text}"', f"'{text}'", text):
        source = _yaml().replace("'2026-01-01T00:00:00Z'", written)
        assert parse_topology(payload_from_yaml(source.encode(), ROOT)).issued_at == seconds


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-01",
        "2026-01-01T00:00:00+01:00",
        "2026-01-01 00:00:00",
        "2026-02-30T00:00:00Z",
        "2026-01-01T24:00:01Z",
        "2026-01-01T00:00:60Z",
        "1969-12-31T23:59:59Z",
        "0000-01-01T00:00:00Z",
        1767225600,
        ["2026"],
        "",
    ],
)
def test_issued_at_in_any_other_form_is_refused(value: object) -> None:
    assert _refused(_yaml(issued_at=value)) == {(INVALID, "issued_at")}


def test_issued_at_is_required() -> None:
    assert _refused(_yaml().replace("issued_at:", "issued:")) == {(INVALID, "issued_at"), (INVALID, "issued")}


def test_owner_root_is_not_the_authors_to_write() -> None:
    assert _refused(_yaml() + "owner_root: " + ROOT.digest.hex()) == {(INVALID, "owner_root")}


@pytest.mark.parametrize(
    "value",
    [
        "no",
        "NO",
        "yes",
        "on",
        "off",
        "true",
        "false",
        "~",
        "null",
        "",
        "1.0",
        "1.5",
        ".5",
        ".inf",
        ".nan",
        "-.inf",
        "0x10",
        "0o10",
        "1e3",
        "-1E+3",
        "010",
        "00",
        "1_000",
        "+1",
        "-0",
        "12:30",
        "0b1",
        "2026-01-31",
        "9007199254740992",
        "=",
    ],
)
def test_T8_a_bare_value_that_yaml_would_turn_into_something_else_is_refused(value: str) -> None:
    assert _refused(_yaml().replace("version: 3", f"version: {value}")) == {(INVALID, "version")}
    assert _refused(_yaml().replace("mesh: shop", f"mesh: {value}")) == {(INVALID, "mesh")}


@pytest.mark.parametrize("name", ["no", "on", "1", "007", "1e3", "0x10", "2026-01-31"])
def test_a_quoted_name_is_the_text_it_shows(name: str) -> None:
    source = _yaml().replace("mesh: shop", f'mesh: "{name}"')
    assert parse_topology(payload_from_yaml(source.encode(), ROOT)).mesh == name


@pytest.mark.parametrize(
    "key", ["no", "8080", "null", "~", "1.0", "<<", "=", "2026-01-31", "[a]", "{a: b}", "? [a]\n "]
)
def test_T8_keys_are_text(key: str) -> None:
    assert _refused(_yaml() + f"{key}: 1\n") == {(INVALID, "topology")}


@pytest.mark.parametrize(
    ("addition", "reason"),
    [
        ("extra: &anchor 1\n", INVALID),
        ("extra: &anchor [1]\n", INVALID),
        ("extra: *alias\n", INVALID),
        ("extra: !!str 1\n", INVALID),
        ("extra: ! text\n", INVALID),
        ("extra: !!python/object/apply:os.system [id]\n", INVALID),
        ("extra: !custom {a: b}\n", INVALID),
        ("<<: {mesh: evil}\n", INVALID),
        ("&key mesh2: 1\n", INVALID),
        ("*alias : 1\n", INVALID),
        ("mesh: shop\n", MALFORMED),
        ("'mesh': evil\n", MALFORMED),
        ('"\\x6desh": evil\n', MALFORMED),
    ],
)
def test_T8_anchors_aliases_tags_merge_keys_and_duplicates_are_refused(addition: str, reason: Reason) -> None:
    ((found, _),) = _refused(_yaml() + addition)
    assert found is reason


def test_T1_a_key_twice_is_refused_at_every_level() -> None:
    inner = _yaml().replace("min_tcb_evaluation: 17", "min_tcb_evaluation: 17\n  min_tcb_evaluation: 1")
    assert _refused(inner) == {(MALFORMED, "tdx.min_tcb_evaluation")}


def test_T8_billion_laughs_costs_nothing() -> None:
    laughs = "a: &a [lol, lol, lol]\n" + "".join(f"b{i}: [*a, *a, *a]\n" for i in range(30))
    assert _refused(laughs) == {(INVALID, "a")}


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_T8_nesting_is_bounded(opening: str) -> None:
    started = time.monotonic()
    assert {reason for reason, _ in _refused("x: " * (opening != "- ") + opening * 100_000)} <= {
        TOO_LARGE,
        MALFORMED,
    }
    assert {reason for reason, _ in _refused(opening * 20 + "1")} <= {TOO_LARGE, MALFORMED}
    assert time.monotonic() - started < 10


def test_T8_size_is_bounded() -> None:
    assert _refused(b"#" * (MAX_TOPOLOGY_SIZE + 1)) == {(TOO_LARGE, "topology")}
    escaped = 'mesh: "' + "\u00e9" * (MAX_TOPOLOGY_SIZE // 2 - 20) + '"\n'
    assert (TOO_LARGE, "topology") in _refused(escaped)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "shop\n", "[1]\n", "1\n"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    assert _refused(text) == {(INVALID, "topology")}


@pytest.mark.parametrize(
    "text", ["---\na: 1\n---\nb: 2\n", "%YAML 1.1\n---\na: 1\n", "%TAG ! tag:x,2000:\n---\na: 1\n"]
)
def test_one_document_without_directives(text: str) -> None:
    assert _refused(text) == {(INVALID, "topology")}


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "...\n",
        "a: {",
        "a: b: c",
        "\ta: 1",
        "a: 'x",
        "%FOO\n",
        "a: |9z\n",
        "a: @x",
        "a: %x",
        "a: `x`",
        "- a\nb: 1",
        "a: \x00",
        "a: \x1b",
        'a: "\\U00110000"',
        'a: "\\UFFFFFFFF"',
        'a: "\\q"',
        "%YAML " + "9" * 5000 + ".1\n---\n",
    ],
)
def test_broken_yaml_is_malformed(text: str) -> None:
    assert _refused(text) == {(MALFORMED, "topology")}


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"a: \xff", b"\x80", "a: 1".encode("utf-16")])
def test_other_encodings_are_refused(data: bytes) -> None:
    assert _refused(data) == {(MALFORMED, "topology")}


def test_a_lone_surrogate_is_refused() -> None:
    assert (MALFORMED, "topology") in _refused(_yaml().replace("mesh: shop", 'mesh: "\\ud800"'))


def test_refusals_name_the_line_of_the_value() -> None:
    text = EXAMPLE.read_text()
    lines = text.splitlines()
    wrong = text.replace("port: 6379", "port: 6380").replace("[8080]", "[70000]", 1)
    messages = _message(wrong).split("; ")
    number = next(i for i, line in enumerate(lines, 1) if "[8080]" in line)
    expected = "expected an integer from 1 to 65535 [topology_invalid]"
    assert messages[0] == f"roles.web.serves[0]: found 70000 (line {number}), {expected}"
    syntax = _message(text.replace("mesh: shop", "mesh: [shop"))
    assert "(line 5)" in syntax


def test_a_missing_field_names_the_line_of_its_parent() -> None:
    assert "roles.db.serves: found nothing (line 2)" in _message("roles:\n  db: {calls: []}\n")


def test_everything_is_reported_at_once() -> None:
    text = _yaml(issued_at="yesterday").replace("mesh: shop", "mesh: Shop") + "owner_root: abc\n"
    assert _refused(text) == {(INVALID, "owner_root"), (INVALID, "issued_at"), (INVALID, "mesh")}


def test_C2_refusals_cannot_write_to_the_terminal() -> None:
    for text in ('mesh: "\\e[2J"\n', '"\\e[2J": 1\n', '"a\\nb": {"\\u202e": no}\n'):
        message = _message(text)
        assert message.isprintable() and message.isascii()

"""Text that lines are put into: forms of YAML that this does not see through are refused, never bent."""

from __future__ import annotations

import pytest

from toposeal.errors import Reason, UsageError
from toposeal.kubernetes import manifest
from toposeal.kubernetes.manifest import BEGIN, END, check_written_out, read, without_injected, write

MARKED = f"{BEGIN}\nnew: 1\n{END}\n"


def put(text: str, *path: str | int, entries: str = "new: 1\n") -> str:
    documents = read(text)
    documents[0].put(path, entries)
    return write(text, documents, "")


def refused(text: str, *path: str | int, entries: str = "new: 1\n") -> UsageError:
    with pytest.raises(UsageError) as error:
        put(text, *path, entries=entries)
    return error.value


def test_entries_are_put_first_with_the_indentation_that_is_there() -> None:
    text = "a:  # why\n\n    # about b\n    b: 1\n"
    assert put(text, "a") == f"a:  # why\n    {BEGIN}\n    new: 1\n    {END}\n\n    # about b\n    b: 1\n"
    assert without_injected(put(text, "a")) == text


def test_items_are_put_at_the_column_of_the_dashes() -> None:
    assert put("a:\n- 1\n", "a", entries="- 0\n") == f"a:\n{BEGIN}\n- 0\n{END}\n- 1\n"


def test_entries_of_an_item_are_put_after_its_first_key() -> None:
    """Which is in the line of the dash, and may have a long value."""
    text = "a:\n- b: 1\n  c: 2\n-   b: |\n      x\n\n    # about c\n    c: 3\n"
    made = put(text, "a", 0)
    assert made == text.replace("  c: 2", f"  {BEGIN}\n  new: 1\n  {END}\n  c: 2")
    made = put(text, "a", 1, "d", entries="- 0\n")
    assert made == text.replace("    c: 3", f"    {BEGIN}\n    d:\n      - 0\n    {END}\n    c: 3")
    assert without_injected(made) == text


@pytest.mark.parametrize(
    "text",
    [
        "a:\n- b: 1\n",
        "a:\n- {b: 1, c: 2}\n",
        "a:\n- b: 1\n  ? c\n  : 2\nd: &x\n- *x\n",
        "a:\n- 1\n",
        "a:\n- - 1\n  - 2\n",
    ],
)
def test_items_of_another_form_are_refused(text: str) -> None:
    assert refused(text, "a", 0).reason in (Reason.MANIFEST_REFUSED, Reason.MALFORMED)


def test_a_number_leads_into_no_mapping() -> None:
    assert refused("a:\n  b: 1\n", "a", 0, "c").reason is Reason.MANIFEST_REFUSED


def test_what_is_missing_on_the_way_is_made() -> None:
    made = put("a:\n  b: 1\n", "a", "c", "d")
    assert made == f"a:\n  {BEGIN}\n  c:\n    d:\n      new: 1\n  {END}\n  b: 1\n"


@pytest.mark.parametrize(
    "text",
    [
        "a: {b: 1}\n",
        "a: &x\n  b: 1\nc: *x\n",
        "a: &x\n  b: &y\n    d: 1\nc: *x\n",
        "a: 1\n",
        "a:\n",
        "a: |\n  b: 1\n",
        "{a: {b: 1}}\n",
    ],
)
def test_other_forms_are_refused(text: str) -> None:
    assert refused(text, "a").reason is Reason.MANIFEST_REFUSED


@pytest.mark.parametrize("text", ["a: 1\n", "- a\n", "a\n"])
def test_a_way_through_something_else_is_refused(text: str) -> None:
    assert refused(text, "a", "b").reason is Reason.MANIFEST_REFUSED


def test_a_key_over_several_lines_is_refused_and_not_bent() -> None:
    assert refused("? 'a\n  b'\n:\n  c: 1\n", "a b").reason is Reason.MANIFEST_REFUSED


def test_what_is_there_is_not_replaced() -> None:
    error = refused("a:\n  new: 0\n", "a")
    assert error.reason is Reason.MANIFEST_REFUSED and error.mismatches[0].field.endswith("a.new")


def test_refusals_name_the_document() -> None:
    named = "kind: Pod\nmetadata: {name: db}\na: 1\n"
    assert refused(named, "a").mismatches[0].field == "Pod/db a"
    for text in ("x: 1\n---\na: 1\n", "x: 1\n---\na: 1\nmetadata: 2\n"):
        with pytest.raises(UsageError) as error:
            read(text)[1].put(("a",), "new: 1\n")
        assert error.value.mismatches[0].field == "document in line 3 a"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\r\n", Reason.MALFORMED),
        ("\ufeffa: 1\n", Reason.MALFORMED),
        ("a: '\u2028'\n", Reason.MALFORMED),
        ("a: 1\na: 2\n", Reason.MALFORMED),
        ("x:\n  a: 1\n  a: 2\n", Reason.MALFORMED),
        ("a: [\n", Reason.MALFORMED),
        ("a: 2001-99-99\n", Reason.MALFORMED),
        ("a: !!python/object:os.system x\n", Reason.MALFORMED),
        ("a: \x00\n", Reason.MALFORMED),
        ("---\n" * 1_002, Reason.TOO_LARGE),
        ("#" * (4 << 20) + "\n", Reason.TOO_LARGE),
    ],
)
def test_what_is_no_stream_of_manifests_is_refused(text: str, reason: Reason) -> None:
    with pytest.raises(UsageError) as error:
        read(text)
    assert error.value.reason is reason


def test_a_merge_is_refused_where_somebody_asks() -> None:
    merged, plain = read("a: &x {b: 1}\nc:\n  <<: *x\n---\na: 1\n")
    check_written_out(plain)
    with pytest.raises(UsageError):
        check_written_out(merged)


@pytest.mark.parametrize(
    "text", [f"{BEGIN}\na: 1\n", f"{END}\n", f"{BEGIN}\n{BEGIN}\n{END}\n", f"{MARKED}{END}\n"]
)
def test_marks_come_in_pairs(text: str) -> None:
    with pytest.raises(UsageError) as error:
        without_injected(text)
    assert error.value.reason is Reason.MANIFEST_REFUSED


def test_a_result_that_says_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "indented", lambda text, columns: text)
    with pytest.raises(UsageError):
        put("a:\n  b: 1\n", "a")


def test_documents_are_appended() -> None:
    text = "a: 1\n"
    assert write(text, read(text), "---\nb: 2\n") == f"a: 1\n{BEGIN}\n---\nb: 2\n{END}\n"

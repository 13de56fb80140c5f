"""Rules by themselves: what each takes, what it says of the rest, and where."""

from __future__ import annotations

import re
from typing import Any

import pytest

from toposeal.errors import TopologyError
from toposeal.topology.schema import Either, Hex, Integer, ListOf, Object, OneOf, OrAny, Text, Word

TWO = Hex(2)
PAIR = Object({"a": Integer(0, 9), "b": TWO}, lambda a, b: (a, b))
REGISTER: Either[Any] = Either(Word("any", None), Word("own", "the own one"), PAIR, TWO)


def refused(rule: Any, value: object, path: str = "at") -> list[tuple[str, str, str]]:
    """Field, found and expected of every mismatch."""
    with pytest.raises(TopologyError) as caught:
        rule.read(value, path)
    return [(m.field, m.found, m.expected) for m in caught.value.mismatches]


def test_a_word_stands_for_its_value_and_nothing_else_does() -> None:
    rule = Word("any", 7)
    assert rule.read("any", "at") == 7
    for other in ("Any", "any ", "", None, True, 7, ["any"], {"any": "any"}):
        assert [found[0] for found in refused(rule, other)] == ["at"]
    assert refused(rule, "no") == [("at", "no", '"any"')]


def test_each_of_several_rules_takes_its_own() -> None:
    assert REGISTER.read("any", "at") is None
    assert REGISTER.read("own", "at") == "the own one"
    assert REGISTER.read("abcd", "at") == b"\xab\xcd"
    assert REGISTER.read({"a": 1, "b": "00ff"}, "at") == (1, b"\x00\xff")


def test_the_first_rule_that_takes_a_value_decides() -> None:
    assert Either[int](Word("x", 1), Word("x", 2)).read("x", "at") == 1
    word, text = Word("ab", "word"), Text(re.compile("[a-z]+"), "letters")
    assert [Either[str](*order).read("ab", "at") for order in ((word, text), (text, word))] == ["word", "ab"]


@pytest.mark.parametrize("value", ["ANY", "ab", "abcdef", "", None, True, 5, [], ["any"], [{"a": 1}]])
def test_what_no_rule_takes_is_told_of_all_of_them(value: object) -> None:
    ((field, _, expected),) = refused(REGISTER, value)
    assert field == "at"
    assert expected == '"any", or "own", or an object with a, b, or 2 bytes as 4 lower-case hex digits'
    assert expected == REGISTER.expected


def test_an_object_is_held_to_the_rule_for_objects_field_by_field() -> None:
    assert [field for field, _, _ in refused(REGISTER, {"a": 10, "b": "00", "c": 1})] == [
        "at.c",
        "at.a",
        "at.b",
    ]
    assert refused(REGISTER, {}) == [
        ("at.a", "nothing", "an integer from 0 to 9"),
        ("at.b", "nothing", TWO.expected),
    ]


def test_an_object_where_no_rule_wants_one_is_refused() -> None:
    assert refused(Either(Word("any", None), TWO), {"a": 1}) == [
        ("at", "an object of 1", f'"any", or {TWO.expected}')
    ]


def test_no_rule_takes_nothing() -> None:
    assert refused(Either[Any](), "any") == [("at", "any", "")]


def test_any_widens_what_is_expected_of_the_value_but_not_of_what_it_holds() -> None:
    rule = OrAny(ListOf(TWO, 1, 2, "pairs"))
    assert rule.read("any", "at") is None
    assert rule.read(["abcd"], "at") == (b"\xab\xcd",)
    assert refused(rule, []) == [("at", "a list of 0", '"any", or a list of 1 to 2 pairs')]
    assert refused(rule, ["abcd", "x"]) == [("at[1]", "x", TWO.expected)]


def test_fields_that_are_left_out_are_not_passed_on() -> None:
    rule = Object({"a": Integer(0, 9), "b": OneOf(("x",))}, dict[str, Any], optional=frozenset({"b"}))
    assert rule.read({"a": 1}, "at") == {"a": 1}
    assert refused(rule, {"b": "y"}) == [
        ("at.a", "nothing", "an integer from 0 to 9"),
        ("at.b", "y", "one of x"),
    ]


def test_what_is_no_topologys_mistake_is_not_swallowed() -> None:
    def broken(a: int) -> None:
        raise ZeroDivisionError

    rule = ListOf(Object({"a": Integer(0, 9)}, broken), 0, 1, "things")
    with pytest.raises(ZeroDivisionError):
        rule.read([{"a": 1}], "at")

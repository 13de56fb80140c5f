"""outside.graph and outside.drawing: where roles stand, and that edges lead where they belong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.meshes import build_mesh
from support.page import Page

from toposeal.limits import MAX_PAGE_EDGES, MAX_PAGE_ROLES
from toposeal.outside.drawing import draw
from toposeal.outside.graph import OUTSIDE, Edge, graph_of
from toposeal.topology.model import Call, Ingress, Topology


@cache
def sample() -> Topology:
    return build_mesh({"web": 1}).signed.topology


def topology(calls: Mapping[str, tuple[str, ...]], opened: tuple[str, ...] = ()) -> Topology:
    """Roles that call one another at port 1, and those that are open to the outside, at 443."""
    role = sample().roles["web"]
    roles = {
        name: replace(
            role,
            name=name,
            calls=tuple(Call(other, 1) for other in others),
            ingress=(Ingress(443, 1),) if name in opened else (),
        )
        for name, others in sorted(calls.items())
    }
    return replace(sample(), roles=roles)


@pytest.mark.parametrize(
    ("calls", "opened", "columns"),
    [
        ({"web": ("api",), "api": ("db",), "db": ()}, ("web",), [[OUTSIDE], ["web"], ["api"], ["db"]]),
        ({"a": ("c",), "b": ("c",), "c": ()}, (), [["a", "b"], ["c"]]),
        ({"a": ("b",), "b": ("a",)}, (), [["a"], ["b"]]),  # a circle that nobody leads to
        ({"a": ("a",), "z": ()}, (), [["a", "z"]]),
        ({"a": ("b",), "b": ("a",), "z": ()}, ("z",), [[OUTSIDE], ["z"], ["a"], ["b"]]),
        ({}, (), []),
    ],
)
def test_callers_stand_left_of_the_called(
    calls: dict[str, tuple[str, ...]], opened: tuple[str, ...], columns: list[list[str]]
) -> None:
    assert graph_of(topology(calls, opened)).columns == columns


def test_one_edge_has_all_the_ports_of_a_pair() -> None:
    one = topology({"a": ("b",), "b": ()}, ("a",))
    role = replace(
        one.roles["a"], calls=(Call("b", 9), Call("b", 7)), ingress=(Ingress(8443, 1), Ingress(443, 1))
    )
    graph = graph_of(replace(one, roles={**one.roles, "a": role}))
    assert graph.edges == [Edge(OUTSIDE, "a", (443, 8443)), Edge("a", "b", (7, 9))]


def test_what_is_too_much_to_see_is_counted() -> None:
    names = [f"r{number:03d}" for number in range(MAX_PAGE_ROLES + 5)]
    graph = graph_of(topology({name: tuple(names) for name in names}))
    assert sum(len(column) for column in graph.columns) == MAX_PAGE_ROLES
    assert graph.roles_left_out == 5
    assert len(graph.edges) == MAX_PAGE_EDGES
    assert graph.edges_left_out == MAX_PAGE_ROLES**2 - MAX_PAGE_EDGES


NAMES = st.sampled_from("abcdefg")


@given(st.dictionaries(NAMES, st.sets(NAMES), min_size=1), st.sets(NAMES))
def test_every_role_stands_once_and_every_edge_is_drawn_between_two(
    calls: dict[str, set[str]], opened: set[str]
) -> None:
    known = {name: tuple(sorted(others & set(calls))) for name, others in calls.items()}
    graph = graph_of(topology(known, tuple(opened)))
    placed = [name for column in graph.columns for name in column]
    assert len(placed) == len(set(placed))
    assert set(placed) - {OUTSIDE} == set(known)
    wanted = {(name, other) for name, others in known.items() for other in others}
    wanted |= {(OUTSIDE, name) for name in opened & set(known)}
    assert {(edge.caller, edge.called) for edge in graph.edges} == wanted
    drawn = Page.of(draw(graph, dict.fromkeys(known, "said")).encode())
    assert len([each for each in drawn.all("path") if each.get("class") == "edge"]) == len(wanted)
    boxes = [(int(each["x"]), int(each["y"])) for each in drawn.all("rect")]
    assert len(boxes) == len(set(boxes)) == len(placed)
    (svg,) = drawn.all("svg")
    points = [
        int(number) for path in drawn.all("path")[1:] for number in path["d"][1:].replace("C", " ").split()
    ]
    assert all(0 <= number <= max(int(svg["width"]), int(svg["height"])) for number in points)


def test_many_ports_are_shortened() -> None:
    one = topology({"a": ()}, ("a",))
    role = replace(one.roles["a"], ingress=tuple(Ingress(port, 1) for port in range(1, 12)))
    drawn = Page.of(draw(graph_of(replace(one, roles={"a": role})), {"a": "said"}).encode())
    assert "1, 2, ..." in drawn.said("text")
    assert "outside may call a at 1, 2, 3, 4, 5, 6, 7, 8, ..." in drawn.said("title")

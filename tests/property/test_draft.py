"""Manifests of many shapes: a draft's edges are connections that their policies admit, its text says what it
is, whoever completes it has a topology, and any text is taken or refused, never anything else."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.drafting import CLUSTER, by_anybody, completed, drafted, written

from toposeal.errors import ToposealError
from toposeal.kubernetes.draft_pods import Blank
from toposeal.kubernetes.draft_text import FILL_IN
from toposeal.topology.author import compile_yaml

_APPS = ("a", "b", "c")
_PORTS = {"http": 80, "data": 81}
_LABELS = {app: {"app": app, "tier": "x" if app == "a" else "y"} for app in _APPS}


def _expression(key: str, operator: str, values: Sequence[str]) -> dict[str, Any]:
    return {"key": key, "operator": operator, **({"values": list(values)} if operator.endswith("In") else {})}


_EXPRESSIONS = st.builds(
    _expression,
    st.sampled_from(["app", "tier", "none"]),
    st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]),
    st.lists(st.sampled_from(["a", "b", "x", "y"]), min_size=1, max_size=2),
)
_SELECTORS: st.SearchStrategy[dict[str, Any]] = (
    st.just({})
    | st.builds(lambda app: {"matchLabels": {"app": app}}, st.sampled_from(_APPS))
    | st.builds(lambda found: {"matchExpressions": found}, st.lists(_EXPRESSIONS, min_size=1, max_size=2))
)
_PEERS = st.builds(lambda found: {"podSelector": found}, _SELECTORS) | st.just(
    {"ipBlock": {"cidr": "192.0.2.0/24"}}
)
_NUMBERS = st.sampled_from(
    [{"port": 80}, {"port": 81}, {"port": 80, "endPort": 81}, {"port": 7, "protocol": "UDP"}, {}]
)


@st.composite
def rules(draw: st.DrawFn, ends: str) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    if draw(st.booleans()):
        rule[ends] = draw(st.lists(_PEERS, min_size=1, max_size=2))
    if draw(st.booleans()):
        rule["ports"] = draw(st.lists(_NUMBERS, min_size=1, max_size=2))
    return rule


@st.composite
def policies(draw: st.DrawFn) -> list[dict[str, Any]]:
    made = []
    for index in range(draw(st.integers(0, 3))):
        spec = {
            "podSelector": draw(_SELECTORS),
            "policyTypes": draw(st.lists(st.sampled_from(["Ingress", "Egress"]), min_size=1, unique=True)),
            "ingress": draw(st.lists(rules("from"), max_size=2)),
            "egress": draw(st.lists(rules("to"), max_size=2)),
        }
        group = "networking.k8s.io/v1"
        made.append(
            {"apiVersion": group, "kind": "NetworkPolicy", "metadata": {"name": f"p{index}"}, "spec": spec}
        )
    return made


def manifests(found: Sequence[Any]) -> str:
    ports = [{"containerPort": number, "name": name} for name, number in _PORTS.items()]
    spec = {"containers": [{"name": "c", "image": "i", "ports": ports}]}
    metadata = [{"name": app, "labels": _LABELS[app]} for app in _APPS]
    pods = [{"apiVersion": "v1", "kind": "Pod", "metadata": each, "spec": spec} for each in metadata]
    return yaml.safe_dump_all([*pods, *found])


def selected(selector: Mapping[str, Any], app: str) -> bool:
    labels = _LABELS[app]
    plain = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    tests = {
        "In": lambda key, values: labels.get(key) in values,
        "NotIn": lambda key, values: labels.get(key) not in values,
        "Exists": lambda key, values: key in labels,
        "DoesNotExist": lambda key, values: key not in labels,
    }
    told = selector.get("matchExpressions", [])
    return plain and all(tests[one["operator"]](one["key"], one.get("values")) for one in told)


def admitted(found: Sequence[Any], way: str, about: str, other: str, port: int) -> tuple[bool, bool]:
    """Whether Kubernetes lets the connection through at one end, and whether a rule names the other end."""
    specs = [one["spec"] for one in found if way in one["spec"]["policyTypes"]]
    isolating = [spec for spec in specs if selected(spec["podSelector"], about)]
    through, naming = not isolating, False
    for rule in (rule for spec in isolating for rule in spec[way.lower()]):
        ports = rule.get("ports") or [{}]
        fits = any(
            one.get("protocol", "TCP") == "TCP"
            and one.get("port", 0) <= port <= one.get("endPort", one.get("port", 65_535))
            for one in ports
        )
        peers = rule.get("from" if way == "Ingress" else "to")
        named = any(selected(peer["podSelector"], other) for peer in peers or () if "podSelector" in peer)
        through |= fits and (peers is None or named)
        naming |= fits and named
    return through, naming


@given(policies())
def test_edges_are_what_kubernetes_lets_through_and_somebody_has_named(found: list[dict[str, Any]]) -> None:
    made = drafted(manifests(found)).document["roles"]
    for caller in _APPS:
        edges = {(call["role"], call["port"]) for call in made[caller]["calls"]}
        for callee, port in ((callee, port) for callee in _APPS for port in _PORTS.values()):
            into, named = admitted(found, "Ingress", callee, caller, port)
            out, also = admitted(found, "Egress", caller, callee, port)
            assert ((callee, port) in edges) is (into and out and (named or also)), (caller, callee, port)


@given(policies())
def test_a_completed_draft_is_a_topology(found: list[dict[str, Any]]) -> None:
    text = written(manifests(found))
    assert text == written(manifests(found))
    compile_yaml(completed(text, by_anybody).encode(), bytes(48))


def plain(value: Any) -> Any:
    """With the word that is written for a blank."""
    if isinstance(value, Blank):
        return FILL_IN
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


@given(policies())
def test_the_text_says_what_was_drafted(found: list[dict[str, Any]]) -> None:
    assert yaml.safe_load(written(manifests(found))) == plain(drafted(manifests(found)).document)


@given(st.text(max_size=200) | st.text("abk:- \n\t{}[]&*!|>#'\"%<", max_size=80))
def test_any_text_is_drafted_or_refused(text: str) -> None:
    with contextlib.suppress(ToposealError):
        written(f"{CLUSTER}\n---\n{text}")


_LINES = CLUSTER.split("\n")
_VALUES = st.sampled_from(
    [
        "",
        "[]",
        "{}",
        "0",
        "-1",
        "true",
        "null",
        "x",
        "[x]",
        "[{}]",
        "{a: 1}",
        "[[]]",
        "1.5",
        "70000",
        '"\\n#"',
    ]
)


@given(st.integers(0, len(_LINES) - 1), _VALUES, st.booleans())
def test_a_damaged_manifest_is_drafted_or_refused(index: int, value: str, drop: bool) -> None:
    """A line left out, or what it says of its first name replaced."""
    name, colon, _ = _LINES[index].partition(":")
    lines = [*_LINES[:index], *([] if drop else [f"{name}{colon} {value}"]), *_LINES[index + 1 :]]
    with contextlib.suppress(ToposealError):
        completed(written("\n".join(lines)), by_anybody)

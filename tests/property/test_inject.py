"""Manifests of many shapes: what is injected comes back as it is, nothing else moves, and any text is taken
or refused, never anything else."""

from __future__ import annotations

import contextlib
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.injection import NAMED, identified, injected, injection

from toposeal.errors import UsageError
from toposeal.kubernetes.initdata import ANNOTATION, from_annotation, parse
from toposeal.kubernetes.inject import inject

_WORDS = st.text("abc-. #:'\"{}[]|>&*!%@`\\é\t", max_size=12)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=8,
)
_COMMENTS = st.sampled_from(["", "# a comment", "   # deeper: than anything", "#"])
_INDENTS = st.sampled_from([2, 3, 4, 7])
ASKING = injection(topology=identified("db"))


@st.composite
def manifests(draw: st.DrawFn) -> str:
    """A pod of role db among other documents, in one of PyYAML's styles, with comments between lines."""
    container = {
        "name": "redis",
        "image": "redis:8",
        "securityContext": {
            "runAsUser": 999,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "env": draw(st.lists(st.fixed_dictionaries({"name": _WORDS, "value": _WORDS}), max_size=2)),
    }
    spec: dict[str, Any] = {"containers": [container]}
    if draw(st.booleans()):
        spec["volumes"] = [{"name": "data", "emptyDir": {}}]
    if draw(st.booleans()):
        spec["initContainers"] = [{**container, "name": "first"}]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "db", "labels": {"toposeal.dev/role": "db"}},
        "spec": spec,
    }
    if draw(st.booleans()):
        pod["metadata"]["annotations"] = {"note": draw(_WORDS)}  # type: ignore[index]
    others = draw(st.lists(_VALUES.map(lambda value: {"kind": "Other", "data": value}), max_size=2))
    documents = draw(st.permutations([pod, *others]))
    text: str = yaml.safe_dump_all(
        documents,
        sort_keys=draw(st.booleans()),
        indent=draw(_INDENTS),
        default_flow_style=False,
        width=draw(st.sampled_from([20, 80, 4096])),
        explicit_start=draw(st.booleans()),
        allow_unicode=True,
    )
    comment = draw(_COMMENTS)
    return text.replace("\n  spec:", f"\n{comment}\n  spec:") if comment else text


@given(manifests())
def test_an_injected_stream_comes_back_byte_for_byte(text: str) -> None:
    once = inject(text, injection(), {})
    assert inject(once, injection(), {}) == once != text


@given(manifests())
def test_what_goes_into_containers_comes_back_too_or_is_refused(text: str) -> None:
    """Of a role whose application has an identity; refused where a list is in braces or meant twice."""
    try:
        once = inject(text, ASKING, {})
    except UsageError:
        assert "env: []" in text or "&id" in text
        return
    assert inject(once, ASKING, {}) == once
    rest = iter(once.split("\n"))
    assert all(line in rest for line in text.split("\n"))
    (pod,) = [d for d in yaml.safe_load_all(once) if d["kind"] == "Pod"]
    own = [*pod["spec"]["initContainers"][2:], *pod["spec"]["containers"]]
    assert all(container["env"][0]["name"] == "SPIFFE_ENDPOINT_SOCKET" for container in own)


@given(manifests())
def test_lines_are_added_and_none_is_changed(text: str) -> None:
    rest = iter(inject(text, injection(), {}).split("\n"))
    assert all(line in rest for line in text.split("\n"))


@given(manifests())
def test_without_the_added_parts_every_document_says_what_it_said(text: str) -> None:
    before = list(yaml.safe_load_all(text))
    after = list(yaml.safe_load_all(inject(text, injection(), {})))
    assert len(after) == len(before) + 1 and after[-1]["kind"] == "Service"
    for old, new in zip(before, after, strict=False):
        if old["kind"] != "Pod":
            assert new == old
            continue
        told = new["metadata"]["annotations"].pop(ANNOTATION)
        assert from_annotation(told.encode()).identity.role == "db"
        assert new["spec"].pop("runtimeClassName") == "kata-qemu-tdx"
        for name, count in (("initContainers", 2), ("volumes", 4)):
            assert all(item["name"].startswith("toposeal") for item in new["spec"][name][:count])
            new["spec"][name] = new["spec"][name][count:]
        for part in (new["metadata"], new["spec"]):
            for name in [name for name, value in part.items() if value in ([], {})]:
                del part[name]
        assert new == old


@given(st.text(max_size=300) | st.text("abk:- \n\t{}[]&*!|>#'\"%<", max_size=80))
def test_any_text_is_taken_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert inject(text, injection(), {}) == text


@given(st.data())
def test_a_damaged_result_is_taken_or_refused(data: st.DataObject) -> None:
    """Cut, doubled or spoilt anywhere; what is taken comes back as it is."""
    text = injected()
    at, to = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    text = text[:at] + data.draw(st.text("a:- \n#&*", max_size=3)) + text[to:]
    try:
        result = inject(text, injection(), NAMED)
    except UsageError:
        return
    assert inject(result, injection(), NAMED) == result


@given(st.binary(max_size=200))
def test_any_bytes_are_initdata_or_refused(data: bytes) -> None:
    for read in (from_annotation, parse):
        with contextlib.suppress(UsageError):
            read(data)

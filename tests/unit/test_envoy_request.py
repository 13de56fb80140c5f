"""Frames and forms between the daemon and the renderer's child: whole, or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.shop import view

from toposeal.dataplane.envoy_forms import Forms, filled
from toposeal.dataplane.envoy_open import forms, render
from toposeal.dataplane.envoy_plan import PodPlan, plan
from toposeal.dataplane.envoy_request import decode, encode
from toposeal.dataplane.layout import ENVOY_LAYOUT
from toposeal.errors import LocalProtocolError

PLAN = plan(view("web"))


@pytest.mark.parametrize("role", ["web", "api", "db"])
def test_a_plan_survives_the_way(role: str) -> None:
    made = plan(view(role))
    assert decode(PodPlan, encode(made)) == made


@pytest.mark.parametrize("role", ["web", "api", "db"])
def test_forms_survive_the_way(role: str) -> None:
    made = forms(plan(view(role)).frame, ENVOY_LAYOUT)
    assert decode(Forms, encode(made)) == made


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(encode(PLAN)), **changes}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[" * 100_000,
        b"\xff",
        b"[]",
        changed(unknown=1),
        changed(generation="1"),
        changed(generation=True),
        changed(own=None),
        changed(inbound={}),
        changed(inbound=[{"port": 1}]),
        changed(ingress=[{"port": 1, "target": 2.0}]),
    ],
)
def test_a_request_that_is_no_plan_is_refused(data: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        decode(PodPlan, data)


FORMS = encode(forms(PLAN.frame, ENVOY_LAYOUT))


def altered(**changes: Any) -> bytes:
    return json.dumps({**json.loads(FORMS), **changes}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"null",
        FORMS[:-1],
        FORMS + b"x",
        altered(more=[]),
        altered(chains_in=["no base64!"]),
        altered(chains_in=[1]),
        altered(chains_in=None),
        altered(clusters=[{"name": "a"}]),
        altered(inbound=[{"chain": {"parts": [{"literal": "", "slot": "1", "nested": []}]}, "cluster": {}}]),
    ],
)
def test_an_answer_that_is_no_forms_is_refused(data: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        decode(Forms, data)


def test_forms_of_another_frame_are_refused() -> None:
    """Nothing is filled in by halves."""
    made = decode(Forms, FORMS)
    assert filled(made, PLAN) == render(PLAN, ENVOY_LAYOUT)
    for name in ("web", "api"):
        with pytest.raises(LocalProtocolError, match="forms"):
            filled(forms(plan(view("db")).frame, ENVOY_LAYOUT), plan(view(name)))

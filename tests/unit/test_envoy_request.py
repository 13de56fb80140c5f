"""Plans and configuration between the daemon and the renderer's child: whole, or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.shop import view

from toposeal._wire import xds_pb2 as wire
from toposeal.dataplane.envoy_open import render
from toposeal.dataplane.envoy_plan import plan
from toposeal.dataplane.envoy_request import decode_plan, decode_rendered, encode_plan, encode_rendered
from toposeal.dataplane.layout import ENVOY_LAYOUT
from toposeal.errors import LocalProtocolError

PLAN = plan(view("web"))


@pytest.mark.parametrize("role", ["web", "api", "db"])
def test_a_plan_survives_the_way(role: str) -> None:
    made = plan(view(role))
    assert decode_plan(encode_plan(made)) == made


def test_what_is_rendered_survives_the_way() -> None:
    update = render(PLAN, ENVOY_LAYOUT)
    assert decode_rendered(encode_rendered(update), PLAN.version) == update


def changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(encode_plan(PLAN)), **changes}).encode()


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
        decode_plan(data)


GOOD = encode_rendered(render(PLAN, ENVOY_LAYOUT))
ONE = wire.Resource(name="a", value=b"x")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        GOOD[:-1],
        GOOD + b"\x7a\x00",  # a field that is not ours
        wire.Rendered(version=PLAN.version).SerializeToString(),
        wire.Rendered(version=PLAN.version, clusters=[ONE]).SerializeToString(),
        wire.Rendered(version=PLAN.version, clusters=[ONE, ONE], listeners=[ONE]).SerializeToString(),
        wire.Rendered(version="another", clusters=[ONE], listeners=[ONE]).SerializeToString(),
    ],
    ids=["nothing", "no message", "half", "more", "empty", "no listeners", "one twice", "another version"],
)
def test_an_answer_that_is_not_one_update_is_refused(data: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        decode_rendered(data, PLAN.version)

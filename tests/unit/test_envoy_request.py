"""Plans and files between the daemon and the renderer's child: whole, or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.shop import view

from toposeal.dataplane.envoy_plan import plan
from toposeal.dataplane.envoy_request import decode_files, decode_plan, encode_files, encode_plan
from toposeal.errors import LocalProtocolError

PLAN = plan(view("web"))


@pytest.mark.parametrize("role", ["web", "api", "db"])
def test_a_plan_survives_the_way(role: str) -> None:
    made = plan(view(role))
    assert decode_plan(encode_plan(made)) == made


def test_files_survive_the_way() -> None:
    files = {"lds.json": b"{}\n", "cds.json": b"[]\n"}
    assert decode_files(encode_files(files)) == files


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


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"lds.json": "", "cds.json": "", "sds-id.json": ""}',
        b'{"lds.json": "", "cds.json": 1}',
    ],
)
def test_an_answer_that_is_not_the_two_files_is_refused(data: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        decode_files(data)

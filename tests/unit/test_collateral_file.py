"""host.collateral_file: the caller's own collateral, apart into entries, checked for form."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from toposeal.errors import UsageError
from toposeal.evidence.collateral import parse_collateral
from toposeal.host.collateral_file import read_bundle, read_collateral
from toposeal_lab.simtdx import LabPki

Write = Callable[[bytes], str]


@cache
def collateral() -> bytes:
    return LabPki.create(1_800_000_000).collateral()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(data: bytes) -> str:
        path = tmp_path / "collateral.json"
        path.write_bytes(data)
        return str(path)

    return to_file


def test_entries_keep_their_order_and_every_signed_byte(write: Write) -> None:
    other = LabPki.create(1_800_000_000).collateral(evaluation=21)
    entries = read_collateral(write(b"[" + collateral() + b", " + other + b"]"))
    assert [json.loads(entry) for entry in entries] == [json.loads(collateral()), json.loads(other)]
    assert parse_collateral(entries[0]).tcb_info.text == parse_collateral(collateral()).tcb_info.text
    assert parse_collateral(entries[1]).tcb_info.evaluation == 21


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"[{}]",
        b"[1]",
        b"null",
        b"\xff",
        b"[" * 40,
        b"[" + b"{}," * 16 + b"{}]",
        b'[{"tcb_info": 1, "tcb_info": 2}]',
    ],
)
def test_V9_anything_else_is_the_callers_mistake(write: Write, content: bytes) -> None:
    with pytest.raises(UsageError):
        read_collateral(write(content))


def test_a_bare_object_is_an_entry_too(write: Write) -> None:
    assert [json.loads(entry) for entry in read_collateral(write(collateral()))] == [json.loads(collateral())]


def test_a_bundle_is_taken_apart(write: Write) -> None:
    path = write(b'{"tdx": [' + collateral() + b"]}")
    assert [json.loads(entry) for entry in read_bundle(path).tdx] == [json.loads(collateral())]


def test_a_file_above_the_cap_is_refused_unread(write: Write) -> None:
    with pytest.raises(UsageError, match="too_large"):
        read_collateral(write(bytes((4 << 20) + 1)))

"""What events say is readable where its layout is known, and raw everywhere else."""

from __future__ import annotations

import struct

import pytest

from toposeal.evidence.event_log import LoggedEvent
from toposeal.evidence.log_text import describe
from toposeal_lab.eventlogs import DSTACK_RUNTIME, EV_EVENT_TAG, EV_IPL, agent_event

VARIABLE, BLOB2, LINUX_TAG = 0x80000001, 0x8000000A, 0x8F3B22ED


def said(kind: int, data: bytes, name: str = "") -> str:
    return describe(LoggedEvent(0, kind, bytes(48), data, name))


def variable(name: str, data: bytes) -> bytes:
    return bytes(16) + struct.pack("<QQ", len(name), len(data)) + name.encode("utf-16-le") + data


def test_known_layouts_are_read() -> None:
    assert said(VARIABLE, variable("SecureBoot", b"\1")) == "SecureBoot (1 bytes)"
    assert said(BLOB2, b"\x08TdxTable" + bytes(8)) == "TdxTable"
    assert said(EV_EVENT_TAG, struct.pack("<II", LINUX_TAG, 13) + b"Linux initrd\0") == "Linux initrd"
    assert said(EV_EVENT_TAG, agent_event("a", "b", "c").data) == "a b c"
    assert said(EV_IPL, b"kernel_cmdline: quiet\0") == "kernel_cmdline: quiet"
    assert said(DSTACK_RUNTIME, b"\xde\xad", name="app-id") == "app-id: dead"
    assert said(DSTACK_RUNTIME, b"{}", name="key-provider") == "key-provider: {}"


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (VARIABLE, variable("SecureBoot", b"\1")[:-1]),
        (VARIABLE, variable("SecureBoot", b"\1") + b"\1"),
        (VARIABLE, bytes(31)),
        (VARIABLE, bytes(16) + b"\xff" * 16),
        (BLOB2, b"\x09TdxTable"),
        (BLOB2, b"\x02\xff\xff\0"),
        (EV_EVENT_TAG, struct.pack("<II", LINUX_TAG, 1) + b"\xff"),
        (EV_EVENT_TAG, b"\xff"),
        (EV_IPL, b"\x1b[2J"),
    ],
)
def test_anything_else_is_shown_raw(kind: int, data: bytes) -> None:
    assert said(kind, data) == data.hex()


def test_nothing_is_said_by_nothing() -> None:
    for kind in (VARIABLE, BLOB2, EV_EVENT_TAG, EV_IPL):
        assert said(kind, b"") == ""

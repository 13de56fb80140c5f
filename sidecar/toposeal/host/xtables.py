"""The rules of legacy iptables as the kernel's own bytes, to see that they changed.

x_tables has no netlink and notifies nobody; getsockopt reads all of it in microseconds, where
iptables-save would start six processes a second.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct

from toposeal.errors import PodError, Reason

# linux/netfilter_ipv4/ip_tables.h and netfilter_ipv6/ip6_tables.h, 64-bit layouts.
_SO_GET_INFO, _SO_GET_ENTRIES = 64, 65
_NAME = 32
_INFO = struct.Struct(f"={_NAME}s13I")  # name, valid hooks, 5 entries, 5 underflows, number, size
_ENTRIES_HEADER = 40
_COUNTERS = 16
# socket level, offset of next_offset and of the counters in an entry
_FAMILIES: dict[int, tuple[int, int, int]] = {socket.AF_INET: (0, 90, 96), socket.AF_INET6: (41, 142, 152)}
_TABLES = (b"mangle", b"filter", b"nat")

_libc = ctypes.CDLL(None, use_errno=True)


def snapshot() -> bytes:
    """All rules of the three tables in both families, packet counters zeroed.

    Needs CAP_NET_ADMIN; raises PodError(FIREWALL) where the kernel has no legacy iptables.
    """
    return b"".join(_table(family, table) for family in _FAMILIES for table in _TABLES)


def _table(family: int, table: bytes) -> bytes:
    level, next_offset, counters = _FAMILIES[family]
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        info = _getsockopt(sock, level, _SO_GET_INFO, table.ljust(_INFO.size, b"\0"))
        size = _INFO.unpack(info)[-1]
        header = struct.pack(f"={_NAME}sI", table, size).ljust(_ENTRIES_HEADER, b"\0")
        entries = _getsockopt(sock, level, _SO_GET_ENTRIES, header + bytes(size))[_ENTRIES_HEADER:]
    at = 0
    while at < size:
        entries[at + counters : at + counters + _COUNTERS] = bytes(_COUNTERS)
        step = struct.unpack_from("=H", entries, at + next_offset)[0]
        if step == 0:
            raise PodError.of(Reason.FIREWALL, f"iptables {table.decode()}", "an empty entry", "entries")
        at += step
    return bytes(info) + bytes(entries)


def _getsockopt(sock: socket.socket, level: int, option: int, request: bytes) -> bytearray:
    """The kernel reads the table's name from the buffer, which socket.getsockopt cannot pass."""
    buffer = ctypes.create_string_buffer(request, len(request))
    length = ctypes.c_uint32(len(request))
    if _libc.getsockopt(sock.fileno(), level, option, buffer, ctypes.byref(length)) != 0:
        error = os.strerror(ctypes.get_errno())
        raise PodError.of(Reason.FIREWALL, "legacy iptables", error, "the table's rules")
    return bytearray(buffer.raw[: length.value])

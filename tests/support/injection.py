"""The shop in Kubernetes, as tests inject it: its manifests, a topology that names their digests.

`python tests/support/injection.py` writes the golden result anew; the diff is for a reviewer.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import yaml

from toposeal.kubernetes.initdata import ANNOTATION, Initdata, PodIdentity, build
from toposeal.kubernetes.inject import Injection, inject
from toposeal.kubernetes.parts import Settings
from toposeal.topology.author import compile_yaml
from toposeal.topology.model import Topology
from toposeal.topology.parse import parse_topology

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "kubernetes"
GOLDEN = FOLDER / "injected.yaml"
APP = (FOLDER / "app.yaml").read_text()
OWNER = b'{"required":[]}'
NAMED = {"Deployment/api": "api"}
SETTINGS = Settings("registry.example/toposeal@sha256:" + "5e" * 32, "kata-qemu-tdx", "toposeal")
_VALUE = re.compile(rf"(?<={re.escape(ANNOTATION)}: )\S+")


def initdata(role: str, kind: str = "tdx", **others: str) -> Initdata:
    return build(kind, PodIdentity(OWNER, "shop", role, 1), others)


@cache
def topology() -> Topology:
    """The example's, with these digests, a probe of web's, and a register that db's references want."""
    text = (ROOT / "docs/examples/shop/topology.yaml").read_text()
    head, *roles = re.split(r"^(?=  (?:web|api|db):$)", text, flags=re.MULTILINE)
    told = [
        re.sub(r'mrconfigid: "[0-9a-f]+"', f'mrconfigid: "{initdata(name).digest.hex()}"', role)
        for name, role in zip(("web", "api", "db"), roles, strict=True)
    ]
    told[0] = told[0].replace(
        "    platforms", "    probes: [{port: 8080, path: /ready, target: 8080}]\n    platforms"
    )
    told[2] = told[2].replace("rtmr3: any", "rtmr3: instance")
    return parse_topology(compile_yaml("".join([head, *told]).encode(), bytes(48)))


def identified(*names: str, at_least: int | None = None) -> Topology:
    """The same where the applications of these roles have an identity; and with so many pods of each."""
    roles = topology().roles
    asks = {name: replace(role, workload_api=name in names) for name, role in roles.items()}
    if at_least is not None:
        asks = {name: replace(role, min_replicas=at_least) for name, role in asks.items()}
    return replace(topology(), roles=asks)


def injection(**changes: object) -> Injection:
    made = {name: initdata(name) for name in topology().roles}
    return replace(Injection(topology(), "tdx", made, SETTINGS), **changes)  # type: ignore[arg-type]


@cache
def injected(text: str = APP) -> str:
    return inject(text, injection(), NAMED)


def labelled(text: str = APP) -> str:
    """The same, where each workload says its role by a label of its own, as kustomize selects by."""
    documents = list(yaml.safe_load_all(text))
    for document in documents:
        template = document.get("spec", {}).get("template")
        if template is not None:
            role = document["metadata"]["name"]
            register = {"toposeal.dev/rtmr3": "instance"} if role == "db" else {}
            document["metadata"]["labels"] = {"toposeal.dev/role": role, **register}
            template["metadata"]["labels"]["toposeal.dev/role"] = role
    return "".join(f"---\n{yaml.dump(document, Dumper=_Plain)}" for document in documents)


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        """Whatever stands twice is written twice."""
        return True


def without_values(text: str) -> str:
    """What compresses may differ from machine to machine; what it holds is compared elsewhere."""
    return _VALUE.sub("INITDATA", text)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))
    GOLDEN.write_text(without_values(injected()))

"""Somebody who follows docs/kubernetes.md, and what docs/tutorial.md says of clusters, at a shell.

With a cluster every command is run. Without, those that are ours, and files stand in for what kubectl and
helm would print. genpolicy is a stand-in that prints a policy: Kata's own needs the images.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from support.injection import ROOT, labelled
from support.pages import Shown, filled, followed, missing
from support.tdx import PKI
from support.webhook import make_files

PAGE, TUTORIAL = "docs/kubernetes.md", "docs/tutorial.md"
EXAMPLES = ROOT / "docs" / "examples"
_OTHERS = ("kubectl", "helm", "genpolicy")
_IMAGE = f"registry.example/toposeal@sha256:{'5e' * 32}"
_VALUES = {  # what the page abbreviates
    "registry.example/toposeal@sha256:...": _IMAGE,
    "registry.example/toposeal@sha256:5e...": _IMAGE,
    "0615015e...": "...",
}
# Where a part of the page begins.
_PARTS = {
    "toposeal inject -f app.yaml": "steps",
    "kubectl kustomize": "kustomize",
    "helm template": "helm",
    "kubectl create namespace": "webhook",
    "toposeal topology from": "draft",
}


def parts() -> dict[str, list[Shown]]:
    """The page's commands by the part that they belong to."""
    found: dict[str, list[Shown]] = {part: [] for part in _PARTS.values()}
    begun = iter(_PARTS.items())
    beginning, following = next(begun)
    part = ""
    for each in followed(PAGE):
        if each.command.startswith(beginning):
            part = following
            beginning, following = next(begun, ("nothing more", ""))
        found[part].append(each)
    return found


@dataclass
class Reader:
    """At a shell in `folder`, where the owner's files are; `tools` are kubectl's and helm's folder."""

    folder: Path
    tools: Path | None = None
    config: Path | None = None  # KUBECONFIG
    done: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        shutil.copytree(EXAMPLES, self.folder, dirs_exist_ok=True)
        programs = self.folder / "bin"
        programs.mkdir()
        (programs / "genpolicy").write_text("#!/bin/sh\necho 'package agent_policy'\n")
        (programs / "genpolicy").chmod(0o755)
        shutil.copy(EXAMPLES / "shop" / "topology.yaml", self.folder)
        (self.folder / "app.yaml").write_text(example())
        (self.folder / "collateral.json").write_bytes(PKI.collateral())
        make_files(self.folder)
        self.run("toposeal topology keygen --out .")

    def follow(self, each: Shown, folder: str = ".") -> str:
        """Run it, and compare what it prints; or write what it would, where it is not ours to run."""
        self.done.append(each.command)
        command = filled(each.command, _VALUES)
        if self.tools is None and command.startswith(_OTHERS):
            target = command.partition("#")[0].partition(">")[2].strip()
            if target:
                (self.folder / folder / target).write_text(example())
            return ""
        said = self.run(command, folder)
        absent = missing(tuple(filled(line, _VALUES) for line in each.lines), said)
        assert absent == [], f"{each.command}\n{said}"
        return said

    def run(self, command: str, folder: str = ".") -> str:
        """What it prints on standard output."""
        here = (self.folder / "bin", Path(sys.executable).parent, *([self.tools] if self.tools else []))
        environment = {
            "PATH": ":".join([*map(str, here), os.environ["PATH"]]),
            "HOME": str(self.folder),
            "KUBECONFIG": str(self.config or "/nonexistent"),
        }
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder / folder, env=environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def declare(self, digests: str) -> None:
        """The owner puts what `--digests` prints into the topology."""
        path = self.folder / "topology.yaml"
        text = path.read_text()
        for name, role in yaml.safe_load(digests)["roles"].items():
            before = rf'(^  {name}:$.*?mrconfigid: ")[0-9a-f]{{96}}'
            text, found = re.subn(
                before, rf"\g<1>{role['tdx'][0]['mrconfigid']}", text, count=1, flags=re.M | re.S
            )
            assert found == 1
        path.write_text(text)


def example() -> str:
    """The example's manifests, where each workload says its role."""
    return labelled((EXAMPLES / "shop" / "app.yaml").read_text())


def steps(reader: Reader) -> None:
    """Step by step: the policies of two workloads, the digests into the topology, and the result."""
    for each in parts()["steps"]:
        if each.command.startswith("toposeal topology sign"):
            reader.declare(digests(reader, "--add web/policy.rego=web.rego --add db/policy.rego=db.rego"))
        reader.follow(each)
        if each.command.startswith("genpolicy"):
            reader.run(each.command.replace("web.rego", "db.rego"))


def kustomized(reader: Reader) -> None:
    for each in parts()["kustomize"]:
        if each.command.startswith("toposeal inject"):
            reader.declare(digests(reader))
        reader.follow(each)


def charted(reader: Reader) -> None:
    """In the folder of the examples' chart, with the owner's files."""
    folder = reader.folder / "helm"
    for name in ("owner.json", "topology.yaml"):
        shutil.copy(reader.folder / name, folder)
    for each in parts()["helm"]:
        if each.command.startswith("toposeal inject"):
            shutil.copy(folder / "app.yaml", reader.folder)
            reader.declare(digests(reader))
            shutil.copy(reader.folder / "topology.yaml", folder)
        reader.follow(each, "helm")


def hooked(reader: Reader) -> None:
    """After the steps, in place of the last of them."""
    reader.run("kubectl create namespace shop") if reader.tools else None
    for each in parts()["webhook"]:
        reader.follow(each)


def drafted(reader: Reader) -> None:
    shutil.copy(EXAMPLES / "shop" / "network.yaml", reader.folder)
    for each in parts()["draft"]:
        reader.follow(each)


def tutored(reader: Reader) -> None:
    """The tutorial's end. What `from` drafts the owner completes: here it is the example."""
    for each in (found for found in followed(TUTORIAL) if found.kind == "sh"):
        if " from " in each.command:
            (reader.folder / "topology.yaml").unlink()
        if "keygen" in each.command:
            for path in reader.folder.glob("owner.*"):
                path.unlink()
        reader.follow(each)
        if " from " in each.command:
            shutil.copy(EXAMPLES / "shop" / "topology.yaml", reader.folder)
        if "keygen" in each.command:
            reader.declare(digests(reader))


def digests(reader: Reader, more: str = "") -> str:
    """What the owner has to declare of the files as they are."""
    given = "-f app.yaml --topology topology.yaml --owner owner.json --min-version 1 --digests"
    return reader.run(f"toposeal inject {given} {more}")


def assert_all(reader: Reader, *names: str) -> None:
    """Nothing of these parts was left out."""
    assert reader.done == [each.command for name in names for each in parts()[name]] != []

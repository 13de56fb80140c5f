"""`toposeal inject` and its kin as a person runs them: the example's files, an owner, a topology."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from support.injection import ROOT
from toposeal.cli.main import entry

EXAMPLE = ROOT / "docs" / "examples" / "shop"
ROLES = [f"--role={name}=Deployment/{name}" for name in ("web", "api", "db")]
PLACES = ["--image=registry.example/toposeal:1", "--runtime-class=kata-qemu-tdx"]


class Shop:
    """The example's files, and the owner's."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        assert entry(["topology", "keygen", "--out", str(folder)]) == 0
        self.topology = self.write("topology.yaml", (EXAMPLE / "topology.yaml").read_text())
        self.owner = str(folder / "owner.json")
        self.app = self.write("app.yaml", (EXAMPLE / "app.yaml").read_text())
        capsys.readouterr()

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def run(self, *more: str, named: Sequence[str] = ROLES) -> tuple[int, str, str]:
        app = [] if "-f" in more else ["-f", self.app]
        return self.entry("inject", *self.declared(), *named, *more, *app)

    def declared(self) -> list[str]:
        return ["--topology", self.topology, "--owner", self.owner, "--min-version=1"]

    def entry(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and error."""
        code = entry(list(arguments))
        out, err = self._capsys.readouterr()
        return code, out, err

    def take_digests(self, *more: str) -> None:
        """Into the topology, as its author would."""
        code, out, err = self.run("--digests", *more)
        assert code == 0, err
        head, *roles = re.split(
            r"^(?=  (?:web|api|db):$)", Path(self.topology).read_text(), flags=re.MULTILINE
        )
        told = yaml.safe_load(out)["roles"]
        for index, name in enumerate(("web", "api", "db")):
            digest = told[name]["tdx"][0]["mrconfigid"]
            roles[index] = re.sub(r'mrconfigid: "[0-9a-f]+"', f'mrconfigid: "{digest}"', roles[index])
        Path(self.topology).write_text("".join([head, *roles]))

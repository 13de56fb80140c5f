"""`toposeal topology from` as its users call it: from manifests to a draft, completed, checked and signed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from support.drafting import ROOT, SHOP, by_example, completed, written
from support.injection import injected

from toposeal.cli.main import entry
from toposeal.kubernetes.draft_text import FILL_IN

FILES = [str(SHOP / name) for name in ("app.yaml", "network.yaml")]
ARGUMENTS = [word for path in FILES for word in ("-f", path)]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = entry(["topology", *arguments])
        return (code, *capsys.readouterr())

    return call


def test_from_manifests_to_a_signed_topology(run: Run, tmp_path: Path) -> None:
    path, out = str(tmp_path / "topology.yaml"), str(tmp_path / "topology.dsse")
    assert run("keygen", "--out", str(tmp_path))[0] == 0
    assert run("from", *ARGUMENTS, "--mesh", "shop", "-o", path) == (0, "", "")
    signing = ["--owner", str(tmp_path / "owner.json"), "--key", str(tmp_path / "owner.key"), "--out", out]
    for refused in (run("check", path), run("sign", path, *signing)):
        assert refused[:2] == (1, "") and FILL_IN in refused[2]
    assert not Path(out).exists()
    Path(path).write_text(completed(Path(path).read_text(), by_example))
    code, told, _ = run("check", path)
    assert code == 0 and "calls api:8080" in told and "ingress 8443" in told
    assert run("sign", path, *signing)[0] == 0


def test_it_is_printed_and_never_overwrites(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "topology.yaml"
    whole = written(*(Path(path).read_text() for path in FILES))
    assert run("from", *ARGUMENTS, "--mesh=shop") == (0, whole, "")
    out.write_text("mine")
    assert run("from", *ARGUMENTS, "--mesh=shop", "--out", str(out))[0] == 1 and out.read_text() == "mine"


def test_machines_may_be_of_the_other_kind(run: Run) -> None:
    code, told, _ = run("from", *ARGUMENTS, "--mesh=shop", "--tee=snp")
    assert code == 0 and f"host_data: {FILL_IN}" in told and "mrtd" not in told


def test_what_inject_has_put_into_a_file_is_not_seen(run: Run, tmp_path: Path) -> None:
    app = tmp_path / "app.yaml"
    drafts = set()
    for text in ((ROOT / "tests" / "kubernetes" / "app.yaml").read_text(), injected()):
        app.write_text(text)
        code, told, _ = run("from", "-f", str(app), "--mesh=shop")
        assert code == 0
        drafts.add(told)
    assert len(drafts) == 1


@pytest.mark.parametrize(
    ("text", "more"),
    [
        (b"\xff", []),
        (b"a: [", []),
        (b"kind: ConfigMap", []),
        (b"a: &a [*a]", []),
        (Path(FILES[0]).read_bytes(), ["--mesh=Shop"]),
        (Path(FILES[0]).read_bytes(), ["-f", FILES[0]]),
        (Path(FILES[0]).read_bytes(), ["-f", "/nonexistent"]),
    ],
)
def test_on_an_error_nothing_is_written(run: Run, tmp_path: Path, text: bytes, more: list[str]) -> None:
    app, out = tmp_path / "app.yaml", tmp_path / "out.yaml"
    app.write_bytes(text)
    code, told, err = run("from", "-f", str(app), "--mesh=shop", "-o", str(out), *more)
    assert (code, told) == (1, "") and err.startswith("toposeal: ") and not out.exists()


def test_the_page_shows_what_is_printed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    shown = re.search(r"\$ toposeal topology (from .*)\n((?:.+\n)+?)```", page)
    assert shown is not None
    monkeypatch.chdir(SHOP)
    code, told, _ = run(*shlex.split(shown[1]))
    parts = [part for part in shown[2].split("...\n") if part]
    assert code == 0 and len(parts) == 1
    assert f"\n{parts[0]}" in told

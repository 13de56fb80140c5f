"""`toposeal envoy`, from arguments to files that Envoy validates."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from support.envoy import run_validation, validate
from support.envoy_oracle import violations
from support.meshes import Mesh, build_mesh

from toposeal.cli.main import entry
from toposeal.dataplane.envoy_closed import closed
from toposeal.dataplane.envoy_readable import opened
from toposeal.dataplane.from_sealed import pod_view
from toposeal.dataplane.layout import ENVOY_LAYOUT


@cache
def mesh() -> Mesh:
    return build_mesh()


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_bootstrap_writes_what_the_daemon_gives_envoy_before_the_seal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry(["envoy", "bootstrap", "--out", str(tmp_path / "new" / "dir")]) == 0
    assert files(tmp_path / "new" / "dir") == closed(ENVOY_LAYOUT)
    assert run_validation(tmp_path / "new" / "dir", "bootstrap.json") == ""
    assert "lds.json" in capsys.readouterr().out


def render(tmp_path: Path, **changes: str) -> int:
    """The command for the first member, with arguments changed."""
    (tmp_path / "topology").write_bytes(mesh().signed.envelope)
    (tmp_path / "document").write_bytes(mesh().document())
    arguments = {
        "topology": str(tmp_path / "topology"),
        "manifest": str(tmp_path / "document"),
        "member": mesh().pods[0].iid.hex(),
        "out": str(tmp_path / "out"),
        **changes,
    }
    return entry(["envoy", "render", *(f"--{name}={value}" for name, value in arguments.items())])


@pytest.mark.parametrize("index", range(4))
def test_render_writes_what_the_members_daemon_sends(tmp_path: Path, index: int) -> None:
    iid = mesh().pods[index].iid
    assert render(tmp_path, member=iid.hex()) == 0
    found = files(tmp_path / "out")
    expected = opened(pod_view(mesh().sealed, iid, 1), ENVOY_LAYOUT)
    assert {name: found[name] for name in expected} == expected
    assert set(found) == {"bootstrap.json", *expected}
    assert violations(found) == []
    assert validate(found, tmp_path / "out") == ""


def test_K6_render_shows_no_secret(tmp_path: Path) -> None:
    assert render(tmp_path) == 0
    assert b"PRIVATE" not in b"".join(files(tmp_path / "out").values())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"member": "00"}, 1),
        ({"member": "AB" * 48}, 1),
        ({"member": "00" * 48}, 2),
        ({"manifest": "/nowhere"}, 1),
        ({"topology": "/nowhere"}, 1),
        ({"out": "/proc/nowhere"}, 1),
    ],
)
def test_what_cannot_be_rendered_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, str], code: int
) -> None:
    assert render(tmp_path, **changes) == code
    assert capsys.readouterr().err != ""
    assert not (tmp_path / "out").exists()


def test_usage_errors_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["envoy"], ["envoy", "bootstrap"], ["envoy", "render", "--out", "x"], ["envoy", "x"]):
        with pytest.raises(SystemExit) as caught:
            entry(arguments)
        assert caught.value.code == 1
    capsys.readouterr()


def test_help_says_that_keys_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        entry(["envoy", "render", "--help"])
    assert "except private keys" in " ".join(capsys.readouterr().out.split())

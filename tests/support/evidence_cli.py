"""`toposeal evidence` in this process, in a folder of files, under the lab's roots."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from support.snp import amd
from support.tdx import PKI
from toposeal.cli.main import entry
from toposeal.verification.model import TrustAnchors

Run = Callable[..., tuple[int, str, str]]


def in_folder(
    folder: Path,
    files: Mapping[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    anchors: TrustAnchors | None = None,
) -> Run:
    """What runs `toposeal evidence ARGUMENTS` in `folder`, with `files` there: exit code, stdout, stderr.

    `anchors` are the roots, the lab's Intel and AMD unless given.
    """
    for name, data in files.items():
        (folder / name).write_bytes(data)
    monkeypatch.chdir(folder)
    roots = anchors or replace(PKI.anchors(), amd_roots=amd().anchors().amd_roots)

    def run_evidence(*arguments: str) -> tuple[int, str, str]:
        code = entry(["evidence", *arguments], roots)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_evidence

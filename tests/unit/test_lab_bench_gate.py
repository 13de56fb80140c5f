"""From when the gate's time counts, by what a member says."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from toposeal_lab.bench_dataplane_gate import sealed_at
from toposeal_lab.member import Member
from toposeal_lab.pods import Pod


class Here(Pod):
    """No namespace: what is started is a process of this host."""

    def command(self, argv: Sequence[str], uid: int | None = None, gid: int | None = None) -> list[str]:
        return list(argv)


@pytest.mark.parametrize("phases", [("sealed", "active"), ("active",), ("active", "sealed")])
def test_who_is_active_in_the_same_step_has_sealed_then(phases: tuple[str, ...], tmp_path: Path) -> None:
    told = [f'{{"event": "phase", "phase": "{name}", "t": {at}}}' for at, name in enumerate(phases, 1)]
    member = Member(Here("a", "", 1), "web", tmp_path / "state", lambda name, event: None)
    member.start([sys.executable, "-I", "-c", "import sys; print(*sys.argv[1:], sep='\\n')", *told])
    assert sealed_at(member) == 1

"""What the lab needs is said before anything is started, and all of it at once."""

from __future__ import annotations

import os

import pytest

from toposeal.errors import UsageError
from toposeal_lab import requirements
from toposeal_lab.requirements import SIDECAR_PROGRAMS, check_machine


def test_everything_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(requirements, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as refused:
        check_machine({"no-such-program": "some-package"})
    said = str(refused.value)
    for wanted in ("uid 1000", "apt-get install some-package", "toposeal[sidecar]", "toposeal[lab]"):
        assert wanted in said


@pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root")
def test_a_machine_that_has_it_all_is_accepted() -> None:
    check_machine(SIDECAR_PROGRAMS)

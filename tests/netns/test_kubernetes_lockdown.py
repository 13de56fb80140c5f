"""The lockdown container of an injected pod: its command, with its capabilities and no other."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from support.injection import injected


def test_the_rules_can_be_applied_with_what_the_container_has() -> None:
    deployment = next(d for d in yaml.safe_load_all(injected()) if d["kind"] == "Deployment")
    lockdown = deployment["spec"]["template"]["spec"]["initContainers"][0]
    kept = ",".join(
        ["-all", *(f"+{name.lower()}" for name in lockdown["securityContext"]["capabilities"]["add"])]
    )
    program, *arguments = lockdown["command"]
    assert program == "toposeal"
    confined = ["setpriv", f"--inh-caps={kept}", f"--bounding-set={kept}", "--no-new-privs"]
    command = [*confined, sys.executable, "-Im", "toposeal", *arguments]
    done = subprocess.run(["unshare", "--net", *command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "closed: nft\n"), done.stderr


@pytest.mark.parametrize("kept", ["-all", "-all,+net_raw"])
def test_control_without_them_it_fails_and_says_so(kept: str) -> None:
    confined = ["setpriv", f"--inh-caps={kept}", f"--bounding-set={kept}", "--no-new-privs"]
    command = [*confined, sys.executable, "-Im", "toposeal", "firewall", "apply"]
    done = subprocess.run(["unshare", "--net", *command], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "firewall" in done.stderr

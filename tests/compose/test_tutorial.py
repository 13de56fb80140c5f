"""The tutorial, as somebody follows it: each command in order on a real engine, and what it prints."""

from __future__ import annotations

from support.engine import PROJECT, Engine
from support.pages import ROOT, missing, shown

TUTORIAL = ROOT / "docs" / "tutorial.md"
COMMANDS = [each for each in shown(TUTORIAL) if each.kind == "console"]
SECONDS = 180  # the longest: a pod that takes another's place


def test_every_command_of_the_tutorial_prints_what_it_says(docker_engine: Engine) -> None:
    try:
        for each in COMMANDS:
            command = each.command.replace("docker compose", f"{docker_engine.program} -p {PROJECT}")
            done = docker_engine.run("sh", "-c", f"exec 2>&1; {command}", check=False, timeout_s=SECONDS)
            absent = missing(each.lines, done.stdout)
            assert done.returncode == 0 and not absent, f"{command}\n{absent}\n{done.stdout}"
    finally:
        docker_engine.compose("down", "--volumes", "--timeout", "1", check=False)

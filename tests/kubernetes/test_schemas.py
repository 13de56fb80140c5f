"""What inject writes, by the schemas of several versions of Kubernetes: make k8s-test."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.injection import APP, NAMED, ROOT, identified, injected, injection

from toposeal.kubernetes.inject import inject

VALIDATE = ROOT / "build" / "kubernetes" / "bin" / "kubernetes-validate"
VERSIONS = ("1.29", "1.31", "1.33", "1.35", "1.37")  # 1.29 is the first that starts native sidecars by itself
OBJECTS = 8  # of app.yaml, with the three Services

pytestmark = pytest.mark.skipif(not VALIDATE.exists(), reason="make k8s-test fetches the schemas")


def validated(folder: Path, text: str, version: str) -> tuple[int, str]:
    path = folder / "manifests.yaml"
    path.write_text(text)
    done = subprocess.run(
        [VALIDATE, "--strict", "-k", version, path], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(tmp_path: Path, version: str) -> None:
    code, said = validated(tmp_path, injected(), version)
    assert code == 0 and said.count(f"against version {version}") == OBJECTS, said


def test_every_object_is_valid_where_applications_have_an_identity(tmp_path: Path) -> None:
    text = inject(APP, injection(topology=identified("web", "api", "db")), NAMED)
    code, said = validated(tmp_path, text, VERSIONS[-1])
    assert code == 0 and text.count("SPIFFE_ENDPOINT_SOCKET") == 4, said


def test_a_field_that_does_not_exist_would_be_found(tmp_path: Path) -> None:
    code, said = validated(tmp_path, injected().replace("failureThreshold", "failureTreshold"), VERSIONS[0])
    assert code != 0 and "failureTreshold" in said

"""docs/kubernetes.md and the end of docs/tutorial.md: each command of ours is run, in order, on files.

Those of kubectl, helm and genpolicy too by `make k8s-api-test` (test_cluster_page.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support.cluster_reader import Reader, assert_all, charted, drafted, hooked, kustomized, steps, tutored


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def test_the_steps_lead_to_sealed_manifests_and_to_a_webhook(reader: Reader) -> None:
    steps(reader)
    sealed = list(yaml.safe_load_all((reader.folder / "sealed.yaml").read_text()))
    assert sum("initContainers" in str(each) for each in sealed) == 3
    hooked(reader)
    webhook = list(yaml.safe_load_all((reader.folder / "webhook.yaml").read_text()))
    assert "MutatingWebhookConfiguration" in {each["kind"] for each in webhook}
    assert_all(reader, "steps", "webhook")


def test_kustomize_and_helm_are_given_what_they_include(reader: Reader) -> None:
    kustomized(reader)
    component = reader.folder / "kustomize" / "shop" / "initdata" / "kustomization.yaml"
    assert yaml.safe_load(component.read_text())["kind"] == "Component"
    charted(reader)
    assert (reader.folder / "helm" / "shop" / "charts" / "toposeal" / "templates").is_dir()
    assert_all(reader, "kustomize", "helm")


def test_a_draft_is_made_of_manifests(reader: Reader) -> None:
    drafted(reader)
    assert_all(reader, "draft")


def test_the_tutorials_end(reader: Reader) -> None:
    tutored(reader)
    assert len(reader.done) == 7

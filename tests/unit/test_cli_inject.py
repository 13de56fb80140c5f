"""`toposeal inject` from files to files: digests for the topology, then the manifests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from support.injection import APP, ROOT, labelled
from support.injection_cli import PLACES, Shop

from toposeal.kubernetes.helm import TEMPLATES
from toposeal.kubernetes.initdata import ANNOTATION, from_annotation


@pytest.fixture
def shop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shop:
    return Shop(tmp_path, capsys)


def test_digests_then_topology_then_manifests(shop: Shop) -> None:
    code, out, err = shop.run(*PLACES)
    assert (code, out) == (1, "") and "config_digest" in err
    shop.take_digests()
    code, out, err = shop.run(*PLACES)
    assert code == 0 and out.count("restartPolicy: Always") == 3, err
    again = shop.write("injected.yaml", out)
    assert shop.run(*PLACES, "-f", again)[1] == out
    assert shop.run("--digests", "-f", again)[1] == shop.run("--digests")[1]


def test_a_policy_is_added_to_one_role_and_measured(shop: Shop) -> None:
    policy = shop.write("web.rego", "package agent_policy\n")
    plain = yaml.safe_load(shop.run("--digests")[1])["roles"]
    added = ["--add", f"web/policy.rego={policy}", "--add", f"aa.toml={shop.write('aa.toml', '')}"]
    told = yaml.safe_load(shop.run("--digests", *added)[1])["roles"]
    assert all(told[role] != plain[role] for role in plain)
    shop.take_digests(*added)
    code, out, _ = shop.run(*PLACES, *added)
    values = re.findall(rf"{re.escape(ANNOTATION)}: (\S+)", out)
    documents = [from_annotation(value.encode()).document for value in values]
    assert code == 0 and sum(b"agent_policy" in document for document in documents) == 1
    assert sum(b"aa.toml" in document for document in documents) == 3


def test_C3_the_result_goes_to_a_new_file_alone(shop: Shop) -> None:
    out = str(shop.folder / "out.yaml")
    assert shop.run(*PLACES, "--draft", "--out", out)[0] == 0
    assert shop.run(*PLACES, "--draft")[1] == Path(out).read_text()
    assert shop.run(*PLACES, "--draft", "--out", out)[0] == 1
    other = str(shop.folder / "other.yaml")
    assert shop.run(*PLACES, "--out", other)[0] == 1 and not Path(other).exists()


def test_for_kustomize_the_same_is_checked_and_initdata_alone_is_printed(shop: Shop) -> None:
    shop.take_digests()
    app = ["-f", shop.write("labelled.yaml", labelled(Path(shop.app).read_text()))]
    injected, component = (shop.run(*PLACES, *app, *more)[1] for more in ([], ["--kustomize"]))
    values = [re.findall(rf"{re.escape(ANNOTATION)}: (\S+)", text) for text in (injected, component)]
    assert sorted(values[0]) == sorted(values[1]) and len(values[1]) == 3
    assert yaml.safe_load(component)["kind"] == "Component"
    code, out, err = shop.run(*PLACES, "--kustomize")
    assert (code, out) == (1, "") and "manifest_refused" in err  # no label to be selected by


def test_C3_for_helm_the_same_is_checked_and_a_new_folder_is_made(shop: Shop) -> None:
    chart = shop.folder / "toposeal"
    assert shop.run(*PLACES, "--helm", "--out", str(chart))[0] == 1 and not chart.exists()
    shop.take_digests()
    code, out, err = shop.run(*PLACES, "--helm", "--out", str(chart))
    assert (code, out) == (0, ""), err
    injected = shop.run(*PLACES)[1]
    values = re.findall(rf"{re.escape(ANNOTATION)}: (\S+)", (chart / TEMPLATES).read_text())
    assert sorted(values) == sorted(re.findall(rf"{re.escape(ANNOTATION)}: (\S+)", injected))
    code, _, err = shop.run(*PLACES, "--helm", "--out", str(chart))
    assert code == 1 and "File exists" in err


def test_measured_images_make_whole_references(shop: Shop) -> None:
    """Which a topology takes as they are printed; with several images each role has one of each."""
    told = yaml.safe_load(Path(shop.topology).read_text())
    image = {name: value for name, value in told["roles"]["web"]["tdx"][0].items() if name != "mrconfigid"}
    other = {**image, "mrtd": "1" * 95 + "2", "rtmr3": "instance"}
    images = shop.write("images.yaml", yaml.safe_dump({"tdx": [image, other], "snp": []}))
    code, out, err = shop.run("--digests", "--measured", images)
    assert code == 0, err
    found, plain = yaml.safe_load(out)["roles"], yaml.safe_load(shop.run("--digests")[1])["roles"]
    for role, made in found.items():
        assert made["tdx"] == [{**each, **plain[role]["tdx"][0]} for each in (image, other)]
    blocks = re.split(r"^(?=  (?:web|api|db):$)", Path(shop.topology).read_text(), flags=re.MULTILINE)
    printed = re.findall(r"^  (\w+):\n(    tdx:\n(?:      .*\n)+)", out, flags=re.MULTILINE)
    text = blocks[0] + "".join(
        re.sub(r"    tdx:\n(?:      .*\n)+", dict(printed)[name], block)
        for name, block in zip(("web", "api", "db"), blocks[1:], strict=True)
    )
    Path(shop.topology).write_text(text)
    assert shop.entry("topology", "check", shop.topology)[0] == 0
    assert shop.run(*PLACES)[0] == 0


def test_measured_images_for_snp_have_the_other_digest(shop: Shop) -> None:
    page = yaml.safe_load((ROOT / "docs" / "topology.md").read_text().split("```yaml\n")[1].split("```\n")[0])
    image = {name: value for name, value in page["roles"]["model"]["snp"][0].items() if name != "host_data"}
    images = shop.write("images.yaml", yaml.safe_dump({"snp": [image]}))
    code, out, err = shop.run("--digests", "--tee=snp", "--measured", images)
    assert code == 0, err
    plain = yaml.safe_load(shop.run("--digests", "--tee=snp")[1])["roles"]
    made = yaml.safe_load(out)["roles"]["web"]["snp"]
    assert made == [{**image, **plain["web"]["snp"][0]}] and len(made[0]["host_data"]) == 64


@pytest.mark.parametrize(
    "text",
    [
        "tdx: []",
        "snp: []",
        "tdx: [text]",
        "tdx: {}",
        "sev: []",
        'tdx: [{mrtd: "00"}]',
        "tdx: [{mrconfigid: any}]",
        "[]",
    ],
)
def test_images_that_are_no_references_are_refused(shop: Shop, text: str) -> None:
    images = shop.write("images.yaml", text)
    code, out, err = shop.run("--digests", "--measured", images)
    assert (code, out) == (1, "") and err.startswith("toposeal: ")


def test_for_snp_the_other_digest_is_printed(shop: Shop) -> None:
    told = yaml.safe_load(shop.run("--digests", "--tee=snp")[1])["roles"]
    assert len(told["web"]["snp"][0]["host_data"]) == 64


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--image=a b", "--runtime-class=kata"],
        ["--image=a"],
        ["--image=a", "--runtime-class=Kata"],
        ["--draft", *PLACES, "--config-map=a_b"],
        ["--digests", "--role=web"],
        ["--digests", "--role=web=Deployment"],
        ["--digests", "--role=web=Deployment/web"],
        ["--digests", "--add=policy.rego"],
        ["--digests", "--add=policy.rego=/nonexistent"],
        ["--digests", f"--add=other={__file__}"],
        ["--digests", f"--add=cache/policy.rego={__file__}"],
        ["--digests", f"--add=aa.toml={__file__}", f"--add=aa.toml={__file__}"],
        ["--digests", "--min-version=2"],
        ["--digests", "--min-version=0"],
        ["--digests", "-f", "/nonexistent"],
        ["--digests", "--kustomize", *PLACES],
        ["--kustomize", *PLACES],
        ["--measured=/nonexistent", "--draft", *PLACES],
        ["--measured=", "--draft", *PLACES],
        ["--measured=", "--digests"],
        ["--helm", "--draft", *PLACES],
        ["--helm", "--kustomize", "--draft", *PLACES, "--out=/nonexistent/chart"],
        ["--helm", "--draft", *PLACES, "--out=/nonexistent/chart"],
        ["--kustomize", "--draft"],
    ],
)
def test_a_wrong_argument_is_a_usage_error(shop: Shop, more: list[str]) -> None:
    code, out, err = shop.run(*more)
    assert (code, out) == (1, "") and err.startswith("toposeal: ")


def test_files_are_utf_8(shop: Shop) -> None:
    (shop.folder / "bytes").write_bytes(b"\xff")
    assert shop.run("--digests", "-f", str(shop.folder / "bytes"))[0] == 1


def test_where_roles_are_for_both_kinds_one_has_to_say_which(shop: Shop) -> None:
    page = (ROOT / "docs" / "topology.md").read_text().split("```yaml\n")[1].split("```\n")[0]
    policy, roles = page.split("\nroles:\n")
    Path(shop.topology).write_text(
        Path(shop.topology).read_text().replace("\nroles:\n", f"\n{policy}\nroles:\n") + roles
    )
    model = APP.split("---\n")[-1].replace("role: db", "role: model")
    app = shop.write("model.yaml", model)
    code, _, err = shop.run("--digests", "-f", app, named=[])
    assert code == 1 and "--tee" in err
    assert shop.run("--digests", "--tee=snp", "-f", app, named=[])[0] == 0

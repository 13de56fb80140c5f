"""`toposeal topology` as its users call it: through the command's own entry, on real files."""

from __future__ import annotations

import argparse
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from toposeal.cli import topology as command
from toposeal.cli.main import entry
from toposeal.names import mesh_id
from toposeal.topology.accept import accept
from toposeal.topology.owner import OwnerRoot

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "shop" / "topology.yaml"


class _Shop:
    """A directory with the example, a key and an owner root, and the command run in it."""

    def __init__(self, path: Path, output: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self._output = output
        self.yaml = self.write("topology.yaml", EXAMPLE.read_text())
        assert self.run("keygen", "--out", str(path))[0] == 0
        self.key, self.owner = str(path / "owner.key"), str(path / "owner.json")

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr; argparse's own exits included."""
        self._output.readouterr()
        try:
            code = entry(["topology", *arguments])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        out, err = self._output.readouterr()
        return code, out, err

    def sign(self, *more: str, out: str = "out.dsse") -> tuple[int, str, str]:
        arguments = ("--owner", self.owner, "--key", self.key, "--out", str(self.path / out))
        return self.run("sign", self.yaml, *arguments, *more)

    def write(self, name: str, text: str | bytes, mode: int = 0o644) -> str:
        path = self.path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(mode)
        return str(path)

    def root(self) -> OwnerRoot:
        return OwnerRoot.parse(Path(self.owner).read_bytes())

    def envelope(self, name: str = "out.dsse") -> bytes:
        return (self.path / name).read_bytes()


@pytest.fixture
def shop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> _Shop:
    return _Shop(tmp_path, capsys)


def test_check_prints_what_the_declaration_says(shop: _Shop) -> None:
    code, out, err = shop.run("check", shop.yaml)
    assert (code, err) == (0, "")
    assert out.startswith("OK: mesh shop, version 1, issued 2026-01-01T00:00:00Z\n  4 members\n")
    assert "ingress 8443->8080" in out and "calls db:6379" in out
    assert "topo_digest" not in out


def test_C5_check_says_the_same_to_human_and_machine(shop: _Shop) -> None:
    _, text, _ = shop.run("check", shop.yaml, "--owner", shop.owner)
    code, out, _ = shop.run("check", shop.yaml, "--owner", shop.owner, "--json")
    report = json.loads(out)
    assert (code, report["ok"], report["mesh"]) == (0, True, "shop")
    assert report["roles"]["api"]["replicas"] == {"min": 2, "max": 2}
    for name in ("topo_digest", "mesh_id", "owner_root"):
        assert f"{name} {report[name]}\n" in text
    assert report["mesh_id"] == mesh_id(shop.root().canonical, "shop").hex()


def test_bounds_and_platforms_are_shown_as_they_are(shop: _Shop) -> None:
    text = EXAMPLE.read_text().replace("{min: 2, max: 2}", "{min: 1, max: 3}")
    text = text.replace("platforms: any", f'platforms: {{tdx: ["{"ab" * 16}"]}}', 1)
    _, out, _ = shop.run("check", shop.write("other.yaml", text))
    assert "  3 to 5 members\n" in out and "  api: 1 to 3\n" in out and "platforms 1\n" in out


def _mixed() -> str:
    """The example with the fragment of docs/topology.md: a role on SNP and one on either kind."""
    page = (EXAMPLE.parents[2] / "topology.md").read_text()
    policy, roles = page.split("```yaml\n")[1].split("```\n")[0].split("\nroles:\n")
    return EXAMPLE.read_text().replace("\nroles:\n", f"\n{policy}\nroles:\n") + "\n" + roles


def test_check_shows_the_addresses_that_mean_a_role(shop: _Shop) -> None:
    text = EXAMPLE.read_text().replace(
        "    serves: [6379]\n", "    serves: [6379]\n    addresses: [fd00::7, 10.96.3.7]\n"
    )
    path = shop.write("called.yaml", text)
    assert "    addresses 10.96.3.7, fd00::7\n" in shop.run("check", path)[1]
    roles = json.loads(shop.run("check", path, "--json")[1])["roles"]
    assert (roles["db"]["addresses"], roles["web"]["addresses"]) == (["10.96.3.7", "fd00::7"], [])
    wrong = shop.write("wrong.yaml", text.replace("10.96.3.7", "127.0.0.1"))
    line = text.splitlines().index("    addresses: [fd00::7, 10.96.3.7]") + 1
    code, _, error = shop.run("check", wrong)
    assert (code, "roles.db.addresses[1]" in error, f"(line {line})" in error) == (1, True, True)


def test_check_shows_the_metrics_port_of_a_role_that_has_one(shop: _Shop) -> None:
    assert "metrics" not in shop.run("check", shop.yaml)[1]
    text = EXAMPLE.read_text().replace("    serves: [6379]\n", "    serves: [6379]\n    metrics: 9464\n")
    path = shop.write("measured.yaml", text)
    assert "    metrics 9464\n" in shop.run("check", path)[1]
    roles = json.loads(shop.run("check", path, "--json")[1])["roles"]
    assert (roles["db"]["metrics"], roles["web"]["metrics"]) == (9464, None)
    wrong = shop.write("wrong.yaml", text.replace("metrics: 9464", "metrics: 6379"))
    line = text.splitlines().index("    metrics: 9464") + 1
    code, _, error = shop.run("check", wrong)
    assert (code, "roles.db.metrics" in error, f"(line {line})" in error) == (1, True, True)


def test_check_shows_a_role_whose_application_has_an_identity(shop: _Shop) -> None:
    assert "workload_api" not in shop.run("check", shop.yaml)[1]
    text = EXAMPLE.read_text().replace("    serves: [6379]\n", "    serves: [6379]\n    workload_api: x509\n")
    path = shop.write("identified.yaml", text)
    assert "    workload_api x509\n" in shop.run("check", path)[1]
    roles = json.loads(shop.run("check", path, "--json")[1])["roles"]
    assert (roles["db"]["workload_api"], roles["web"]["workload_api"]) == ("x509", "nothing")
    code, _, error = shop.run("check", shop.write("wrong.yaml", text.replace("x509", "jwt")))
    assert (code, "roles.db.workload_api" in error, "one of nothing, x509" in error) == (1, True, True)


def test_check_shows_the_ports_that_speak_http_and_what_is_logged_of_them(shop: _Shop) -> None:
    assert "http" not in shop.run("check", shop.yaml)[1]
    line = "    http: [{port: 6379, log: requests}]\n"
    text = EXAMPLE.read_text().replace("    serves: [6379]\n", f"    serves: [6379]\n{line}")
    path = shop.write("http.yaml", text)
    assert "    http 6379, requests logged\n" in shop.run("check", path)[1]
    roles = json.loads(shop.run("check", path, "--json")[1])["roles"]
    assert (roles["db"]["http"], roles["web"]["http"]) == (["6379, requests logged"], [])
    wrong = shop.write("wrong.yaml", text.replace("{port: 6379,", "{port: 6380,"))
    number = text.splitlines().index(line.strip("\n")) + 1
    code, _, error = shop.run("check", wrong)
    assert (code, "roles.db.http" in error, f"(line {number})" in error) == (1, True, True)


def test_check_shows_the_ports_that_begin_with_a_proxy_header(shop: _Shop) -> None:
    assert "proxy_protocol" not in shop.run("check", shop.yaml)[1]
    line = "    proxy_protocol: [6379]\n"
    text = EXAMPLE.read_text().replace("    serves: [6379]\n", f"    serves: [6379]\n{line}")
    path = shop.write("headers.yaml", text)
    assert line.replace(": [", " ").replace("]", "") in shop.run("check", path)[1]
    roles = json.loads(shop.run("check", path, "--json")[1])["roles"]
    assert (roles["db"]["proxy_protocol"], roles["web"]["proxy_protocol"]) == ([6379], [])
    wrong = shop.write("wrong.yaml", text.replace("proxy_protocol: [6379]", "proxy_protocol: [6380]"))
    number = text.splitlines().index(line.strip("\n")) + 1
    code, _, error = shop.run("check", wrong)
    assert (code, "roles.db.proxy_protocol" in error, f"(line {number})" in error) == (1, True, True)


def test_check_shows_the_machines_of_each_kind(shop: _Shop) -> None:
    mixed = shop.write("mixed.yaml", _mixed())
    code, out, err = shop.run("check", mixed)
    assert (code, err) == (0, "")
    assert (
        "  cache: 1 to 2\n"
        "    serves 6379\n"
        "    calls nothing\n"
        "    ingress nothing\n"
        "    snp: references 1, platforms any\n"
    ) in out
    assert (
        "    tdx: references 1, platforms 1\n    snp: references 1, platforms any\n    gpus 2 of GH100\n"
    ) in out
    assert out.count("gpus") == 1
    roles = json.loads(shop.run("check", mixed, "--json")[1])["roles"]
    assert roles["model"]["references"] == {"tdx": 1, "snp": 1}
    assert roles["model"]["platforms"] == {"tdx": 1, "snp": "any"}
    assert roles["model"]["gpus"] == {"count": 2, "models": ["GH100"]}
    assert (roles["cache"]["references"], roles["web"]["gpus"]) == ({"snp": 1}, None)


def test_check_names_the_line_of_a_mistake_in_any_kind(shop: _Shop) -> None:
    text = _mixed().replace("rtmr3: instance", "rtmr3: instant").replace("crl: required", "crl: maybe")
    lines = text.splitlines()
    code, _, err = shop.run("check", shop.write("bad.yaml", text))
    found = [
        (word, next(number for number, line in enumerate(lines, 1) if word in line))
        for word in ("maybe", "instant")
    ]
    assert code == 1
    for (word, line), told in zip(found, err.splitlines(), strict=True):
        assert f"found {word} (line {line})" in told


def test_check_prints_one_line_for_each_mistake_and_exits_1(shop: _Shop) -> None:
    text = EXAMPLE.read_text().replace("mesh: shop", "mesh: Shop").replace("8444", "70000")
    bad = shop.write("bad.yaml", text)
    code, out, err = shop.run("check", bad)
    assert (code, out) == (1, "")
    lines = err.splitlines()
    assert len(lines) == 2
    assert "mesh: found Shop (line 4), expected a name of 1 to 40" in lines[0]
    assert "attestation_port: found 70000 (line 7)" in lines[1]
    code, out, machine_err = shop.run("check", bad, "--json")
    assert (code, machine_err) == (1, err)
    assert [m["field"] for m in json.loads(out)["mismatches"]] == ["mesh", "attestation_port"]


@pytest.mark.parametrize("change", [("mesh: shop", "mesh: [shop"), ("min: 2, max: 2", "min: 3, max: 2")])
def test_mistakes_of_any_kind_exit_1(shop: _Shop, change: tuple[str, str]) -> None:
    assert shop.run("check", shop.write("bad.yaml", EXAMPLE.read_text().replace(*change)))[0] == 1


def test_guests_that_can_be_debugged_exit_1(shop: _Shop) -> None:
    text = EXAMPLE.read_text().replace('"0000001000000000"', '"0100001000000000"', 1)
    code, _, err = shop.run("check", shop.write("bad.yaml", text))
    assert code == 1 and "[td_debug]" in err


def test_sign_then_accept(shop: _Shop) -> None:
    code, out, err = shop.sign()
    assert (code, err) == (0, "")
    signed = accept(shop.envelope(), shop.root(), "shop", 1)
    assert f"topo_digest {signed.topology.digest.hex()}\n" in out
    assert "every group of the owner root has signed" in out
    assert stat.S_IMODE(os.stat(shop.path / "out.dsse").st_mode) == 0o644


def test_digest_of_yaml_and_of_its_envelope_are_the_same(shop: _Shop) -> None:
    shop.sign()
    of_yaml = shop.run("digest", shop.yaml, "--owner", shop.owner)
    of_envelope = shop.run("digest", str(shop.path / "out.dsse"), "--owner", shop.owner)
    assert of_yaml == of_envelope and of_yaml[0] == 0
    _, out, _ = shop.run("digest", shop.yaml, "--owner", shop.owner, "--json")
    assert [f"{name} {value}" for name, value in json.loads(out).items()] == of_yaml[1].splitlines()


def test_digest_refuses_an_envelope_that_the_owner_did_not_sign(shop: _Shop) -> None:
    shop.sign()
    other = shop.path / "other"
    other.mkdir()
    shop.run("keygen", "--out", str(other))
    code, out, err = shop.run("digest", str(shop.path / "out.dsse"), "--owner", str(other / "owner.json"))
    assert (code, out) == (2, "") and "[topology_signature]" in err


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660])
def test_C1_sign_refuses_a_key_that_others_can_read(shop: _Shop, mode: int) -> None:
    os.chmod(shop.key, mode)
    code, _, err = shop.sign()
    assert code == 1 and f"found mode {mode:04o}" in err
    assert not (shop.path / "out.dsse").exists()


def test_C1_sign_refuses_a_declaration_with_mistakes(shop: _Shop) -> None:
    shop.write("topology.yaml", EXAMPLE.read_text().replace("target: 8080", "target: 8081"))
    code, _, err = shop.sign()
    assert code == 1 and "roles.web.ingress" in err
    assert not (shop.path / "out.dsse").exists()


def test_C1_sign_refuses_a_version_that_may_not_follow(shop: _Shop) -> None:
    shop.sign(out="one.dsse")
    after = ("--after", str(shop.path / "one.dsse"))
    assert shop.sign(*after, out="same.dsse")[0] == 0
    text = EXAMPLE.read_text()
    for version, change, code, reason in (
        (2, "", 0, ""),
        (1, "8445", 2, "[topology_equivocation]"),
        (2_000_000, "", 4, "[topology_fast_forward]"),
    ):
        shop.write(
            "topology.yaml",
            text.replace("version: 1", f"version: {version}").replace("8444", change or "8444"),
        )
        found, _, err = shop.sign(*after, out=f"{version}{change}.dsse")
        assert found == code and reason in err
    shop.write("topology.yaml", text)
    code, _, err = shop.sign("--after", str(shop.path / "2.dsse"))
    assert code == 4 and "[topology_rollback]" in err


@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_C3_sign_and_keygen_clobber_nothing(shop: _Shop, kind: str) -> None:
    target = shop.path / "out.dsse"
    if kind == "file":
        target.write_text("mine")
    elif kind == "link":
        target.symlink_to(shop.path / "nowhere")
    else:
        target.mkdir()
    before = sorted(os.listdir(shop.path))
    assert shop.sign()[0] == 1
    assert shop.run("keygen", "--key", str(target))[0] == 1
    assert shop.run("keygen", "--key", str(shop.path / "k"), "--owner", str(target))[0] == 1
    assert shop.run("keygen", "--out", str(shop.path))[0] == 1
    assert sorted(os.listdir(shop.path)) == before


def test_keygen_makes_a_private_key_that_only_its_owner_reads(shop: _Shop) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in shop.path.iterdir()}
    assert modes == {"owner.key": 0o600, "owner.key.pub": 0o644, "owner.json": 0o644, "topology.yaml": 0o644}


def test_parties_sign_one_after_the_other(shop: _Shop) -> None:
    path = shop.path
    shop.run("keygen", "--key", str(path / "alice"))
    shop.run(
        "keygen",
        "--key",
        str(path / "bob"),
        "--owner",
        str(path / "two.json"),
        "--add",
        str(path / "alice.pub"),
    )
    root = ("--owner", str(path / "two.json"))
    code, out, _ = shop.run(
        "sign", shop.yaml, *root, "--key", str(path / "bob"), "--out", str(path / "one"), "--json"
    )
    report = json.loads(out)
    assert (code, report["complete"]) == (0, False)
    assert "1 of 2 keys, expected at least 2" in report["unmet"][0]
    assert shop.run("digest", str(path / "one"), *root)[0] == 2
    add = ("--key", str(path / "alice"), "--add-to", str(path / "one"), "--out", str(path / "two"))
    code, out, _ = shop.run("sign", shop.yaml, *root, *add)
    assert code == 0 and "every group" in out
    accept(shop.envelope("two"), OwnerRoot.parse((path / "two.json").read_bytes()), "shop", 1)


def test_a_party_is_told_what_is_missing(shop: _Shop) -> None:
    path = shop.path
    shop.run("keygen", "--key", str(path / "k"), "--owner", str(path / "o"), "--add", shop.key + ".pub")
    _, out, _ = shop.run(
        "sign", shop.yaml, "--owner", str(path / "o"), "--key", str(path / "k"), "--out", str(path / "e")
    )
    assert "signatures of owner.required[0]: found 1 of 2 keys, expected at least 2" in out


def test_a_party_countersigns_only_what_its_own_file_says(shop: _Shop) -> None:
    shop.sign(out="theirs")
    shop.write("topology.yaml", EXAMPLE.read_text().replace("8444", "8445"))
    code, _, err = shop.sign("--add-to", str(shop.path / "theirs"))
    assert code == 2 and "[topology_mismatch]" in err


@pytest.mark.parametrize(("threshold", "code"), [("1", 0), ("2", 0), ("3", 1), ("0", 1), ("x", 1)])
def test_the_threshold_fits_the_keys(shop: _Shop, threshold: str, code: int) -> None:
    arguments = ("--key", str(shop.path / "k"), "--owner", str(shop.path / "o"), "--add", shop.key + ".pub")
    assert shop.run("keygen", *arguments, "--threshold", threshold)[0] == code
    assert (shop.path / "k").exists() == (code == 0)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["check"],
        ["check", "a", "b"],
        ["sign", "a"],
        ["keygen"],
        ["keygen", "--out", ".", "--key", "k"],
        ["keygen", "--out", ".", "--owner", "o"],
        ["keygen", "--key", "k", "--add", "x"],
        ["keygen", "--key", "k", "--threshold", "1"],
        ["check", "--own", "x", "a"],
        ["check", "/nonexistent"],
        ["check", "/dev/null"],
    ],
)
def test_usage_errors_exit_1(shop: _Shop, arguments: list[str]) -> None:
    code, out, err = shop.run(*arguments)
    assert (code, out) == (1, "")
    assert err
    assert not Path("k").exists()


def _pem(key: Any, encryption: Any = NoEncryption()) -> bytes:  # noqa: B008
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return pem


def test_sign_takes_an_ecdsa_key_made_elsewhere(shop: _Shop) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    private = shop.write("ec", _pem(key), 0o600)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    shop.write("ec.pub", public)
    shop.run(
        "keygen", "--key", str(shop.path / "k"), "--owner", str(shop.path / "o"), "--add", private + ".pub"
    )
    arguments = ("--owner", str(shop.path / "o"), "--key", private, "--key", str(shop.path / "k"))
    assert shop.run("sign", shop.yaml, *arguments, "--out", str(shop.path / "e"))[0] == 0
    accept(shop.envelope("e"), OwnerRoot.parse((shop.path / "o").read_bytes()), "shop", 1)


def test_keys_that_cannot_sign_are_refused(shop: _Shop) -> None:
    ours = ec.generate_private_key(ec.SECP256R1())
    for name, data in (
        ("stranger", _pem(ours)),
        ("encrypted", _pem(ours, BestAvailableEncryption(b"x"))),
        ("rsa", _pem(rsa.generate_private_key(65537, 2048))),
        ("garbage", b"-----BEGIN PRIVATE KEY-----\n"),
        ("public", Path(shop.key + ".pub").read_bytes()),
    ):
        shop.key = shop.write(name, data, 0o600)
        code, _, err = shop.sign()
        assert code == 1 and name in err and "[usage]" in err
    assert not (shop.path / "out.dsse").exists()


def test_public_keys_that_cannot_verify_are_refused(shop: _Shop) -> None:
    weak = rsa.generate_private_key(65537, 2048).public_key()
    shop.write("rsa", weak.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    shop.write("garbage", b"ssh-ed25519 AAAA")
    for name in ("rsa", "garbage"):
        arguments = (
            "--key",
            str(shop.path / "k"),
            "--owner",
            str(shop.path / "o"),
            "--add",
            str(shop.path / name),
        )
        code, _, err = shop.run("keygen", *arguments)
        assert code == 1 and name in err
    assert not (shop.path / "k").exists()


def test_an_owner_root_that_is_none_exits_1(shop: _Shop) -> None:
    text = Path(shop.owner).read_text()
    for wrong in (text + "\n", text.replace(",1]]", ",2]]"), "{}", ""):
        shop.owner = shop.write("wrong.json", wrong)
        code, out, err = shop.run("check", shop.yaml, "--owner", shop.owner)
        assert (code, out) == (1, "") and err.startswith("toposeal: owner")


def test_C2_errors_are_safe_for_a_terminal(shop: _Shop) -> None:
    code, _, err = shop.run("check", shop.write("bad.yaml", '"\\e[2J\\u202e\\n": 1\n'))
    assert code == 1
    assert all(line.isprintable() and line.isascii() for line in err.splitlines())


def test_the_command_registers_itself_under_any_parser() -> None:
    parser = argparse.ArgumentParser()
    command.register(parser.add_subparsers())
    args = parser.parse_args(["topology", "check", "f", "--json"])
    assert (args.file, args.json, args.owner) == ("f", True, None)

"""Initdata as CoCo defines it: exact bytes, exact digests, and nothing else accepted."""

from __future__ import annotations

import base64
import gzip
import hashlib
import subprocess
import tomllib
from collections.abc import Callable

import pytest
from support.injection import initdata

from toposeal.errors import Reason, UsageError
from toposeal.kubernetes.initdata import (
    PodIdentity,
    annotation,
    build,
    from_annotation,
    parse,
)
from toposeal.limits import MAX_INITDATA_SIZE

POLICY = 'package agent_policy\n\ndefault ExecProcessRequest := false\nname := "it\'s"\n'


def test_the_document_is_what_it_says() -> None:
    made = initdata("web", **{"policy.rego": POLICY})
    assert made.document.decode() == (
        'algorithm = "sha384"\nversion = "0.1.0"\n\n[data]\n'
        "\"owner.json\" = '''\n{\"required\":[]}'''\n"
        f"\"policy.rego\" = '''\n{POLICY}'''\n"
        "\"toposeal.toml\" = '''\nmesh = \"shop\"\nrole = \"web\"\nmin_version = 1\n'''\n"
    )


@pytest.mark.parametrize(("kind", "algorithm", "size"), [("tdx", "sha384", 48), ("snp", "sha256", 32)])
def test_the_digest_is_that_of_the_bytes_and_fills_its_field(kind: str, algorithm: str, size: int) -> None:
    made = initdata("web", kind)
    assert tomllib.loads(made.document.decode())["algorithm"] == algorithm
    assert made.digest == hashlib.new(algorithm, made.document).digest() and len(made.digest) == size


@pytest.mark.parametrize(("kind", "tool"), [("tdx", "sha384sum"), ("snp", "sha256sum")])
def test_other_tools_find_the_same_digest_behind_the_annotation(kind: str, tool: str) -> None:
    """CoCo's page: `cat initdata.toml | gzip | base64 -w0`, here backwards."""
    made = initdata("web", kind, **{"policy.rego": POLICY})
    script = f"base64 -d | gunzip | {tool}"
    out = subprocess.run(
        ["sh", "-c", script], input=annotation(made).encode(), capture_output=True, check=True
    ).stdout
    assert out.split()[0].decode() == made.digest.hex()


def test_what_other_tools_pack_is_read() -> None:
    made = initdata("web")
    packed = subprocess.run(
        ["sh", "-c", "gzip | base64 -w0"], input=made.document, capture_output=True, check=True
    ).stdout
    assert from_annotation(packed) == made


def test_a_comment_is_part_of_the_digest() -> None:
    """As in the agents of Kata and CoCo; the text of the specification has another digest in mind."""
    made = initdata("web")
    commented = parse(b"# a comment\n" + made.document)
    assert commented.identity == made.identity and commented.digest != made.digest


@pytest.mark.parametrize(
    "text", ["\x00", "'''", "ends in '", "\r\n", "\x7f", 'a "quote" \\ \x1b', "é\U0001f600"]
)
def test_every_file_comes_back_as_it_was(text: str) -> None:
    made = initdata("web", **{"aa.toml": text})
    assert tomllib.loads(made.document.decode())["data"]["aa.toml"] == text
    assert from_annotation(annotation(made).encode()) == made


def test_another_file_is_refused() -> None:
    with pytest.raises(UsageError) as refused:
        build("tdx", PodIdentity(b"{}", "shop", "web", 1), {"agent.toml": ""})
    assert refused.value.reason is Reason.USAGE


DOCUMENT = initdata("web").document


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"\xff", Reason.MALFORMED),
        (b"a = [", Reason.MALFORMED),
        (b"x" * (MAX_INITDATA_SIZE + 1), Reason.TOO_LARGE),
        (DOCUMENT.replace(b"0.1.0", b"0.2.0"), Reason.UNKNOWN_VERSION),
        (DOCUMENT.replace(b"sha384", b"sha512"), Reason.USAGE),
        (DOCUMENT.replace(b'"sha384"', b"1"), Reason.USAGE),
        (b"digest = 'x'\n" + DOCUMENT, Reason.USAGE),
        (DOCUMENT.replace(b"owner.json", b"owner.toml"), Reason.USAGE),
        (DOCUMENT + b'"x" = 1\n', Reason.USAGE),
        (b'algorithm = "sha256"\nversion = "0.1.0"\ndata = 1\n', Reason.USAGE),
        (DOCUMENT.replace(b'role = "web"', b'role = "../web"'), Reason.USAGE),
        (DOCUMENT.replace(b'role = "web"', b"role = 1"), Reason.USAGE),
        (DOCUMENT.replace(b'role = "web"', b'rolle = "web"'), Reason.USAGE),
        (DOCUMENT.replace(b"min_version = 1", b"min_version = true"), Reason.USAGE),
        (DOCUMENT.replace(b"min_version = 1", b"min_version = 0"), Reason.USAGE),
        (DOCUMENT.replace(b"min_version = 1", b"min_version ="), Reason.MALFORMED),
    ],
)
def test_a_document_that_says_something_else_is_refused(document: bytes, reason: Reason) -> None:
    with pytest.raises(UsageError) as refused:
        parse(document)
    assert refused.value.reason is reason


def packed(pack: Callable[[bytes], bytes]) -> bytes:
    return base64.b64encode(pack(gzip.compress(DOCUMENT)))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"*", Reason.MALFORMED),
        (b"AAAA", Reason.MALFORMED),
        (packed(lambda gz: gz[:-1]), Reason.MALFORMED),
        (packed(lambda gz: gz + b"\0"), Reason.MALFORMED),
        (packed(lambda gz: gz + gz), Reason.MALFORMED),
        (packed(lambda gz: gz[:-5] + b"\0" + gz[-4:]), Reason.MALFORMED),
        (packed(lambda _: gzip.compress(bytes(2 * MAX_INITDATA_SIZE))), Reason.TOO_LARGE),
    ],
)
def test_a_value_that_is_no_packed_document_is_refused(value: bytes, reason: Reason) -> None:
    with pytest.raises(UsageError) as refused:
        from_annotation(value)
    assert refused.value.reason is reason


def test_what_kubernetes_would_not_take_is_refused() -> None:
    noise = "".join(hashlib.sha256(bytes([a, b])).hexdigest() for a in range(32) for b in range(256))
    with pytest.raises(UsageError) as refused:
        annotation(initdata("web", **{"policy.rego": noise}))
    assert refused.value.reason is Reason.TOO_LARGE

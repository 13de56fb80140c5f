"""Style as a test: import direction, no ambient calls in pure packages, sizes, words of danger.

Nothing here can be silenced by a comment in the code; an exception is a line in a table below.
"""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SIDECAR = ROOT / "sidecar"


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Left may not import right; members of one level do not know each other.
LEVELS: tuple[frozenset[str], ...] = tuple(
    words(level)
    for level in (
        "errors limits _wire",
        "encoding strict_json x509_errors",
        "names",
        "topology evidence",
        "verification",
        "membership",
        "pki",
        "outside",
        "gate kubernetes tracing",
        "dataplane",
        "host",
        "daemon",
        "cli __init__",
        "__main__",
    )
)
PURE = frozenset().union(*LEVELS[:10]) - {"_wire"}

# All that a pure package may import: nothing here reads a clock, a file, a socket or entropy.
PURE_IMPORTS = words(
    """__future__ abc base64 binascii bisect collections contextlib dataclasses datetime enum functools
    hashlib hmac html ipaddress itertools json math operator re string struct tomllib types typing
    urllib.parse zlib cryptography google.protobuf dcap_qvl yaml toposeal"""
)
EXTRA_PURE_IMPORTS = {"dataplane": frozenset({"envoy_data_plane", "betterproto2"})}  # its runtime
# ... except through these.
AMBIENT_CALLS = words(
    """open input print exec eval compile __import__ breakpoint now utcnow today generate
    generate_private_key random_serial_number urandom"""
)
BANNED_IMPORTS = words("random pickle marshal shelve dill")
BANNED_CALLS = words("eval exec yaml.load yaml.unsafe_load os.system os.popen os.getenv")

MAX_FUNCTION, MAX_FILE = 60, 400
MEDIAN_FUNCTION, DECILE_FUNCTION = 15, 40

# A reviewer greps for these. Each place that needs one is named with its reason.
DANGER = re.compile(
    r"insecure|skip_verif|no_verif|verify=False|CERT_NONE|check_hostname|allow_expired|ACCEPT_UNTRUSTED"
    r"|shell=True|os\.environ",
    re.IGNORECASE,
)
_BY_DOCUMENT = "a member proves itself by its document; its TLS certificate proves nothing"
_BY_SIGNATURE = "peers prove themselves by what they sign and quote; nobody trusts the link (PROTOCOL.md 4)"
DANGER_ALLOWED = {
    ("toposeal/host/discovery_server.py", "insecure"): "gRPC's word for a Unix socket: Envoy's user alone",
    ("toposeal/host/workload_server.py", "insecure"): "gRPC's word for a Unix socket, as SPIFFE wants it",
    ("toposeal/host/fetch.py", "CERT_NONE"): _BY_DOCUMENT,
    ("toposeal/host/fetch.py", "check_hostname"): _BY_DOCUMENT,
    ("toposeal/host/throwaway.py", "CERT_NONE"): _BY_SIGNATURE,
    ("toposeal/host/throwaway.py", "check_hostname"): _BY_SIGNATURE,
    (
        "toposeal/host/pinned_tls.py",
        "check_hostname",
    ): "outside/pinned.py compares it, with the answering CA's",
    ("toposeal/host/privileges.py", "os.environ"): "it is cleared there",
}


@cache
def modules() -> tuple[Path, ...]:
    return tuple(p for p in sorted(SIDECAR.rglob("*.py")) if "_wire" not in p.parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def production() -> tuple[Path, ...]:
    return tuple(p for p in modules() if p.relative_to(SIDECAR).parts[0] == "toposeal")


def package(path: Path) -> str:
    """The first name under `toposeal`: a package, or a module at its top."""
    return path.relative_to(SIDECAR).with_suffix("").parts[1]


def imported(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def calls(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, last name, dotted name of every call."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            dotted = ast.unparse(node.func)
            yield node.lineno, dotted.rsplit(".", 1)[-1], dotted


def level(name: str) -> int:
    found = [i for i, names in enumerate(LEVELS) if name in names]
    assert found, f"{name} has no place in the import direction"
    return found[0]


def functions() -> Iterator[tuple[str, int]]:
    for path in modules():
        for node in ast.walk(tree(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno:
                place = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
                yield place, node.end_lineno - node.lineno + 1


def matches(name: str, allowed: frozenset[str]) -> bool:
    return any(name == module or name.startswith(module + ".") for module in allowed)


def test_imports_point_one_way() -> None:
    wrong = []
    for path in production():
        own = package(path)
        for line, name in imported(path):
            if not name.startswith("toposeal."):
                continue
            other = name.split(".")[1]
            if other != own and level(other) >= level(own):
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {own} imports {name}")
    assert wrong == []


def test_E17_production_never_imports_the_lab() -> None:
    assert [str(p) for p in production() for _, name in imported(p) if name.startswith("toposeal_lab")] == []


def test_pure_packages_import_nothing_ambient() -> None:
    wrong = []
    for path in production():
        allowed = PURE_IMPORTS | EXTRA_PURE_IMPORTS.get(package(path), frozenset())
        if package(path) in PURE:
            wrong += [
                f"{path.relative_to(ROOT)}:{line}: {name}"
                for line, name in imported(path)
                if not matches(name, allowed)
            ]
    assert wrong == []


def test_O5_pure_packages_call_nothing_ambient() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {dotted}()"
        for path in production()
        if package(path) in PURE
        for line, name, dotted in calls(path)
        if name in AMBIENT_CALLS and dotted != "re.compile"
    ]
    assert wrong == []


def test_O5_no_weak_randomness_no_code_in_data() -> None:
    wrong = []
    for path in modules():
        where = path.relative_to(ROOT)
        wrong += [f"{where}:{n}: {m}" for n, m in imported(path) if matches(m, BANNED_IMPORTS)]
        wrong += [f"{where}:{n}: {d}()" for n, _, d in calls(path) if d in BANNED_CALLS]
    assert wrong == []


def test_no_check_by_assert() -> None:
    """`python -O` removes them."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def test_no_exception_is_swallowed() -> None:
    found = []
    for path in modules():
        for node in ast.walk(tree(path)):
            broad = isinstance(node, ast.ExceptHandler) and (
                node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
            )
            if broad and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")  # type: ignore[attr-defined]
    assert found == []


def test_danger_words_only_where_they_are_explained() -> None:
    found = {
        (str(path.relative_to(SIDECAR)), match.group())
        for path in production()
        for match in DANGER.finditer(path.read_text())
    }
    assert found == set(DANGER_ALLOWED)


def test_every_module_states_its_boundary() -> None:
    missing = [
        str(path.relative_to(ROOT))
        for path in modules()
        if path.stat().st_size and not ast.get_docstring(tree(path))
    ]
    assert missing == []


def test_functions_are_short() -> None:
    sizes = sorted(size for _, size in functions())
    assert [f"{place}: {size} lines" for place, size in functions() if size > MAX_FUNCTION] == []
    assert statistics.median(sizes) <= MEDIAN_FUNCTION
    assert sizes[len(sizes) * 9 // 10] <= DECILE_FUNCTION


def test_files_are_short() -> None:
    long = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in modules()}
    assert {path: size for path, size in long.items() if size > MAX_FILE} == {}


def test_python_lives_in_two_folders_only() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: cannot tell our files from build output")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    files = [name for name in listed.stdout.split("\0") if name]
    assert [name for name in files if not name.startswith(("sidecar/", "tests/"))] == []


def test_requirements_name_no_index_and_hash_everything() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text()
        assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host| @ ", text), path
        for entry in re.split(r"\n(?=\S)", re.sub(r"^\s*#.*\n?", "", text, flags=re.MULTILINE)):
            assert not entry.strip() or "--hash=sha256:" in entry, f"{path}: {entry}"

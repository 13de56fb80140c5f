"""Nothing is built that is deeper or larger than manifests are, with either of PyYAML's readers."""

from __future__ import annotations

import pytest
import yaml

from toposeal.errors import Reason, UsageError
from toposeal.kubernetes.yaml_bounds import check_bounds
from toposeal.limits import MAX_MANIFEST_DEPTH

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("loader", [yaml.CSafeLoader, yaml.SafeLoader])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 10_000, Reason.TOO_LARGE),
        ("- " * 10_000 + "a", Reason.TOO_LARGE),
        (f"a: &a {'[' * 40}{']' * 40}\nb: {'[' * 40}*a{']' * 40}\n", Reason.TOO_LARGE),
        (BOMB, Reason.TOO_LARGE),
        ("&a [*a]", Reason.MALFORMED),
        ("a: &a 1\nb: &a [*a]\n", Reason.MALFORMED),
        ("*a", Reason.MALFORMED),
        ("a: &a 1\n---\n*a\n", Reason.MALFORMED),
    ],
    ids=["flow", "block", "by-alias", "bomb", "itself", "its-successor", "nothing", "another-document"],
)
def test_T8_what_would_not_end_is_refused_before_it_begins(loader: object, text: str, reason: Reason) -> None:
    with pytest.raises(UsageError) as refused:
        check_bounds(text, loader)
    assert refused.value.reason is reason


def test_as_deep_as_it_may_be() -> None:
    for text in ("", "a", "a: &a [1]\nb: *a\nc: {d: *a}\n", "---\n---\n"):
        check_bounds(text, yaml.SafeLoader)
    levels = MAX_MANIFEST_DEPTH - 2  # the document's own, and the innermost value's
    check_bounds(f"{'[' * levels}1{']' * levels}", yaml.SafeLoader)

"""What the named templates of the library chart hold, read without Helm; tests/kubernetes asks it."""

from __future__ import annotations

import re

from toposeal.kubernetes.helm import TEMPLATES

_DEFINED = re.compile(
    r'^\{\{- define "toposeal\.(\w+)" -\}\}\n(.*?)^\{\{- end \}\}\n(?=\{\{- define|\Z)', re.M | re.S
)
_CASE = re.compile(r'^\{\{- (?:else )?if eq \. "([a-z-]+)" -\}\}\n(.*?)(?=^\{\{- else)', re.M | re.S)
_BRACES = '{{ "{{" }}'


def templates(files: dict[str, str]) -> dict[str, str]:
    """The body of each by its name."""
    return dict(_DEFINED.findall(files[TEMPLATES]))


def given(body: str) -> dict[str, str]:
    """What a template gives each role that it knows."""
    return {role: plain(text) for role, text in _CASE.findall(body)}


def plain(text: str) -> str:
    """Text without actions, as Helm writes it."""
    done = text.replace(_BRACES, "\0")
    assert "{{" not in done, done
    return done.replace("\0", "{{")

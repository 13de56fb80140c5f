"""How deep and how large a YAML stream becomes once its aliases are written out, before anybody builds it.

Readers recurse (libyaml's without a check of the stack), and comparing values follows every alias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from toposeal.errors import Reason, UsageError
from toposeal.limits import MAX_MANIFEST_DEPTH, MAX_MANIFEST_NODES


@dataclass
class _Extent:
    """A value: how many nodes it has, aliases written out, and how many levels."""

    nodes: int = 1
    levels: int = 1
    anchor: str | None = None


class _Extents:
    """The values that have begun and not ended, outermost first, and the anchors of those that have."""

    def __init__(self) -> None:
        self._open: list[_Extent] = []
        self._anchored: dict[str, _Extent] = {}

    def see(self, event: Any) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self._open, self._anchored = [_Extent()], {}
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            # Forgets an older value of the same name: an alias within means this one, and has no end.
            self._anchored.pop(event.anchor or "", None)
            self._open.append(_Extent(anchor=event.anchor))
            self._check(len(self._open), 0)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._ended(self._open.pop())
        elif isinstance(event, yaml.ScalarEvent):
            self._ended(_Extent(anchor=event.anchor))
        elif isinstance(event, yaml.AliasEvent):
            self._ended(self._aliased(event))

    def _aliased(self, event: Any) -> _Extent:
        known = self._anchored.get(event.anchor)
        if known is None:
            field = f"line {event.start_mark.line + 1}"
            raise UsageError.of(Reason.MALFORMED, field, "an alias of nothing before it", "an anchor's name")
        return _Extent(known.nodes, known.levels)

    def _ended(self, extent: _Extent) -> None:
        if extent.anchor is not None:
            self._anchored[extent.anchor] = extent
        around = self._open[-1]
        around.nodes += extent.nodes
        around.levels = max(around.levels, extent.levels + 1)
        self._check(len(self._open) + extent.levels, around.nodes)

    def _check(self, levels: int, nodes: int) -> None:
        if levels > MAX_MANIFEST_DEPTH:
            raise UsageError.of(
                Reason.TOO_LARGE, "manifest", "deeper nesting", f"at most {MAX_MANIFEST_DEPTH} levels"
            )
        if nodes > MAX_MANIFEST_NODES:
            raise UsageError.of(
                Reason.TOO_LARGE, "manifest", "more values", f"at most {MAX_MANIFEST_NODES} in a document"
            )


def check_bounds(text: str, loader: Any) -> None:
    """Raises UsageError for what is deeper or larger than manifests are, YAMLError for what is no YAML."""
    extents = _Extents()
    for event in yaml.parse(text, Loader=loader):
        extents.see(event)

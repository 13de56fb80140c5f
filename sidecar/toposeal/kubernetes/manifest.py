"""A YAML stream as text that lines can be put into: nothing else of it ever changes. No IO.

What is put in stands between two marking comments, so that it can be taken out again. After every change
the text is read once more and has to say what was meant: a form of YAML that this does not see through
is refused, never bent.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from toposeal.errors import Reason, UsageError
from toposeal.kubernetes.object import LOADER, Object, Place, indented, nested
from toposeal.kubernetes.yaml_bounds import check_bounds
from toposeal.limits import MAX_MANIFEST_DOCUMENTS, MAX_MANIFEST_FILE

BEGIN = "# toposeal inject: begin. Not to be edited: the original file is."
END = "# toposeal inject: end"
# Line ends that YAML and an editor count differently, and the byte order mark.
_OTHER_LINES = re.compile("[\r\x85\u2028\u2029\ufeff]")


@dataclass
class Document(Object):
    """One document of the stream: its value, and where in the text that is."""

    node: yaml.Node = field(kw_only=True)
    edits: list[tuple[int, str]] = field(default_factory=list)  # line, text to put before it

    def unnamed(self) -> str:
        """By its line."""
        return f"document in line {self.node.start_mark.line + 1}"

    def put(self, path: Place, entries: str) -> None:
        """Also into the text: into an item of a list after its first key, which is in the line of the dash.

        Raises UsageError where it is not written in block style.
        """
        line, node, depth = self._find(path)
        self.merge(path, depth, entries)
        marked = f"{BEGIN}\n{nested(path[depth:], entries)}{END}\n"
        self.edits.append((line, indented(marked, node.start_mark.column)))

    def _find(self, path: Place) -> tuple[int, yaml.Node, int]:
        """The line before which something goes into the last value of `path` that is there, that value, and
        how many steps lead to it.
        """
        key, node = self.node, self.node
        for depth, name in enumerate(path):
            if isinstance(name, int):
                if not isinstance(node, yaml.SequenceNode):
                    raise self.refused(path[:depth], "no list", "a list in block style")
                key = node = node.value[name]
                continue
            if not isinstance(node, yaml.MappingNode):
                raise self.refused(path[:depth], "no mapping", "a mapping in block style")
            found = [(k, v) for k, v in node.value if k.value == name]
            if not found:
                return self._line(path[:depth], key, node), node, depth
            key, node = found[0]
        return self._line(path, key, node), node, len(path)

    def _line(self, path: Place, key: yaml.Node, node: yaml.Node) -> int:
        """Of a key's value the line after the key's; of an item, for which `key` is itself, that of its
        second key.
        """
        item = key is node is not self.node and isinstance(node, yaml.MappingNode) and len(node.value) > 1
        line = node.value[1][0].start_mark.line if item else key.start_mark.line + 1
        block = isinstance(node, yaml.CollectionNode) and not node.flow_style
        if not block or (not item and line > node.start_mark.line) or _shared(self.node, node):
            found = "a value in braces, in the key's line, or with an alias"
            raise self.refused(path, found, "a mapping or list of its own in block style")
        return line


def read(text: str) -> list[Document]:
    """The documents of a stream. Raises UsageError for what is no YAML, or more than one could mean by it."""
    _check_text(text)
    documents: list[Document] = []
    try:
        check_bounds(text, LOADER)
        loader = LOADER(text)
        try:
            while loader.check_node():
                node = loader.get_node()
                _check_keys(node)
                merged = _merged(node)
                documents.append(Document(loader.construct_document(node), merged, node=node))
                if len(documents) > MAX_MANIFEST_DOCUMENTS:
                    found = f"more than {MAX_MANIFEST_DOCUMENTS} documents"
                    raise UsageError.of(Reason.TOO_LARGE, "manifest", found, "fewer")
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, OverflowError, TypeError) as error:
        said = " ".join(str(error).split())
        raise UsageError.of(Reason.MALFORMED, "manifest", said, "YAML as Kubernetes reads it") from error
    return documents


def write(text: str, documents: Sequence[Document], appended: str) -> str:
    """`text` with every edit of `documents`, and `appended` documents at its end.

    Raises UsageError unless it then says exactly what was meant.
    """
    lines = text.split("\n")
    edits = [edit for document in documents for edit in document.edits]
    for line, added in sorted(edits, key=lambda edit: edit[0], reverse=True):
        lines[line:line] = added.removesuffix("\n").split("\n")
    written = "\n".join(lines) + (f"{BEGIN}\n{appended}{END}\n" if appended else "")
    meant = [document.value for document in (*documents, *read(appended))]
    if _said(document.value for document in read(written)) != _said(meant):
        found = "a form of YAML into which nothing can be put by lines"
        raise UsageError.of(Reason.MANIFEST_REFUSED, "manifest", found, "plain block style")
    return written


def without_injected(text: str) -> str:
    """`text` without what stands between the marking comments. Raises UsageError where they do not pair."""
    kept, inside = [], False
    for line in text.split("\n"):
        mark = line.strip(" ")
        if mark in (BEGIN, END):
            if inside is (mark == BEGIN):
                raise UsageError.of(
                    Reason.MANIFEST_REFUSED, "manifest", f"«{mark[2:]}» alone", "begin and end in turn"
                )
            inside = not inside
        elif not inside:
            kept.append(line)
    if inside:
        raise UsageError.of(Reason.MANIFEST_REFUSED, "manifest", "a begin without an end", "both")
    return "\n".join(kept)


def check_written_out(document: Object) -> None:
    """Refuse a merge (`<<`): readers differ in what the document then says."""
    if document.merged is not None:
        found = f"a merge key in the mapping of line {document.merged}"
        raise document.refused((), found, "every key written out")


def _said(values: Iterable[Any]) -> list[Any]:
    """Without empty documents."""
    return [value for value in values if value is not None]


def _check_text(text: str) -> None:
    if len(text) > MAX_MANIFEST_FILE:
        found = f"{len(text)} characters"
        raise UsageError.of(Reason.TOO_LARGE, "manifest", found, f"at most {MAX_MANIFEST_FILE}")
    other = _OTHER_LINES.search(text)
    if other is not None:
        found = f"the character U+{ord(other[0]):04X}"
        raise UsageError.of(Reason.MALFORMED, "manifest", found, "UTF-8 with Unix line ends")


def _check_keys(root: yaml.Node) -> None:
    """Every key once: readers differ in which of two counts."""
    for node in _nodes(root):
        if isinstance(node, yaml.MappingNode):
            counted = Counter(str(key.value) for key, _ in node.value)
            name, count = counted.most_common(1)[0] if counted else ("", 0)
            if count > 1:
                field_name = f"mapping in line {node.start_mark.line + 1}"
                raise UsageError.of(Reason.MALFORMED, field_name, f"{name} twice", "every key once")


def _merged(root: yaml.Node) -> int | None:
    for node in _nodes(root):
        if isinstance(node, yaml.MappingNode) and any(key.value == "<<" for key, _ in node.value):
            return int(node.start_mark.line) + 1
    return None


def _nodes(root: yaml.Node) -> Iterator[yaml.Node]:
    """Every node once, however often it is referred to."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            waiting += _children(node)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _shared(root: yaml.Node, node: yaml.Node) -> bool:
    """Whether `node`, or something around it, is also meant elsewhere: what is put in would be there too."""
    references = Counter(id(child) for parent in _nodes(root) for child in _children(parent))
    return any(
        references[id(candidate)] > 1 and any(inner is node for inner in _nodes(candidate))
        for candidate in _nodes(root)
    )

"""A small part of XML, read strictly and written canonically: bytes in, elements or a refusal out. No IO.

Enough for signed manifests: elements, double-quoted attributes, namespaces, printable ASCII. No document
type, entity, reference, comment, processing instruction or CDATA exists here, so nothing expands, and what
was read can be written back byte for byte as Canonical XML 1.1 (W3C, inclusive, without comments) has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from toposeal.errors import EvidenceError, Reason
from toposeal.limits import MAX_RIM_SIZE

MAX_DEPTH = 16
MAX_ELEMENTS = 1_024
MAX_ATTRIBUTES = 128  # of one element
_NAME = r"[A-Za-z_][A-Za-z0-9_.-]*(?::[A-Za-z_][A-Za-z0-9_.-]*)?"
_VALUE = r'"[ !#-%\'-;=-~]*"'  # printable, without a quote, "&" or "<"
_DECLARATION = re.compile(r'<\?xml version="1\.0"(?: encoding="(?:UTF-8|utf-8)")?\?>')
_SPACE = re.compile(r"[ \t\n]*")
_TEXT = re.compile(r"[ \t\n!-%'-;=?-~]+")  # without "&", "<" and ">"
_START = re.compile(rf"<({_NAME})((?:[ \n]+{_NAME}={_VALUE}){{0,{MAX_ATTRIBUTES}}})[ \n]*(/?)>")
_END = re.compile(rf"</({_NAME})[ \n]*>")
_ATTRIBUTE = re.compile(rf"({_NAME})=({_VALUE})")


@dataclass(frozen=True)
class Element:
    """One element. Names are `{namespace}local`, or plain without a namespace; `raw` as they are written."""

    name: str
    raw: str
    declared: Mapping[str, str]  # prefix, "" for the default one, to namespace
    attributes: Mapping[str, str]
    raw_attributes: Mapping[str, str]  # the same in the order of Canonical XML
    children: tuple[Element | str, ...]
    scope: Mapping[str, str] = field(repr=False)  # every namespace that holds here

    def elements(self) -> tuple[Element, ...]:
        """Its child elements. Raises EvidenceError(RIM) where other text than white space is between them."""
        text = "".join(each for each in self.children if isinstance(each, str)).strip(" \t\n")
        if text:
            raise refusal(self.raw, text, "elements alone")
        return tuple(each for each in self.children if isinstance(each, Element))

    def text(self) -> str:
        """Its text. Raises EvidenceError(RIM) where there are elements in it."""
        parts = [each for each in self.children if isinstance(each, str)]
        if len(parts) != len(self.children):
            raise refusal(self.raw, "elements", "text alone")
        return "".join(parts)


def parse_xml(data: bytes) -> Element:
    """Parse one document. Raises EvidenceError: RIM for what this module does not know, or TOO_LARGE."""
    if len(data) > MAX_RIM_SIZE:
        raise EvidenceError.of(Reason.TOO_LARGE, "rim", f"{len(data)} bytes", f"at most {MAX_RIM_SIZE}")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise refusal(f"byte {error.start}", data[error.start : error.end], "ASCII") from error
    return _Parser(text).document()


def canonical(element: Element, left_out: Element | None = None) -> bytes:
    """`element` and all in it as Canonical XML 1.1, without the subtree `left_out`.

    The first element shows every namespace that holds there, as the rules for a part of a document want it.
    """
    return "".join(_written(element, {}, element.scope, left_out)).encode("ascii")


def refusal(where: str, found: object, expected: object) -> EvidenceError:
    return EvidenceError.of(Reason.RIM, f"rim.{where}", found, expected)


def _written(
    element: Element, shown: Mapping[str, str], namespaces: Mapping[str, str], left_out: Element | None
) -> Iterator[str]:
    """Namespaces sorted by prefix, the ones that already hold left out; then attributes; then the content."""
    new = {prefix: uri for prefix, uri in sorted(namespaces.items()) if shown.get(prefix) != uri}
    yield f"<{element.raw}"
    yield from (f' xmlns{":" if prefix else ""}{prefix}="{uri}"' for prefix, uri in new.items())
    yield from (f' {name}="{value}"' for name, value in element.raw_attributes.items())
    yield ">"
    for child in element.children:
        if isinstance(child, str):
            yield child
        elif child is not left_out:
            yield from _written(child, {**shown, **new}, child.declared, left_out)
    yield f"</{element.raw}>"


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._offset = 0
        self._count = 0

    def document(self) -> Element:
        self._match(_DECLARATION)
        self._match(_SPACE)
        root = self._element({}, 0)
        self._match(_SPACE)
        if self._offset != len(self._text):
            raise self._refusal("nothing after the document")
        return root

    def _element(self, scope: Mapping[str, str], depth: int) -> Element:
        start = self._match(_START)
        self._count += 1
        if start is None or depth > MAX_DEPTH or self._count > MAX_ELEMENTS:
            raise self._refusal(f"an element, {MAX_DEPTH} deep and {MAX_ELEMENTS} in all at most")
        raw, closed = start[1], bool(start[3])
        declared, plain = self._attributes(start[2])
        inner = {**scope, **declared}
        named = {self._expanded(name, inner, False): (name, value) for name, value in plain.items()}
        if len(named) != len(plain):
            raise self._refusal("every attribute once")
        ordered = dict(sorted(named.items(), key=lambda each: _sorting(each[0])))
        return Element(
            name=self._expanded(raw, inner, True),
            raw=raw,
            declared=declared,
            attributes={name: value for name, (_, value) in ordered.items()},
            raw_attributes=dict(ordered.values()),
            children=() if closed else tuple(self._content(raw, inner, depth)),
            scope=inner,
        )

    def _content(self, raw: str, scope: Mapping[str, str], depth: int) -> Iterator[Element | str]:
        while True:
            text = self._match(_TEXT)
            if text is not None:
                yield text[0]
            if not self._text.startswith("</", self._offset):
                yield self._element(scope, depth + 1)
                continue
            end = self._match(_END)
            if end is None or end[1] != raw:
                raise self._refusal(f"</{raw}>")
            return

    def _attributes(self, text: str) -> tuple[dict[str, str], dict[str, str]]:
        """Namespaces by prefix, and the others by their written names."""
        declared: dict[str, str] = {}
        plain: dict[str, str] = {}
        for name, quoted in _ATTRIBUTE.findall(text):
            prefix, _, local = name.partition(":")
            is_namespace = prefix == "xmlns"
            target, key = (declared, local) if is_namespace else (plain, name)
            value = quoted[1:-1]
            if key in target or prefix == "xml" or (is_namespace and (not value or key in ("xml", "xmlns"))):
                raise self._refusal(f"another attribute than {name}")
            target[key] = value
        return declared, plain

    def _expanded(self, name: str, scope: Mapping[str, str], is_element: bool) -> str:
        """An attribute without a prefix has no namespace; an element has the default one."""
        prefix, _, local = name.rpartition(":")
        if prefix and prefix not in scope:
            raise self._refusal(f"a declaration of the prefix {prefix}")
        uri = scope.get(prefix, "") if prefix or is_element else ""
        return f"{{{uri}}}{local}" if uri else local

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self._text, self._offset)
        if match is not None:
            self._offset = match.end()
        return match

    def _refusal(self, expected: str) -> EvidenceError:
        return refusal(f"at {self._offset}", self._text[self._offset : self._offset + 24], expected)


def _sorting(expanded: str) -> tuple[str, str]:
    """Canonical XML's order of attributes: by namespace, then by local name."""
    uri, _, local = expanded.rpartition("}")
    return uri, local

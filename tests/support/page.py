"""What an HTML page is made of, as a reader takes it: elements with their attributes, texts, headings."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

Element = tuple[str, dict[str, str]]


@dataclass
class Page(HTMLParser):
    """`Page.of(data)` has read it to the end."""

    elements: list[Element] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)  # the element that it is in, the text
    open: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, data: bytes) -> Page:
        page = cls()
        HTMLParser.__init__(page, convert_charrefs=True)
        page.feed(data.decode("ascii"))
        page.close()
        assert page.open == [], "every element has an end"
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.append((self.open[-1], data))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def said(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]

    @property
    def skeleton(self) -> list[tuple[str, tuple[str, ...]]]:
        """Which elements and attributes there are, whatever they say."""
        return [(tag, tuple(attributes)) for tag, attributes in self.elements]

"""A small XML: what is read can be written back canonically, and everything else is refused."""

from __future__ import annotations

import pytest
from support.tdx import refusal

from toposeal.errors import EvidenceError, Reason
from toposeal.evidence.strict_xml import MAX_ATTRIBUTES, MAX_DEPTH, MAX_ELEMENTS, canonical, parse_xml
from toposeal.limits import MAX_RIM_SIZE

# W3C Canonical XML 1.1, section 3: what of it this module knows, and how it has to be written.
CANONICAL = [
    ("<a/>", "<a></a>"),
    ('<?xml version="1.0" encoding="UTF-8"?>\n<a></a>\n', "<a></a>"),
    ("<a  \n/>", "<a></a>"),
    ('<a c="2"   b="1"/>', '<a b="1" c="2"></a>'),
    ("<a>\n  <b/> text\n</a >", "<a>\n  <b></b> text\n</a>"),
    ('<a xmlns:y="2" xmlns:x="1" xmlns="0"/>', '<a xmlns="0" xmlns:x="1" xmlns:y="2"></a>'),
    ('<a xmlns="0"><b xmlns="0"/></a>', '<a xmlns="0"><b></b></a>'),
    (
        '<a xmlns="0"><b xmlns="1"><c xmlns="0"/></b></a>',
        '<a xmlns="0"><b xmlns="1"><c xmlns="0"></c></b></a>',
    ),
    (
        '<a xmlns:x="z" xmlns:y="b" y:k="1" x:a="2" k="3"/>',
        '<a xmlns:x="z" xmlns:y="b" k="3" y:k="1" x:a="2"></a>',
    ),
    ("<a>'#%;=?</a>", "<a>'#%;=?</a>"),
    ('<a b=">\'"/>', '<a b=">\'"></a>'),
]


@pytest.mark.parametrize(("text", "written"), CANONICAL)
def test_it_is_written_as_canonical_xml(text: str, written: str) -> None:
    assert canonical(parse_xml(text.encode())) == written.encode()
    assert canonical(parse_xml(written.encode())) == written.encode()


def test_a_part_shows_all_namespaces_that_hold_there() -> None:
    root = parse_xml(b'<a xmlns="0" xmlns:y="2"><y:b xmlns:x="1"><c/></y:b></a>')
    assert canonical(root.elements()[0]) == b'<y:b xmlns="0" xmlns:x="1" xmlns:y="2"><c></c></y:b>'


def test_a_part_can_be_left_out() -> None:
    root = parse_xml(b"<a>1<b>2</b>3<b>2</b></a>")
    first = next(each for each in root.children if not isinstance(each, str))
    assert canonical(root, first) == b"<a>13<b>2</b></a>"


def test_names_have_their_namespaces() -> None:
    root = parse_xml(b'<a xmlns="0" xmlns:y="2" k="1" y:k="2"><y:b/></a>')
    assert (root.name, root.attributes) == ("{0}a", {"k": "1", "{2}k": "2"})
    assert [each.name for each in root.elements()] == ["{2}b"]
    assert parse_xml(b"<a>text</a>").text() == "text"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text",
        "<a>",
        "<a></b>",
        "<a/><b/>",
        "<a/>text",
        "text<a/>",
        '<!DOCTYPE a [<!ENTITY e "e">]><a>&e;</a>',
        "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>",
        "<a>&lt;</a>",
        "<a>&#65;</a>",
        "<a><!-- c --></a>",
        "<!-- c --><a/>",
        "<a><![CDATA[c]]></a>",
        "<a><?p i?></a>",
        '<?xml-stylesheet href="a"?><a/>',
        '<?xml version="1.1"?><a/>',
        '<?xml version="1.0" encoding="UTF-7"?><a/>',
        "<a>]]></a>",
        "<a>\r\n</a>",
        "<a b='c'/>",
        "<a b=c/>",
        "<a b/>",
        '<a b="\t"/>',
        '<a b="\n"/>',
        '<a b="<"/>',
        '<a b="&amp;"/>',
        '<a b="1"c="2"/>',
        '<a b="1" b="2"/>',
        '<a xmlns:x="0" xmlns:y="0" x:k="1" y:k="2"/>',
        '<a xmlns:x="0" xmlns:x="1"/>',
        '<a xmlns:x=""/>',
        '<a xmlns=""/>',
        '<a xmlns:xml="0"/>',
        '<a xmlns:xmlns="0"/>',
        '<a xml:space="preserve"/>',
        '<a xml:id="1"/>',
        "<x:a/>",
        '<a x:k="1"/>',
        "<a:b:c/>",
        "<1/>",
        "< a/>",
        "<a>\x00</a>",
        "<a>\x7f</a>",
        "<a>é</a>",
        "\ufeff<a/>",
        "<a",
        "<a><b</a>",
    ],
)
def test_E14_the_rest_of_xml_is_refused(text: str) -> None:
    assert refusal(parse_xml, text.encode()) is Reason.RIM


def test_E14_depth_number_and_size_are_bounded() -> None:
    deep = MAX_DEPTH + 1
    assert canonical(parse_xml(b"<a>" * deep + b"</a>" * deep))
    assert refusal(parse_xml, b"<a>" * (deep + 1) + b"</a>" * (deep + 1)) is Reason.RIM
    assert refusal(parse_xml, b"<a>" * 20_000) is Reason.RIM
    assert len(parse_xml(b"<a>" + b"<b/>" * (MAX_ELEMENTS - 1) + b"</a>").elements()) == MAX_ELEMENTS - 1
    assert refusal(parse_xml, b"<a>" + b"<b/>" * MAX_ELEMENTS + b"</a>") is Reason.RIM
    many = [f' a{number}="1"' for number in range(MAX_ATTRIBUTES + 1)]
    assert len(parse_xml(f"<a{''.join(many[:-1])}/>".encode()).attributes) == MAX_ATTRIBUTES
    assert refusal(parse_xml, f"<a{''.join(many)}/>".encode()) is Reason.RIM
    assert refusal(parse_xml, bytes(MAX_RIM_SIZE + 1)) is Reason.TOO_LARGE


def test_mixed_content_is_refused_where_it_is_read() -> None:
    root = parse_xml(b"<a>1<b/></a>")
    for read in (root.elements, root.text):
        with pytest.raises(EvidenceError) as refused:
            read()
        assert refused.value.reason is Reason.RIM

"""Whatever an agent of the guest answers: the quote that was asked for, or a refusal of ours."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from support.agents import field, frame, raw, request_of, serving, status
from support.tdx import HOST, WEB

from toposeal.errors import QuoteSourceError
from toposeal.host.agent_quotes import AgentQuotes
from toposeal.host.coco_agent import coco_agent
from toposeal.host.dstack_agent import dstack_agent
from toposeal_lab.tsm_providers import TdxProvider

REPORT_DATA = bytes(range(64))
TDX = TdxProvider(HOST, WEB)
QUOTE = raw(REPORT_DATA, TDX)

OTHERS = raw(bytes(64), TDX)
WELL = [spelt for quote in (QUOTE, OTHERS) for spelt in (quote.hex(), b64encode(quote).decode())]
texts = st.one_of(st.text(max_size=40), st.sampled_from([*WELL, ""]))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.lists(inner),
    max_leaves=5,
)
objects = st.one_of(
    values, st.dictionaries(st.sampled_from(["quote", "report_data", "attestation_report", "x"]), values)
)
quoting = st.fixed_dictionaries({"quote": texts})
bodies = st.one_of(
    st.binary(max_size=200), st.one_of(quoting, objects).map(lambda value: json.dumps(value).encode())
)
responses = st.one_of(
    st.binary(max_size=60),
    bodies.map(lambda data: field(2, field(1, data))),
    st.binary(max_size=30).map(lambda text: field(1, status(13, text))),
    st.builds(lambda code, data: field(1, status(code, b"")) + field(2, data), st.integers(0, 127), bodies),
)
frames = st.one_of(
    st.binary(max_size=60),
    responses.map(lambda data: frame(1, data)),
    st.builds(frame, st.integers(0, 3), responses, st.integers(0, 255), st.integers(0, 2000)),
)
heads = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda status_line, lines: b"HTTP/1.1 " + b"\r\n".join((status_line, *lines, b"", b"")),
        st.sampled_from([b"200 OK", b"200", b"500 x", b"999 x", b"0 x", b"100 Continue"]),
        st.lists(
            st.sampled_from(
                [
                    b"content-length: 9",
                    b"content-length: -1",
                    b"content-length: x",
                    b"x",
                    b"transfer-encoding: chunked",
                    b"content-encoding: gzip",
                    b" x: y",
                ]
            ),
            max_size=3,
        ),
    ),
)
announced = bodies.map(
    lambda body: b"HTTP/1.1 200 OK\r\ncontent-length: " + str(len(body)).encode() + b"\r\n\r\n" + body
)
answers = st.one_of(announced, st.builds(lambda head, body: head + body, heads, bodies))


@contextlib.contextmanager
def answering(path: Path) -> Iterator[list[bytes]]:
    """A server that gives the one answer in the list, and hangs up."""
    answer = [b""]

    def handle(connection: socket.socket) -> None:
        connection.settimeout(5)
        connection.recv(65_536)
        connection.sendall(answer[0])

    with serving(path, handle):
        yield answer


def tried(source: AgentQuotes) -> None:
    """One attempt, as `report` makes many."""
    try:
        found = source._attempt(REPORT_DATA, time.monotonic() + 5)
    except QuoteSourceError:
        return
    assert found.outblob == QUOTE


def test_E14_any_answer_of_the_attestation_agent_is_our_quote_or_a_refusal(tmp_path: Path) -> None:
    with answering(tmp_path / "agent.sock") as answer:
        source = coco_agent(str(tmp_path / "agent.sock"))

        @hypothesis.given(frames)
        @hypothesis.settings(max_examples=300, deadline=None)
        def check(data: bytes) -> None:
            answer[0] = data
            tried(source)

        check()


def test_E14_any_answer_of_dstacks_agent_is_our_quote_or_a_refusal(tmp_path: Path) -> None:
    with answering(tmp_path / "agent.sock") as answer:
        source = dstack_agent(str(tmp_path / "agent.sock"))

        @hypothesis.given(answers)
        @hypothesis.settings(max_examples=300, deadline=None)
        def check(data: bytes) -> None:
            answer[0] = data
            tried(source)

        check()


@pytest.mark.parametrize("size", [0, 9, 10, 40])
def test_E14_the_end_in_the_middle_of_an_answer_can_pass(size: int, tmp_path: Path) -> None:
    def handle(connection: socket.socket) -> None:
        stream, _ = request_of(connection)
        connection.sendall(frame(stream, field(2, field(1, b"{" * 100)))[:size])

    with serving(tmp_path / "agent.sock", handle), pytest.raises(QuoteSourceError) as caught:
        coco_agent(str(tmp_path / "agent.sock")).report(REPORT_DATA, 0.3)
    assert caught.value.retry

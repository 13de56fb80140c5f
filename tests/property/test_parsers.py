"""Every parser: any bytes, and any damage to valid bytes, are accepted or refused with a typed error."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.parsers import CORPUS, kept, parsers
from support.quick import quickly


@st.composite
def damaged(draw: st.DrawFn, examples: list[bytes]) -> bytes:
    """A valid example after one to four cuts, copies, flips or insertions."""
    data = draw(st.sampled_from(examples))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 64)))
        middle = draw(
            st.one_of(
                st.just(b""),
                st.just(data[start:end] * 2),
                st.binary(max_size=16),
                st.just(bytes(255 - byte for byte in data[start:end])),
            )
        )
        data = data[:start] + middle + data[end:]
    return data


@pytest.mark.parametrize("name", parsers())
def test_examples_are_accepted(name: str) -> None:
    assert all(parsers()[name](example) for example in parsers()[name].examples)


def test_the_kept_corpus_is_of_parsers_that_exist() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} <= set(parsers())


@pytest.mark.parametrize("name", parsers())
def test_the_kept_corpus_is_accepted_or_refused(name: str) -> None:
    """What `make fuzz` found to reach different code, for ever after."""
    for data in kept(name):
        quickly(lambda data=data: parsers()[name](data), 0.05)  # type: ignore[misc]


@pytest.mark.parametrize("name", parsers())
def test_any_bytes_are_accepted_or_refused(name: str) -> None:
    @given(st.binary(max_size=512))
    @settings(max_examples=100)
    def check(data: bytes) -> None:
        parsers()[name](data)

    check()


@pytest.mark.parametrize("name", parsers())
def test_damaged_examples_are_accepted_or_refused(name: str) -> None:
    @given(damaged(list(parsers()[name].examples)))
    @settings(max_examples=150)
    def check(data: bytes) -> None:
        parsers()[name](data)

    check()

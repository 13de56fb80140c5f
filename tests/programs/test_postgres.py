"""PostgreSQL with psql and pgbench."""

from __future__ import annotations

import re

import pytest
from support.programs import POSTGRES, Place

SECONDS = 5


@pytest.fixture(scope="module", autouse=True)
def tables(places: dict[str, Place]) -> None:
    for place in places.values():
        pgbench(place, "-i", "-q", "-s", "2")


def psql(place: Place, *statements: str, timeout_s: float = 60) -> str:
    words = [word for statement in statements for word in ("-c", statement)]
    return place.run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", url(place), *words, timeout_s=timeout_s)


def pgbench(place: Place, *arguments: str) -> str:
    return place.run("pgbench", *arguments, url(place), timeout_s=120)


def url(place: Place) -> str:
    return f"postgresql://app:secret@{place.host}:{POSTGRES}/postgres?sslmode=disable"


def test_a_query(place: Place) -> None:
    assert psql(place, "select 6 * 7") == "42\n"


def test_a_wrong_password_is_told(place: Place) -> None:
    wrong = url(place).replace("secret", "wrong")
    done = place.client.run(["psql", "-X", wrong, "-c", "select 1"], uid=1000, check=False)
    assert done.returncode == 2
    assert b"password authentication failed" in done.stderr


def test_many_rows_both_ways(place: Place) -> None:
    psql(place, "create table if not exists rows (n int, t text)", "truncate rows")
    rows = "".join(f"{number}\t{'x' * 200}\n" for number in range(100_000)).encode()
    place.run("psql", "-XAtq", url(place), "-c", "copy rows from stdin", input=rows)
    assert psql(place, "select count(*), sum(length(t)) from rows") == "100000|20000000\n"
    assert psql(place, "copy rows to stdout").encode() == rows


def test_a_cancelled_query_ends(place: Place) -> None:
    """The request to cancel comes over a second connection that the server closes without an answer."""
    script = f"timeout --signal=INT 2 psql -X '{url(place)}' -c 'select pg_sleep(30)' 2>&1; true"
    assert "canceling statement due to user request" in place.run("bash", "-c", script, timeout_s=20)


@pytest.mark.parametrize(
    "how",
    [
        ("-c", "8", "-j", "2"),
        ("-c", "8", "-j", "2", "-M", "prepared", "-S"),
        ("-c", "4", "-C", "-S"),
    ],
    ids=["transactions", "prepared reads", "a connection each"],
)
def test_pgbench(place: Place, how: tuple[str, ...]) -> None:
    said = pgbench(place, "-T", str(SECONDS), *how)
    print("\n".join(said.splitlines()[-4:]))
    assert re.search(r"number of failed transactions: 0 ", said)
    assert re.search(r"^tps = [1-9]", said, re.MULTILINE)

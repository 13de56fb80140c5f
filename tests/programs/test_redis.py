"""Redis with redis-benchmark and redis-cli."""

from __future__ import annotations

import subprocess

import pytest
from support.inside import APP_UID
from support.programs import REDIS, Place


def cli(place: Place, *words: str, input: bytes | None = None) -> str:
    return place.run("redis-cli", "-h", place.host, "-p", str(REDIS), *words, input=input)


@pytest.mark.parametrize(
    "how",
    [
        ("-P", "64", "-n", "200000"),
        ("-n", "20000"),
        ("-k", "0", "-n", "2000"),
        ("-d", "1000000", "-n", "200"),
    ],
    ids=["pipelines", "one by one", "a connection each", "a megabyte each"],
)
def test_redis_benchmark(place: Place, how: tuple[str, ...]) -> None:
    said = place.run("redis-benchmark", "-h", place.host, "-t", "set,get", "--csv", *how)
    print(said)
    assert [line.split(",")[0] for line in said.splitlines()] == ['"test"', '"SET"', '"GET"']


def test_what_one_publishes_the_other_gets(place: Place) -> None:
    argv = ["redis-cli", "-h", place.host, "SUBSCRIBE", "news"]
    with place.client.spawn(argv, uid=APP_UID, stdout=subprocess.PIPE) as subscriber:
        assert subscriber.stdout is not None
        assert [subscriber.stdout.readline() for _ in range(3)] == [b"subscribe\n", b"news\n", b"1\n"]
        assert cli(place, "PUBLISH", "news", "extra") == "1\n"
        assert [subscriber.stdout.readline() for _ in range(3)] == [b"message\n", b"news\n", b"extra\n"]
        subscriber.kill()


def test_a_mass_of_commands_through_a_pipe(place: Place) -> None:
    commands = b"".join(b"SET key:%d %d\r\n" % (number, number) for number in range(100_000))
    assert "errors: 0, replies: 100000" in cli(place, "--pipe", input=commands)

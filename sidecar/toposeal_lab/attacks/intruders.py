"""Connections to a mesh port by those who have no business there: no TLS, no known CA, no own name."""

from __future__ import annotations

from functools import partial

from toposeal_lab.attacks.stage import PING, PONG, Stage, expect_answer, expect_nothing, witnessed
from toposeal_lab.clients import Credential, Outcome, exchange
from toposeal_lab.forge import stranger
from toposeal_lab.scenario import HTTP_PORT, REDIS_PORT
from toposeal_lab.stolen import Insider, Stolen, steal

_GET = b"GET / HTTP/1.0\r\n\r\n"


def run(stage: Stage, insider: Insider) -> None:
    """All from the rogue pod, against db, which serves api alone."""
    api = steal(stage.member("api-1"))

    def with_own_leaf() -> str:
        return expect_answer(_dial(stage, api.domain, api.credential), PONG)

    stage.checks.attack(
        "a plaintext connection to a mesh port is refused",
        with_own_leaf,
        lambda: _refused(stage, None, None),
    )
    stage.checks.attack(
        "a client of an unknown CA is refused",
        with_own_leaf,
        lambda: _refused(stage, api.domain, stranger([api.uri])),
    )
    stage.checks.attack(
        "a client without a certificate is refused",
        with_own_leaf,
        lambda: _refused(stage, api.domain, None),
    )
    _forged_clients(stage, insider, api)


def _forged_clients(stage: Stage, insider: Insider, api: Stolen) -> None:
    """The CA of web, which may call api and not db, signs the names of api."""
    web = insider.own

    def honest_name() -> str:
        """The same key and client are good for web's own name, where web may call."""
        port = (stage.member("api-1").pod.ipv4, HTTP_PORT)
        outcome = exchange(stage.rogue, port, _GET, web.domain, insider.mint(web.uri))
        return expect_answer(outcome, b"HTTP/1")

    for title, uris in {"[api]": (api.uri,), "[web, api]": (web.uri, api.uri)}.items():
        for shown in (api, web):
            name = "api's" if shown is api else "its own"
            stage.checks.attack(
                f"web's CA signs a client named {title}, shown under {name} SNI: refused",
                honest_name,
                partial(_refused, stage, shown.domain, insider.mint(*uris)),
            )


def _dial(stage: Stage, server_name: str | None, credential: Credential | None) -> Outcome:
    address = (stage.member("db").pod.ipv4, REDIS_PORT)
    return exchange(stage.rogue, address, PING, server_name, credential)


def _refused(stage: Stage, server_name: str | None, credential: Credential | None) -> str:
    return witnessed(stage.member("db"), lambda: expect_nothing(_dial(stage, server_name, credential)))

"""Envoy's discovery protocol from our side: what is sent when, and what counts as taken."""

from __future__ import annotations

import pytest
from google.protobuf.any_pb2 import Any

from toposeal._wire import xds_pb2 as wire
from toposeal.dataplane.discovery import Discovery, Kind, Offer, Update, said
from toposeal.dataplane.envoy_secrets import secrets
from toposeal.errors import PodError, Reason
from toposeal.limits import MAX_DISCOVERY_NAMES, MAX_DISCOVERY_REQUEST

SECRET, CLUSTER, LISTENER = Kind.SECRET, Kind.CLUSTER, Kind.LISTENER


def update(version: str, *kinds: Kind) -> Update:
    names = {SECRET: ("id", "ingress"), CLUSTER: ("blackhole",), LISTENER: ("out", "in")}
    return {
        kind: Offer(version, {name: f"{name} {version}".encode() for name in names[kind]}) for kind in kinds
    }


def both(version: str) -> Update:
    return update(version, CLUSTER, LISTENER)


def shown(response: wire.DiscoveryResponse) -> str:
    names = [resource.value.decode().split()[0] for resource in response.resources]
    return " ".join((Kind(response.type_url).name, response.version_info, *names))


class Envoy:
    """The other end: what it was sent, and requests as Envoy makes them."""

    def __init__(self, *offered: Update) -> None:
        self.discovery = Discovery()
        self.sent: list[wire.DiscoveryResponse] = []
        self.versions: dict[Kind, str] = {}
        for one in offered:
            self.offer(one)

    def offer(self, offered: Update) -> list[str]:
        return self.heard(self.discovery.offer(offered))

    def ask(self, kind: Kind, *names: str, nonce: str = "", version: str = "", words: str = "") -> list[str]:
        """What is sent in answer, as `kind version names`."""
        request = wire.DiscoveryRequest(
            version_info=version, resource_names=names, type_url=kind.value, response_nonce=nonce
        )
        if words:
            request.error_detail.message = words
        return self.heard(self.discovery.request(request.SerializeToString()))

    def take(self, *names: str) -> list[str]:
        """Acknowledge the last response."""
        last = self.sent[-1]
        self.versions[Kind(last.type_url)] = last.version_info
        return self.ask(Kind(last.type_url), *names, nonce=last.nonce, version=last.version_info)

    def refuse(self, words: str, *names: str) -> list[str]:
        last = self.sent[-1]
        kind = Kind(last.type_url)
        return self.ask(kind, *names, nonce=last.nonce, version=self.versions.get(kind, ""), words=words)

    def heard(self, responses: list[bytes]) -> list[str]:
        found = [wire.DiscoveryResponse.FromString(response) for response in responses]
        self.sent += found
        return [shown(response) for response in found]

    def is_taken(self) -> bool:
        return self.discovery.is_taken()


def opened() -> Envoy:
    """One that runs secrets, clusters and listeners `1`."""
    envoy = Envoy({**update("1", SECRET), **both("1")})
    envoy.ask(CLUSTER)
    envoy.ask(LISTENER)
    envoy.take()
    envoy.take()
    envoy.ask(SECRET, "id", "ingress")
    envoy.take("id", "ingress")
    assert envoy.is_taken()
    return envoy


def test_a_response_is_the_offer_in_envoys_own_types() -> None:
    envoy = Envoy(both("1"))
    envoy.ask(CLUSTER)
    (response,) = envoy.sent
    assert response.version_info == "1"
    assert response.type_url == "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    assert list(response.resources) == [Any(type_url=response.type_url, value=b"blackhole 1")]
    assert response.nonce != ""


def test_nothing_is_sent_before_it_is_asked_for_nor_twice() -> None:
    envoy = Envoy(both("1"))
    assert envoy.sent == []
    assert envoy.ask(CLUSTER) == ["CLUSTER 1 blackhole"]
    assert envoy.take() == []
    assert envoy.ask(LISTENER) == ["LISTENER 1 out in"]
    assert not envoy.is_taken()
    assert envoy.take() == []
    assert envoy.is_taken()
    assert Envoy().ask(CLUSTER) == []


def test_listeners_wait_for_the_clusters_that_they_name() -> None:
    envoy = Envoy(both("1"))
    assert envoy.ask(LISTENER) == ["LISTENER 1 out in"]
    envoy.take()
    envoy.ask(CLUSTER)
    envoy.take()
    assert envoy.offer(both("2")) == ["CLUSTER 2 blackhole"]
    assert envoy.take() == ["LISTENER 2 out in"]
    envoy.take()
    assert envoy.is_taken()


def test_what_envoy_runs_already_is_not_sent_again() -> None:
    envoy = opened()
    later = {**both("2"), CLUSTER: Offer("2", both("1")[CLUSTER].resources)}
    assert envoy.offer(later) == ["LISTENER 2 out in"]
    assert not envoy.is_taken()
    assert envoy.take() == []
    assert envoy.is_taken()


def test_a_refusal_beside_what_envoy_runs_already_leaves_it_in_force() -> None:
    envoy = opened()
    same = Offer("2", both("1")[CLUSTER].resources)
    envoy.offer({**both("2"), CLUSTER: same})
    assert envoy.refuse("no") == []
    with pytest.raises(PodError):
        envoy.is_taken()
    envoy.offer({**both("3"), CLUSTER: same})
    assert envoy.take() == []
    assert envoy.is_taken()


def test_what_envoy_ran_before_the_last_response_is_sent_again() -> None:
    """It may take that one yet."""
    envoy = opened()
    envoy.offer(update("2", LISTENER))
    same = Offer("3", both("1")[LISTENER].resources)
    assert envoy.offer({LISTENER: same}) == ["LISTENER 3 out in"]
    assert not envoy.is_taken()
    assert envoy.take() == []
    assert envoy.is_taken()


def test_a_part_of_what_envoy_runs_is_sent() -> None:
    """All resources of a kind travel together: one that is missing is one that is gone."""
    envoy = opened()
    part = Offer("2", {"out": both("1")[LISTENER].resources["out"]})
    assert envoy.offer({LISTENER: part}) == ["LISTENER 2 out"]


def test_clusters_wait_for_the_secrets_that_they_name() -> None:
    envoy = opened()
    assert envoy.offer({**update("2", SECRET), **both("2")}) == ["SECRET 2 id ingress"]
    assert envoy.take("id", "ingress") == ["CLUSTER 2 blackhole"]
    assert envoy.take() == ["LISTENER 2 out in"]


def test_secrets_go_out_by_name_and_count_when_all_of_them_are_taken() -> None:
    """As at the opening: the clusters ask for one, the listeners for the other too."""
    envoy = Envoy(update("1", SECRET))
    assert envoy.ask(SECRET, "id") == ["SECRET 1 id"]
    assert envoy.take("id") == []
    assert not envoy.is_taken()
    first = envoy.sent[-1].nonce
    assert envoy.ask(SECRET, "ingress", "id", nonce=first, version="1") == ["SECRET 1 id ingress"]
    envoy.take("ingress", "id")
    assert envoy.is_taken()
    assert envoy.ask(SECRET, "id", nonce=envoy.sent[-1].nonce, version="1") == []  # fewer: nothing new
    assert envoy.is_taken()


@pytest.mark.parametrize("answered", [True, False])
def test_F4_what_is_offered_alone_leaves_no_secret_to_ask_for(answered: bool) -> None:
    """Also where Envoy has not answered for the last ones: nothing waits for that any more."""
    envoy = opened()
    if not answered:
        assert envoy.offer(update("2", SECRET)) == ["SECRET 2 id ingress"]
    last = next(response for response in reversed(envoy.sent) if response.type_url == SECRET.value)
    assert envoy.heard(envoy.discovery.offer_alone(both("closed"))) == ["CLUSTER closed blackhole"]
    assert envoy.take() == ["LISTENER closed out in"]
    envoy.take()
    assert envoy.is_taken()
    for version in (last.version_info, ""):
        assert envoy.ask(SECRET, "id", "ingress", nonce=last.nonce, version=version) == []
    envoy.discovery.connected()
    assert envoy.ask(SECRET, "id", "ingress") == []
    kept = envoy.discovery._subscriptions[SECRET]
    assert (kept.offered, kept.given, kept.held) == (None, None, None)


def test_after_it_secrets_are_offered_and_taken_as_at_first() -> None:
    envoy = opened()
    envoy.heard(envoy.discovery.offer_alone(both("closed")))
    envoy.take()
    envoy.take()
    secret = next(response for response in reversed(envoy.sent) if response.type_url == SECRET.value)
    assert envoy.ask(SECRET, nonce=secret.nonce, version=secret.version_info) == []  # no longer asked for
    assert envoy.offer({**update("3", SECRET), **both("3")}) == ["CLUSTER 3 blackhole"]
    assert envoy.take() == ["LISTENER 3 out in"]
    envoy.take()
    assert envoy.ask(SECRET, "id", "ingress", nonce=secret.nonce, version="1") == ["SECRET 3 id ingress"]
    assert not envoy.is_taken()
    envoy.take("id", "ingress")
    assert envoy.is_taken()


def test_a_secret_that_envoy_drops_owes_no_answer_and_is_given_again_when_it_is_asked_for() -> None:
    """Envoy has closed, and says that it needs no secret when it has been given the next ones already."""
    envoy = opened()
    envoy.heard(envoy.discovery.offer_alone(both("closed")))
    envoy.take()
    envoy.take()
    assert envoy.offer({**update("3", SECRET), **both("3")}) == ["SECRET 3 id ingress"]
    nonce = envoy.sent[-1].nonce
    assert envoy.ask(SECRET, nonce=nonce, version="1") == ["CLUSTER 3 blackhole"]
    assert envoy.take() == ["LISTENER 3 out in"]
    envoy.take()
    assert not envoy.is_taken()
    assert envoy.ask(SECRET, "id", nonce=nonce, version="1") == ["SECRET 3 id"]
    assert envoy.take("id", "ingress") == ["SECRET 3 id ingress"]
    envoy.take("id", "ingress")
    assert envoy.is_taken()


@pytest.mark.parametrize("names", [(), ("other",)])
def test_no_secret_goes_to_who_asks_for_none_of_ours(names: tuple[str, ...]) -> None:
    assert Envoy(update("1", SECRET)).ask(SECRET, *names) == []


def test_a_stale_nonce_says_nothing() -> None:
    envoy = opened()
    envoy.offer(update("2", SECRET))
    old = envoy.sent[-1].nonce
    envoy.offer(update("3", SECRET))
    assert envoy.ask(SECRET, "id", "ingress", nonce=old, version="2") == []
    assert not envoy.is_taken()
    assert envoy.ask(SECRET, "id", "ingress", nonce=old, words="too late") == []
    assert envoy.ask(SECRET, "other", nonce="", version="3") == []
    envoy.take("id", "ingress")
    assert envoy.is_taken()


def test_an_answer_with_another_version_is_no_acknowledgement() -> None:
    envoy = Envoy(both("1"))
    envoy.ask(CLUSTER)
    envoy.ask(CLUSTER, nonce=envoy.sent[-1].nonce, version="0")
    assert envoy.ask(LISTENER) == []  # the clusters are still not answered
    envoy.take()
    assert envoy.sent[-1].type_url == LISTENER.value


def test_D7_a_refusal_is_told_in_envoys_words_and_nothing_more_of_the_update_is_sent() -> None:
    envoy = opened()
    envoy.offer(both("2"))
    assert envoy.refuse("no such\n field") == []
    with pytest.raises(PodError, match="no such field") as caught:
        envoy.is_taken()
    assert caught.value.reason is Reason.ENVOY_REJECTED
    assert envoy.offer(both("3")) == ["CLUSTER 3 blackhole"]
    assert envoy.take() == ["LISTENER 3 out in"]
    envoy.take()
    assert envoy.is_taken()


def test_a_refused_version_is_never_sent_again_on_that_stream() -> None:
    envoy = opened()
    bad = update("2", SECRET)
    envoy.offer(bad)
    envoy.refuse("bad key", "id", "ingress")
    nonce = envoy.sent[-1].nonce
    assert envoy.ask(SECRET, "id", nonce=nonce, version="1") == []  # fewer names, then more again
    assert envoy.ask(SECRET, "id", "ingress", nonce=nonce, version="1") == ["SECRET 1 id ingress"]
    envoy.take("id", "ingress")
    assert envoy.offer(bad) == []
    with pytest.raises(PodError, match="bad key"):
        envoy.is_taken()


def test_what_was_taken_before_a_refusal_is_what_is_asked_for_afterwards() -> None:
    """Envoy runs it; whoever connects anew is given it, and not what was refused."""
    envoy = opened()
    envoy.offer(update("2", SECRET))
    envoy.refuse("bad key", "id", "ingress")
    envoy.discovery.connected()
    assert envoy.ask(SECRET, "id", "ingress", version="1") == ["SECRET 1 id ingress"]


def test_a_refusal_without_anything_before_leaves_nothing_to_send() -> None:
    envoy = Envoy(both("1"))
    envoy.ask(CLUSTER)
    envoy.refuse("no")
    assert envoy.ask(CLUSTER, nonce=envoy.sent[-1].nonce) == []
    assert envoy.ask(LISTENER) == []  # it may name what was refused


def test_a_refusal_of_what_is_no_longer_offered_is_not_the_new_ones() -> None:
    envoy = opened()
    envoy.offer(both("2"))
    envoy.take()  # of the clusters: the listeners are on their way
    envoy.offer(both("3"))
    listeners = next(r for r in envoy.sent if r.type_url == LISTENER.value and r.version_info == "2")
    assert envoy.ask(LISTENER, nonce=listeners.nonce, version="1", words="bad") == []
    assert not envoy.is_taken()
    clusters = envoy.sent[-1]
    assert envoy.ask(CLUSTER, nonce=clusters.nonce, version="3") == ["LISTENER 3 out in"]


def test_a_version_that_is_refused_while_it_is_offered_once_more_is_not_sent() -> None:
    envoy = opened()
    envoy.offer(both("2"))
    envoy.take()  # of the clusters: the listeners are on their way
    listeners = envoy.sent[-1]
    assert envoy.offer({**update("3", CLUSTER), **update("2", LISTENER)}) == ["CLUSTER 3 blackhole"]
    clusters = envoy.sent[-1]
    envoy.ask(LISTENER, nonce=listeners.nonce, version="1", words="bad")
    with pytest.raises(PodError, match="bad"):
        envoy.is_taken()
    assert envoy.ask(CLUSTER, nonce=clusters.nonce, version="3") == []


def test_a_version_of_which_a_part_was_taken_is_not_sent_again_once_the_whole_is_refused() -> None:
    """Envoy took one secret and would not have both."""
    envoy = Envoy(update("1", SECRET))
    envoy.ask(SECRET, "id")
    envoy.take("id")
    assert envoy.ask(SECRET, "id", "ingress", nonce=envoy.sent[-1].nonce, version="1") == [
        "SECRET 1 id ingress"
    ]
    assert envoy.refuse("bad key", "id", "ingress") == []
    assert envoy.ask(SECRET, "id", "ingress", nonce=envoy.sent[-1].nonce, version="1") == []


def test_only_so_many_refusals_are_remembered() -> None:
    envoy = opened()
    for version in range(2, 70):
        envoy.offer(update(str(version), SECRET))
        envoy.refuse("no", "id", "ingress")
    assert envoy.offer(update("2", SECRET)) == ["SECRET 2 id ingress"]
    envoy.take("id", "ingress")
    assert envoy.offer(update("69", SECRET)) == []


def test_on_a_new_stream_nothing_is_acknowledged() -> None:
    envoy = opened()
    envoy.discovery.connected()
    assert not envoy.is_taken()
    assert envoy.ask(CLUSTER, version="1") == ["CLUSTER 1 blackhole"]  # what it says it ran is no answer
    assert not envoy.is_taken()
    assert envoy.ask(SECRET, "id", "ingress", version="1") == ["SECRET 1 id ingress"]


def test_a_rotation_leaves_the_rest_as_it_is() -> None:
    envoy = opened()
    assert envoy.offer(update("2", SECRET)) == ["SECRET 2 id ingress"]
    assert not envoy.is_taken()
    envoy.take("id", "ingress")
    assert envoy.is_taken()


KEY = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIB\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    "words", [f"cannot load {KEY}", "bad line MIGHAgEAMBMGByqGSM49 in it", "x" * 300 + "MIGHAgEAMBMGByqGSM49"]
)
def test_F4_no_part_of_a_key_is_repeated_from_envoys_words(words: str) -> None:
    envoy = Envoy(secrets("chain", KEY, "chain", KEY))
    envoy.ask(SECRET, "id", "ingress")
    envoy.refuse(words, "id", "ingress")
    with pytest.raises(PodError, match="what it was given") as caught:
        envoy.is_taken()
    assert "MIGH" not in str(caught.value)


def test_F4_a_key_is_in_no_representation() -> None:
    assert "PRIVATE" not in repr(secrets("chain", KEY, "chain", KEY))


def test_long_words_are_told_from_both_ends() -> None:
    assert said("no  such\tfield") == "no such field"
    told = said("start " + "x" * 500 + " no such field: 'bogus'")
    assert (told[:6], told[-7:], len(told) <= 160) == ("start ", "'bogus'", True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        wire.DiscoveryRequest(type_url="type.googleapis.com/envoy.config.route.v3.Route").SerializeToString(),
        wire.DiscoveryRequest(type_url=CLUSTER.value, resource_names=["a"]).SerializeToString(),
        wire.DiscoveryRequest(
            type_url=SECRET.value, resource_names=["a"] * (MAX_DISCOVERY_NAMES + 1)
        ).SerializeToString(),
        wire.DiscoveryRequest(
            type_url=SECRET.value, resource_names=["a" * MAX_DISCOVERY_REQUEST]
        ).SerializeToString(),
    ],
    ids=["nothing", "no message", "another kind", "a cluster by name", "many names", "too much"],
)
def test_a_request_that_is_none_of_our_envoys_is_refused(data: bytes) -> None:
    with pytest.raises(PodError) as caught:
        Discovery().request(data)
    assert caught.value.reason is Reason.ENVOY_FAILED


@pytest.mark.parametrize(
    "offered", [(), ({},), (both("1"), {})], ids=["nothing", "an empty update", "one after another"]
)
def test_where_nothing_is_offered_nothing_is_taken(offered: tuple[Update, ...]) -> None:
    """A gate that waits must not be told that all is well because all has been forgotten."""
    assert not Envoy(*offered).is_taken()

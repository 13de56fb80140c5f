"""Rule files and listings as values, and the rule files themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from toposeal.dataplane.firewall import (
    MARK,
    Chain,
    differences,
    nft_chains,
    replacing,
    save_chains,
    without_standing_jumps,
)
from toposeal.errors import PodError, Reason
from toposeal.limits import DAEMON_UID, DNS_PORT, ENVOY_UID, INBOUND_PORT, OUTBOUND_PORT, PEER_PORT

RULES = Path(__file__).resolve().parents[2] / "iptables"
NFT = (RULES / "lockdown.nft").read_text()
V4 = (RULES / "lockdown.v4.rules").read_text()
V6 = (RULES / "lockdown.v6.rules").read_text()

LISTING = """table inet toposeal {
	chain first {
		type filter hook input priority 0; policy drop;
		iifname "lo" accept
	}

	chain second {
	}
}
"""


def test_a_listing_becomes_its_chains() -> None:
    assert nft_chains(LISTING) == {
        "first": Chain("type filter hook input priority 0; policy drop;", ('iifname "lo" accept',)),
        "second": Chain(None, ()),
    }


def test_a_rule_file_and_its_listing_are_equal() -> None:
    file = "# why\ntable inet toposeal\nflush table inet toposeal\n\n" + LISTING.replace(
        "\t\tiifname", "\t\t# why\n\t\tiifname"
    )
    assert nft_chains(file) == nft_chains(LISTING)


def test_what_stands_outside_any_chain_is_seen() -> None:
    live = LISTING.replace("toposeal {", "toposeal {\n\tflags dormant\n\tset x {\n\t}", 1)
    with pytest.raises(PodError):
        nft_chains(live)
    live = LISTING.replace("toposeal {", "toposeal {\n\tflags dormant", 1)
    assert nft_chains(live)[""] == Chain(None, ("flags dormant",))
    found = differences(nft_chains(LISTING), nft_chains(live))
    assert [(m.reason, m.field) for m in found] == [(Reason.FIREWALL, "table")]


def test_a_comment_cannot_hide_the_rest_of_a_rule() -> None:
    live = LISTING.replace("accept", "accept # comment")
    assert len(differences(nft_chains(LISTING), nft_chains(live))) == 1


@pytest.mark.parametrize(
    "text", ["", "table inet other {\n}\n", "table inet toposeal {\n", LISTING + "table inet more {\n}\n"]
)
def test_anything_but_this_one_table_is_refused(text: str) -> None:
    with pytest.raises(PodError) as caught:
        nft_chains(text)
    assert caught.value.reason is Reason.FIREWALL


def test_differences_name_chain_rule_and_both_sides() -> None:
    wanted = {"a": Chain("type x", ("one", "two")), "b": Chain(None, ())}
    live = {"a": Chain("type y", ("two", "one", "three")), "c": Chain(None, ())}
    assert [str(m) for m in differences(wanted, live)] == [
        "a: found type y, expected type x [firewall]",
        "a rule 1: found two, expected one [firewall]",
        "a rule 2: found one, expected two [firewall]",
        "a rule 3: found three, expected nothing [firewall]",
        "b: found absent, expected present [firewall]",
        "c: found present, expected absent [firewall]",
    ]
    assert differences(wanted, wanted) == ()


SAVED = """# Generated
*nat
:OUTPUT ACCEPT [12:34]
:DOCKER_OUTPUT - [0:0]
:TOPOSEAL_OUT - [0:0]
-A OUTPUT -j TOPOSEAL_OUT
-A OUTPUT -d 127.0.0.11/32 -j DOCKER_OUTPUT
-A TOPOSEAL_OUT -p tcp -j REDIRECT --to-ports 15001
COMMIT
"""
FILE = """*nat
:OUTPUT ACCEPT [0:0]
:TOPOSEAL_OUT - [0:0]
-I OUTPUT -j TOPOSEAL_OUT
-A TOPOSEAL_OUT -p tcp -j REDIRECT --to-ports 15001
COMMIT
"""


def test_a_container_engines_rules_after_ours_are_no_difference() -> None:
    assert differences(save_chains(FILE), save_chains(SAVED)) == ()


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("-A OUTPUT -j TOPOSEAL_OUT\n", "", "nat OUTPUT rule 1"),
        (
            "-A OUTPUT -j TOPOSEAL_OUT\n",
            "-A OUTPUT -j ACCEPT\n-A OUTPUT -j TOPOSEAL_OUT\n",
            "nat OUTPUT rule 1",
        ),
        (":OUTPUT ACCEPT", ":OUTPUT DROP", "nat OUTPUT"),
        ("15001\n", "15001\n-A TOPOSEAL_OUT -j ACCEPT\n", "nat TOPOSEAL_OUT rule 2"),
        ("-A TOPOSEAL_OUT -p tcp -j REDIRECT --to-ports 15001\n", "", "nat TOPOSEAL_OUT rule 1"),
        (":TOPOSEAL_OUT - [0:0]\n", "", "nat TOPOSEAL_OUT"),
        ("*nat", "*mangle", "nat OUTPUT"),
    ],
)
def test_a_changed_save_is_a_difference(old: str, new: str, field: str) -> None:
    assert old in SAVED
    found = differences(save_chains(FILE), save_chains(SAVED.replace(old, new)))
    assert field in {m.field for m in found}


def test_a_line_that_is_none_of_iptables_save_is_refused() -> None:
    with pytest.raises(PodError) as caught:
        save_chains(SAVED + "-X TOPOSEAL_OUT\n")
    assert caught.value.reason is Reason.FIREWALL


def test_a_jump_is_inserted_only_where_it_is_not_first() -> None:
    assert without_standing_jumps(FILE, {}) == FILE
    assert without_standing_jumps(FILE, save_chains(SAVED)) == FILE.replace("-I OUTPUT -j TOPOSEAL_OUT\n", "")
    later = SAVED.replace("-A OUTPUT -j TOPOSEAL_OUT\n", "").replace(
        "DOCKER_OUTPUT\n-A TOPO", "DOCKER_OUTPUT\n-A OUTPUT -j TOPOSEAL_OUT\n-A TOPO"
    )
    assert without_standing_jumps(FILE, save_chains(later)) == FILE


def test_replacing_deletes_in_the_same_transaction() -> None:
    text = replacing(NFT)
    assert "\ntable inet toposeal\ndelete table inet toposeal\n" in text
    assert "\nflush" not in text
    assert nft_chains(NFT)


# The files themselves.


@pytest.mark.parametrize("text", [NFT, V4, V6], ids=["nft", "v4", "v6"])
def test_the_rule_files_use_the_numbers_of_the_program(text: str) -> None:
    rules = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    ports = {int(n) for n in re.findall(r"\b15\d\d\d\b", rules)}
    assert ports == {OUTBOUND_PORT, INBOUND_PORT, DNS_PORT, PEER_PORT}
    uids = {int(n) for n in re.findall(r"\b133\d\b", rules)}
    assert {ENVOY_UID, DAEMON_UID} <= uids
    assert set(re.findall(r"0x[1-9a-f][0-9a-f]+\b(?!/)", rules.replace("/0xffffffff", ""))) == {f"{MARK:#x}"}


def test_the_default_of_every_direction_is_drop() -> None:
    chains = nft_chains(NFT)
    heads = {name: chain.head for name, chain in chains.items()}
    for name, hook in (("entry", "input"), ("forward", "forward"), ("egress", "postrouting")):
        head = heads[name]
        assert head is not None
        assert f"type filter hook {hook} " in head
        assert head.endswith("policy drop;")
    for text in (V4, V6):
        saved = save_chains(text)
        assert [saved[name].head for name in ("mangle POSTROUTING", "filter INPUT", "filter FORWARD")] == [
            "DROP"
        ] * 3
        for name in ("mangle TOPOSEAL_EGRESS", "filter TOPOSEAL_ENTRY", "filter TOPOSEAL_FORWARD"):
            assert saved[name].rules[-1] == "-j DROP"


def test_ipv4_and_ipv6_differ_only_in_what_the_families_differ_in() -> None:
    def comparable(text: str) -> list[str]:
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        lines = [line for line in lines if "icmp" not in line and "127.0.0.11/32" not in line]
        return [line.replace("127.0.0.0/8", "LOOPBACK").replace("::1/128", "LOOPBACK") for line in lines]

    assert comparable(V4) == comparable(V6)


def test_every_table_is_complete_and_nat_comes_last() -> None:
    for text in (V4, V6):
        assert re.findall(r"^\*(\w+)$", text, re.MULTILINE) == ["mangle", "filter", "nat"]
        assert text.count("\nCOMMIT\n") == 3


def test_nothing_in_the_files_flushes_or_deletes_what_is_not_ours() -> None:
    commands = [line for line in NFT.splitlines() if re.match(r"\s*(flush|delete|destroy|reset)\b", line)]
    assert commands == ["flush table inet toposeal"]
    for text in (V4, V6):
        declared = re.findall(r"^:(\S+) (\S+)", text, re.MULTILINE)
        assert all(name.startswith("TOPOSEAL_") or policy == "DROP" for name, policy in declared)
        assert not re.search(r"^-[DFXPR]", text, re.MULTILINE)


def test_the_installed_files_are_those_of_the_repository() -> None:
    installed = RULES.parent / "sidecar" / "toposeal" / "rules"
    assert sorted(p.name for p in installed.iterdir()) == sorted(p.name for p in RULES.iterdir())
    assert all((installed / p.name).read_bytes() == p.read_bytes() for p in RULES.iterdir())

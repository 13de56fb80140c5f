"""The closed state: exactly what envoy/closed says, and nothing that a connection could reach."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import betterproto2
import envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3  # noqa: F401 - registers types
import pytest
from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap
from envoy_data_plane.envoy.extensions.resource_monitors.downstream_connections.v3 import (
    DownstreamConnectionsConfig,
)
from envoy_data_plane.envoy.extensions.resource_monitors.fixed_heap.v3 import FixedHeapConfig
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryResponse
from support.envoy import resources, run_validation
from support.golden import CLOSED_MODULE, closed_module

from toposeal.dataplane.envoy_closed import CLOSED, bootstrap, closed
from toposeal.dataplane.envoy_readable import readable
from toposeal.dataplane.layout import ENVOY_LAYOUT, layout_under

GOLDEN = Path(__file__).resolve().parents[2] / "envoy" / "closed"
FILES = closed(ENVOY_LAYOUT)


def test_the_closed_files_are_those_of_the_repository() -> None:
    assert {path.name: path.read_bytes() for path in GOLDEN.iterdir()} == FILES


def test_nothing_can_be_reached_in_the_closed_state() -> None:
    (cluster,) = resources(FILES["cds.json"])
    assert cluster == {
        "name": "blackhole",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "blackhole"},
    }
    for listener in resources(FILES["lds.json"]):
        (chain,) = listener["filter_chains"]
        assert chain["filter_chain_match"] == {"destination_port": 1}
        assert [f["typed_config"]["cluster"] for f in chain["filters"]] == ["blackhole"]


@pytest.mark.parametrize(
    "word", ["CERTIFICATE", "PRIVATE KEY", "secret", "tls_certificate", "default_filter"]
)
def test_no_certificate_key_or_ca_is_in_the_closed_state(word: str) -> None:
    assert all(word.encode() not in data for data in FILES.values())


def test_the_closed_files_are_messages_of_envoys_schema_in_its_order() -> None:
    """They are written by hand: what the typed messages say back must be the same bytes."""
    assert DownstreamConnectionsConfig().max_active_downstream_connections == 0
    assert FixedHeapConfig().max_heap_size_bytes == 0
    assert HttpProtocolOptions().explicit_http_config is None
    for name, data in FILES.items():
        kind = Bootstrap if name == "bootstrap.json" else DiscoveryResponse
        value = kind.from_json(data).to_dict(casing=betterproto2.Casing.SNAKE)
        assert json.dumps(value, indent=2).encode() + b"\n" == data


def test_envoy_validates_the_repositorys_files_where_they_lie() -> None:
    assert run_validation(GOLDEN, "bootstrap.json") == ""


def test_the_closed_state_needs_neither_envoys_types_nor_cryptography() -> None:
    """Their imports take longer than Envoy's start (docs/adr/0003)."""
    code = (
        "import sys; from toposeal.dataplane.envoy_closed import CLOSED, bootstrap;"
        "from toposeal.dataplane.layout import ENVOY_LAYOUT; bootstrap(ENVOY_LAYOUT);"
        "sys.exit(bool({'envoy_data_plane', 'cryptography'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_envoy_is_sent_what_the_closed_files_say() -> None:
    """After a change on purpose: python tests/support/golden.py, and read the difference."""
    assert readable(CLOSED) == {name: FILES[name] for name in ("cds.json", "lds.json")}
    assert CLOSED_MODULE.read_text() == closed_module()


def test_everything_but_the_bootstrap_is_discovered_from_the_daemon() -> None:
    found = json.loads(bootstrap(ENVOY_LAYOUT))
    source = {"ads": {}, "resource_api_version": "V3"}
    assert found["dynamic_resources"]["lds_config"] == found["dynamic_resources"]["cds_config"] == source
    (cluster,) = found["static_resources"]["clusters"]
    (locality,) = cluster["load_assignment"]["endpoints"]
    assert locality["lb_endpoints"] == [{"endpoint": {"address": {"pipe": {"path": "../sockets/xds.sock"}}}}]


def test_D5_the_admin_interface_is_a_socket_for_envoys_user_alone() -> None:
    admin = json.loads(bootstrap(ENVOY_LAYOUT))["admin"]
    assert admin == {"address": {"pipe": {"path": "../envoy/admin.sock", "mode": 0o600}}}


def test_a_layout_moves_every_path() -> None:
    text = b"".join(closed(layout_under("/run/pod")).values())
    assert b'"/run/pod/sockets/xds.sock"' in text
    assert b'"/run/pod/envoy/admin.sock"' in text
    assert b'"./' not in text

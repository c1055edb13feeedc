"""Ready scenarios: they can be read where the package is installed, and are what their names promise."""

import os
import re
from importlib.metadata import files

import pytest

from causal.errors import ConfigError
from causal.lab.planet.reading import parse_topology
from causal.lab.planet.topology import Topology
from causal.lab.planet.writing import to_toml
from causal.lab.reality import check_fits
from causal.lab.scenarios import SCENARIOS, scenario, scenario_text


def operations(topology: Topology) -> float:
    return sum(users.sessions * users.length for users in topology.population)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_is_a_topology_with_a_title(name: str) -> None:
    topology = scenario(name)
    assert (topology.name, bool(topology.title)) == (name, True)
    assert parse_topology(to_toml(topology), "x") == topology
    # Nobody's first simulation is to rest on a round trip that nobody measured.
    assert all(site.region for site in topology.sites)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_number_is_explained_where_it_first_stands(name: str) -> None:
    explained: set[str] = set()
    for line in scenario_text(name).splitlines():
        field = re.match(r"(\w+) = ", line)
        if field and field[1] != "title":
            if "#" in line:
                explained.add(field[1])
            assert field[1] in explained, line


def test_there_is_no_scenario_but_those() -> None:
    with pytest.raises(ConfigError) as caught:
        scenario("photo")
    assert (
        str(caught.value)
        == "no scenario is called 'photo'; there are two-offices, photo-profile, orders-page, internet-scale"
    )
    with pytest.raises(ConfigError) as caught:
        scenario("orders-pages")
    assert str(caught.value) == "no scenario is called 'orders-pages'; did you mean 'orders-page'?"


@pytest.mark.skipif(not os.environ.get("CAUSAL_INSTALLED"), reason="an editable install lists no files of its own")
def test_the_wheel_ships_every_scenario_and_no_other() -> None:
    listed = {str(path) for path in files("causal-tokens") or ()}
    shipped = {path for path in listed if path.startswith("causal/lab/scenarios/") and path.endswith(".toml")}
    assert shipped == {f"causal/lab/scenarios/{name}.toml" for name in SCENARIOS}


def test_two_offices_is_what_the_embedded_store_can_be() -> None:
    topology = scenario("two-offices")
    check_fits(topology)
    assert operations(topology) == pytest.approx(3_000, rel=0.05)


def test_photo_profile_writes_here_and_reads_there() -> None:
    topology = scenario("photo-profile")
    owners, followers = topology.population
    assert topology.store.leaders == owners.write_at
    assert not set(owners.at) & set(owners.write_at)
    assert set(followers.at) > set(owners.at)
    assert (owners.own_share, followers.write_share, owners.keys) == (1, 0, followers.keys)
    assert operations(topology) == pytest.approx(15_000, rel=0.05)


def test_orders_page_mixes_sources() -> None:
    topology = scenario("orders-page")
    assert {source for users in topology.population for source, _ in users.mix} == {
        "source",
        "cache",
        "index",
        "recommendation",
    }
    assert any(users.jobs for users in topology.population)
    assert operations(topology) == pytest.approx(13_400, rel=0.05)


def test_internet_scale_is_large_and_its_tokens_small() -> None:
    topology = scenario("internet-scale")
    assert (len(topology.sites), topology.store.shards, topology.store.max_token_chars) == (10, 1_000, 100)
    assert sum(users.sessions for users in topology.population) == 1_000_000
    assert set(topology.store.leaders) == {site.name for site in topology.sites}
    assert len({site.region for site in topology.sites}) == 10

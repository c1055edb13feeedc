"""Topologies: what a file may say, what it is told when it may not, and that what is written down reads as the same value."""

import copy
import json
import pickle
import re
import tomllib
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causal.controls import Lag
from causal.lab.faults import Faults
from causal.lab.planet.reading import PLAIN, TopologyError, build_topology, parse_topology, read_topology
from causal.lab.planet.topology import DEFAULT_RTT_S, SOURCES, Cache, Index, Population, Site, Store, Topology
from causal.lab.planet.writing import as_dict, to_toml

TWO = "[sites.eu]\n[sites.us]\n"


def test_the_least_that_is_a_topology() -> None:
    assert parse_topology("[sites.eu]", "least.toml") == Topology(name="least", sites=(Site("eu"),))


def test_everything_that_a_file_can_say() -> None:
    text = """
        name = "shop"
        title = "A shop"
        duration_s = 30
        local_rtt_ms = 1

        [store]
        shards = 4
        leaders = ["us", "eu"]
        offsets = "clock"
        dependencies = false
        lag = "lognormal:50ms:0.8:7"
        burst_every_s = 20
        burst_ms = 2000
        burst_factor = 3
        heartbeat_ms = 250
        token_ttl_s = 1000
        max_staleness_s = 100
        max_clock_skew_ms = 10
        max_token_chars = 100

        [sites.us]
        replicas = 2
        processes = 3
        skew_ms = -40
        [sites.eu]
        region = "dublin"

        [rtt_ms]
        "eu us" = 80

        [populations.owners]
        sessions = 5
        length = 3
        think_ms = 10
        write_share = 1
        keys = 2
        skew = 0
        own_share = 0.5
        at = ["us"]
        write_at = ["eu"]
        hop = 0.25
        jobs = 0.75
        job_after_ms = 125
        mix = { source = 8, index = 1, cache = 0.5 }
        [populations.others]

        [cache]
        entries = 7
        ttl_ms = 500
        [index]
        sites = ["us"]
        lag = 0.25

        [strategies]
        wait_ms = 10
        window_s = 2
        bound_s = 3
        quorum = 1

        [faults]
        crash = 0.5
        """
    assert parse_topology(text, "x.toml") == Topology(
        "shop",
        "A shop",
        30,
        (Site("us", "", 2, 3, -0.04), Site("eu", "dublin")),
        Store(
            4, "one", ("us", "eu"), "clock", False, Lag(0.05, 0.8, 7), 20, 2, 3, 0.25, 1000, 100, 0.01, 100
        ),
        (
            Population(
                "owners", 5, 3, 0.01, 1, 2, 0, 0.5, ("us",), ("eu",), 0.25, 0.75, 0.125,
                (("source", 8), ("index", 1), ("cache", 0.5)),
            ),
            Population("others"),
        ),
        Cache(7, 0.5),
        Index(("us",), Lag(0.25)),
        (("eu", "us", 0.08),),
        0.001,
        0.01,
        2,
        3,
        1,
        (("crash", 0.5),),
    )  # fmt: skip


def test_a_file_is_read_and_named(tmp_path: Path) -> None:
    path = tmp_path / "my shop.toml"
    path.write_text(TWO)
    assert read_topology(path).name == "planet"  # the file's own name is none
    path = path.rename(tmp_path / "shop.toml")
    assert read_topology(str(path)) == parse_topology(TWO, "shop.toml")
    assert read_topology(path).name == "shop"
    path.write_bytes(b'title = "\xff"')
    for wrong, reason in (
        (path, "not UTF-8: invalid start byte at byte 9"),
        (tmp_path / "none", "cannot be read: No such file or"),
    ):
        with pytest.raises(TopologyError) as caught:
            read_topology(wrong)
        assert (caught.value.file, caught.value.field) == (str(wrong), "")
        assert caught.value.reason.startswith(reason)


def test_a_round_trip_is_given_or_published_or_the_default() -> None:
    sites = (Site("a", "dublin"), Site("b", "azure:eastus"), Site("c", "aws:eu-west-1"), Site("d"))
    topology = Topology(sites=sites, rtt_s=(("d", "a", 0.3),), local_rtt_s=0.001)
    pairs = {"aa": 0.001, "ab": 0.072, "ac": 0.002, "ad": 0.3, "bc": 0.072, "bd": DEFAULT_RTT_S, "dd": 0.001}
    for (a, b), seconds in pairs.items():
        assert topology.rtt(a, b) == topology.rtt(b, a) == seconds
    faster = attrs.evolve(topology, rtt_s=(("a", "b", 0.01),))
    assert (faster.rtt("b", "a"), topology.rtt("b", "a")) == (0.01, 0.072)


# ---------------------------------------------------------------------------------------------------------------------------------
# What is written down reads as the same value
# ---------------------------------------------------------------------------------------------------------------------------------

names = st.text("abzé.-_'\"\\#=漢0", min_size=1, max_size=6)
seconds = st.floats(0, 1e9) | st.integers(0, 10**9)
positive = st.floats(0, 1e9, exclude_min=True)
share = st.floats(0, 1)
counts = st.integers(1, 1000)
lags = st.builds(Lag, st.floats(0, 1e6), st.just(0.0) | st.floats(0, 5), st.integers(-9, 9))


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    there = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    some = st.lists(st.sampled_from(there), unique=True).map(tuple)
    regions = st.sampled_from(["", "tokyo", "azure:eastus", "gcp:us-east4"])
    bursts = draw(st.booleans())
    every = draw(st.sampled_from(["one", "every"]))
    pairs = [(a, b) for n, a in enumerate(there) for b in there[:n]]
    mix = st.dictionaries(st.sampled_from(SOURCES), st.floats(0.1, 10), min_size=1).map(
        lambda weights: tuple(weights.items())
    )
    store = st.builds(
        Store,
        counts,
        st.just(every),
        some if every == "one" else st.just(()),
        st.sampled_from(["count", "clock"]),
        st.booleans(),
        lags,
        st.floats(10, 20) if bursts else st.just(0),
        st.floats(1, 9) if bursts else st.just(0),
        st.floats(1, 100),
        positive,
        st.floats(1000, 2000),
        st.floats(1, 900),
        st.floats(0, 60),
        st.integers(32, 4096),
    )
    population = st.builds(
        Population, names, counts, st.floats(1, 99), seconds, share, counts, st.floats(0, 10), share, some, some, share, share, seconds, mix
    )  # fmt: skip
    return draw(
        st.builds(
            Topology,
            names,
            st.text(st.characters(categories=["L", "N", "P", "S"]) | st.just(" "), max_size=20),
            positive,
            st.tuples(*(st.builds(Site, st.just(at), regions, counts, counts, st.floats(-9, 9)) for at in there)),
            store,
            st.lists(population, min_size=1, max_size=3, unique_by=lambda users: users.name).map(tuple),
            st.builds(Cache, counts, positive),
            st.builds(Index, some, lags),
            st.tuples(*(st.builds(lambda s, pair=pair: (*pair, s), positive) for pair in pairs)),
            share,
            seconds,
            seconds,
            seconds,
            counts,
            st.dictionaries(st.sampled_from(sorted(Faults.options())), share, max_size=3).map(
                lambda rates: tuple(rates.items())
            ),
        )
    )


@given(topologies())
def test_what_is_written_reads_as_the_same(topology: Topology) -> None:
    assert parse_topology(to_toml(topology), "t.toml") == topology
    assert build_topology(json.loads(json.dumps(as_dict(topology))), "t.json") == topology
    assert pickle.loads(pickle.dumps(topology)) == copy.deepcopy(topology) == topology
    for a in topology.sites:
        for b in topology.sites:
            assert topology.rtt(a.name, b.name) == topology.rtt(b.name, a.name) >= 0


def test_every_field_is_written_down() -> None:
    said = as_dict(Topology(cache=Cache(), index=Index()))
    for kind, table in (
        (Store, said["store"]), (Site, said["sites"]["eu"]), (Population, said["populations"]["users"]),
        (Cache, said["cache"]), (Index, said["index"]),
    ):  # fmt: skip
        assert {"name", *table} - {field.name for field in attrs.fields(kind)} <= {"name"}
        assert {field.name for field in attrs.fields(kind)} <= {"name", *table}
    public = {field.name for field in attrs.fields(Topology) if field.init}
    assert public == {"population", *said, *said["strategies"]} - {"populations", "strategies"}


def test_the_page_has_every_field_and_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs/howto/topology.md").read_text()
    shown = [
        (key, tomllib.loads(f"x = {value}")["x"])
        for key, value in re.findall(r"^\| `(\w+)` \| `(.+?)` \|", page, re.MULTILINE)
    ]
    least = as_dict(Topology(cache=Cache(), index=Index()))
    tables = [{key: least[key] for key in PLAIN if key != "name"}, least["sites"]["eu"], least["store"]]
    tables += [least["populations"]["users"], least["cache"], least["index"], least["strategies"]]
    defaults = [(key, float(value) if key == "lag" else value) for table in tables for key, value in table.items()]
    assert shown == defaults


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_anything_else_is_refused_by_one_error(data: st.DataObject) -> None:
    """One value of a good file is replaced by anything."""
    said = as_dict(Topology(cache=Cache(), index=Index(), faults=(("crash", 1.0),), rtt_s=(("eu", "us", 0.1),)))
    table = said
    while True:
        key = data.draw(st.sampled_from(sorted(table)))
        if not isinstance(table[key], dict) or not table[key] or data.draw(st.integers(0, 9)) == 0:
            break
        table = table[key]
    table[key] = data.draw(values)
    try:
        topology = build_topology(said, "t.json")
    except TopologyError:
        return
    assert build_topology(as_dict(topology), "t.json") == topology

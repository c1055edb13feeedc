"""Topologies that cannot be: each is refused where it is given, in words that say what to do."""

import pickle

import pytest

from causal.errors import ConfigError
from causal.lab.planet.reading import TopologyError, parse_topology
from causal.lab.planet.topology import Population, Site, Store, Topology

TWO = "[sites.eu]\n[sites.us]\n"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("x =", "t.toml: not TOML: Invalid value (at end of document)"),
        ("", "t.toml: sites: there are none: add a table for each, such as [sites.eu]"),
        ("[sites]", "t.toml: sites: there are none: add a table for each, such as [sites.eu]"),
        ("sites = 3", "t.toml: sites: a table, not 3"),
        ("sites = { eu = 3 }", "t.toml: sites.eu: a table, not 3"),
        (
            "wait_s = 1\n" + TWO,
            (
                "t.toml: unknown field 'wait_s'; known are name, title, duration_s, local_rtt_s, store, sites, rtt_s, populations, "
                "cache, index, strategies, faults"
            ),
        ),
        (TWO + "[cash]", "t.toml: unknown field 'cash'; did you mean 'cache'?"),
        (TWO + "[store]\nshrads = 1", "t.toml: store: unknown field 'shrads'; did you mean 'shards'?"),
        (TWO + "[strategies]\nwait_m = 1", "t.toml: strategies: unknown field 'wait_m'; did you mean 'wait_ms'?"),
        (TWO + "name = 1", "t.toml: sites.us: unknown field 'name'; known are region, replicas, processes, skew_s"),
        ("name = ''\n" + TWO, "t.toml: name: a printable name of 1 to 64 characters without spaces, not ''"),
        ("title = 1\n" + TWO, "t.toml: title: a printable text of at most 200 characters, not 1"),
        ('title = "\\u0007"\n' + TWO, "t.toml: title: a printable text of at most 200 characters, not '\\x07'"),
        ("duration_s = 0\n" + TWO, "t.toml: duration_s: a number above 0 and at most 1000000000, not 0"),
        ("duration_s = nan\n" + TWO, "t.toml: duration_s: a number above 0 and at most 1000000000, not nan"),
        ("duration_s = inf\n" + TWO, "t.toml: duration_s: a number above 0 and at most 1000000000, not inf"),
        ("duration_s = '60s'\n" + TWO, "t.toml: duration_s: a number above 0 and at most 1000000000, not '60s'"),
        ("local_rtt_ms = 1001\n" + TWO, "t.toml: local_rtt_ms: a number in 0..1000, not 1001"),
        ("local_rtt_s = 1.5\n" + TWO, "t.toml: local_rtt_s: a number in 0..1, not 1.5"),
        ("local_rtt_s = 1\nlocal_rtt_ms = 1\n" + TWO, "t.toml: local_rtt_ms: says the same as local_rtt_s: keep one of them"),
        ("[sites.'e u']", "t.toml: sites: a printable name of 1 to 64 characters without spaces, not 'e u'"),
        (TWO + "replicas = 0", "t.toml: sites.us.replicas: a whole number in 1..1000, not 0"),
        (TWO + "replicas = 1.0", "t.toml: sites.us.replicas: a whole number in 1..1000, not 1.0"),
        (TWO + "replicas = true", "t.toml: sites.us.replicas: a whole number in 1..1000, not True"),
        (TWO + "region = 'eu-west-1'", "t.toml: sites.us.region: no known region: 'eu-west-1'; did you mean 'aws:eu-west-1'?"),
        (TWO + "region = 'dublni'", "t.toml: sites.us.region: no known region: 'dublni'; did you mean 'dublin'?"),
        (
            TWO + "region = 'moon'",
            "t.toml: sites.us.region: no known region: 'moon'; leave it out, and give the round trips of the site",
        ),
        (TWO + "[store]\nwriters = 'on'", "t.toml: store.writers: one of 'one', 'every', not 'on'; did you mean 'one'?"),
        (TWO + "[store]\noffsets = 7", "t.toml: store.offsets: one of 'count', 'clock', not 7"),
        (TWO + "[store]\ndependencies = 1", "t.toml: store.dependencies: true or false, not 1"),
        (
            TWO + "[store]\nwriters = 'every'\nleaders = ['eu']",
            't.toml: store: leaders are for writers = "one": where every site writes, leave them out',
        ),
        (TWO + "[store]\nleaders = 'eu'", "t.toml: store.leaders: a list of names, not 'eu'"),
        (
            TWO + "[store]\nleaders = ['']",
            "t.toml: store.leaders: a list of names, and a name is a printable name of 1 to 64 characters without spaces, not ''",
        ),
        (TWO + "[store]\nleaders = ['eu', 'eu']", "t.toml: store.leaders: a list of different names: 'eu' stands twice"),
        (TWO + "[store]\nleaders = ['ap']", "t.toml: store leaders: 'ap' is no site; the sites are eu, us"),
        (TWO + "[store]\nlag = 'x'", "t.toml: store.lag: not a lag: 'x'; write 0.05, 50ms or lognormal:50ms:0.8[:seed]"),
        (
            TWO + "[store]\nlag = true",
            "t.toml: store.lag: a number of seconds, or text like 50ms or lognormal:50ms:0.8, not True",
        ),
        (TWO + "[store]\nlag = -1", "t.toml: store.lag: a number of seconds, or text like 50ms or lognormal:50ms:0.8, not -1"),
        (
            TWO + "[store]\nburst_s = 1",
            "t.toml: store: burst_every_s and burst_s come together: give both, or neither for no bursts",
        ),
        (
            TWO + "[store]\nburst_every_s = 1",
            "t.toml: store: burst_every_s and burst_s come together: give both, or neither for no bursts",
        ),
        (
            TWO + "[store]\nburst_s = 2\nburst_every_s = 2",
            (
                "t.toml: store: burst_s (2) is less than burst_every_s (2): a burst ends before the next begins; "
                "for a lag that is always long, set lag"
            ),
        ),
        (
            TWO + "[store]\ntoken_ttl_s = 960",
            (
                "t.toml: store: token_ttl_s (960) must exceed max_staleness_s + max_clock_skew_s (900 + 60), as in a real store: "
                "raise the first or lower the others"
            ),
        ),
        (TWO + "[rtt_ms]\neu = 80", "t.toml: rtt_ms: 'eu' is no pair of sites: write \"eu us\" = 80"),
        (TWO + "[rtt_ms]\n'eu ap' = 80", "t.toml: round trip 'eu ap': 'ap' is no site; the sites are eu, us"),
        (TWO + "[rtt_ms]\n'ap eu' = 80", "t.toml: round trip 'ap eu': 'ap' is no site; the sites are eu, us"),
        (TWO + "[rtt_ms]\n'eu eu' = 80", "t.toml: round trip 'eu eu': that is one site; for what is near, set local_rtt_s"),
        (
            TWO + "[rtt_ms]\n'eu us' = 80\n'us eu' = 80",
            "t.toml: round trip 'us eu' is given twice: a round trip is the same in both directions",
        ),
        (TWO + "[rtt_ms]\n'eu us' = 0", "t.toml: rtt_ms.'eu us': a number above 0 and at most 1e+12, not 0"),
        (TWO + "[rtt_s]\n[rtt_ms]", "t.toml: rtt_ms: says the same as rtt_s: keep one of them"),
        (TWO + "[populations]", "t.toml: population is empty: nothing would happen"),
        (TWO + "[populations.u]\nlength = 0.5", "t.toml: populations.u.length: a number in 1..1000000, not 0.5"),
        (TWO + "[populations.u]\nwrite_share = 2", "t.toml: populations.u.write_share: a number in 0..1, not 2"),
        (TWO + "[populations.u]\nat = ['ap']", "t.toml: population u at: 'ap' is no site; the sites are eu, us"),
        (TWO + "[populations.u]\nwrite_at = ['ap']", "t.toml: population u write_at: 'ap' is no site; the sites are eu, us"),
        (TWO + "[populations.u]\nmix = 1", "t.toml: populations.u.mix: pairs of a name and a number, not 1"),
        (
            TWO + "[populations.u.mix]\ncach = 1",
            (
                "t.toml: populations.u.mix: numbers by name, and a name is one of 'source', 'cache', 'index', 'recommendation', "
                "not 'cach'; did you mean 'cache'?"
            ),
        ),
        (TWO + "[populations.u.mix]\nsource = 0", "t.toml: populations.u.mix: numbers by name, not all of them 0"),
        (
            TWO + "[populations.u.mix]\ncache = 1",
            "t.toml: population u mix: there is no cache to read: add [cache], or leave cache out",
        ),
        (
            TWO + "[populations.u.mix]\nsource = 1\nindex = 1",
            "t.toml: population u mix: there is no index to read: add [index], or leave index out",
        ),
        (TWO + "[cache]\nentries = 0", "t.toml: cache.entries: a whole number in 1..1000000000, not 0"),
        (TWO + "[index]\nsites = ['ap']", "t.toml: index sites: 'ap' is no site; the sites are eu, us"),
        (TWO + "[strategies]\nwait_ms = -1", "t.toml: strategies.wait_ms: a number in 0..1e+12, not -1"),
        (TWO + "[faults]\ncrahs = 1", "t.toml: faults: no fault is called 'crahs'; did you mean 'crash'?"),
        (TWO + "[faults]\nloss = 2", "t.toml: faults.loss: the fault loss is a chance, from 0 to 1, not 2"),
        (TWO + "[faults]\ncrash = -1", "t.toml: faults: numbers by name, and crash is a number in 0..1000000000, not -1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(text: str, error: str) -> None:
    with pytest.raises(TopologyError) as caught:
        parse_topology(text, "t.toml")
    said = str(caught.value)
    assert said == error
    assert caught.value.file == "t.toml"
    assert said == ": ".join(filter(None, ("t.toml", caught.value.field, caught.value.reason)))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("x = " + "[" * 100_000, "not TOML: maximum recursion depth exceeded"),
        ("x = " + "1" * 5000, "not TOML: Exceeds the limit"),
        (
            "title = '" + "x" * 201 + "'",
            "title: a printable text of at most 200 characters, not '" + "x" * 59 + "... (203 characters)",
        ),
        ("duration_s = 1" + "0" * 400, "at most 1000000000, not 1" + "0" * 59 + "... (401 characters)"),
        ("duration_ms = 1" + "0" * 400, "at most 1e+12, not 1" + "0" * 59 + "... (401 characters)"),
        ("duration_s = 0x1" + "0" * 9999, "at most 1000000000, not a number too long to show"),
    ],
    ids=["deep", "digits", "text", "number", "milliseconds", "hexadecimal"],
)
def test_what_is_too_long_is_not_shown_whole(text: str, error: str) -> None:
    with pytest.raises(TopologyError) as caught:
        parse_topology(text, "t.toml")
    assert error in str(caught.value)


def test_an_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(TopologyError("f", "store", "wrong")))
    assert (error.file, error.field, error.reason, str(error)) == ("f", "store", "wrong", "f: store: wrong")


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Site(""), "name is a printable name of 1 to 64 characters without spaces, not ''"),
        (lambda: Site("eu", skew_s=float("nan")), "skew_s is a number in -1000000..1000000, not nan"),
        (lambda: Store(lag="50ms"), "lag is a Lag: write Lag.of('50ms')"),
        (lambda: Store(leaders=("eu", 1)), "leaders is a list of names, and a name is a printable name"),
        (lambda: Population(mix={"source": 1}), "mix is pairs of a name and a number, not {'source': 1}"),
        (lambda: Population(mix=(("source", 1), ("source", 2))), "mix is numbers by name: 'source' stands twice"),
        (lambda: Topology(sites=()), "sites is empty: nothing would happen"),
        (lambda: Topology(sites=(Site("eu"), Site("eu"))), "sites: 'eu' stands twice: give one of them another name"),
        (lambda: Topology(population=(Population(), Population())), "population: 'users' stands twice"),
        (lambda: Topology(rtt_s=(("eu", "us", -1),)), "round trip 'eu us' is a number above 0"),
        (lambda: Topology().rtt("eu", "moon"), "'moon' is no site; the sites are eu, us, ap"),
        (lambda: Topology().rtt("moon", "eu"), "'moon' is no site; the sites are eu, us, ap"),
    ],
)
def test_values_refuse_what_cannot_be(make: object, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()  # type: ignore[operator]
    assert error in str(caught.value)

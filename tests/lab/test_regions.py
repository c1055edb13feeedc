"""Published round trips: a table that is whole, obeys physics, and agrees with what somebody else measured."""

import math
from itertools import combinations, permutations

import pytest

from causal.errors import ConfigError
from causal.lab.planet.regions import NAMES, REGIONS, SAME_REGION_S, region_rtt_s

# Latitude and longitude, to a degree or so.
WHERE = {
    "virginia": (38, -78),
    "california": (37, -120),
    "toronto": (44, -79),
    "sao-paulo": (-24, -47),
    "dublin": (53, -6),
    "london": (51, 0),
    "frankfurt": (50, 9),
    "dubai": (25, 55),
    "johannesburg": (-26, 28),
    "pune": (19, 74),
    "singapore": (1, 104),
    "seoul": (38, 127),
    "tokyo": (36, 140),
    "sydney": (-34, 151),
}
LIGHT_KM_S = 299_792 / 1.4682
"""Light in glass fibre (ITU-T G.652, at 1,550 nm)."""

# IBM Cloud, "Network latency", averages of 17 August to 15 September 2024, in ms: from each city, to those before it.
IBM = {
    "toronto": {"virginia": 19},
    "frankfurt": {"virginia": 91, "toronto": 92},
    "london": {"virginia": 76, "toronto": 82, "frankfurt": 13},
    "sydney": {"virginia": 214, "toronto": 215, "frankfurt": 250, "london": 261},
    "tokyo": {"virginia": 166, "toronto": 161, "frankfurt": 228, "london": 242, "sydney": 115},
    "sao-paulo": {"virginia": 118, "toronto": 130, "frankfurt": 197, "london": 187, "sydney": 327, "tokyo": 284},
}


def distance_km(a: str, b: str) -> float:
    """Along the surface."""
    (north, east), (other_north, other_east) = ([math.radians(x) for x in WHERE[place]] for place in (a, b))
    cosine = math.sin(north) * math.sin(other_north) + math.cos(north) * math.cos(other_north) * math.cos(
        east - other_east
    )
    return 6371 * math.acos(cosine)


def test_every_pair_is_there_in_both_directions() -> None:
    assert list(REGIONS) == list(WHERE)
    assert len(set(NAMES)) == len(NAMES)
    for a, b in permutations(REGIONS, 2):
        assert region_rtt_s(a, b) == region_rtt_s(b, a) > SAME_REGION_S
    for a in NAMES:
        assert region_rtt_s(a, a) == SAME_REGION_S


@pytest.mark.parametrize(("a", "b"), list(combinations(WHERE, 2)))
def test_no_round_trip_is_faster_than_light_nor_goes_round_the_world(a: str, b: str) -> None:
    """From South America to Africa, the way leads over the north: nothing is further from the shortest."""
    least_s = 2 * distance_km(a, b) / LIGHT_KM_S
    assert least_s < region_rtt_s(a, b) < 4.5 * least_s + 0.01


def test_a_detour_saves_little() -> None:
    """Routes are not the shortest, but there is no place through which everything would be twice as fast."""
    for a, b, via in permutations(REGIONS, 3):
        assert region_rtt_s(a, b) < 1.5 * (region_rtt_s(a, via) + region_rtt_s(via, b))


@pytest.mark.parametrize(("a", "b"), [(a, b) for a, others in IBM.items() for b in others])
def test_another_provider_measures_about_the_same(a: str, b: str) -> None:
    assert region_rtt_s(a, b) == pytest.approx(IBM[a][b] / 1000, rel=0.16, abs=0.005)


def test_a_few_numbers_as_published() -> None:
    """From the table of the source: P50 in ms, from either end."""
    for a, b, there, back in (
        ("azure:eastus", "azure:northeurope", 74, 70),
        ("azure:japaneast", "azure:australiaeast", 103, 104),
        ("azure:brazilsouth", "azure:southeastasia", 332, 332),
        ("azure:uksouth", "azure:koreacentral", 218, 218),
        ("azure:southafricanorth", "azure:uaenorth", 102, 103),
    ):
        assert region_rtt_s(a, b) == (there + back) / 2000


def test_other_names_stand_for_the_same_city() -> None:
    assert region_rtt_s("aws:us-east-1", "gcp:asia-northeast1") == region_rtt_s("virginia", "tokyo")
    assert region_rtt_s("eastus", "azure:eastus") == region_rtt_s("aws:us-east-1", "gcp:us-east4") == SAME_REGION_S


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("us-east-1", "the region is no known region: 'us-east-1'; did you mean 'aws:us-east-1'?"),
        ("tokio", "the region is no known region: 'tokio'; did you mean 'tokyo'?"),
        ("moon", "the region is no known region: 'moon'; leave it out, and give the round trips of the site"),
        ("", "no region is given"),
    ],
)
def test_an_unknown_region_is_refused(name: str, error: str) -> None:
    for pair in ((name, "tokyo"), ("tokyo", name)):
        with pytest.raises(ConfigError) as caught:
            region_rtt_s(*pair)
        assert str(caught.value) == error

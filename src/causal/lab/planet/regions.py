"""Regions: how far apart the world's data centres are, as their owners publish it.

Owns the table and where it comes from. The numbers are medians between regions of one provider's backbone; a public network, another
provider or a bad day is slower.

Source: Microsoft, "Azure network round-trip latency statistics", https://learn.microsoft.com/azure/networking/azure-network-latency,
edition of 1 July 2025: the 50th percentile (P50) of one-minute probes over the 30 days that ended on 29 June 2025, in whole
milliseconds. Each pair is published twice, as measured from either end; here stands the mean of the two, which differ by at most 4 ms.
Nothing is estimated.
"""

from __future__ import annotations

from typing import Final

import attrs

from causal.errors import ConfigError
from causal.lab.planet.rules import Rule, nearest, shown

_TABLE: Final = """
eastus
westus                 72
canadacentral        20.5  64.5
brazilsouth           118   176 130.5
northeurope            72 138.5    85 171.5
uksouth              78.5   147  91.5   180    13
germanywestcentral   93.5   159   106   195    26    17
uaenorth            183.5   252 195.5 284.5   128 119.5   119
southafricanorth    217.5 273.5   231   319   170   161   162 102.5
centralindia        234.5 227.5   244   330   139   129 130.5  39.5   205
southeastasia         223   171   222   332   166   155   157    82   180    56
koreacentral          186   130   181   294   227   218 217.5   142   240 124.5    65
japaneast           163.5 107.5   159 270.5 232.5 230.5   219 151.5   249   127    73    29
australiaeast       198.5 140.5   201 298.5   256   247   247   172 269.5 152.5    94   126 103.5
"""

_CITIES: Final = {
    "virginia": ("eastus", "aws:us-east-1", "gcp:us-east4"),
    "california": ("westus", "aws:us-west-1"),
    "toronto": ("canadacentral", "gcp:northamerica-northeast2"),
    "sao-paulo": ("brazilsouth", "aws:sa-east-1", "gcp:southamerica-east1"),
    "dublin": ("northeurope", "aws:eu-west-1"),
    "london": ("uksouth", "aws:eu-west-2", "gcp:europe-west2"),
    "frankfurt": ("germanywestcentral", "aws:eu-central-1", "gcp:europe-west3"),
    "dubai": ("uaenorth", "aws:me-central-1"),
    "johannesburg": ("southafricanorth", "gcp:africa-south1"),
    "pune": ("centralindia", "aws:ap-south-1", "gcp:asia-south1"),
    "singapore": ("southeastasia", "aws:ap-southeast-1", "gcp:asia-southeast1"),
    "seoul": ("koreacentral", "aws:ap-northeast-2", "gcp:asia-northeast3"),
    "tokyo": ("japaneast", "aws:ap-northeast-1", "gcp:asia-northeast1"),
    "sydney": ("australiaeast", "aws:ap-southeast-2", "gcp:australia-southeast1"),
}
"""Where the regions of the table are, and the regions of others in or near the same city: distance, which is most of a round trip
between continents, is the same, so they stand in for one another."""

SAME_REGION_S: Final = 0.002
"""Between two zones of one region. Source: IBM Cloud's network latency page, averages of 17 August to 15 September 2024: 1.8 to 2.4 ms
between the zones of Dallas and of Toronto."""

_ROWS: Final = [line.split() for line in _TABLE.strip().splitlines()]
_PLACE: Final = {row[0]: place for place, row in enumerate(_ROWS)}
_REGION: Final = {
    alias: azure for city, (azure, *others) in _CITIES.items() for alias in (city, azure, f"azure:{azure}", *others)
}

REGIONS: Final = tuple(_CITIES)
"""The cities that the table covers; every one of them is also known by its name in a cloud, for example `azure:eastus`."""
NAMES: Final = tuple(_REGION)
"""Every name of a region that `region_rtt_s` knows."""


def region_rtt_s(a: str, b: str) -> float:
    """Return the median round trip between two regions. Units: seconds. Raises: ConfigError for a name that is not in `NAMES`."""
    first, second = sorted((_place(a), _place(b)))
    return float(_ROWS[second][1 + first]) / 1000 if first != second else SAME_REGION_S


@attrs.frozen
class Region(Rule):
    """The name of a region that the table has, or nothing."""

    def problem(self, value: object, scale: float = 1.0) -> str | None:
        """Say which region may have been meant."""
        del scale
        if isinstance(value, str) and (not value or value in _REGION):
            return None
        # Half a name is enough to be known by: us-east-1 is aws:us-east-1.
        near = [name for name in NAMES if name.endswith(f":{value}")]
        hint = f"; did you mean {near[0]!r}?" if near else nearest(value, NAMES)
        return f"no known region: {shown(value)}{hint or '; leave it out, and give the round trips of the site'}"


def _place(name: str) -> int:
    if name not in _REGION:
        raise ConfigError(f"the region is {Region().problem(name)}" if name else "no region is given")
    return _PLACE[_REGION[name]]

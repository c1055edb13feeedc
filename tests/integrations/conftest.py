"""Two services on loopback, for whoever calls them."""

from collections.abc import Iterator

import pytest

from tests.integrations.loopback import Service, service


@pytest.fixture
def a() -> Iterator[Service]:
    with service() as made:
        yield made


@pytest.fixture
def b() -> Iterator[Service]:
    with service() as made:
        yield made

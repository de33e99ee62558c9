"""Whatever the interface allows, and what it does not, ends in an answer that it describes, and never in a fault of the server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving.hand_service import HandService
from tests.serving.openapi_cases import faults_of

EXAMPLES = 3
"""More of them, and other seeds, are sent by benchmarks/fuzz_serving.py."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HandService]:
    made = HandService(tmp_path_factory.mktemp("service"), uploads_per_minute=100_000, hosts=("*",))
    yield made
    made.store.close()


def test_no_request_is_a_fault_of_the_server(service: HandService) -> None:
    found, count = faults_of(service.app, EXAMPLES)
    assert count > 50
    assert found == {}

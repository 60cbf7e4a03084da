"""Requests that the server's own description generates are answered as it says."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from served import ToldModel, served

from nextgpt_pl.serving.options import ServerOptions

# parts of messages are described as objects, so that valid requests may be refused
EXCLUDED = [positive_data_acceptance]


@pytest.fixture(scope="module")
def described():
    model = ToldModel()
    model.go.set()
    with served(model, ServerOptions(max_tokens=2**62)) as address:
        yield schemathesis.openapi.from_url(address.replace("/v1", "/openapi.json"))


@pytest.mark.slow
def test_responses_are_those_of_the_description(described):
    operations = [result.ok() for result in described.get_all_operations()]
    assert len(operations) >= 5
    for operation in operations:

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy())
        def check(case):
            case.call_and_validate(excluded_checks=EXCLUDED)

        check()

"""What the OpenAPI document promises holds for whatever is generated from it."""

import pytest
import schemathesis
from fake_model import FakePredictor, serving
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

pytestmark = pytest.mark.slow

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def test_the_server_keeps_what_its_document_promises():
    with serving({"reviews": FakePredictor()}, max_batch_rows=4) as running:
        document = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
        operations = [result.ok() for result in document.get_all_operations()]
        assert len(operations) >= 14
        for operation in operations:

            @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            @given(operation.as_strategy())
            def keeps_its_promise(case):
                case.call_and_validate(checks=CHECKS)

            keeps_its_promise()

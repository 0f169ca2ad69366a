"""What the OpenAPI document promises holds for whatever is generated from it."""

import pytest
import schemathesis
from asked import ANSWERS, model_of
from fake_model import serving
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from noria.serving.page import PUBLIC

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
FOR_PEOPLE = (*(path for path in PUBLIC if path != "/"), "/docs", "/swagger", "/openapi.json")


@pytest.fixture(scope="module")
def running():
    """A model of every scenario."""
    with serving({name: model_of(name) for name in ANSWERS}, max_batch_rows=4) as under_way:
        yield under_way


def test_every_route_that_is_for_programs_is_in_the_document(running):
    paths = set(running.client.get("/openapi.json").json()["paths"])
    served = {route.path.rstrip("/") for route in _routes(running.app)}
    assert {path for path in served if path and not path.startswith(FOR_PEOPLE)} == paths
    assert len(paths) >= 14 + 3 * len(ANSWERS)


def _routes(app):
    for route in app.routes:
        inner = getattr(route, "original_router", None)
        yield from [route] if inner is None else inner.routes


@pytest.mark.slow
def test_the_server_keeps_what_its_document_promises(running):
    document = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
    operations = [result.ok() for result in document.get_all_operations()]
    for operation in operations:

        @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy())
        def keeps_its_promise(case):
            case.call_and_validate(checks=CHECKS)

        keeps_its_promise()
    assert len(operations) >= 14 + 3 * len(ANSWERS)

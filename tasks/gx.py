"""Great Expectations, imported once and quiet: no telemetry, no progress bars, no log line per class.

Its settings are read at import, so every other module gets its names from here.
"""
# ruff: noqa: E402

import logging
import os

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("TQDM_DISABLE", "1")
logging.getLogger("great_expectations").setLevel(logging.WARNING)

import great_expectations.expectations as expectations
from great_expectations import ExpectationSuite, get_context
from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.expectations.expectation import (
    ColumnMapExpectation,
    ColumnPairMapExpectation,
    Expectation,
    MulticolumnMapExpectation,
)
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
from great_expectations.render.renderer import ValidationResultsPageRenderer  # type: ignore[attr-defined]
from great_expectations.render.view import DefaultJinjaPageView  # type: ignore[attr-defined]

__all__ = [
    "ColumnMapExpectation",
    "ColumnPairMapExpectation",
    "DataContextConfig",
    "DefaultJinjaPageView",
    "Expectation",
    "ExpectationConfiguration",
    "ExpectationSuite",
    "ExpectationSuiteValidationResult",
    "ExpectationValidationResult",
    "InMemoryStoreBackendDefaults",
    "MulticolumnMapExpectation",
    "ProgressBarsConfig",
    "ValidationResultsPageRenderer",
    "expectations",
    "get_context",
]

"""Data Docs: the page of Great Expectations on one verdict, as a file that opens from disk.

Its renderer makes the page; the template around it loads styles, scripts and pictures from six
hosts and stamps the time. Those are taken out and a small style sheet is put in, so that the page
works offline, tells nobody that it was opened, and equal verdicts give equal bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from noria.data.verdict import Judgement, Verdict
from tasks.expectations import Rule
from tasks.gx import (
    DefaultJinjaPageView,
    ExpectationConfiguration,
    ExpectationSuiteValidationResult,
    ExpectationValidationResult,
    ValidationResultsPageRenderer,
)

_REMOTE = re.compile(
    r"<script\b.*?</script>|<link\b[^>]*>|<nav class=\"navbar navbar-expand.*?</nav>\s*</div>\s*</nav>|"
    r"<img\b[^>]*>|<footer\b.*?</footer>|<a href=\"\.\./[^>]*>",
    re.DOTALL,
)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_STYLE = """<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; }
th, td { border-bottom: 1px solid #8884; padding: .4rem .6rem; text-align: left; vertical-align: top; }
td { overflow-wrap: anywhere; }
.badge { background: #8883; border-radius: .3rem; padding: .05rem .35rem; }
.fa-check-circle::before { content: "\\2713"; color: #2a9d55; font-style: normal; font-weight: bold; }
.fa-times::before { content: "\\2717"; color: #d33; font-style: normal; font-weight: bold; }
.text-danger { color: #d33; }
.card, .ge-navigation-sidebar-container, footer { display: none; }
</style>
</head>"""


def write_data_docs(directory: Path, verdict: Verdict, *, rules: Sequence[Rule], title: str, data: str) -> None:
    """Write `index.html`; `data` is the name of what was judged."""
    results = [_result(rule, one) for rule, one in zip(rules, verdict.judgements, strict=True)]
    held = sum(one.passed for one in verdict.judgements)
    whole = ExpectationSuiteValidationResult(
        success=verdict.passed,
        results=results,
        suite_name=title,
        statistics={
            "evaluated_expectations": len(results),
            "successful_expectations": held,
            "unsuccessful_expectations": len(results) - held,
            "success_percent": 100 * held / len(results),
        },
        meta={
            "batch_kwargs": {"data_asset_name": data},
            "run_id": {"run_name": title, "run_time": "1970-01-01T00:00:00+00:00"},
        },
    )
    page = ValidationResultsPageRenderer(run_info_at_end=True).render(whole)
    page.sections = page.sections[:-1]  # the run's time and the version
    html: str = DefaultJinjaPageView().render(page)  # type: ignore[no-untyped-call]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "index.html").write_text(_offline(html), encoding="utf-8")


def _result(rule: Rule, judgement: Judgement) -> ExpectationValidationResult:
    mostly = {} if judgement.mostly == 1.0 else {"mostly": judgement.mostly}
    configuration = ExpectationConfiguration(
        type=rule.expectation.expectation_type,
        kwargs={**rule.settings, **mostly},
        meta={"notes": judgement.why},
    )
    percent = 100 * judgement.unexpected_share
    result: dict[str, object] = {
        "element_count": judgement.judged,
        "unexpected_count": judgement.unexpected,
        "unexpected_percent": percent,
        "unexpected_percent_nonmissing": percent,
        "partial_unexpected_list": [_shown(sample) for sample in judgement.samples],
    }
    if judgement.observed is not None:
        result = {"observed_value": judgement.observed, **result}
    return ExpectationValidationResult(
        success=judgement.passed,
        expectation_config=configuration,
        result=result,
        exception_info={"raised_exception": False, "exception_message": None, "exception_traceback": None},
    )


def _shown(sample: Mapping[str, object]) -> str:
    """A failing row in one line: its origin and what is in it. The page's template escapes nothing."""
    return escape(" · ".join(str(value) for name, value in sample.items() if name != "id"))


def _offline(html: str) -> str:
    numbers: dict[str, str] = {}
    html = _REMOTE.sub("", html)
    html = _UUID.sub(lambda match: numbers.setdefault(match[0], str(len(numbers))), html)
    return html.replace("</head>", _STYLE, 1)

"""The scenario of question answering: hostile requests, and no context on both sides of the split."""

import pytest
import torch
from pydantic import ValidationError

from noria.artifacts import read_artifact, write_artifact
from noria.config import Config, SplitConfig
from noria.data.rows import ShardWriter, read_rows, row_schema
from noria.data.sides import check_group_by, group_of
from noria.data.span_encoder import SpanEncoder, fit_span_encoder
from noria.data.split import split_rows
from noria.errors import ConfigError
from noria.evaluation.torch_run import torch_outputs
from noria.scenarios.question_answering import DEFAULTS, SCENARIO

CONFIG = Config.model_validate(
    {
        **DEFAULTS,
        "name": "a",
        "scenario": "question-answering",
        "source": {"path": "x"},
        "tokenizer": {"vocabulary_size": 300, "max_tokens": 40},
        "model": {
            **DEFAULTS["model"],
            "layers": 1,
            "dim": 16,
            "heads": 2,
            "feed_forward_dim": 16,
            "spans": {"max_question_tokens": 16},
        },
    }
)
ROWS = [
    {"id": "a", "context": "Anna likes red.", "question": "What does Anna like?", "answer": "red", "answer_start": ""},
    {"id": "b", "context": "Bo likes blue 😀.", "question": "Who likes red?", "answer": "", "answer_start": ""},
]


@pytest.fixture(scope="module")
def encoder() -> SpanEncoder:
    return fit_span_encoder(ROWS, tokenizer=CONFIG.tokenizer, spans=CONFIG.model.spans)


@pytest.mark.parametrize(
    "context", ["\x00", " \n", "😀" * 900, "x" * 20_000, "a b " * 2_000, "שלום e\u0301 \u202e", "."]
)
@pytest.mark.parametrize("question", ["?", "\u0301", "why " * 400])
def test_any_request_gets_a_part_of_its_context_or_none(encoder, context, question):
    request = SCENARIO.row_of(SCENARIO.request.model_validate({"question": question, "context": context}))
    torch.manual_seed(0)
    outputs = torch_outputs(SCENARIO.build_model(CONFIG, encoder), [request], encoder=encoder)
    (response,) = SCENARIO.decode([request], outputs, encoder)
    SCENARIO.response.model_validate(response)
    start, end = response["start"], response["end"]
    assert response["answer"] == (context[start:end] if start >= 0 else "") and 0 <= response["score"] <= 1
    assert (start, end) == (-1, -1) or 0 <= start < end <= len(context)


def test_rows_of_one_window_and_of_many_are_answered_in_their_order(encoder):
    rows = [{"question": "Who?", "context": f"{'so ' * length}Anna"} for length in (0, 200, 3, 90, 0)]
    torch.manual_seed(0)
    model = SCENARIO.build_model(CONFIG, encoder)
    together = SCENARIO.decode(rows, torch_outputs(model, rows, encoder=encoder), encoder)
    alone = [SCENARIO.decode([row], torch_outputs(model, [row], encoder=encoder), encoder)[0] for row in rows]
    assert [{**r, "score": round(r["score"], 4)} for r in together] == [
        {**r, "score": round(r["score"], 4)} for r in alone
    ]


@pytest.mark.parametrize(
    "request_",
    [
        *({}, {"question": "Who?"}, {"question": "", "context": "x"}, {"question": 3, "context": "x"}),
        *({"question": "Q", "context": "x" * 200_001}, {"question": "Q", "context": "\ud800"}),
    ],
)
def test_what_is_no_request_is_refused(request_):
    with pytest.raises(ValidationError):
        SCENARIO.request.model_validate(request_)


def test_a_line_of_text_is_a_question_a_tab_and_the_text():
    assert SCENARIO.as_request_of_text("Who?\tAnna\tis") == {"question": "Who?", "context": "Anna\tis"}
    with pytest.raises(ValueError, match="tab"):
        SCENARIO.as_request_of_text("Who?")


def test_no_context_is_on_both_sides_of_the_split_not_even_nearly(tmp_path):
    """Documents decide; where a context is in several, or nearly the same, its training rows are quarantined."""
    contexts = [f"{chr(97 + n % 26) * 9} {n} is a text of its own, number {n * n}" for n in range(60)]
    rows = []
    for n, context in enumerate(contexts):
        for document in ("", f"book {n % 20}", f"copy {n % 7}"):
            text = context if document != f"copy {n % 7}" else context + " ."
            rows.append((document, text, f"What is {n}?"))
    schema = row_schema(SCENARIO.schema)
    with write_artifact(tmp_path / "augmented", kind="augmented") as draft:
        with ShardWriter(draft.path, schema) as shards:
            shards.write_rows(
                [
                    {"id": str(i), "origin": "x", "parent_id": None, "document": d, "context": c, "question": q}
                    | {"answer": "", "answer_start": "", "other_answers": ""}
                    for i, (d, c, q) in enumerate(rows)
                ]
            )
        draft.counts = {"rows": len(rows)}
    split = SplitConfig.model_validate({**DEFAULTS["split"], "validation_share": 0.3})
    made = split_rows(
        read_artifact(tmp_path / "augmented"),
        tmp_path / "splits",
        quarantine=tmp_path / "quarantine",
        scenario=SCENARIO,
        config=split,
    )
    sides = [{r["context"].removesuffix(" .") for r in read_rows(made.path / side)} for side in ("train", "validation")]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
    assert made.counts["quarantined"] > 0


def test_the_first_column_with_a_value_groups_a_row():
    split = SplitConfig.model_validate({"group_by": ["document", "context"]})
    row = {"id": "1", "parent_id": None, "document": "", "context": "c"}
    assert group_of(row, split) == "c" and group_of({**row, "document": "d"}, split) == "d"
    assert group_of({**row, "document": None, "context": ""}, split) == "1"
    with pytest.raises(ConfigError, match="page"):
        check_group_by(SplitConfig(group_by=("document", "page")), columns=row)

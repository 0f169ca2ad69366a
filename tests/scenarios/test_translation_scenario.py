"""What the scenario of translation says of answers, and what it makes of hostile requests."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from noria.config import Config, TokenizerConfig
from noria.data.conflicts import settle
from noria.data.pair_encoder import END, PairEncoder, fit_pair_encoder
from noria.errors import ConfigError
from noria.evaluation.metrics import main_metric, value
from noria.evaluation.torch_run import torch_outputs
from noria.evaluation.translation_report import write_translation_report
from noria.scenarios.base import Tensors
from noria.scenarios.translation import DEFAULTS, SCENARIO

ROWS = [
    {"id": "a", "source": "Delete %s now", "target": "现在删除 %s"},
    {"id": "b", "source": "Save the page", "target": "保存这个页面"},
    {"id": "c", "source": "<b>Open</b> every file", "target": "<b>打开</b>每个文件"},
]
CONFIG = Config.model_validate(
    {
        **DEFAULTS,
        "name": "a",
        "scenario": "translation",
        "source": {"path": "x"},
        "model": {**DEFAULTS["model"], "layers": 1, "dim": 16, "heads": 2, "feed_forward_dim": 16},
    }
)


@pytest.fixture(scope="module")
def encoder() -> PairEncoder:
    return fit_pair_encoder(ROWS, source_column="source", target_column="target", config=TokenizerConfig())


def said(encoder: PairEncoder, *answers: str) -> list[Tensors]:
    """Outputs that stand for these answers, spelled."""
    targets = encoder.targets([{"source": "a", "target": answer} for answer in answers])
    return [{"tokens": np.array([*target["target"][1:], 0, 0])} for target in targets]


def test_the_right_answers_have_all_there_is_to_get_and_beat_a_copy(encoder):
    judged = SCENARIO.judge(ROWS, said(encoder, *(row["target"] for row in ROWS)), encoder)
    assert {name: value(metric, judged) for name, metric in judged.metrics.items()} == pytest.approx(
        {"bleu": 1.0, "chrf": 1.0, "placeholders_kept": 1.0, "exact": 1.0}
    )
    name, metric = main_metric(judged)
    assert name == "bleu" and value(metric, judged.trivially_answered()) < 0.5
    assert judged.trivial_name == "the source, copied"
    assert judged.columns["translation"] == [row["target"] for row in ROWS]


def test_an_answer_without_its_placeholders_is_counted_and_told(encoder):
    outputs = said(encoder, "现在删除", "保存", "<b>打开</b>")
    judged = SCENARIO.judge(ROWS, outputs, encoder)
    assert value(judged.metrics["placeholders_kept"], judged) == pytest.approx(2 / 3)
    responses = SCENARIO.decode(ROWS, outputs, encoder)
    assert [response["placeholders_kept"] for response in responses] == [False, True, True]
    assert responses[0]["text"] == "现在删除"
    for response in responses:
        SCENARIO.response.model_validate(response)


def test_the_report_has_a_picture_and_a_table_that_no_text_breaks(encoder, tmp_path):
    rows = [*ROWS, {"id": "d", "source": "a | b\n`c` " + "x" * 500, "target": "甲 | 乙"}]
    write_translation_report(tmp_path, SCENARIO.judge(rows, said(encoder, "a", "b | c\nd", "", "甲 | 乙"), encoder))
    assert (tmp_path / "bleu_by_length.png").read_bytes().startswith(b"\x89PNG")
    table = [line for line in (tmp_path / "examples.md").read_text().splitlines() if line.startswith("|")]
    assert len(table) == 2 + 4
    assert all(line.replace("\\|", "").count("|") == 5 for line in table)


@pytest.mark.parametrize("source", ["\x00", "\ud7ff\U0010ffff", "%s" * 900, "[END]" * 50, "好" * 4_000, " " * 10])
@torch.inference_mode()
def test_any_text_gets_an_answer_that_is_text_and_ends(encoder, source):
    request = SCENARIO.row_of(SCENARIO.request.model_validate({"source": source}))
    outputs = torch_outputs(SCENARIO.build_model(CONFIG, encoder), [request], encoder=encoder)
    assert len(outputs[0]["tokens"]) <= CONFIG.model.generation.max_tokens
    (response,) = SCENARIO.decode([request], outputs, encoder)
    assert isinstance(response["text"], str) and "\ufffd" not in response["text"]
    assert END not in outputs[0]["tokens"][:-1] or not outputs[0]["tokens"][-1]


@pytest.mark.parametrize(
    "request_", [{}, {"source": ""}, {"source": "x" * 5_001}, {"source": 3}, {"source": "a", "b": 1}]
)
def test_what_is_no_request_is_refused(request_):
    with pytest.raises(ValidationError):
        SCENARIO.request.model_validate(request_)


def test_bigrams_are_refused_by_name(encoder):
    config = CONFIG.model_copy(update={"model": CONFIG.model.model_copy(update={"bigram_buckets": 8})})
    with pytest.raises(ConfigError, match="bigrams"):
        SCENARIO.build_model(config, encoder)


def test_of_several_translations_the_most_frequent_is_kept_and_of_equals_the_first():
    clusters = np.array([0, 0, 0, 3, 3, 5])
    labels = np.array([0, 1, 1, 2, 3, 4])
    settled = settle(equal=clusters, clusters=clusters, labels=labels, policy="most_frequent")
    assert np.flatnonzero(settled.fate == 0).tolist() == [1, 3, 5]
    majority = settle(equal=clusters, clusters=clusters, labels=labels, policy="majority")
    assert np.flatnonzero(majority.fate == 0).tolist() == [1, 5]

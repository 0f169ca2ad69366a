"""A reader of spans: padding changes nothing, no end lies outside the context, and a batch can be learned by heart."""

import numpy as np
import pytest
import torch

from noria.config import Config, ModelConfig
from noria.data.ragged import store_rows
from noria.data.span_encoder import EMPTY, FIRST_READABLE, NUM_KINDS, fit_span_encoder
from noria.model.span_reader import SpanReader
from noria.recipes.spans import Ends, judge_ends, readable_logits
from noria.scenarios.question_answering import DEFAULTS
from noria.training.data import TrainingRows

CONFIG = Config.model_validate(
    {
        **DEFAULTS,
        "name": "a",
        "scenario": "question-answering",
        "source": {"path": "x"},
        "tokenizer": {"vocabulary_size": 300, "max_tokens": 32},
        "model": {"spans": {"max_question_tokens": 14}},
        "train": {"batch_tokens": 512, "label_smoothing": 0.0},
    }
)
ROWS = [
    {"context": f"{name} likes {colour} and " + "so on " * 12, "question": f"What does {name} like?", "answer": answer}
    for name, colour, answer in [("Anna", "red", "red"), ("Bo", "blue", "blue"), ("Kim", "green", ""), ("Ann", "-", "")]
]


@pytest.fixture
def model() -> SpanReader:
    torch.manual_seed(0)
    config = ModelConfig(layers=2, dim=32, heads=2, feed_forward_dim=32, positions="rotary", bigram_buckets=64)
    return SpanReader(config, vocabulary_size=300, max_tokens=32, num_kinds=NUM_KINDS, first_readable=FIRST_READABLE)


@pytest.fixture
def ends(tmp_path) -> Ends:
    encoder = fit_span_encoder(ROWS, tokenizer=CONFIG.tokenizer, spans=CONFIG.model.spans)
    rows = [{**row, "answer_start": ""} for row in ROWS]
    pairs = zip(encoder.encode_batch(rows), encoder.targets(rows), strict=True)
    stored = store_rows([{**encoded, **target} for encoded, target in pairs], tmp_path)
    training = TrainingRows(stored, np.array([b"a"] * 4), np.zeros(4, bool))
    return Ends(training, holdout=False, encoder=encoder, config=CONFIG)


@torch.inference_mode()
def test_padding_changes_no_logit_and_what_is_no_context_has_none(model):
    generator = torch.Generator().manual_seed(0)
    token_ids = torch.randint(3, 300, (2, 9), generator=generator)
    kinds = torch.tensor([[3, 1, 2, 1, 4, 5, 4, 4, 5]] * 2)
    alone = model.eval()(token_ids, kinds)
    padded = model(torch.nn.functional.pad(token_ids, (0, 5)), torch.nn.functional.pad(kinds, (0, 5)))
    torch.testing.assert_close(padded[:, :9], alone)
    assert (padded[:, 9:] == 0).all() and (alone[:, 1:4] == 0).all()
    assert (alone[:, 4:] != 0).all() and (alone[:, 0] != 0).all()


def test_a_window_without_the_whole_answer_asks_for_the_empty_one(ends):
    batches = [ends.batch(index) for index in range(len(ends))]
    rows = np.concatenate([batch.rows for batch in batches])
    assert len(rows) > len(ROWS) and set(rows.tolist()) == {0, 1, 2, 3}
    for batch in batches:
        kinds = batch.inputs["kinds"].gather(1, batch.targets)
        assert ((kinds == EMPTY).all(1) | (kinds > EMPTY).all(1)).all()
        answered = {row for row, kind in zip(batch.rows.tolist(), kinds.tolist(), strict=True) if kind[0] != EMPTY}
        assert answered <= {0, 1}


def test_smoothing_spreads_over_the_context_alone(model, ends):
    batch = ends.batch(0)
    plain = float(ends.loss(model, batch).detach())
    ends._label_smoothing = 0.1
    assert plain * 0.5 < float(ends.loss(model, batch).detach()) < plain * 2


def test_a_batch_can_be_learned_by_heart(model, ends):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    batch = ends.batch(0)
    for _ in range(60):
        model.train()
        loss = ends.loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) / batch.num_targets < 0.1
    model.eval()
    assert (readable_logits(model, batch).argmax(-1) == batch.targets).all()
    assert judge_ends(model, ends)["holdout_exact"] > 0.5

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.config import ModelConfig
from noria.model.language_model import LanguageModel
from noria.recipes.language_modelling import NextTokens, pack

END = 1


def stream(num_tokens: int = 400) -> np.ndarray:
    tokens = np.random.default_rng(0).integers(2, 30, num_tokens).astype(np.int32)
    tokens[::17] = END
    return tokens


def objective(*, inside_documents: bool = False) -> NextTokens:
    return NextTokens(
        stream(), width=16, batch_tokens=64, end_of_document=END, inside_documents=inside_documents, seed=1
    )


def model(positions: str = "rotary") -> LanguageModel:
    torch.manual_seed(0)
    config = ModelConfig(layers=2, dim=16, heads=2, feed_forward_dim=32, positions=positions, bigram_buckets=32)
    return LanguageModel(config, vocabulary_size=30, max_tokens=16)


@given(st.integers(0, 20))
@settings(deadline=None, max_examples=10)
def test_every_position_is_asked_for_the_token_behind_it(index: int) -> None:
    batch, tokens = objective().batch(index), stream()
    read, asked = batch.inputs["token_ids"], batch.targets.view(4, 16)
    assert torch.equal(read[:, 1:], asked[:, :-1])
    text = tokens.tobytes()
    assert all(
        np.append(row, last).astype(np.int32).tobytes() in text for row, last in zip(read, asked[:, -1:], strict=True)
    )
    again = objective()
    again.batch(3)
    assert torch.equal(again.batch(index).targets, batch.targets)


def test_an_epoch_reads_no_token_twice() -> None:
    plan = objective()
    rows = np.concatenate([plan.batch(index).rows for index in range(len(plan))])
    assert len(set(rows.tolist())) == len(rows)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_inside_documents_the_loss_is_that_of_each_document_alone(positions: str) -> None:
    plan, decoder = objective(inside_documents=True), model(positions)
    batch = plan.batch(2)
    loss = plan.loss(decoder, batch)
    tokens, targets = batch.inputs["token_ids"].flatten(), batch.targets
    offsets = pack(batch.layout, device=torch.device("cpu")).offsets.tolist()
    alone = [
        torch.nn.functional.cross_entropy(decoder(tokens[None, a:b])[0], targets[a:b], reduction="sum")
        for a, b in pairwise(offsets)
    ]
    assert len(alone) > 4
    torch.testing.assert_close(loss, sum(alone), rtol=1e-5, atol=1e-4)


def test_without_documents_the_loss_is_that_of_the_logits() -> None:
    plan, decoder = objective(), model()
    batch = plan.batch(0)
    logits = decoder(batch.inputs["token_ids"]).flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, batch.targets, reduction="sum")
    torch.testing.assert_close(plan.loss(decoder, batch), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("inside_documents", [True, False])
@pytest.mark.parametrize("num_parts", [3, 9])
def test_parts_of_a_batch_keep_their_documents_though_some_are_empty(num_parts: int, inside_documents: bool) -> None:
    plan, decoder = objective(inside_documents=inside_documents), model()
    batch = plan.batch(1)
    parts = [batch.part(number, of=num_parts) for number in range(num_parts)]
    torch.testing.assert_close(
        sum(plan.loss(decoder, part) for part in parts), plan.loss(decoder, batch), rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize("inside_documents", [True, False])
def test_a_part_without_a_row_costs_nothing_and_still_reaches_every_parameter(inside_documents: bool) -> None:
    """Other ranks wait for the gradients of one that has none."""
    plan, decoder = objective(inside_documents=inside_documents), model()
    loss = plan.loss(decoder, plan.batch(0).part(0, of=9))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert all(param.grad is not None and not param.grad.any() for param in decoder.parameters())

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
    return NextTokens(stream(), width=16, batch_tokens=64, boundary=END, inside_documents=inside_documents, seed=1)


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
    rows = np.concatenate([plan.batch(index).inputs["token_ids"].numpy() for index in range(len(plan))])
    text = stream().tobytes()
    places = [text.find(row.astype(np.int32).tobytes()) // 4 for row in rows]
    assert len(set(places)) == len(places) and {place % 16 for place in places} == {places[0] % 16}


def test_in_order_every_token_is_asked_for_once_though_the_last_row_is_short() -> None:
    batches = list(objective(inside_documents=True).in_order())
    assert np.array_equal(np.concatenate([batch.targets for batch in batches]), stream()[1:])
    documents = np.concatenate([batch.rows for batch in batches])
    assert documents.tolist() == [start // 17 for start in range(0, 399, 16)]


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_inside_documents_the_loss_is_that_of_each_document_alone(positions: str) -> None:
    """A document begins with its boundary, in a row, and what is asked last of it is the next one's boundary."""
    plan, decoder = objective(inside_documents=True), model(positions)
    batch = plan.batch(2)
    loss = plan.loss(decoder, batch)
    alone = []
    for row in batch.inputs["token_ids"].tolist():
        starts = [place for place, token in enumerate(row) if token == END and place] + [len(row)]
        alone += [row[a:b] for a, b in pairwise([0, *starts])]
    targets = batch.targets.split([len(part) for part in alone])
    assert len(alone) > 6 and sum(part[-1] == END for part in targets) > 2
    expected = [
        torch.nn.functional.cross_entropy(decoder.logits(torch.tensor([part]))[0], asked, reduction="sum")
        for part, asked in zip(alone, targets, strict=True)
    ]
    torch.testing.assert_close(loss, sum(expected), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_no_document_s_loss_changes_with_the_documents_beside_it(positions: str) -> None:
    plan, decoder = objective(inside_documents=True), model(positions)
    batches = (plan.batch(index).inputs["token_ids"] for index in range(len(plan)))
    tokens = next(batch for batch in batches if (batch[0, 3:12] == END).any())
    place = int((tokens[0] == END).nonzero()[-1, 0])
    others = tokens.clone()
    others[0, :place] = 7
    others[1:] = 9
    asked, device = torch.arange(place, 16), tokens.device
    said = [
        decoder.next_tokens(each.reshape(1, -1), asked, pack(each.numpy() == END, device=device))[0]
        for each in (tokens, others)
    ]
    torch.testing.assert_close(said[0], said[1], rtol=1e-6, atol=1e-6)


def test_without_documents_the_loss_is_that_of_the_logits() -> None:
    plan, decoder = objective(), model()
    batch = plan.batch(0)
    logits = decoder.logits(batch.inputs["token_ids"]).flatten(0, 1)
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

import numpy as np
import torch

from noria.config import ModelConfig
from noria.data.ragged import Ragged
from noria.model.translator import Translator
from noria.recipes.translation import TargetTokens


def ragged(rows: list[np.ndarray]) -> Ragged:
    return Ragged(np.concatenate(rows), np.concatenate([[0], np.cumsum([len(row) for row in rows])]))


def pairs(num_pairs: int = 30) -> tuple[Ragged, Ragged]:
    rng = np.random.default_rng(0)
    sources = [rng.integers(4, 40, rng.integers(2, 12)) for _ in range(num_pairs)]
    targets = [np.concatenate([[2], rng.integers(4, 40, rng.integers(1, 9)), [3]]) for _ in range(num_pairs)]
    return ragged(sources), ragged(targets)


def model() -> Translator:
    torch.manual_seed(0)
    config = ModelConfig(layers=1, dim=16, heads=2, feed_forward_dim=32, bigram_buckets=0)
    return Translator(config, vocabulary_size=40, max_tokens=16)


def test_the_target_is_shifted_and_padding_is_asked_for_nothing() -> None:
    sources, targets = pairs()
    plan = TargetTokens(sources, targets, batch_tokens=64, seed=1)
    seen = []
    for index in range(len(plan)):
        batch = plan.batch(index)
        asked = np.zeros((len(batch.rows), batch.width), np.int64).reshape(-1)
        asked[batch.positions] = batch.targets
        asked = asked.reshape(-1, batch.width)
        for row, read, answer in zip(batch.rows, batch.inputs["target"].numpy(), asked, strict=True):
            target = targets[row]
            assert read[: len(target) - 1].tolist() == target[:-1].tolist()
            assert answer[: len(target) - 1].tolist() == target[1:].tolist() and not answer[len(target) - 1 :].any()
        seen += batch.rows.tolist()
    assert sorted(seen) == list(range(30))


def test_the_loss_is_that_of_the_logits_at_real_positions_and_the_sum_of_its_parts() -> None:
    plan, translator = TargetTokens(*pairs(), batch_tokens=80, label_smoothing=0.1, seed=1), model()
    batch = plan.batch(1)
    logits = translator.logits(batch.inputs["source"], batch.inputs["target"]).flatten(0, 1)[batch.positions]
    expected = torch.nn.functional.cross_entropy(logits, batch.targets, reduction="sum", label_smoothing=0.1)
    torch.testing.assert_close(plan.loss(translator, batch), expected, rtol=1e-5, atol=1e-4)
    parts = sum(plan.loss(translator, batch.part(number, of=2)) for number in range(2))
    torch.testing.assert_close(parts, expected, rtol=1e-5, atol=1e-4)


def test_a_translator_learns_to_copy() -> None:
    rng = np.random.default_rng(0)
    sources = [rng.integers(4, 14, rng.integers(2, 6)) for _ in range(64)]
    targets = [np.concatenate([[2], row, [3]]) for row in sources]
    plan, translator = TargetTokens(ragged(sources), ragged(targets), batch_tokens=256, seed=1), model()
    optimizer = torch.optim.AdamW(translator.parameters(), lr=1e-2)
    for step in range(150):
        batch = plan.batch(step)
        optimizer.zero_grad()
        loss = plan.loss(translator, batch) / batch.num_targets
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.3

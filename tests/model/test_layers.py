import pytest
import torch

from noria.config import ModelConfig
from noria.model.layers import dropout
from noria.model.text_classifier import DeepBranch


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_dropout_zeroes_its_share_and_keeps_the_mean(share: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    dropped = dropout(torch.ones(1_001, 997, dtype=dtype, requires_grad=True), share)
    assert float((dropped == 0).float().mean()) == pytest.approx(share, abs=1 / 256)
    assert float(dropped.detach().float().mean()) == pytest.approx(1.0, abs=0.01)
    assert len(dropped.unique()) == 2  # nothing but 0 and the scaled value


def test_the_gradient_is_dropped_where_the_value_was() -> None:
    torch.manual_seed(0)
    x = torch.rand(64, 33, requires_grad=True)
    dropped = dropout(x, 0.3)
    slope = torch.rand(64, 33)
    (dropped * slope).sum().backward()
    torch.testing.assert_close(x.grad, (dropped / x * slope).detach())


def test_values_are_dropped_independently_of_their_neighbours() -> None:
    """Bytes of one random word decide eight neighbours."""
    torch.manual_seed(0)
    kept = (dropout(torch.ones(4_096, 8), 0.5) > 0).double()
    correlation = torch.corrcoef(kept.T) - torch.eye(8)
    assert float(correlation.abs().max()) < 0.08  # five standard errors


@pytest.mark.parametrize("share", [0.0, 0.001, 0.999])
def test_at_the_ends_of_the_range_something_is_kept_and_dropped_as_it_must(share: float) -> None:
    torch.manual_seed(0)
    kept = float((dropout(torch.ones(1_000, 100), share) != 0).float().mean())
    assert kept == 1.0 if share == 0.0 else 0.0 < kept < 1.0


def test_one_seed_drops_the_same_and_evaluation_drops_nothing() -> None:
    config = ModelConfig(layers=1, dim=16, heads=2, feed_forward_dim=32, bigram_buckets=8, dropout=0.4)
    model = DeepBranch(config, vocabulary_size=20, max_tokens=8, num_classes=2)
    token_ids = torch.randint(1, 20, (4, 8))

    def answer(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return model(token_ids).detach()

    assert torch.equal(answer(1), answer(1)) and not torch.equal(answer(1), answer(2))
    model.eval()
    assert torch.equal(answer(1), answer(2))

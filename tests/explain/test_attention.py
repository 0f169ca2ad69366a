import math

import pytest
import torch

from noria.config import ModelConfig
from noria.explain.attention import attention_maps, rollout, weights_and_values
from noria.model.attention import Attention, Packing
from noria.model.transformer import EncoderDecoder


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("cross", "causal"), [(False, False), (False, True), (True, False)])
def test_recomputed_attention_gives_the_output_of_the_module(
    rotary: bool, masked: bool, cross: bool, causal: bool
) -> None:
    torch.manual_seed(0)
    module = Attention(16, 4, gain=1.0, rotary=rotary, causal=causal)
    x, memory = torch.randn(2, 5, 16), torch.randn(2, 7, 16) if cross else None
    mask = None
    if masked:
        mask = torch.rand(2, 1, 5, 7 if cross else 5) < 0.6
        mask[..., 0] = True
    weights, values = weights_and_values(module, x, mask, memory)
    again = (weights @ values).transpose(1, 2).flatten(2) @ module.output.T
    torch.testing.assert_close(again, module(x, mask, memory), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 5))
    if mask is not None:
        assert not weights[~mask.expand_as(weights)].any()


@pytest.mark.parametrize("causal", [False, True])
def test_documents_laid_end_to_end_do_not_see_each_other(causal: bool) -> None:
    torch.manual_seed(0)
    module = Attention(16, 4, gain=1.0, rotary=True, causal=causal)
    x, packing = torch.randn(1, 7, 16), Packing(torch.tensor([0, 3, 7], dtype=torch.int32), 4)
    weights, values = weights_and_values(module, x, packing)
    assert not weights[..., :3, 3:].any() and not weights[..., 3:, :3].any()
    again = (weights @ values).transpose(1, 2).flatten(2) @ module.output.T
    torch.testing.assert_close(again, module(x, packing), atol=1e-5, rtol=1e-4)


def test_maps_come_in_the_order_of_the_layers_and_leave_the_model_as_it_was() -> None:
    torch.manual_seed(0)
    model = EncoderDecoder(ModelConfig(layers=2, dim=16, heads=2, feed_forward_dim=24))
    source, target = torch.randn(1, 6, 16), torch.randn(1, 4, 16)
    real = torch.ones(1, 6, dtype=torch.bool)
    expected = model(source, real, target)
    maps = attention_maps(model, lambda: model(source, real, target))
    shapes = [tuple(part.shape[2:]) for part in maps]
    assert shapes == [(6, 6), (6, 6), (4, 4), (4, 6), (4, 4), (4, 6)]
    assert not maps[2].triu(1).any()  # the decoder is causal
    assert torch.equal(model(source, real, target), expected)
    assert not any(part._forward_hooks for part in model.modules())


def test_rollout_is_a_share_and_follows_the_formula() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 3, 4, 4).softmax(-1)
    found = rollout([first, second])
    torch.testing.assert_close(found.sum(-1), torch.ones(4))
    eye = torch.eye(4)
    torch.testing.assert_close(found, (second.mean(0) + eye) @ (first.mean(0) + eye) / 4)


def test_attention_that_stays_put_rolls_out_to_itself() -> None:
    still = torch.eye(3).expand(2, 3, 3)
    torch.testing.assert_close(rollout([still] * 5), torch.eye(3))
    assert math.isclose(float(rollout([torch.full((1, 2, 2), 0.5)])[0, 1]), 0.25)

"""The recommender reads what came before, and nothing else."""

import torch

from noria.config import ModelConfig
from noria.model.recommender import Recommender


def recommender() -> Recommender:
    torch.manual_seed(0)
    config = ModelConfig(layers=2, dim=16, heads=2, feed_forward_dim=32, bigram_buckets=0)
    return Recommender(config, num_items=9, num_special=2).eval()


@torch.inference_mode()
def test_padding_does_not_change_the_answer():
    model = recommender()
    alone = model(torch.tensor([[1, 4, 5]]))
    torch.testing.assert_close(model(torch.tensor([[1, 4, 5, 0, 0], [1, 2, 3, 4, 5]]))[:1], alone)


@torch.inference_mode()
def test_no_position_sees_a_later_item_and_the_answer_is_that_of_the_last_position():
    model = recommender()
    items = torch.tensor([[1, 4, 5, 6]])
    x_ND, weight_VD, bias_V = model.next_items(items, torch.arange(4))
    logits_TV = x_ND @ weight_VD.mT + bias_V
    for length in range(1, 5):
        torch.testing.assert_close(model(items[:, :length])[0], logits_TV[length - 1])

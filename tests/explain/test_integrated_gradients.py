import torch

from noria.explain.integrated_gradients import integrated_gradients


def test_contributions_add_up_to_the_change_of_the_score() -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 3)

    def score(x: torch.Tensor) -> torch.Tensor:
        return (x * weight).sum((1, 2)).tanh() + (x**3 * weight).mean((1, 2))

    x, baseline = torch.randn(6, 3), torch.randn(6, 3)
    parts = integrated_gradients(score, x, baseline)
    torch.testing.assert_close(parts.sum(), score(x[None])[0] - score(baseline[None])[0], atol=1e-4, rtol=1e-3)


def test_a_linear_score_is_taken_apart_exactly_and_an_unused_position_gets_nothing() -> None:
    weight = torch.tensor([[1.0, 2.0], [0.0, 0.0], [-1.0, 0.5]])
    x = torch.tensor([[3.0, 1.0], [9.0, 9.0], [2.0, 4.0]])
    parts = integrated_gradients(lambda x: (x * weight).sum((1, 2)), x, torch.zeros(3, 2))
    torch.testing.assert_close(parts, torch.tensor([5.0, 0.0, 0.0]))

"""Taking heads, units and layers out: what contributed nothing is not missed, and what is left is smaller."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.config import ModelConfig
from noria.model.attention import Attention
from noria.model.layers import FeedForward
from noria.model.pruning import gate_slopes, kept, layers_taken, num_layers, num_parameters, pruned, shallower
from noria.model.transformer import Encoder, EncoderDecoder
from noria.model.translator import Translator

HEADS, UNITS, DIM = 4, 24, 32
CONFIG = ModelConfig(layers=2, dim=DIM, heads=HEADS, feed_forward_dim=UNITS)


def some_of(number: int) -> st.SearchStrategy[torch.Tensor]:
    """Which stay of so many, at least one."""
    numbers = st.sets(st.integers(0, number - 1), min_size=1)
    return numbers.map(lambda chosen: torch.tensor(sorted(chosen)))


def silence(attention: Attention, stays_H: torch.Tensor) -> None:
    """Every other head writes zeros."""
    gone = torch.ones(attention.num_heads, dtype=torch.bool)
    gone[stays_H] = False
    columns = gone.repeat_interleave(attention.head_dim)
    with torch.no_grad():
        attention.output[:, columns] = 0.0


def silence_units(feed_forward: FeedForward, stays_F: torch.Tensor) -> None:
    gone = torch.ones(feed_forward.down.weight.shape[1], dtype=torch.bool)
    gone[stays_F] = False
    with torch.no_grad():
        feed_forward.down.weight[:, gone] = 0.0


def whole_numbers(*shape: int, seed: int) -> torch.Tensor:
    """Float64: sums and products of them are exact in any order."""
    return torch.randint(-4, 5, shape, generator=torch.Generator().manual_seed(seed)).double()


@given(stays=some_of(UNITS))
@settings(max_examples=30, deadline=None)
def test_a_layer_without_the_units_that_write_nothing_says_exactly_the_same(stays):
    layer = FeedForward(DIM, UNITS, gain=1.0).double()
    with torch.no_grad():
        layer.up.weight.copy_(whole_numbers(UNITS, DIM, seed=1))
        layer.down.weight.copy_(whole_numbers(DIM, UNITS, seed=2))
    silence_units(layer, stays)
    smaller = pruned(layer, heads={}, units={"": stays})
    x_BD = whole_numbers(5, DIM, seed=3)
    assert smaller.up.weight.shape == (len(stays), DIM) and smaller.down.weight.shape == (DIM, len(stays))
    assert torch.equal(smaller(x_BD), layer(x_BD))


@given(stays=some_of(HEADS))
@settings(max_examples=15, deadline=None)
def test_attention_without_the_heads_that_write_nothing_says_exactly_the_same(stays):
    attention = Attention(DIM, HEADS, gain=1.0, rotary=False).double()
    with torch.no_grad():
        attention.projections.copy_(whole_numbers(3, DIM, DIM, seed=1))
        attention.projections[0] = 0.0  # every position attends to all alike: means over 8 of them, which are exact
        attention.output.copy_(whole_numbers(DIM, DIM, seed=2))
    silence(attention, stays)
    smaller = pruned(attention, heads={"": stays}, units={})
    x_BTD = whole_numbers(2, 8, DIM, seed=3)
    assert smaller.num_heads == len(stays) and smaller.head_dim == attention.head_dim
    assert torch.equal(smaller(x_BTD), attention(x_BTD))


@given(data=st.data(), positions=st.sampled_from(["learned", "rotary"]))
@settings(max_examples=20, deadline=None)
def test_a_transformer_without_what_contributes_nothing_computes_what_it_did(data, positions):
    torch.manual_seed(0)
    model = EncoderDecoder(CONFIG.model_copy(update={"positions": positions})).double().eval()
    heads, units = {}, {}
    for name, module in model.named_modules():
        if isinstance(module, Attention):
            heads[name] = data.draw(some_of(HEADS))
            silence(module, heads[name])
        elif isinstance(module, FeedForward):
            units[name] = data.draw(some_of(UNITS))
            silence_units(module, units[name])
    smaller = pruned(model, heads=heads, units=units)
    source_BSD, target_BTD = torch.randn(2, 7, DIM).double(), torch.randn(2, 5, DIM).double()
    real_BS = torch.ones(2, 7, dtype=torch.bool)
    real_BS[1, 4:] = False
    with torch.inference_mode():
        expected, found = (each(source_BSD, real_BS, target_BTD) for each in (model, smaller))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    gone = sum(HEADS - len(each) for each in heads.values()), sum(UNITS - len(each) for each in units.values())
    by_hand = gone[0] * 4 * DIM * (DIM // HEADS) + gone[1] * 2 * DIM
    assert num_parameters(model) - num_parameters(smaller) == by_hand


def test_a_gate_has_the_slope_that_a_small_turn_of_it_shows():
    torch.manual_seed(0)
    model = Encoder(CONFIG).double()
    x_BTD, real_BT = torch.randn(2, 6, DIM).double(), torch.ones(2, 6, dtype=torch.bool)

    def loss() -> torch.Tensor:
        return model(x_BTD, real_BT).square().sum(-1).sqrt().sum() + model(x_BTD, real_BT)[..., 0].sum()

    loss().backward()
    heads, units = gate_slopes(model)
    assert {len(each) for each in heads.values()} == {HEADS} and {len(each) for each in units.values()} == {UNITS}
    attention, layer, turn = model.blocks[0].attention, model.blocks[1].feed_forward, 1e-5
    columns = slice(2 * attention.head_dim, 3 * attention.head_dim)
    turned = (
        (heads["blocks.0.attention"][2], attention.output, columns),
        (units["blocks.1.feed_forward"][7], layer.down.weight, slice(7, 8)),
    )
    for slope, weight, part in turned:
        sides = []
        for factor in (1 + turn, (1 - turn) / (1 + turn)):
            with torch.no_grad():
                weight[:, part] *= factor
                sides.append(float(loss()))
        with torch.no_grad():
            weight[:, part] /= 1 - turn
        assert float(slope) == pytest.approx(abs(sides[0] - sides[1]) / (2 * turn), rel=1e-4)


@given(
    shares=st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=20), min_size=1, max_size=4),
    share=st.floats(0, 0.99),
    at_once=st.sampled_from([1, 8]),
)
def test_the_least_important_go_and_every_module_keeps_some(shares, share, at_once):
    scores = {str(number): torch.tensor(each, dtype=torch.float64) for number, each in enumerate(shares)}
    left = kept(scores, share, at_once=at_once)
    total = sum(len(score) for score in scores.values())
    assert sum(len(numbers) for numbers in left.values()) >= total - int(share * total)
    for name, numbers in left.items():
        assert len(numbers) and numbers.tolist() == sorted(set(numbers.tolist()))
        assert len(numbers) % at_once == 0 or len(numbers) == len(scores[name])
        gone = sorted(set(range(len(scores[name]))) - set(numbers.tolist()))
        assert not gone or scores[name][gone].max() <= scores[name][numbers].min()


def test_importance_is_compared_between_layers_by_their_own_measure():
    loud, quiet = torch.tensor([100.0, 90.0, 80.0, 1.0]), torch.tensor([0.4, 0.3, 0.2, 0.001])
    left = kept({"loud": loud, "quiet": quiet}, 0.25)
    assert {name: numbers.tolist() for name, numbers in left.items()} == {"loud": [0, 1, 2], "quiet": [0, 1, 2]}
    assert kept({}, 0.5) == {}


def test_layers_are_taken_evenly_spaced():
    assert layers_taken(12, 6) == [0, 2, 4, 7, 9, 11]  # those of DistilBERT
    assert layers_taken(3, 2) == [0, 2] and layers_taken(4, 1) == [0] and layers_taken(3, 3) == [0, 1, 2]


def test_a_student_has_the_weights_of_the_layers_that_were_taken_and_all_else():
    torch.manual_seed(0)
    config = ModelConfig(layers=4, dim=16, heads=2, feed_forward_dim=32, bigram_buckets=0)
    model = Translator(config, vocabulary_size=30, max_tokens=16)
    student = shallower(model, 2)
    assert (num_layers(model), num_layers(student)) == (4, 2)
    theirs, ours = model.state_dict(), student.state_dict()
    for name, tensor in ours.items():
        from_layer = name.replace("blocks.1.", "blocks.3.")
        assert torch.equal(tensor, theirs[from_layer]), name
    assert {name for name in theirs if ".blocks." not in name} == {name for name in ours if ".blocks." not in name}
    next(student.parameters()).data.zero_()
    assert next(model.parameters()).any()  # a copy


def test_steps_of_a_smaller_translator_say_what_its_whole_pass_says():
    torch.manual_seed(0)
    config = ModelConfig(layers=3, dim=32, heads=4, feed_forward_dim=24, bigram_buckets=0, positions="rotary")
    model = Translator(config, vocabulary_size=30, max_tokens=16).eval()
    heads = {
        "transformer.decoder.blocks.0.attention": torch.tensor([1]),
        "transformer.decoder.blocks.2.attention": torch.tensor([0, 2, 3]),
        "transformer.decoder.blocks.2.cross_attention": torch.tensor([0, 3]),
        "transformer.encoder.blocks.1.attention": torch.tensor([2]),
    }
    model = shallower(pruned(model, heads=heads, units={}), 2)
    source_BS, target_BT = torch.randint(3, 30, (3, 6)), torch.randint(3, 30, (3, 5))
    with torch.inference_mode():
        start, past, said = model.start(source_BS), model.empty_past(source_BS, num_beams=1), []
        assert [tuple(layer.keys.shape) for layer in past] == [(3, 1, 0, 8), (3, 3, 0, 8)]
        for place in range(5):
            logits_B1V, past = model.step(target_BT[:, place, None], torch.tensor([place]), past, start)
            said.append(logits_B1V[:, 0])
        torch.testing.assert_close(torch.stack(said, 1), model.logits(source_BS, target_BT), rtol=1e-4, atol=1e-4)

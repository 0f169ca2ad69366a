"""A language model goes on: from its cache as from the whole text, from a prompt read at once, and by the draws given.

Shapes: B batch, K beams, P prompt, V vocabulary.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from noria.config import GenerationConfig, ModelConfig
from noria.model.generation import PADDING, Sampling, generate
from noria.model.language_model import BOUNDARY, LanguageModel

SIZE, NEW = 30, 6
GREEDY = GenerationConfig(max_tokens=NEW)


def model(positions: str = "rotary", buckets: int = 64) -> LanguageModel:
    torch.manual_seed(0)
    config = ModelConfig(
        layers=2, dim=16, heads=2, feed_forward_dim=32, positions=positions, bigram_buckets=buckets, generation=GREEDY
    )
    made = LanguageModel(config, vocabulary_size=SIZE, max_tokens=16).eval()
    with torch.no_grad():  # far from ties
        made.frontend.tokens.mul_(20)
        if made.frontend.bigrams is not None:
            made.frontend.bigrams.normal_()
    return made


def prompts() -> torch.Tensor:
    """int64 (3, 5), padding behind."""
    return torch.tensor([[BOUNDARY, 5, 6, 7, 8], [BOUNDARY, 9, 0, 0, 0], [BOUNDARY, 9, 3, 4, 0]])


def sampling(num_rows: int = 3, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Sampling:
    return Sampling(
        torch.full((num_rows,), temperature),
        torch.full((num_rows,), top_k),
        torch.full((num_rows,), top_p),
        torch.rand(num_rows, NEW, generator=torch.Generator().manual_seed(3)),
    )


@pytest.mark.parametrize("positions", ["rotary", "learned"])
@pytest.mark.parametrize("buckets", [0, 64])
@torch.inference_mode()
def test_steps_say_what_the_whole_pass_says_at_each_position(positions: str, buckets: int) -> None:
    decoder = model(positions, buckets)
    tokens_BT = torch.randint(2, SIZE, (3, 9), generator=torch.Generator().manual_seed(2))
    start = decoder.start(tokens_BT[:, :1], torch.full((3,), 8))
    past, said = decoder.empty_past(tokens_BT, num_beams=2), []
    for place in range(9):
        logits_BKV, past = decoder.step(tokens_BT[:, place, None].expand(-1, 2), torch.tensor([place]), past, start)
        said.append(logits_BKV[:, 1])
    torch.testing.assert_close(torch.stack(said, dim=1), decoder.logits(tokens_BT), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("beams", [1, 3])
@torch.inference_mode()
def test_a_prompt_read_at_once_goes_on_as_one_read_token_by_token(temperature: float, beams: int) -> None:
    decoder, config = model(), GREEDY.model_copy(update={"beams": beams})
    start = replace(decoder.start(prompts()[:, :], torch.full((3,), NEW)), sampling=sampling(temperature=temperature))
    at_once = generate(decoder, start, config=config)
    one_by_one = generate(decoder, replace(start, read=()), config=config)
    assert torch.equal(at_once, one_by_one)
    assert at_once[0, :4].tolist() == [5, 6, 7, 8] and at_once.shape[1] == 4 + NEW


@torch.inference_mode()
def test_a_row_goes_on_alone_as_among_others_and_not_at_all_where_nothing_is_asked() -> None:
    decoder, drawn = model(), sampling()
    start = decoder.start(prompts(), torch.tensor([0, NEW, 3]))
    together = generate(decoder, replace(start, sampling=drawn), config=GREEDY)
    assert together[0].tolist() == [5, 6, 7, 8, *[PADDING] * (together.shape[1] - 4)] or not together[0, 4:].any()
    assert int((together[2] != PADDING).sum()) <= 3 + 3
    for row, length in ((1, 2), (2, 4)):
        alone = replace(
            decoder.start(prompts()[row : row + 1, :length], start.limit[row : row + 1] - length + 1),
            sampling=Sampling(*(part[row : row + 1] for part in vars(drawn).values())),
        )
        found = generate(decoder, alone, config=GREEDY)[0]
        assert together[row, : len(found)].tolist() == found.tolist() and not together[row, len(found) :].any()


def plain_draw(logits: np.ndarray, *, temperature: float, top_k: int, top_p: float, draw: float) -> int:
    """The token at which the cumulated probabilities of the nucleus pass the draw, written plainly."""
    scaled = logits.astype(np.float64) / temperature
    shares = np.exp(scaled - scaled.max())
    order = np.argsort(-shares, kind="stable")[: top_k or len(shares)]
    kept, shares = [], shares / shares[order].sum()
    before = 0.0
    for token in order:
        if before < top_p:
            kept.append(token)
        before += shares[token]
    total, passed = shares[kept].sum(), 0.0
    for token in kept:
        passed += shares[token]
        if passed > draw * total:
            return int(token)
    return int(kept[-1])


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.5, 0, 1.0), (2.0, 4, 1.0), (1.5, 0, 0.7), (3.0, 5, 0.5)]
)
@torch.inference_mode()
def test_each_draw_takes_the_token_that_a_plain_reading_of_the_definition_takes(
    temperature: float, top_k: int, top_p: float
) -> None:
    decoder, prompt = model(), torch.tensor([[BOUNDARY, 5, 6]])
    decoder.frontend.tokens.div_(4)
    drawn = sampling(1, temperature=temperature, top_k=top_k, top_p=top_p)
    start = replace(decoder.start(prompt, torch.tensor([NEW])), sampling=drawn)
    text, found = prompt[0].tolist(), generate(decoder, start, config=GREEDY)[0].tolist()
    for number in range(NEW):
        logits = decoder.logits(torch.tensor([text]))[0, -1].numpy().copy()
        logits[PADDING] = -1e9
        draw = float(drawn.uniform[0, number])
        text.append(plain_draw(logits, temperature=temperature, top_k=top_k, top_p=top_p, draw=draw))
        if text[-1] == BOUNDARY:
            break
    assert found[: len(text) - 1] == text[1:]


@torch.inference_mode()
def test_no_temperature_one_token_and_a_tiny_nucleus_are_all_greedy() -> None:
    decoder = model()
    start = decoder.start(prompts(), torch.full((3,), NEW))
    greedy = generate(decoder, start, config=GREEDY)
    for settings in ({"temperature": 0.0}, {"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-6}):
        assert torch.equal(generate(decoder, replace(start, sampling=sampling(**settings)), config=GREEDY), greedy)

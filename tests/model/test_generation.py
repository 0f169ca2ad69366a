"""Generation: one step is what the whole pass says there, and the search takes the decisions that it is named for.

Shapes: B batch, K beams, S source, T target, V vocabulary.
"""

import math
from dataclasses import replace

import pytest
import torch

from noria.config import GenerationConfig, ModelConfig
from noria.model.generation import PADDING, generate
from noria.model.translator import BEGIN, END, Translator

GREEDY = GenerationConfig(max_tokens=12)
BEAMS = GenerationConfig(beams=3, length_penalty=0.6, max_tokens=12)


def translator(generation: GenerationConfig = GREEDY, positions: str = "rotary") -> Translator:
    torch.manual_seed(0)
    config = ModelConfig(
        layers=2, dim=16, heads=2, feed_forward_dim=32, bigram_buckets=0, positions=positions, generation=generation
    )
    model = Translator(config, vocabulary_size=30, max_tokens=16).eval()
    with torch.no_grad():  # far from ties, and with some answers that end early
        model.frontend.tokens.mul_(20)
        model.head.bias.copy_(torch.randn(30))
        model.head.bias[END] += 5
    return model


def sources() -> torch.Tensor:
    """Rows of different lengths, int64 (6, 9)."""
    draw = torch.Generator().manual_seed(1)
    source_BS = torch.randint(3, 30, (6, 9), generator=draw)
    for row, length in enumerate((9, 7, 5, 3, 2, 1)):
        source_BS[row, length:] = PADDING
    return source_BS


@pytest.mark.parametrize("positions", ["rotary", "learned"])
@torch.inference_mode()
def test_steps_say_what_the_whole_pass_says_at_each_position(positions: str) -> None:
    model, source_BS = translator(positions=positions), sources()
    target_BT = torch.randint(3, 30, (6, 8), generator=torch.Generator().manual_seed(2))
    start = model.start(source_BS)
    past = model.empty_past(source_BS, num_beams=2)
    said = []
    for place in range(8):
        token_BK = target_BT[:, place, None].expand(-1, 2)
        logits_BKV, past = model.step(token_BK, torch.tensor([place]), past, start)
        said.append(logits_BKV)
    said_BKTV, expected_BTV = torch.stack(said, dim=2), model.logits(source_BS, target_BT)
    for beam in range(2):
        torch.testing.assert_close(said_BKTV[:, beam], expected_BTV, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_greedy_takes_the_likeliest_token_until_the_end_or_the_limit() -> None:
    model, source_BS = translator(), sources()
    found = model(source_BS)["tokens"]
    for source_S, answer_T in zip(source_BS, found, strict=True):
        source_1S = source_S[source_S != PADDING][None]
        limit = min(12, 2 * source_1S.shape[1] + 10)
        expected = [BEGIN]
        while len(expected) <= limit and expected[-1] != END:
            logits_V = model.logits(source_1S, torch.tensor([expected]))[0, -1]
            logits_V[[PADDING, BEGIN]] = -math.inf
            expected.append(int(logits_V.argmax()))
        assert answer_T[: len(expected) - 1].tolist() == expected[1:]
        assert not answer_T[len(expected) - 1 :].any()
    assert {int((row == END).sum()) for row in found} == {0, 1}, "some answers should end, and some reach the limit"


def beam_search(model: Translator, source_1S: torch.Tensor, config: GenerationConfig) -> list[int]:
    """The same search written plainly: all of every hypothesis, scored anew at every step."""

    def rank(hypothesis: tuple[list[int], float]) -> float:
        tokens, score = hypothesis
        return score / ((5 + len(tokens) - 1) / 6) ** config.length_penalty

    beams: list[tuple[list[int], float]] = [([BEGIN], 0.0)]
    for _ in range(min(config.max_tokens, 2 * source_1S.shape[1] + 10)):
        longer = []
        for tokens, score in beams:
            if tokens[-1] == END:
                longer.append((tokens, score))
                continue
            logits_V = model.logits(source_1S, torch.tensor([tokens]))[0, -1]
            logits_V[[PADDING, BEGIN]] = -math.inf
            for token, said in enumerate(logits_V.log_softmax(-1).tolist()):
                longer.append(([*tokens, token], score + said))
        beams = sorted(longer, key=rank, reverse=True)[: config.beams]
        if beams[0][0][-1] == END:
            break
    return beams[0][0][1:]


@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
@torch.inference_mode()
def test_beam_search_finds_what_a_plain_one_finds(penalty: float) -> None:
    config = BEAMS.model_copy(update={"length_penalty": penalty})
    model, source_BS = translator(config), sources()
    found = model(source_BS)["tokens"]
    for source_S, answer_T in zip(source_BS, found, strict=True):
        expected = beam_search(model, source_S[source_S != PADDING][None], config)
        assert answer_T[: len(expected)].tolist() == expected
        assert not answer_T[len(expected) :].any()


@torch.inference_mode()
def test_a_longer_answer_is_preferred_under_a_larger_penalty() -> None:
    lengths = []
    for penalty in (0.0, 5.0):
        model = translator(BEAMS.model_copy(update={"length_penalty": penalty}))
        model.frontend.tokens.div_(20)  # nearly the same probabilities everywhere: length decides
        model.head.bias[END] -= 4
        lengths.append(int((model(sources())["tokens"] != PADDING).sum()))
    assert lengths[0] < lengths[1]


@pytest.mark.parametrize("config", [GREEDY, BEAMS])
@torch.inference_mode()
def test_an_answer_does_not_depend_on_the_rows_beside_it(config: GenerationConfig) -> None:
    model, source_BS = translator(config), sources()
    together = model(source_BS)["tokens"]
    for source_S, answer_T in zip(source_BS, together, strict=True):
        alone_T = model(source_S[source_S != PADDING][None])["tokens"][0]
        assert answer_T[: len(alone_T)].tolist() == alone_T.tolist() and not answer_T[len(alone_T) :].any()


@pytest.mark.parametrize("config", [GREEDY, BEAMS])
@torch.inference_mode()
def test_a_prefix_is_taken_as_it_is_and_each_row_goes_on_behind_its_own(config: GenerationConfig) -> None:
    model, source_BS = translator(config), sources()[:2]
    start = model.start(source_BS)
    prefix_BP = torch.tensor([[BEGIN, 7, 8, 9], [BEGIN, 5, PADDING, PADDING]])
    found = generate(model, replace(start, prefix=prefix_BP), config=config)
    assert found[0, :3].tolist() == [7, 8, 9] and found[1, 0] == 5
    short = generate(model, replace(model.start(source_BS[1:]), prefix=prefix_BP[1:, :2]), config=config)
    assert found[1, : short.shape[1]].tolist() == short[0].tolist()
    if config.beams == 1:
        logits_V = model.logits(source_BS[1:], torch.tensor([[BEGIN, 5]]))[0, -1]
        logits_V[[PADDING, BEGIN]] = -math.inf
        assert found[1, 1] == logits_V.argmax()

"""What a language model is asked, and what it refuses to be asked."""

import math

import pytest
from pydantic import ValidationError

from noria.scenarios import load_scenario

SCENARIO = load_scenario("language-modelling")


def test_a_prompt_alone_is_a_request_whose_answer_is_drawn_from_a_fixed_seed() -> None:
    asked = SCENARIO.row_of(SCENARIO.request.model_validate(SCENARIO.as_request_of_text("def main(")))
    assert asked["prompt"] == "def main(" and asked["seed"] == 0 and asked["temperature"] == 0.8


@pytest.mark.parametrize("prompt", ["", "👩‍👩‍👧‍👦", "مرحبا", "\u202e\ufeff", "\0", "x" * 100_000])
def test_any_text_is_a_prompt(prompt: str) -> None:
    assert SCENARIO.request.model_validate({"prompt": prompt}).model_dump()["prompt"] == prompt


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": "half \ud800"},
        {"prompt": None},
        {"prompt": "x" * 100_001},
        {"max_new_tokens": 0},
        {"max_new_tokens": 10**9},
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"seed": -1},
        {"seed": 2**63},
        {"beams": 4},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SCENARIO.request.model_validate({"prompt": "a", **wrong})

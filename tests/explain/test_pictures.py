from pathlib import Path

import matplotlib
import matplotlib.image
import numpy as np
import pytest

from noria.explain.explanation import Explanation, Token
from noria.explain.fonts import lettering
from noria.explain.pictures import draw_explanation

DEJAVU = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


def made_up(num_tokens: int, *, layers: int = 1, heads: int = 2) -> Explanation:
    rng = np.random.default_rng(0)
    tokens = tuple(
        Token(
            "ab$c"[i % 4],
            i,
            i + 1,
            {"transformer": float(rng.normal()), "n-grams": float(rng.normal())},
            1 / num_tokens,
        )
        for i in range(num_tokens)
    )
    maps = tuple(rng.dirichlet(np.ones(num_tokens), (heads, num_tokens)).astype(np.float32) for _ in range(layers))
    return Explanation("pos", {"neg": 0.1, "pos": 0.9}, 2.2, 0.1, 0.0, tokens, maps)


@pytest.mark.parametrize(("num_tokens", "layers", "heads"), [(1, 1, 1), (12, 2, 2), (128, 1, 1), (5, 0, 0)])
def test_a_picture_of_any_size_can_be_drawn(num_tokens: int, layers: int, heads: int, tmp_path: Path) -> None:
    draw_explanation(made_up(num_tokens, layers=layers, heads=heads), tmp_path / "e.png")
    height, width = matplotlib.image.imread(tmp_path / "e.png").shape[:2]
    assert 200 < height < 5_000 and 800 < width < 5_000


def test_a_token_that_no_font_has_is_its_number() -> None:
    letters = lettering(["good", "很好", "é"], fonts=[DEJAVU])
    assert letters.names == ("good", "#1", "é")
    assert letters.families == ("DejaVu Sans",)


def test_a_file_that_is_no_font_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "noto-cjk.ttf").write_bytes(b"not a font")
    assert lettering(["好"], fonts=[str(tmp_path / "noto-cjk.ttf")]).names == ("#0",)

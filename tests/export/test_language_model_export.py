"""A language model in one ONNX graph: what it says of documents and how prompts go on, as in PyTorch."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from noria.config import GenerationConfig, ModelConfig
from noria.export.language_model import language_model_parts
from noria.export.onnx import export_part, node_counts
from noria.export.quantize import halve
from noria.model.language_model import LanguageModel
from noria.serving.predictor import onnx_run

SIZE, MOST = 40, 8


def model(beams: int, *, dim: int, size: int = SIZE, context: int = 16) -> LanguageModel:
    torch.manual_seed(0)
    config = ModelConfig(
        layers=2,
        dim=dim,
        heads=2,
        feed_forward_dim=32,
        positions="rotary",
        bigram_buckets=32,
        generation=GenerationConfig(beams=beams, max_tokens=MOST),
    )
    made = LanguageModel(config, vocabulary_size=size, max_tokens=context).eval()
    with torch.no_grad():
        made.frontend.tokens.mul_(6)
        made.frontend.bigrams.normal_()
    return made


def inputs(*lengths: int, num_windows: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    """Prompts of these lengths, each to go on in its own way: greedily, drawn, not at all."""
    rng, num_rows = np.random.default_rng(seed), len(lengths)
    prompt = np.zeros((num_rows, max(lengths)), np.int64)
    windows = rng.integers(1, SIZE, (num_rows, num_windows, 6))
    for row, length in enumerate(lengths):
        prompt[row, :length] = [1, *rng.integers(2, SIZE, length - 1)]
        windows[row, -1, 3 + row % 3 :] = 0
    return {
        "windows": windows,
        "prompt": prompt,
        "uniform": rng.random((num_rows, MOST), np.float32),
        "max_new_tokens": np.array([(MOST, 3, 0)[row % 3] for row in range(num_rows)]),
        "temperature": np.array([(0.0, 0.8, 1.7)[row % 3] for row in range(num_rows)], np.float32),
        "top_k": np.array([(0, 5)[row % 2] for row in range(num_rows)]),
        "top_p": np.array([(1.0, 0.6, 0.95)[row % 3] for row in range(num_rows)], np.float32),
    }


@pytest.fixture(scope="module")
def drawing(tmp_path_factory) -> tuple[LanguageModel, Path]:
    return export(1, tmp_path_factory.mktemp("drawing"))


@pytest.fixture(scope="module")
def searching(tmp_path_factory) -> tuple[LanguageModel, Path]:
    return export(2, tmp_path_factory.mktemp("searching"))


@pytest.fixture(params=["drawing", "searching"])
def exported(request) -> tuple[LanguageModel, Path]:
    return request.getfixturevalue(request.param)


def export(beams: int, directory: Path, *, dim: int = 32) -> tuple[LanguageModel, Path]:
    made = model(beams, dim=dim)
    parts = language_model_parts(made, inputs(1, 1, 1))  # as rows that are judged and not gone on from
    graphs = {part.name: directory / f"{part.name}.onnx" for part in parts.parts}
    for part in parts.parts:
        export_part(part, graphs[part.name], opset=20)
    parts.join(graphs, directory / "model.onnx")
    return made, directory / "model.onnx"


@pytest.mark.parametrize("lengths", [(1,), (7,), (2, 9, 4), (5, 5), tuple(range(1, 13))])
def test_the_graph_says_and_goes_on_as_pytorch_does_token_for_token(exported, lengths):
    made, path = exported
    run = onnx_run(path)
    for seed in range(3):
        given = inputs(*lengths, num_windows=1 + seed, seed=seed)
        with torch.inference_mode():
            expected = made(**{name: torch.from_numpy(array) for name, array in given.items()})
        found = run(given)
        np.testing.assert_array_equal(found["tokens"], expected["tokens"].numpy())
        np.testing.assert_allclose(found["log_probs"], expected["log_probs"].numpy(), rtol=1e-4, atol=1e-5)
        assert found["log_probs"].shape == (len(lengths), 1 + seed, 5)


@pytest.fixture(scope="module")
def halved(tmp_path_factory) -> tuple[LanguageModel, Path]:
    """A model of many tokens and of a long context, in half precision."""
    directory, made = tmp_path_factory.mktemp("halved"), model(1, dim=64, size=5_000, context=512)
    with torch.no_grad():
        for block in made.decoder.blocks:
            block.attention.projections.mul_(3)  # as a trained one, it looks at some places more than at others
    parts = language_model_parts(made, inputs(1, 1, 1))
    graphs = {part.name: directory / f"{part.name}.onnx" for part in parts.parts}
    for part in parts.parts:
        export_part(part, directory / "whole.onnx", opset=20)
        halve(directory / "whole.onnx", graphs[part.name], inner=part.inner)
    parts.join(graphs, directory / "model.onnx")
    return made, directory / "model.onnx"


def test_in_half_precision_tokens_of_a_large_vocabulary_are_told_apart(halved):
    """Their numbers go from round to round, for bigrams."""
    made, path = halved
    given = inputs(*[4] * 12)
    given |= {"prompt": np.random.default_rng(1).integers(2_048, 5_000, (12, 4)), "max_new_tokens": np.full(12, MOST)}
    given |= {"temperature": np.zeros(12, np.float32)}
    with torch.inference_mode():
        expected = made(**{name: torch.from_numpy(array) for name, array in given.items()})["tokens"].numpy()
    assert (expected > 2_048).mean() > 0.3
    assert np.mean(onnx_run(path)(given)["tokens"] == expected) > 0.9


def test_in_half_precision_the_end_of_a_long_document_is_judged_as_closely_as_its_beginning(halved):
    made, path = halved
    given = inputs(1, 1, 1, num_windows=1)
    given |= {"windows": np.random.default_rng(1).integers(1, 5_000, (3, 1, 512))}
    with torch.inference_mode():
        expected = made(**{name: torch.from_numpy(array) for name, array in given.items()})["log_probs"].numpy()
    differences = np.abs(onnx_run(path)(given)["log_probs"] - expected)[:, 0]
    beginning, end = differences[:, 10:60].mean(), differences[:, -50:].mean()
    assert end < 2 * beginning, (beginning, end)


def test_heads_that_the_runtime_can_not_turn_are_exported_as_they_are(tmp_path):
    made, path = export(2, tmp_path, dim=16)  # heads of 8
    assert not node_counts(tmp_path / "step.onnx")["GroupQueryAttention"]
    given = inputs(1, 6, 3)
    with torch.inference_mode():
        expected = made(**{name: torch.from_numpy(array) for name, array in given.items()})
    np.testing.assert_array_equal(onnx_run(path)(given)["tokens"], expected["tokens"].numpy())


def test_attention_is_one_node_of_the_runtime_in_every_part(tmp_path):
    export(1, tmp_path)
    for part in ("start", "step", "judge"):
        assert node_counts(tmp_path / f"{part}.onnx")["GroupQueryAttention"] == 2  # layers


@pytest.mark.parametrize(("temperature", "top_p"), [(0.8, 1e-50), (1e-38, 0.95), (1e-6, 1.0), (0.0, 1.0)])
def test_no_temperature_and_a_nucleus_of_nothing_are_greedy_in_both(drawing, temperature, top_p):
    made, path = drawing
    given = inputs(2, 9, 4) | {"max_new_tokens": np.full(3, MOST)}
    greedy = onnx_run(path)(given | {"temperature": np.zeros(3, np.float32)})["tokens"]
    given |= {
        "temperature": np.full(3, temperature, np.float32),
        "top_k": np.zeros(3, np.int64),
        "top_p": np.full(3, top_p, np.float32),
    }
    np.testing.assert_array_equal(onnx_run(path)(given)["tokens"], greedy)
    with torch.inference_mode():
        said = made(**{name: torch.from_numpy(array) for name, array in given.items()})
    np.testing.assert_array_equal(said["tokens"].numpy(), greedy)


def test_an_answer_depends_on_its_draws_and_on_nothing_else(drawing):
    _, path = drawing
    run, given = onnx_run(path), inputs(3, 3, 3, 3, 3, 3)
    given |= {name: np.repeat(given[name][1:2], 6, axis=0) for name in given if name != "uniform"}
    first, again = run(given)["tokens"], run(given)["tokens"]
    np.testing.assert_array_equal(first, again)
    assert len({tuple(row) for row in first}) > 1
    alone = run({name: array[2:3] for name, array in given.items()})["tokens"]
    np.testing.assert_array_equal(alone[0], first[2][: alone.shape[1]])


def test_the_graph_is_valid_and_holds_each_weight_once(exported):
    _, path = exported
    onnx.checker.check_model(str(path), full_check=True)
    graph = onnx.load(str(path)).graph
    bodies = [a.g for node in graph.node for a in node.attribute if node.op_type == "Loop" and a.name == "body"]
    assert len(bodies) == 2
    weights = [weight for part in (graph, *bodies) for weight in part.initializer if np.prod(weight.dims) > 100]
    assert len({weight.raw_data for weight in weights}) == len(weights)

"""A model that generates, in one ONNX graph: token for token what PyTorch says, whatever the batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.config import GenerationConfig, ModelConfig
from noria.errors import ExportError
from noria.export.generation import generation_parts
from noria.export.loop import START, STEP, TOKENS
from noria.export.onnx import check_parity, export_part, node_counts
from noria.export.quantize import halve, quantize, quantize_calibrated
from noria.model.attention import KeysValues
from noria.model.generation import PADDING, Start, Vocabulary, generate
from noria.model.language_model import LanguageModel
from noria.model.pruning import pruned
from noria.model.translator import END, Translator
from noria.scenarios.base import Parts
from noria.serving.predictor import onnx_run

GREEDY = GenerationConfig(max_tokens=14)
BEAMS = GenerationConfig(beams=3, length_penalty=0.6, max_tokens=14)
SETTINGS = [(GREEDY, "rotary"), (BEAMS, "rotary"), (BEAMS, "learned")]


def translator(generation: GenerationConfig, positions: str) -> Translator:
    torch.manual_seed(0)
    config = ModelConfig(
        layers=2, dim=32, heads=2, feed_forward_dim=48, bigram_buckets=0, positions=positions, generation=generation
    )
    model = Translator(config, vocabulary_size=60, max_tokens=16).eval()
    with torch.no_grad():  # far from ties, and with some answers that end early
        model.frontend.tokens.mul_(10)
        model.head.bias.copy_(torch.randn(60))
        model.head.bias[END] += 5
    return model


def sources(*lengths: int, seed: int = 0) -> np.ndarray:
    """Rows of these lengths, int64 (B, S)."""
    rng = np.random.default_rng(seed or len(lengths))
    source_BS = np.zeros((len(lengths), max(lengths)), np.int64)
    for row, length in zip(source_BS, lengths, strict=True):
        row[:length] = rng.integers(3, 60, length)
    return source_BS


def parts_of(model: Translator) -> Parts:
    return generation_parts(model, {"source": sources(6, 4, 3)}, config=model.config.generation)


@pytest.fixture(scope="module", params=SETTINGS, ids=lambda each: f"{each[0].beams}-{each[1]}")
def exported(request, tmp_path_factory) -> tuple[Translator, dict[str, Path], Path]:
    """The model, its parts, and where the whole graph is to be written."""
    model, directory = translator(*request.param), tmp_path_factory.mktemp("parts")
    parts = parts_of(model)
    graphs = {part.name: directory / f"{part.name}.onnx" for part in parts.parts}
    for part in parts.parts:
        export_part(part, graphs[part.name], opset=20)
    parts.join(graphs, directory / "model.onnx")
    return model, graphs, directory / "model.onnx"


def graphs_of(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """A graph and those inside its nodes."""
    inner = [part.g for node in graph.node for part in node.attribute if part.HasField("g")]
    return [graph, *(each for found in inner for each in graphs_of(found))]


def test_parts_in_half_precision_make_a_graph_that_says_nearly_all_that_pytorch_says(exported, tmp_path):
    model, graphs, _ = exported
    halves = {name: tmp_path / f"{name}.onnx" for name in graphs}
    parts = parts_of(model)
    for part in parts.parts:
        halve(graphs[part.name], halves[part.name], inner=part.inner)
    kept = {put.name: put.type.tensor_type.elem_type for put in onnx.load(str(halves[STEP])).graph.input}
    assert {kept[name] for name in kept if name.startswith(("past_", "memory_"))} == {onnx.TensorProto.FLOAT16}
    parts.join(halves, tmp_path / "model.onnx")
    source_BS = sources(*range(1, 13))
    with torch.inference_mode():
        expected = model(torch.from_numpy(source_BS))["tokens"].numpy()
    found = onnx_run(tmp_path / "model.onnx")({"source": source_BS})[TOKENS]
    width = min(found.shape[1], expected.shape[1])
    assert np.mean(found[:, :width] == expected[:, :width]) > 0.9


@pytest.mark.parametrize(("generation", "positions"), SETTINGS)
def test_a_smaller_model_is_exported_as_the_whole_one_is(generation, positions, tmp_path):
    decoder = "transformer.decoder.blocks.1"
    heads = {f"{decoder}.attention": torch.tensor([1]), f"{decoder}.cross_attention": torch.tensor([0])}
    units = {
        f"{decoder}.feed_forward": torch.arange(0, 48, 2),
        "transformer.encoder.blocks.0.feed_forward": torch.arange(8),
    }
    model = pruned(translator(generation, positions), heads=heads, units=units)
    parts = parts_of(model)
    graphs = {part.name: tmp_path / f"{part.name}.onnx" for part in parts.parts}
    for part in parts.parts:
        export_part(part, graphs[part.name], opset=20)
    parts.join(graphs, tmp_path / "model.onnx")
    source_BS = sources(9, 2, 5, 4)
    with torch.inference_mode():
        expected = model(torch.from_numpy(source_BS))["tokens"].numpy()
    assert np.array_equal(onnx_run(tmp_path / "model.onnx")({"source": source_BS})[TOKENS], expected)


@pytest.mark.parametrize("lengths", [(1,), (7,), (9, 2, 5), (3, 3), tuple(range(1, 13))])
def test_the_graph_says_what_pytorch_says_token_for_token(exported, lengths):
    model, _, path = exported
    source_BS = sources(*lengths)
    with torch.inference_mode():
        expected = model(torch.from_numpy(source_BS))["tokens"].numpy()
    found = onnx_run(path)({"source": source_BS})[TOKENS]
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)


def test_the_graph_says_what_pytorch_says_of_any_batch(exported):
    model, _, path = exported
    run = onnx_run(path)

    @settings(max_examples=40, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.sampled_from([1, 1, 2, 3, 16]), min_size=1, max_size=40), st.integers(1, 1_000))
    def says_it(lengths, seed):
        source_BS = sources(*lengths, seed=seed)
        with torch.inference_mode():
            expected = model(torch.from_numpy(source_BS))["tokens"].numpy()
        np.testing.assert_array_equal(run({"source": source_BS})[TOKENS], expected)

    says_it()


def test_a_row_of_padding_alone_has_an_answer_and_changes_no_other(exported):
    _, _, path = exported
    run, source_BS = onnx_run(path), sources(5, 3, 9)
    padded_BS = np.concatenate([np.zeros_like(source_BS[:1]), source_BS])
    alone, beside = run({"source": source_BS})[TOKENS], run({"source": padded_BS})[TOKENS]
    assert (beside[0] != PADDING).any()
    width = min(alone.shape[1], beside.shape[1])
    np.testing.assert_array_equal(alone[:, :width], beside[1:, :width])
    assert not alone[:, width:].any() and not beside[1:, width:].any()


def test_the_graph_is_valid_and_holds_each_weight_once(exported):
    _, _, path = exported
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(str(path))
    weights = [weight for graph in graphs_of(model.graph) for weight in graph.initializer if np.prod(weight.dims) > 100]
    assert len(graphs_of(model.graph)) == 3  # of a request, of a stage, of a round
    contents = [weight.raw_data for weight in weights]
    assert len(contents) == len(set(contents)) > 10
    assert [put.name for put in model.graph.input] == ["source"]


def test_an_int8_graph_has_integer_products_inside_the_loop_and_its_answers_end_as_they_must(exported, tmp_path):
    """A random model's best tokens are near ties: how well int8 answers is judged on trained ones, by the budget."""
    model, graphs, _ = exported
    small = {name: tmp_path / f"{name}.onnx" for name in graphs}
    for name, graph in graphs.items():
        quantize(graph, small[name])
    parts_of(model).join(small, tmp_path / "model.onnx")
    body = onnx.load(str(small[STEP])).graph
    assert sum(node.op_type == "MatMulInteger" for node in body.node) >= 6 * 2
    source_BS = sources(*range(1, 13))
    found = onnx_run(tmp_path / "model.onnx")({"source": source_BS})[TOKENS]
    assert len(found) == 12 and ((found >= 0) & (found < 60)).all()
    assert len({tuple(row) for row in found}) > 1  # it reads its source
    behind_end = np.cumsum(found == END, axis=1) - (found == END) > 0
    assert (found[behind_end] == PADDING).all()


def test_each_part_is_calibrated_by_what_it_sees_and_its_products_are_integer_inside_the_loop(exported, tmp_path):
    model, graphs, _ = exported
    parts = parts_of(model)
    seen: dict[str, list] = {START: [], STEP: []}
    for length in range(1, 9):
        for name, shown in parts.seen({"source": sources(length)}).items():
            seen[name] += shown
    rounds = [int(inputs["place"][0]) for inputs in seen[STEP]]
    assert [inputs["source"].shape for inputs in seen[START]] == [(1, length) for length in range(1, 9)]
    assert rounds[0] == 0 and max(rounds) > 6 and len(rounds) <= 4 * 8
    assert {inputs["past_keys_0"].shape[2] for inputs in seen[STEP]} == set(rounds)
    small = {name: tmp_path / f"{name}.onnx" for name in graphs}
    for name, graph in graphs.items():
        quantize_calibrated(graph, small[name], batches=seen[name])
    parts.join(small, tmp_path / "model.onnx")
    assert node_counts(small[STEP])["DequantizeLinear"] >= 6 * 2
    found = onnx_run(tmp_path / "model.onnx")({"source": sources(*range(1, 13))})[TOKENS]
    assert len({tuple(row) for row in found}) > 1  # it reads its source
    behind_end = np.cumsum(found == END, axis=1) - (found == END) > 0
    assert (found[behind_end] == PADDING).all()


def test_the_beginning_of_an_answer_is_as_long_as_it_is_asked_to_be(tmp_path):
    model = translator(GREEDY, "rotary")
    asked = {"source": sources(6, 4, 3), "max_new_tokens": np.array([9, 2, 1])}
    parts = generation_parts(model, asked, config=GREEDY)
    graphs = {part.name: tmp_path / f"{part.name}.onnx" for part in parts.parts}
    for part in parts.parts:
        export_part(part, graphs[part.name], opset=20)
    parts.join(graphs, tmp_path / "model.onnx")
    run, source_BS = onnx_run(tmp_path / "model.onnx"), sources(*range(1, 13))
    with torch.inference_mode():
        whole = model(torch.from_numpy(source_BS))["tokens"].numpy()
    most = np.arange(12)
    found = run({"source": source_BS, "max_new_tokens": most})[TOKENS]
    for row, number in enumerate(most):
        beginning = np.pad(whole[row, :number], (0, found.shape[1] - min(number, whole.shape[1])))
        np.testing.assert_array_equal(found[row], beginning)
    np.testing.assert_array_equal(run({"source": source_BS, "max_new_tokens": np.full(12, 99)})[TOKENS], whole)

    @settings(max_examples=40, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.sampled_from([-(2**62), -1, 0, 1, 2, 5, 13, 2**62]), min_size=12, max_size=12))
    def is_as_long(most):
        asked = {"source": source_BS, "max_new_tokens": np.array(most)}
        with torch.inference_mode():
            expected = model(**{name: torch.from_numpy(array) for name, array in asked.items()})["tokens"].numpy()
        np.testing.assert_array_equal(run(asked)[TOKENS], expected)

    is_as_long()


class Prompted(torch.nn.Module):
    """A language model that goes on behind prompts of different lengths: a decoder alone, without a source."""

    vocabulary = Vocabulary(end=END)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.language_model = LanguageModel(config, vocabulary_size=60, max_tokens=16)

    def start(self, prompt: torch.Tensor) -> Start:
        return Start(prompt, torch.full_like(prompt[:, 0], 11))

    def empty_past(self, like: torch.Tensor, *, num_beams: int) -> list[KeysValues]:
        empty = torch.zeros(len(like) * num_beams, self.config.heads, 0, self.config.dim // self.config.heads)
        return [KeysValues(empty, empty) for _ in range(self.config.layers)]

    def step(self, token_BK, place_1, past, start):
        x_BKD, past = self.language_model.decoder.step(
            self.language_model.frontend.step(token_BK, place_1), past, place_1
        )
        return self.language_model.head(x_BKD, self.language_model.frontend.tokens), past


@pytest.mark.parametrize("generation", [GREEDY, BEAMS], ids=["greedy", "beams"])
def test_a_decoder_alone_goes_on_behind_its_prompts(generation, tmp_path):
    torch.manual_seed(0)
    config = ModelConfig(layers=1, dim=32, heads=2, feed_forward_dim=48, bigram_buckets=0, positions="rotary")
    model = Prompted(config).eval()
    with torch.no_grad():
        model.language_model.frontend.tokens.mul_(10)
    parts = generation_parts(model, {"prompt": sources(4, 3, 2)}, config=generation)
    graphs = {part.name: tmp_path / f"{part.name}.onnx" for part in parts.parts}
    for part in parts.parts:
        export_part(part, graphs[part.name], opset=20)
    parts.join(graphs, tmp_path / "model.onnx")
    prompts = sources(1, 6, 3, 2)
    with torch.inference_mode():
        expected = generate(model, model.start(torch.from_numpy(prompts)), config=generation).numpy()
    found = onnx_run(tmp_path / "model.onnx")({"prompt": prompts})[TOKENS]
    np.testing.assert_array_equal(found, expected)
    assert found[1, :5].tolist() == prompts[1, 1:].tolist()


def test_rows_that_have_ended_are_in_no_later_round(exported, tmp_path):
    _, _, path = exported
    seen = onnx.load(str(path))
    stages = next(node for node in seen.graph.node if node.name == "generate")
    stage = next(part.g for part in stages.attribute if part.name == "body")
    counted = onnx.helper.make_node("Shape", ["stage/now_done"], ["rows of a stage"], end=1)
    stage.node.append(counted)
    stage.output.append(onnx.helper.make_tensor_value_info("rows of a stage", onnx.TensorProto.INT64, None))
    stages.output.append("rows by stage")
    seen.graph.output.append(onnx.helper.make_tensor_value_info("rows by stage", onnx.TensorProto.INT64, None))
    onnx.save(seen, str(tmp_path / "seen.onnx"))
    found = onnx_run(tmp_path / "seen.onnx")({"source": sources(*range(1, 13))})
    rows = found["rows by stage"].ravel().tolist()
    lengths = set((found[TOKENS] != PADDING).sum(1).tolist())
    assert rows[0] == 12 and len(rows) == len(lengths) > 1
    assert rows == sorted(rows, reverse=True) and rows[-1] < 12


def test_one_token_of_one_row_is_no_parity_and_the_width_of_a_batch_is_no_difference():
    said = [{"tokens": np.array([5, 6, 2, 0])} for _ in range(100)]
    wider = [{"tokens": np.array([5, 6, 2])} for _ in range(100)]
    check_parity(said, wider, name="fp32")
    wider[3] = {"tokens": np.array([5, 7, 2])}
    with pytest.raises(ExportError, match="share of rows"):
        check_parity(said, wider, name="fp32")

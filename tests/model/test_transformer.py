import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.config import ModelConfig
from noria.model.attention import Attention, Packing, attend
from noria.model.frontends import hash_bigrams
from noria.model.text_classifier import DeepBranch, TextClassifier
from noria.model.transformer import Decoder, Encoder, EncoderDecoder
from noria.model.wide import WideBranch

POSITIONS = ["learned", "rotary"]


def config(positions: str = "learned") -> ModelConfig:
    return ModelConfig(layers=2, dim=32, heads=4, feed_forward_dim=48, positions=positions, bigram_buckets=64)


def real(lengths: list[int], width: int) -> torch.Tensor:
    return torch.arange(width) < torch.tensor(lengths)[:, None]


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.sampled_from([2, 8]))
@settings(deadline=None, max_examples=25)
def test_attention_is_the_formula(batch: int, heads: int, length: int, source: int, dim: int) -> None:
    q, k, v = torch.randn(batch, heads, length, dim), *torch.randn(2, batch, heads, source, dim)
    mask = torch.rand(batch, 1, length, source) < 0.7
    mask[..., 0] = True
    scores = q @ k.transpose(-1, -2) / math.sqrt(dim)
    weights = torch.where(mask, scores.exp(), 0.0)
    expected = weights / weights.sum(-1, keepdim=True) @ v
    torch.testing.assert_close(attend(q, k, v, mask), expected, atol=1e-5, rtol=1e-4)
    in_bf16 = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask).float()
    torch.testing.assert_close(in_bf16, expected, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("length", [1, 5, 128, 300])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("shape", [None, (2, 1, 1, -1), (-1, -1)])
def test_attention_written_out_is_the_fused_kernel_also_in_its_gradients(
    length: int, causal: bool, shape: tuple[int, ...] | None
) -> None:
    generator = torch.Generator().manual_seed(length)
    q, k, v, slope = (torch.randn(2, 3, length, 8, generator=generator) for _ in range(4))
    mask = None
    if shape is not None:
        mask = torch.rand([length if size < 0 else size for size in shape], generator=generator) < 0.7
        mask = mask | torch.eye(length, dtype=torch.bool) if shape == (-1, -1) else mask
        mask[..., 0] = True
    fused = attend(q, k, v, mask, causal=causal)
    leaves = [tensor.clone().requires_grad_() for tensor in (q, k, v)]
    written_out = attend(*leaves, mask, causal=causal)
    torch.testing.assert_close(written_out, fused, atol=1e-5, rtol=1e-4)
    seen = torch.ones(length, length, dtype=torch.bool)
    seen = (seen.tril() if causal else seen) & (True if mask is None else mask)
    peers = [tensor.clone().requires_grad_() for tensor in (q, k, v)]
    scores = (peers[0] @ peers[1].mT / math.sqrt(8)).masked_fill(~seen, -math.inf)
    for ours, theirs in zip(
        torch.autograd.grad(written_out, leaves, slope),
        torch.autograd.grad(scores.softmax(-1) @ peers[2], peers, slope),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("positions", POSITIONS)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5))
@settings(deadline=None, max_examples=15)
def test_packed_documents_are_decoded_like_padded_ones(positions: str, lengths: list[int]) -> None:
    decoder = Decoder(config(positions), cross=False)
    rows = [torch.randn(1, length, 32) for length in lengths]
    packing = Packing(torch.tensor([0, *lengths]).cumsum(0).int(), longest=max(lengths))
    packed = decoder(torch.cat(rows, dim=1), packing=packing)
    expected = torch.cat([decoder(row) for row in rows], dim=1)
    torch.testing.assert_close(packed, expected, atol=1e-5, rtol=1e-4)
    assert packing.places(sum(lengths)).tolist() == [place for length in lengths for place in range(length)]


def test_a_block_of_attention_is_the_formula_head_by_head() -> None:
    layer = Attention(12, 3, gain=1.0, rotary=False)
    x, memory = torch.randn(2, 5, 12), torch.randn(2, 7, 12)
    for source in (None, memory):
        attended = x if source is None else source
        q, k, v = x @ layer.projections[0].T, attended @ layer.projections[1].T, attended @ layer.projections[2].T
        heads = [
            torch.softmax(q[..., s] @ k[..., s].transpose(-1, -2) / math.sqrt(4), -1) @ v[..., s]
            for s in (slice(0, 4), slice(4, 8), slice(8, 12))
        ]
        torch.testing.assert_close(layer(x, None, source), torch.cat(heads, -1) @ layer.output.T, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_padding_does_not_change_the_encoder(positions: str, dtype: torch.dtype) -> None:
    encoder = Encoder(config(positions))
    x = torch.randn(2, 6, 32).to(dtype)
    padded = torch.cat([x, torch.randn(2, 5, 32).to(dtype)], 1)
    out = encoder(padded, real([6, 6], 11))[:, :6]
    torch.testing.assert_close(
        out, encoder(x, real([6, 6], 6)), atol=1e-5 if dtype == torch.float32 else 0.1, rtol=0.05
    )


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_decoder_never_sees_the_future(positions: str) -> None:
    decoder = Decoder(config(positions), cross=False)
    x = torch.randn(1, 8, 32)
    changed = x.clone()
    changed[:, 5:] = torch.randn(1, 3, 32)
    before, after = decoder(x), decoder(changed)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_an_encoder_sees_the_future() -> None:
    encoder = Encoder(config())
    x = torch.randn(1, 8, 32)
    changed = x.clone()
    changed[:, 7] = torch.randn(32)
    assert not torch.allclose(encoder(x, real([8], 8))[:, 0], encoder(changed, real([8], 8))[:, 0])


def test_an_encoder_decoder_is_causal_and_ignores_the_padding_of_its_source() -> None:
    model = EncoderDecoder(config())
    source, target = torch.randn(2, 6, 32), torch.randn(2, 5, 32)
    longer = torch.cat([source, torch.randn(2, 3, 32)], 1)
    short = model(source, real([6, 6], 6), target)
    torch.testing.assert_close(model(longer, real([6, 6], 9), target), short, atol=1e-5, rtol=1e-4)
    later = target.clone()
    later[:, 3:] = torch.randn(2, 2, 32)
    torch.testing.assert_close(model(source, real([6, 6], 6), later)[:, :3], short[:, :3])
    other = source + torch.randn_like(source)
    assert not torch.allclose(model(other, real([6, 6], 6), target), short)


def classifier(positions: str = "learned") -> TextClassifier:
    torch.manual_seed(0)
    wide = WideBranch(20, 2)
    for parameter in [*wide.parameters(), wide.ratio]:
        torch.nn.init.uniform_(parameter, 0.1, 1.0)
    deep = DeepBranch(config(positions), vocabulary_size=50, max_tokens=16, num_classes=2)
    torch.nn.init.normal_(deep.frontend.bigrams)
    return TextClassifier(wide=wide, deep=deep).eval()


@pytest.mark.parametrize("positions", POSITIONS)
@given(st.integers(1, 10), st.integers(0, 6), st.integers(1, 8), st.integers(0, 5))
@settings(deadline=None, max_examples=15)
def test_padding_does_not_change_logits(positions: str, length: int, more: int, ngrams: int, more_ngrams: int) -> None:
    model = classifier(positions)
    token_ids = torch.randint(3, 50, (1, length))
    ids, values = torch.randint(1, 21, (1, ngrams)), torch.rand(1, ngrams)
    pad = torch.nn.functional.pad
    expected = model(token_ids, ids, values)
    found = model(pad(token_ids, (0, more)), pad(ids, (0, more_ngrams)), pad(values, (0, more_ngrams)))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    model = classifier()
    token_ids, ids, values = torch.randint(3, 50, (3, 7)), torch.randint(1, 21, (3, 4)), torch.rand(3, 4)
    alone = torch.cat([model(token_ids[i : i + 1], ids[i : i + 1], values[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(model(token_ids, ids, values), alone, atol=1e-5, rtol=1e-4)


def test_a_hidden_token_hides_its_bigrams() -> None:
    shown = torch.tensor([[5, 2, 7]])
    for hidden in (9, 11):  # whatever token 2 was, the batch holds the mask in its place
        original = torch.tensor([[5, hidden, 7]])
        masked = torch.where(original == hidden, 2, original)
        torch.testing.assert_close(hash_bigrams(masked, num_buckets=64), hash_bigrams(shown, num_buckets=64))


def test_the_wide_branch_is_the_mean_of_two_linear_models() -> None:
    model = classifier().wide
    ids, values = torch.tensor([[3, 7]]), torch.tensor([[0.6, 0.8]])
    rated = values * model.ratio[ids]
    rated = rated / rated.norm()
    plain = (values[..., None] * model.plain_weight[ids]).sum(1)
    expected = (plain + (rated[..., None] * model.rated_weight[ids]).sum(1)) / 2 + model.bias
    torch.testing.assert_close(model(ids, values), expected)

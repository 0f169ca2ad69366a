"""Models of the library `transformers` with random weights and the sizes of the benchmark.

Layer counts, widths, heads and activation are those of the other contenders; what differs (token types
and pooler of BERT, biases) is theirs, and the record says how many parameters there are.
"""

from __future__ import annotations

from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
)

from benchmarks.peers.modules import CLASSIFIER, DECODER, TRANSLATOR, context, vocabulary_size
from benchmarks.peers.settings import Settings
from benchmarks.workloads.format import Workload

_ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "relu2": "relu2"}


def bert(workload: Workload, settings: Settings) -> PreTrainedModel:
    """4 x 128, 2 heads by default; reads the class off the first position, for which there is one more token."""
    description, sizes = workload.description, CLASSIFIER.given(settings)
    config = BertConfig(
        vocab_size=vocabulary_size(workload, settings) + 1,
        hidden_size=sizes.dim,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.feed_forward_dim,
        hidden_act=_ACTIVATIONS[settings.activation],
        hidden_dropout_prob=settings.dropout,
        attention_probs_dropout_prob=settings.dropout,
        max_position_embeddings=description.max_tokens + 1,
        type_vocab_size=1,
        pad_token_id=workload.pad,
        num_labels=description.num_labels,
        attn_implementation=settings.attention,
    )
    return BertForSequenceClassification(config)


def marian(workload: Workload, settings: Settings) -> PreTrainedModel:
    """3 + 3 x 256, 4 heads by default, one embedding for source, target and output."""
    ids, sizes = workload.description.special_ids, TRANSLATOR.given(settings)
    config = MarianConfig(
        vocab_size=vocabulary_size(workload, settings),
        d_model=sizes.dim,
        encoder_layers=sizes.layers,
        decoder_layers=sizes.layers,
        encoder_attention_heads=sizes.heads,
        decoder_attention_heads=sizes.heads,
        encoder_ffn_dim=sizes.feed_forward_dim,
        decoder_ffn_dim=sizes.feed_forward_dim,
        activation_function=_ACTIVATIONS[settings.activation],
        dropout=settings.dropout,
        attention_dropout=settings.dropout,
        activation_dropout=0.0,
        max_position_embeddings=workload.description.max_tokens + 2,
        scale_embedding=True,
        share_encoder_decoder_embeddings=True,
        pad_token_id=ids["pad"],
        eos_token_id=ids["eos"],
        bos_token_id=ids["bos"],
        decoder_start_token_id=ids["bos"],
        forced_eos_token_id=None,
        attn_implementation=settings.attention,
    )
    return MarianMTModel(config)


def gpt2(workload: Workload, settings: Settings) -> PreTrainedModel:
    """6 x 256, 4 heads, context 512 by default, input and output embeddings tied."""
    end, sizes = workload.description.special_ids["end_of_document"], DECODER.given(settings)
    config = GPT2Config(
        vocab_size=vocabulary_size(workload, settings),
        n_positions=context(settings),
        n_embd=sizes.dim,
        n_layer=sizes.layers,
        n_head=sizes.heads,
        n_inner=sizes.feed_forward_dim,
        activation_function=_ACTIVATIONS[settings.activation],
        resid_pdrop=settings.dropout,
        embd_pdrop=settings.dropout,
        attn_pdrop=settings.dropout,
        bos_token_id=end,
        eos_token_id=end,
        use_cache=False,
        attn_implementation=settings.attention,
    )
    return GPT2LMHeadModel(config)

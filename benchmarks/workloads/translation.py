"""English to German, from the catalogs of open-source programs: short sentences, as their users read them.

One shared byte-pair vocabulary (Sennrich et al. 2016, arXiv:1508.07909) of 8,000 over words and
punctuation. A row holds the ids of a sentence without begin and end; contenders add those.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from benchmarks.workloads.catalogs import read_pairs
from benchmarks.workloads.format import SIDES, Workload, share, write_workload
from benchmarks.workloads.packages import package_directory

# The importable name, and the distribution it comes in.
PACKAGES = {
    "cms": "django-cms",
    "django": "django",
    "horizon": "horizon",
    "indico": "indico",
    "openstack_auth": "horizon",
    "openstack_dashboard": "horizon",
    "oscar": "django-oscar",
    "sphinx": "sphinx",
    "spyder": "spyder",
    "wagtail": "wagtail",
}
LOCALES = ("de", "de_DE")
SPECIAL_TOKENS = ["[PAD]", "[BOS]", "[EOS]", "[UNK]"]
MAX_TOKENS = 100
VALIDATION_SHARE = 0.05
TINY_ROWS, TINY_VOCABULARY = 400, 600


def write_translation(directory: Path, *, tiny: bool = False, catalogs: Sequence[Path] | None = None) -> Workload:
    """Ids: pad 0, bos 1, eos 2, unk 3; pairs with a side of more than 100 tokens are left out.

    `catalogs` are `.po` files; by default those of the installed packages.
    """
    sources = ["catalogs given"] if catalogs else sorted({f"{name} {version(name)}" for name in PACKAGES.values()})
    pairs = unique_pairs(catalogs or installed_catalogs())
    if tiny:
        pairs = pairs[:TINY_ROWS]
    sides: dict[str, list[tuple[str, str]]] = {side: [] for side in SIDES}
    for pair in pairs:
        sides["validation" if share(pair[0]) < VALIDATION_SHARE else "train"].append(pair)
    tokenizer = _tokenizer(sides["train"], TINY_VOCABULARY if tiny else 8_000)
    columns: dict[str, list[np.ndarray]] = {}
    for side in SIDES:
        encoded = [_encode(tokenizer, [pair[part] for pair in sides[side]]) for part in (0, 1)]
        kept = [pair for pair in zip(*encoded, strict=True) if all(0 < len(ids) <= MAX_TOKENS for ids in pair)]
        columns[f"{side}_source"] = [source for source, _ in kept]
        columns[f"{side}_target"] = [target for _, target in kept]
    return write_workload(
        directory,
        work="translation",
        tiny=tiny,
        vocabulary_size=tokenizer.get_vocab_size(),
        special_ids={"pad": 0, "bos": 1, "eos": 2, "unk": 3},
        max_tokens=MAX_TOKENS,
        columns=columns,
        labels={},
        sources=sources,
    )


def installed_catalogs() -> list[Path]:
    """The German catalogs of the installed packages, in a fixed order."""
    return [
        path
        for package in sorted(PACKAGES)
        for path in sorted(package_directory(package).rglob("LC_MESSAGES/*.po"))
        if path.parent.parent.name in LOCALES
    ]


def unique_pairs(catalogs: Iterable[Path]) -> list[tuple[str, str]]:
    """Distinct pairs in an order that depends on their text alone; a source may have several targets."""
    pairs = {pair for catalog in catalogs for pair in read_pairs(catalog)}
    return sorted(pairs, key=lambda pair: (share("\0".join(pair), purpose="order"), pair))


def _tokenizer(pairs: Iterable[tuple[str, str]], vocabulary_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size, min_frequency=2, special_tokens=SPECIAL_TOKENS, show_progress=False
    )
    tokenizer.train_from_iterator((text for pair in pairs for text in pair), trainer)
    return tokenizer


def _encode(tokenizer: Tokenizer, texts: list[str]) -> list[np.ndarray]:
    return [np.asarray(encoding.ids, dtype=np.int32) for encoding in tokenizer.encode_batch_fast(texts)]

"""Python source of the standard library of the running interpreter, with its tests: about 30 MB.

Byte-level BPE of 8,000; every file ends with the end-of-document token (id 0). The rows of a side lie one
behind the other, so that `values` is the token stream and `offsets` says where documents begin.
"""

from __future__ import annotations

import hashlib
import platform
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from benchmarks.workloads.format import SIDES, Workload, share, write_workload

END_OF_DOCUMENT = 0
VALIDATION_SHARE = 0.05
SKIPPED = frozenset({"site-packages", "__pycache__"})
TINY_FILES, TINY_VOCABULARY, TINY_CHARS = 60, 600, 4_000
_BATCH = 200  # files encoded at a time: their encodings are large


def write_language_modelling(directory: Path, *, tiny: bool = False, root: Path | None = None) -> Workload:
    """Files in order of their path below `root` (default: the standard library); 5 % of them validate."""
    documents = read_sources(root or Path(sysconfig.get_path("stdlib")))
    if tiny:
        chosen = sorted(documents, key=lambda document: share(document[0], purpose="order"))[:TINY_FILES]
        documents = sorted((name, text[:TINY_CHARS]) for name, text in chosen)
    sides: dict[str, list[str]] = {side: [] for side in SIDES}
    for name, text in documents:
        sides["validation" if share(name) < VALIDATION_SHARE else "train"].append(text)
    tokenizer = _tokenizer(sides["train"], TINY_VOCABULARY if tiny else 8_000)
    return write_workload(
        directory,
        work="language-modelling",
        tiny=tiny,
        vocabulary_size=tokenizer.get_vocab_size(),
        special_ids={"pad": END_OF_DOCUMENT, "end_of_document": END_OF_DOCUMENT},
        max_tokens=0,
        columns={f"{side}_tokens": _encode(tokenizer, sides[side]) for side in SIDES},
        labels={},
        sources=[f"standard library of Python {platform.python_version()}" if root is None else "sources given"],
    )


def read_sources(root: Path) -> list[tuple[str, str]]:
    """(path below `root`, text) of every Python file in UTF-8, sorted by path; the same bytes count once."""
    seen: set[bytes] = set()
    documents = []
    for path in sorted(root.rglob("*.py"), key=lambda p: p.relative_to(root).as_posix()):
        name = path.relative_to(root)
        content = path.read_bytes()
        digest = hashlib.sha256(content).digest()
        if SKIPPED & set(name.parts) or not content.strip() or digest in seen:
            continue
        seen.add(digest)
        try:
            documents.append((name.as_posix(), content.decode("utf-8")))
        except UnicodeDecodeError:
            continue  # a test of other encodings
    return documents


def _tokenizer(texts: Sequence[str], vocabulary_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    return tokenizer


def _encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    rows = []
    for start in range(0, len(texts), _BATCH):
        for encoding in tokenizer.encode_batch_fast(list(texts[start : start + _BATCH]), add_special_tokens=False):
            rows.append(np.asarray([*encoding.ids, END_OF_DOCUMENT], dtype=np.int32))
    return rows

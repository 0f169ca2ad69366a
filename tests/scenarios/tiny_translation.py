"""Commands in a made-up language of few words, in a gettext catalog, and what the gate refuses among them."""

import random
from collections.abc import Mapping
from pathlib import Path

SETTINGS: Mapping[str, Mapping[str, object]] = {
    "tokenizer": {"vocabulary_size": 400},
    "model": {
        "layers": 1,
        "dim": 64,
        "heads": 2,
        "feed_forward_dim": 96,
        "dropout": 0.0,
        "generation": {"beams": 2, "max_tokens": 40},
    },
    "train": {"epochs": 8, "threads": 1, "batch_tokens": 1024},
    "split": {"near_duplicate_similarity": 1.0},
    "evaluate": {"resamples": 200, "min_slice_rows": 5},
    "optimize": {"latency_repeats": 3, "max_quality_drop": 0.3, "max_slice_drop": 1.0},
}
_VERBS = {"Delete": "删除", "Save": "保存", "Open": "打开", "Close": "关闭", "Show": "显示", "Send": "发送"}
_WHICH = {"this": "此", "every": "每个", "the old": "旧的", "the new": "新的", "my": "我的", "the last": "最后的"}
_THINGS = {
    "page": "页面",
    "file": "文件",
    "image": "图片",
    "user": "用户",
    "message": "消息",
    "order": "订单",
    "list": "列表",
}
_ENDS = {"": "", " now": "马上", " for %(name)s": "给 %(name)s", " with <b>care</b>": "<b>小心</b>地"}
_FAULTS = (
    'msgid "Saved for %(name)s"\nmsgstr "已保存"\n',
    'msgid "Open source"\nmsgstr "Open source"\n',
    'msgid "No"\nmsgstr "不，绝对不可以这样做，因为这样做会带来无法预料的后果，请您再仔细考虑一下"\n',
    '#, fuzzy\nmsgid "Closed"\nmsgstr "关闭了"\n',
    'msgid "Nothing yet"\nmsgstr ""\n',
    'msgid "Lost %s"\nmsgstr "丢失 ％s"\n',
    'msgid "Broken\x07 text"\nmsgstr "坏的文字"\n',
    "msgid what is this\n",
    'msgid "Bytes"\nmsgstr "\udcff\udcfe字节"\n',
)


def write_source(path: Path, *, dirty: bool) -> Path:
    """A source below `path`; a dirty one fails the gate, and passes it once it is cleaned."""
    pairs = [
        (f"{verb} {which} {thing}{end}", f"{ours}{adjective}{noun}{tail}")
        for verb, ours in _VERBS.items()
        for which, adjective in _WHICH.items()
        for thing, noun in _THINGS.items()
        for end, tail in _ENDS.items()
    ]
    chosen = random.Random(0).sample(pairs, 900 if dirty else 300)
    entries = ['msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n']
    entries += [f'msgid "{source}"\nmsgstr "{target}"\n' for source, target in chosen]
    if dirty:
        entries += [f'msgctxt "again"\nmsgid "{source}"\nmsgstr "{target}"\n' for source, target in chosen[:100]]
        entries += [f'msgctxt "other"\nmsgid "{source}"\nmsgstr "{target}吧"\n' for source, target in chosen[-5:]]
        entries += _FAULTS
    directory = path / "catalogs" / "zh_CN" / "LC_MESSAGES"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "django.po").write_text("\n".join(entries), encoding="utf-8", errors="surrogateescape")
    return path / "catalogs"

"""Workspaces as a user makes them: `noria init` on generated data, a tiny model, everything real."""

import csv
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

QUIET = {
    "DVC_NO_ANALYTICS": "1",
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
}
_GOOD = ["质量", "很好", "喜欢", "满意", "物流", "很快", "服务", "不错", "推荐", "干净", "舒适", "实惠"]
_BAD = ["太差", "失望", "退货", "糟糕", "太慢", "很脏", "破损", "难用", "后悔", "噪音", "态度", "恶劣"]
_NEW = {"neg": "屏闪卡顿死机发热异响", "pos": "流畅清晰轻薄静音耐用"}
_COMMON = [
    "这个", "东西", "家人", "酒店", "电脑", "屏幕", "价格", "今天", "收到",
    "包装", "感觉", "真的", "非常", "有点", "总体", "房间", "早餐", "键盘",
]  # fmt: skip
_FAULTS = [
    "<b>质量</b>很好，推荐给家人&nbsp;真的",
    "包装\x07破损，感觉今天真的失望",
    "好",
    "only english words here, sadly",
]
TINY: dict[str, dict[str, object]] = {
    "model": {"layers": 1, "dim": 16, "heads": 2, "feed_forward_dim": 32},
    "tokenizer": {"vocabulary_size": 200},
    "train": {"epochs": 20, "threads": 1, "pretrain": {"epochs": 0}},
    "evaluate": {"resamples": 200, "min_slice_rows": 5},
    "optimize": {"latency_repeats": 10, "max_quality_drop": 0.2, "max_slice_drop": 1.0},
}

Row = tuple[str, str]


def good_rows(num_rows: int, *, seed: int = 0) -> list[Row]:
    """Rows that pass the gate: distinct texts whose words tell the label."""
    draw = random.Random(seed)
    rows = []
    for number in range(num_rows):
        label = ("neg", "pos")[number % 2]
        words = draw.choices(_COMMON, k=9) + draw.choices(_GOOD if label == "pos" else _BAD, k=5)
        draw.shuffle(words)
        rows.append(("".join(words), label))
    return rows


def new_rows(num_rows: int) -> list[Row]:
    """Texts that a model of `good_rows` can't tell apart: their label is in words that it never saw."""
    rows = []
    for number, (text, label) in enumerate(good_rows(num_rows, seed=3)):
        word = "".join(_NEW[label][(number * 7 + place * 3) % 10] for place in range(10))
        rows.append((f"{text[:4]}{word}第{number}次", label))
    return rows


def dirty_rows(num_rows: int) -> list[Row]:
    """Rows that fail the gate and pass it once cleaned: copies, conflicts and broken texts among good ones."""
    rows = good_rows(num_rows)
    copies = rows[: num_rows // 5]
    conflicts = [(text, {"neg": "pos", "pos": "neg"}[label]) for text, label in rows[-3:]]
    return [*rows, *copies, *conflicts, *((fault, "neg") for fault in _FAULTS)]


def hopeless_rows(num_rows: int) -> list[Row]:
    """Rows that no cleaning can mend: one class is rare."""
    return [row for row in good_rows(num_rows * 2) if row[1] == "pos"] + good_rows(10, seed=1)


def noria(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        noria_command(*arguments), cwd=cwd, env=environment(**env), capture_output=True, text=True, check=False
    )


def noria_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "noria.cli", *arguments]


def environment(**more: str) -> dict[str, str]:
    """No server and no settings of whoever runs the tests."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return inherited | QUIET | more


def make_workspace(root: Path, rows: Sequence[Row]) -> Path:
    """`noria init` on `rows`, then the settings of a tiny model."""
    root.mkdir()
    source = write_rows(root / "rows.csv", rows)
    done = noria("init", str(root), "--source", str(source), cwd=root)
    assert done.returncode == 0, done.stderr
    change_params(root, TINY)
    return root


def write_rows(path: Path, rows: Sequence[Row]) -> Path:
    """Texts and labels as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def change_params(root: Path, settings: Mapping[str, Mapping[str, object]]) -> None:
    """Put settings, section by section, into the workspace's params.yaml."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    for section, values in settings.items():
        params[section] = {**(params.get(section) or {}), **values}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False, allow_unicode=True))


def last_run(root: Path) -> list[tuple[str, str]]:
    """(stage, state) in the order in which the last run came to them."""
    lines = [json.loads(line) for line in (root / ".noria" / "history.jsonl").read_text().splitlines()]
    return [(line["stage"], line["state"]) for line in lines if line["run"] == lines[-1]["run"]]

"""Documents: every byte comes back and is counted once; what is no text is set aside and stops nothing."""

import gzip
import json
import os

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from noria.config import CleanConfig, GenerationConfig, SourceConfig, TokenizerConfig
from noria.data import documents
from noria.data.document_encoder import (
    BOUNDARY,
    DOCUMENT,
    MAX_NEW_TOKENS,
    PROMPT,
    UNIFORM,
    WINDOWS,
    DocumentEncoder,
    fit_document_encoder,
    load_document_encoder,
)
from noria.data.duplicates import Keys, jaccard
from noria.data.ingest import ingest
from noria.data.quarantine import read_quarantine
from noria.data.rows import read_rows
from noria.errors import ConfigError, SourceError
from noria.scenarios import load_scenario

CLEAN = CleanConfig(min_chars=5, max_chars=10_000)
TEXTS = ["def f(x):\n    return x\n", "مرحبا بالعالم 👩‍👩‍👧‍👦 שלום", "\ufeff\r\n\t[PAD] [BOUNDARY]\x0c", "", "a" * 500]


@pytest.fixture(scope="module")
def encoder() -> DocumentEncoder:
    rows = [{"text": f"def read_{n}(line):\n    return line + {n}\n" * 3, "name": "a.py"} for n in range(60)]
    return fit_document_encoder(
        rows,
        tokenizer=TokenizerConfig(vocabulary_size=320, max_tokens=16),
        generation=GenerationConfig(max_tokens=100),
    )


@given(st.text(max_size=300))
@example(TEXTS[1])
@example(TEXTS[2])
@example(TEXTS[4])
@settings(deadline=None, max_examples=60)
def test_every_text_comes_back_and_its_bytes_are_those_of_its_tokens(encoder: DocumentEncoder, text: str) -> None:
    document = encoder.encode({"text": text})[DOCUMENT]
    assert document[0] == document[-1] == BOUNDARY and BOUNDARY not in document[1:-1]
    assert encoder.decode(document[1:]) == text
    assert int(encoder.piece_bytes[document].sum()) == len(text.encode())


@given(st.lists(st.text(max_size=120), min_size=1, max_size=4))
@settings(deadline=None, max_examples=40)
def test_windows_ask_for_each_token_once_with_half_a_context_before_it(
    encoder: DocumentEncoder, texts: list[str]
) -> None:
    encoded = encoder.encode_batch([{"text": text} for text in texts])
    windows_BWU = encoder.collate(encoded)[WINDOWS]
    asked_BWC = windows_BWU[:, :, 1:].astype(np.float32)
    place_WC = np.broadcast_to(np.arange(asked_BWC.shape[2]), asked_BWC.shape[1:]).astype(np.float32)
    for row, asked_WC in zip(encoded, asked_BWC, strict=True):
        document = row[DOCUMENT]
        found = encoder.judged(asked_WC, len(document) - 1)
        assert found.astype(int).tolist() == document[1:].tolist()
        before = encoder.judged(place_WC, len(document) - 1)
        context = asked_WC.shape[1]
        assert (before[context:] >= context // 2).all() and before[:context].tolist() == list(range(len(before)))[
            :context
        ]


def test_a_long_prompt_keeps_its_end_and_leaves_room_for_the_answer(encoder: DocumentEncoder) -> None:
    asked = {"prompt": "def read_7(line):\n" * 20, "max_new_tokens": 50, "seed": 4}
    encoded = encoder.encode(asked)
    assert encoded[MAX_NEW_TOKENS][0] == 8 and len(encoded[PROMPT]) == 8 and not len(encoded[DOCUMENT])
    assert asked["prompt"].endswith(encoder.decode(encoded[PROMPT]))
    assert np.array_equal(encoded[UNIFORM], encoder.encode(asked)[UNIFORM])
    assert not np.array_equal(encoded[UNIFORM], encoder.encode({**asked, "seed": 5})[UNIFORM])
    for prompt in (*TEXTS, "\ud800 half a character"):
        assert encoder.collate([encoder.encode({"prompt": prompt, "max_new_tokens": 2})])[WINDOWS].shape == (1, 1, 2)


def test_an_encoder_is_read_back_as_it_was(encoder: DocumentEncoder, tmp_path) -> None:
    encoder.save(tmp_path)
    again = load_document_encoder(tmp_path)
    for text in TEXTS:
        assert np.array_equal(again.encode({"text": text})[DOCUMENT], encoder.encode({"text": text})[DOCUMENT])


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
@example("\ufeffa bell \x07, a page\x0c, \r\nand \u202bfamilies\u202c 👩‍👩‍👧‍👦\r")
@settings(deadline=None, max_examples=60)
def test_a_repaired_document_has_no_fault_left_and_is_repaired_once(text: str) -> None:
    repaired = documents.repair({"text": text, "name": ""}, CLEAN)
    if repaired.values is None:
        assert repaired.rule
        return
    kept = str(repaired.values["text"])
    _, _, longest, num_control, odd, foreign, generated = documents._measure(kept)
    assert not num_control and not foreign and not generated and longest <= 1_000 and odd <= 0.001
    assert documents.repair(repaired.values, CLEAN).values == repaired.values
    assert set(text) - set(kept) <= {letter for letter in text if documents._control.match(letter)} | {"\r", "\ufeff"}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (None, "empty"),
        (" \n\t ", "empty"),
        ("ab", "too_short"),
        ("word " * 3_000, "too_long"),
        ("lost \ufffd\ufffd here", "replacement_characters"),
        ('""" Python Character Mapping Codec cp037 generated from \'A/B.TXT\' with gencodec.py.\n"""', "generated"),
        ("# This file was generated by a program\nx = 1\n", "generated"),
        ("x = '" + "y" * 2_000 + "'\n", "long_line"),
    ],
)
def test_what_is_no_document_to_learn_from_is_refused_by_its_rule(text: str | None, rule: str) -> None:
    assert documents.repair({"text": text, "name": "a.py"}, CLEAN).rule == rule


def test_ordinary_programs_are_not_taken_for_generated_ones() -> None:
    for text in ("def generate(code):\n    return code\n", "Random numbers are generated lazily.\n"):
        assert not documents._generated.search(text)


def test_a_byte_order_mark_behind_control_characters_goes_too() -> None:
    repaired = documents.repair({"text": "\x01\ufeff\ufeffhello there, all", "name": ""}, CLEAN)
    assert repaired.values == {"text": "hello there, all", "name": ""}


def test_prose_about_what_is_generated_is_not_generated() -> None:
    said = "Random numbers generated by this module are meant to be used with the secrets module.\n"
    assert documents.repair({"text": said, "name": ""}, CLEAN).values is not None


def test_near_duplicates_are_told_by_words_not_by_letters() -> None:
    body = [f"    value_{n} = read(table_{n % 7}, row_{n % 11}) + {n}\n" for n in range(200)]
    other = [f"    total_{n} = find(page_{n % 5}, name_{n % 13}) - {n}\n" for n in range(200)]
    tabs = [line.replace("    ", "\t") for line in body]
    keys = Keys()
    keys.extend(
        [documents.duplicate_key({"text": "".join(text)}) for text in (body, tabs, [*body[:-9], "pass"], other)]
    )
    found = jaccard(keys.array(), np.array([0, 0, 0]), np.array([1, 2, 3]))
    assert found[0] == 1 and 0.9 < found[1] < 1 and found[2] < 0.2
    assert documents.duplicate_key({"text": "🙂 🙂"}) and documents.duplicate_key({"text": None}) == ""


SCENARIO = load_scenario("language-modelling")


def read(root, **source):
    """Documents by name, and the rules of the refused by origin."""
    artifact = ingest(
        SourceConfig(**{"path": "tree", "format": "documents", "max_row_bytes": 1_000, **source}),
        schema=SCENARIO.schema,
        target=SCENARIO.target,
        base=root,
        raw=root / "raw",
        quarantine=root / "quarantine",
    )
    refused = {row.origin: row.rule for row in read_quarantine(root / "quarantine")}
    assert artifact.counts["rows"] + artifact.counts["quarantined"] == artifact.ledger.rows_in
    return {row["name"]: row["text"] for row in read_rows(artifact.path)}, refused


@pytest.fixture
def tree(tmp_path):
    """Files of all kinds, good and bad."""
    files = {
        "a.py": b"print('hello')\r\n",
        "_private/__init__.py": b"",
        "docs/b.md": b"\xef\xbb\xbf# Title\n",
        "docs/old.txt.gz": gzip.compress("gezippt 🙂\n".encode()),
        "docs/broken.txt.gz": b"\x1f\x8b not gzip at all",
        "docs/bomb.txt.gz": gzip.compress(b"0" * 5_000_000),
        "no_ending": "عربي\n".encode(),
        "latin.py": "# caf\xe9\n".encode("latin-1"),
        "picture.png": b"\x89PNG\0\0",
        "utf16.txt": "wide".encode("utf-16"),
        "large.txt": b"x" * 1_001,
        ".hidden/secret.py": b"password\n",
        "__pycache__/a.pyc": b"\0\1\2",
        "more.jsonl": "".join(json.dumps({"text": text}) + "\n" for text in ("one", "two")).encode() + b"{oops\n",
    }
    for name, payload in files.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload)
    return tmp_path


def test_a_tree_gives_one_document_a_file_and_what_is_no_text_goes_to_quarantine(tree) -> None:
    found, refused = read(tree)
    assert found.pop("", None) is not None
    assert found == {
        "a.py": "print('hello')\r\n",
        "_private/__init__.py": "",
        "docs/b.md": "# Title\n",
        "docs/old.txt.gz": "gezippt 🙂\n",
        "no_ending": "عربي\n",
    }
    assert refused == {
        "docs/broken.txt.gz:1": "unreadable",
        "docs/bomb.txt.gz:1": "too_long",
        "latin.py:1": "invalid_encoding",
        "picture.png:1": "binary",
        "utf16.txt:1": "binary",
        "large.txt:1": "too_long",
        "more.jsonl:3": "malformed_json",
    }


def test_a_pipe_in_a_tree_is_no_file_and_holds_nothing_up(tree) -> None:
    os.mkfifo(tree / "tree" / "pipe.py")
    found, refused = read(tree)
    assert "pipe.py" not in found and "pipe.py:1" not in refused and "a.py" in found


def test_globs_say_which_files_are_documents(tree) -> None:
    chosen = {"include": ["*.py", "docs/*"], "exclude": ["*.gz", "_private/*"]}
    found, refused = read(tree, documents=chosen)
    assert set(found) == {"a.py", "docs/b.md"} and set(refused) == {"latin.py:1"}
    with pytest.raises(SourceError, match="no file here"):
        read(tree, documents={"include": ["*.rs"]})


def test_another_encoding_is_read_when_it_is_named(tree) -> None:
    found, _ = read(tree, encoding="latin-1", documents={"include": ["latin.py"]})
    assert found == {"latin.py": "# café\n"}


def test_a_scenario_whose_rows_are_more_than_a_text_reads_no_documents(tree) -> None:
    classes = load_scenario("text-classification")
    with pytest.raises(ConfigError, match="one text"):
        ingest(
            SourceConfig(path="tree", format="documents"),
            schema=classes.schema,
            target=classes.target,
            base=tree,
            raw=tree / "raw",
            quarantine=tree / "quarantine",
        )

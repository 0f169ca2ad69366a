"""Workloads of the training benchmarks: well-formed, the same every time, and with sides that share nothing."""

import encodings
from pathlib import Path

import numpy as np
import pytest

from benchmarks.workloads.catalogs import read_pairs
from benchmarks.workloads.format import SIDES, read_workload, share
from benchmarks.workloads.language_modelling import write_language_modelling
from benchmarks.workloads.prepare import prepare
from benchmarks.workloads.text_classification import write_text_classification
from benchmarks.workloads.translation import write_translation
from noria.errors import ArtifactError, ConfigError

CATALOG = r"""
msgid ""
msgstr "Project-Id-Version: test\n"

#: a comment
msgid "Save the page"
msgstr "Die Seite speichern"

#, fuzzy
msgid "Delete"
msgstr "Entfernt"
#, python-format
msgctxt "menu"
msgid "%d page"
msgid_plural ""
"%d "
"pages"
msgstr[0] "%d Seite"
msgstr[1] "%d Seiten"

msgid "Not translated"
msgstr ""

msgid "Django"
msgstr "Django"

msgid "a \"quoted\"\n  line"
msgstr "eine \"zitierte\"\n  Zeile"

#~ msgid "Obsolete"
#~ msgstr "Veraltet"
"""


@pytest.fixture
def catalog(tmp_path):
    """Three hundred pairs, so that both sides get some."""
    path = tmp_path / "de.po"
    entries = (
        f'msgid "Open page {i} of book {i % 7}"\nmsgstr "Seite {i} von Buch {i % 7} öffnen"\n' for i in range(300)
    )
    path.write_text("\n".join(entries), encoding="utf-8")
    return path


def write(work, directory, catalog):
    """A tiny workload without the packages of the benchmark's own environment."""
    if work == "translation":
        return write_translation(directory, tiny=True, catalogs=[catalog])
    if work == "language-modelling":
        return write_language_modelling(directory, tiny=True, root=Path(encodings.__file__).parent)
    return write_text_classification(directory, tiny=True)


def test_a_catalog_gives_translated_entries_and_no_others(tmp_path):
    path = tmp_path / "de.po"
    path.write_text(CATALOG, encoding="utf-8")
    assert list(read_pairs(path)) == [
        ("Save the page", "Die Seite speichern"),
        ("%d page", "%d Seite"),
        ("%d pages", "%d Seiten"),
        ('a "quoted" line', 'eine "zitierte" Zeile'),
    ]


@pytest.mark.parametrize("work", ["text-classification", "translation", "language-modelling"])
def test_a_workload_is_the_same_every_time(tmp_path, catalog, work):
    first, second = (write(work, tmp_path / name, catalog) for name in ("first", "second"))
    names = sorted(path.name for path in first.directory.iterdir())
    assert names == sorted(path.name for path in second.directory.iterdir())
    for name in names:
        assert (first.directory / name).read_bytes() == (second.directory / name).read_bytes(), name


@pytest.mark.parametrize("work", ["text-classification", "translation", "language-modelling"])
def test_a_workload_is_well_formed(tmp_path, catalog, work):
    write(work, tmp_path / "workload", catalog)
    workload = read_workload(tmp_path / "workload")
    said = workload.description
    for name, num_tokens in said.num_tokens.items():
        rows = workload.rows(*name.split("_"))
        assert (rows.values.dtype, rows.offsets.dtype) == (np.int32, np.int64)
        assert (len(rows), len(rows.values), rows.offsets[-1]) == (
            said.num_rows[name.split("_")[0]],
            num_tokens,
            num_tokens,
        )
        assert len(rows) > 0
        assert rows.lengths.min() > 0
        assert 0 <= rows.values.min() <= rows.values.max() < said.vocabulary_size
        assert said.max_tokens == 0 or rows.lengths.max() <= said.max_tokens


def test_reviews_have_one_class_each_and_no_padding_inside(tmp_path):
    workload = write_text_classification(tmp_path / "workload", tiny=True)
    for side in SIDES:
        assert set(workload.labels(side)) == {0, 1}
        assert len(workload.labels(side)) == len(workload.rows(side))
        assert workload.pad not in workload.rows(side).values


def test_every_document_ends_with_the_end_token_and_has_no_other(tmp_path):
    workload = write_language_modelling(tmp_path / "workload", tiny=True, root=Path(encodings.__file__).parent)
    end = workload.description.special_ids["end_of_document"]
    for side in SIDES:
        rows = workload.rows(side)
        assert (rows.values[rows.offsets[1:] - 1] == end).all()
        assert (rows.values == end).sum() == len(rows)


def test_a_row_is_on_the_side_that_its_hash_says():
    shares = [share(str(number)) for number in range(2_000)]
    assert np.mean(np.array(shares) < 0.1) == pytest.approx(0.1, abs=0.02)
    assert share("0") != share("0", purpose="order")


def test_a_workload_is_written_once(tmp_path):
    written = prepare("text-classification", tmp_path / "workload", tiny=True).directory / "workload.json"
    before = written.stat().st_mtime_ns
    prepare("text-classification", tmp_path / "workload", tiny=True)
    assert written.stat().st_mtime_ns == before


def test_another_workload_in_the_directory_is_refused(tmp_path):
    prepare("text-classification", tmp_path / "workload", tiny=True)
    with pytest.raises(ConfigError, match="another workload"):
        prepare("language-modelling", tmp_path / "workload", tiny=True)


def test_a_directory_without_a_workload_is_named(tmp_path):
    with pytest.raises(ArtifactError, match="no workload"):
        read_workload(tmp_path)

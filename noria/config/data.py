"""The nodes from the sources to the split."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from noria.config.section import NonNegative, Positive, Section, Share

Similarity = Annotated[float, Field(ge=0.2, le=1.0)]  # below it, MinHash of bounded size misses pairs


class LanguagesConfig(Section):
    """Of sources that hold translations; a language without a region stands for all of its regions."""

    source: str = ""
    """What is translated: the ending of the one of two aligned files, the `xml:lang` in TMX."""
    target: str = ""
    """Into what; of catalogs, those with it in their path. Empty: all catalogs, the second language of TMX."""


class DocumentsConfig(Section):
    """Which files are documents, by globs in which `*` also stands for `/`.

    A glob without a `/` is of a file's name, one with it of the path below the source.
    """

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ("*__pycache__/*",)


class SourceConfig(Section):
    """Where the rows come from."""

    path: str = Field(min_length=1)
    """A file, a directory, or a URL that fsspec reads (`s3://bucket/reviews/`); of http:// and https:// one file."""
    licence: str = ""
    """What the data may be used for: an SPDX identifier, or words. It goes into the data card of every bundle."""
    hosts: tuple[str, ...] = ()
    """Who may be asked over HTTP, redirects included: `data.example.org`, or with a port `localhost:8080`."""
    format: Literal[
        "auto",
        "csv",
        "jsonl",
        "parquet",
        "text",
        "atomic",
        "gettext",
        "tmx",
        "xliff",
        "aligned",
        "squad",
        "media",
        "idx",
        "documents",
    ] = "auto"
    """`auto` goes by the file extension; `text` is one row a line, `aligned` one file a language, line by line,
    `atomic` RecBole's `.inter` (`user_id:token`), `squad` questions and answers in SQuAD's JSON, `documents` one
    row a file (JSON Lines and Parquet: one a record), `media` one row a file
    (images, recordings), `idx` MNIST's."""
    documents: DocumentsConfig = DocumentsConfig()
    languages: LanguagesConfig = LanguagesConfig()
    columns: Mapping[str, str] = Field(default_factory=dict)
    """The scenario's column -> the source's column, where the names differ; `pixel*` makes an image of all of them."""
    label_from: Literal["column", "file", "directory", "pattern"] = "column"
    """Where the label is: a column, or the name of the file or of its directory; `pattern` makes each media file a
    row, whose columns are in its name."""
    pattern: str = Field(default="{label}_{speaker}_{take}", pattern=r"\{label\}")
    """`label_from: pattern`: the end of a file's path without its ending. `{label}` is what is predicted (underscores
    in it stand for spaces), other names are columns of the scenario, or ignored: `{speaker}/{label}-{take}`."""
    carry: tuple[str, ...] = ()
    """More columns of the source that rows keep, as text; one of them can be `split.group_by`."""
    encoding: str = "utf-8"
    """Encoding of text files; bytes that are not valid in it go to quarantine with their row."""
    max_row_bytes: Positive = 1_000_000
    """A longer line or record goes to quarantine."""

    @model_validator(mode="after")
    def _host_is_known(self) -> Self:
        if not re.search("https?://", self.path, re.IGNORECASE):
            return self
        if not re.match("https?://", self.path):
            raise ValueError("an HTTP URL must begin with http:// or https://")
        try:
            urlsplit(self.path).port  # noqa: B018  asked for, it is checked
        except ValueError as error:
            raise ValueError(f"`path` is no URL: {error}") from None
        if "@" in urlsplit(self.path).netloc:
            raise ValueError("no name and password in `path`: params.yaml is shared, and so is what it says")
        if not is_host_among(self.path, self.hosts):
            host = urlsplit(self.path).netloc
            raise ValueError(f"`hosts` does not name the host of `path`; if you trust it, add `hosts: [{host}]`")
        return self


def is_host_among(url: str, hosts: Collection[str]) -> bool:
    """Whether a URL is of HTTP, and its host, with its port or whatever that is, is one of those."""
    parts = urlsplit(url)
    names = {(parts.hostname or "").lower(), parts.netloc.lower()}
    return parts.scheme in ("http", "https") and not names.isdisjoint(host.lower() for host in hosts)


class PreprocessConfig(Section):
    """What is computed before the gate looks."""

    batch_rows: Positive = 10_000
    """Rows in memory at once, also at the gate."""


class CheckConfig(Section):
    """The gate. Its rules are in `expectations/<scenario>.yaml`."""

    sample_rows: NonNegative = 5
    """Failing rows shown per expectation in the verdict (all their ids are kept)."""


class CleanTranslationConfig(Section):
    """Pairs of a text and its translation."""

    max_length_ratio: Annotated[float, Field(ge=1)] = 4.0
    """Bytes (UTF-8) of the longer side, and ten, over those of the shorter, and ten."""


class CleanAnswersConfig(Section):
    """Questions about a text, whose answers are parts of it."""

    max_question_chars: Positive = 500
    max_answer_chars: Positive = 300


class EventsConfig(Section):
    """Which events of a log can be meant."""

    min_time: float = 631_152_000.0
    """Seconds since 1970, UTC: earlier events (1990 by default) have a wrong time."""
    max_time: float = 4_102_444_800.0
    """Later ones too (2100): set it to the day of the export."""
    max_id_chars: Positive = 500

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.min_time >= self.max_time:
            raise ValueError(f"min_time ({self.min_time:g}) must be below max_time ({self.max_time:g})")
        return self


class CleanAudioConfig(Section):
    """Which recordings the cleaner refuses, and which it mends (speech)."""

    min_duration_s: Annotated[float, Field(gt=0)] = 0.05
    max_duration_s: Annotated[float, Field(gt=0, le=60)] = 20.0
    min_sample_rate_hz: Positive = 6_000
    """Below it consonants are gone."""
    max_clipped_share: Share = 0.1
    """Share of the samples that stand at the limit in runs of three or more."""
    min_loudness_db: Annotated[float, Field(le=0)] = -60.0
    """Level of the loudest tenth of a second, against full scale."""
    max_outer_silence_s: Annotated[float, Field(ge=0)] = 1.0
    """More silence before or behind the speech is cut off."""
    max_chars: Positive = 400
    """Characters of a transcript."""

    @model_validator(mode="after")
    def _durations_in_order(self) -> Self:
        if self.min_duration_s > self.max_duration_s:
            raise ValueError(
                f"min_duration_s ({self.min_duration_s}) must not be above max_duration_s ({self.max_duration_s})"
            )
        return self


class CleanDocumentsConfig(Section):
    """Which documents a language model may learn from."""

    max_line_chars: Positive = 1_000
    """Longer lines are tables, minified code or data, as in The Stack (Kocetkov et al. 2022, arXiv:2211.15533)."""
    max_odd_share: Share = 0.001
    """Share of replacement characters (U+FFFD)."""
    keep_generated: bool = False
    """Keep files whose first lines say that a program wrote them."""


class CleanImageConfig(Section):
    """Which images the cleaner refuses."""

    min_side: Positive = 8
    """Pixels of the shorter side."""
    max_pixels: Annotated[int, Field(gt=0, le=50_000_000)] = 50_000_000
    """Width times height by the header; whatever is set here, more than 50 million are never decoded."""
    min_contrast: Annotated[float, Field(ge=0)] = 2.0
    """Standard deviation of the pixels, of 255; below it an image is blank."""


class CleanConfig(Section):
    """What the cleaner repairs and what it refuses."""

    min_chars: Positive = 2
    max_chars: Positive = 2_000
    min_han_share: Share = 0.1
    """Smallest share of Han characters among letters."""
    near_duplicate_similarity: Similarity = 0.9
    """Jaccard similarity of character 3-grams from which two rows are duplicates; 1 means exact ones only."""
    label_conflicts: Literal["quarantine", "majority", "most_frequent"] = "quarantine"
    """One text with several labels: all rows out; the most frequent label kept; or that, and of equals the first."""
    translation: CleanTranslationConfig = CleanTranslationConfig()
    answers: CleanAnswersConfig = CleanAnswersConfig()
    events: EventsConfig = EventsConfig()
    audio: CleanAudioConfig = CleanAudioConfig()
    documents: CleanDocumentsConfig = CleanDocumentsConfig()
    image: CleanImageConfig = CleanImageConfig()

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.min_chars > self.max_chars:
            raise ValueError(f"min_chars ({self.min_chars}) must not be above max_chars ({self.max_chars})")
        return self


class AugmentConfig(Section):
    """Rows added to the training set; every one points at its parent."""

    share: Share = 0.0
    """Augmented rows per original row; 0 is off (see the ablation in docs/log.md)."""
    delete_chars: Share = 0.1
    """Share of a row's characters that random deletion removes."""
    swap_chars: Share = 0.05
    """Share of a row's characters that are swapped with their neighbour."""
    shuffle_clauses: bool = True
    """Reorder the clauses of a row."""


class SplitConfig(Section):
    """Train and validation, by hash of the row's group."""

    validation_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    """Share of the groups that judge; 1 only where a scenario holds out a part of each group."""
    group_by: str | tuple[str, ...] | None = None
    """A column whose equal values stay on one side, or several, of which the first with a value counts; default:
    each row and what is augmented from it."""
    near_duplicate_similarity: Similarity = 0.8
    """Jaccard similarity of character 3-grams from which a training row leaks a validation row and is left out."""

"""Exporters and quantizers of others: what they say of every node they look at, and how they fail."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx

from noria.errors import ExportError
from noria.serving.session import CANT_RUN

_THEIR_ERRORS: tuple[type[Exception], ...] = (
    *CANT_RUN,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    AssertionError,  # how ONNX Runtime's quantizers say that they can't
    AttributeError,
    IndexError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What they raise of a graph that they were not written for."""


@contextmanager
def theirs(what: str) -> Iterator[None]:
    """A call into them, and nothing of ours: neither their messages below an error nor their errors get through.

    A run's log is for people, and what matters is checked on the graph that comes out.

    Raises
    ------
    ExportError
        When `what` was called can't do it.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except _THEIR_ERRORS as error:
        said = next(iter(str(error).strip().splitlines()), "")
        raise ExportError(
            f"{what}: {said or type(error).__name__}",
            where=type(error).__name__,
            next_step="a form that can't be had is left out by `optimize.candidates`",
        ) from error
    finally:
        logging.disable(before)

"""The one exception tree: every error says what is wrong, where, what was expected, and what to do next."""

from __future__ import annotations


class NoriaError(Exception):
    """Something a user can put right.

    Parameters
    ----------
    what:
        What is wrong, in one sentence.
    where:
        The file, line, column, key or URL it was found at.
    expected:
        What would have been right.
    next_step:
        What to do now.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", expected: str = "", next_step: str = "") -> None:
        self.what = what
        self.where = where
        self.expected = expected
        self.next_step = next_step
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where:    {self.where}")
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        if self.next_step:
            lines.append(f"  next:     {self.next_step}")
        return "\n".join(lines)


class ConfigError(NoriaError):
    """`params.yaml` (or a suite of expectations) can't be used as it stands."""

    exit_code = 2


class SourceError(NoriaError):
    """A source is missing, empty, unreadable, or has none of the columns it should."""

    exit_code = 3


class SourceEmpty(SourceError):
    """A source, or what was read of it, has no record."""


class SourceUnavailable(SourceError):
    """A source can't be reached or read for now; that says nothing about what it holds."""


class GateError(NoriaError):
    """An expectation could not be judged. Never a verdict."""

    exit_code = 4


class GateRefused(NoriaError):
    """The data failed the quality check twice; nothing after it may run."""

    exit_code = 5


class LedgerError(NoriaError):
    """Rows in do not equal rows out plus rows quarantined: rows were lost or made up."""

    exit_code = 6


class ArtifactError(NoriaError):
    """An artifact is missing, incomplete, or not what its manifest says."""

    exit_code = 7


class TrainingError(NoriaError):
    """Training can't start or can't go on."""

    exit_code = 8


class ExportError(NoriaError):
    """No candidate survived export, parity and the quality budget."""

    exit_code = 9


class BundleError(NoriaError):
    """A bundle is damaged or can't be served."""

    exit_code = 10


class StoreError(NoriaError):
    """The model store can't be read or written."""

    exit_code = 11


class WorkspaceBusy(NoriaError):
    """Another run holds the workspace."""

    exit_code = 12


class StageFailed(NoriaError):
    """A stage's process ended badly; its own message is part of this one."""

    exit_code = 13


class DiskFull(NoriaError):
    """There is not enough room to work."""

    exit_code = 14


class Preempted(NoriaError):
    """The process was told to end; started again, it goes on from what it has saved."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h

"""Spoken words from eSpeak NG (GPL-3), as the package `espeakng-loader` brings it: for sample data and tests only.

One process speaks with one engine, from one thread.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noria.data.samples import package_directory
from noria.errors import SourceError

_SYNCHRONOUS, _UTF8 = 2, 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Voice:
    """How something is said.

    Attributes
    ----------
    name:
        A language and a variant: `en-us+f3`.
    words_per_minute, pitch, pitch_range:
        80 to 450, 0 to 99, 0 to 99; 175, 50 and 50 are usual.
    """

    name: str
    words_per_minute: int = 175
    pitch: int = 50
    pitch_range: int = 50


class Espeak:
    """The engine.

    Raises
    ------
    SourceError
        When the package is not installed, or does not start here.
    """

    def __init__(self) -> None:
        package = package_directory("espeakng_loader")
        libraries = [path for path in package.iterdir() if path.name.startswith(("libespeak-ng", "espeak-ng."))]
        data = package / "espeak-ng-data"
        self._spoken: list[NDArray[np.int16]] = []
        self._callback = _Callback(self._hear)
        try:
            self._library = ctypes.CDLL(str(libraries[0]))
        except (IndexError, OSError) as error:
            raise self._broken(package, str(error)) from error
        self.sample_rate_hz = int(self._library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), 0))
        if self.sample_rate_hz <= 0:
            raise self._broken(package, "it does not initialize")
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: Voice) -> NDArray[np.float32]:
        """Samples at `sample_rate_hz`, full scale at 1.

        Raises
        ------
        SourceError
            When there is no such voice.
        """
        if self._library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise SourceError("eSpeak NG has no such voice", where=voice.name, next_step="en-us, en-gb+f2, …")
        for parameter, value in ((_RATE, voice.words_per_minute), (_PITCH, voice.pitch), (_RANGE, voice.pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._spoken.clear()
        said = text.encode() + b"\0"
        self._library.espeak_Synth(said, ctypes.c_size_t(len(said)), 0, 0, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        samples = np.concatenate([np.zeros(0, np.int16), *self._spoken])
        return np.asarray(samples.astype(np.float32) / 32_768, dtype=np.float32)

    def _hear(self, samples: ctypes._Pointer[ctypes.c_short], count: int, events: int) -> int:
        if samples and count > 0:
            self._spoken.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    @staticmethod
    def _broken(package: Path, why: str) -> SourceError:
        return SourceError(
            f"eSpeak NG does not start: {why}",
            where=str(package),
            next_step="pip install --no-deps --force-reinstall espeakng-loader, or point `source.path` at recordings",
        )

"""Training on clips that never sound twice the same: pure functions of (seed, index), whatever the clip."""

import numpy as np
import pytest
import torch

from noria.config import Config, HearingConfig
from noria.data.mel import features
from noria.data.ragged import Ragged
from noria.data.speech_encoder import fit_speech_encoder
from noria.model.speech_recognizer import SpeechRecognizer
from noria.recipes.hearing import hear
from noria.recipes.speech import HeardLetters, ctc_loss

PCM = (8_000 * np.sin(np.arange(6_400) / 5) * np.hanning(6_400)).astype(np.int16)
OFF = HearingConfig(
    speed_octaves=0,
    tempo_octaves=0,
    vocal_tract=0,
    noise_share=0,
    equalizer_db=0,
    reverb_share=0,
    overdrive_share=0,
    shift_s=0,
    band_mask_share=0,
    time_mask_share=0,
)
CONFIG = Config.model_validate(
    {
        "name": "x",
        "scenario": "speech-recognition",
        "source": {"path": "x"},
        "model": {"layers": 1, "dim": 32, "heads": 2, "feed_forward_dim": 64, "positions": "rotary"},
        "train": {"batch_tokens": 200},
    }
)


def heard(seed: int, config: HearingConfig, pcm: np.ndarray = PCM) -> np.ndarray:
    return hear(pcm, np.random.default_rng(seed), config=config, num_mels=64, dynamic_range_db=70.0)


def test_without_changes_a_clip_is_heard_as_when_it_is_served():
    served = features(PCM.astype(np.float32) / 32_768, num_mels=64, dynamic_range_db=70.0)
    found = heard(0, OFF)
    assert abs(len(found) - len(served)) <= 1
    np.testing.assert_allclose(found[: len(served)], served[: len(found)], atol=1e-3)


def test_a_clip_sounds_the_same_for_a_seed_and_otherwise_for_another():
    np.testing.assert_array_equal(heard(3, HearingConfig()), heard(3, HearingConfig()))
    assert heard(3, HearingConfig()).shape != heard(4, HearingConfig()).shape


@pytest.mark.parametrize(
    "change",
    [
        {"speed_octaves": 0.5},
        {"tempo_octaves": 0.5},
        {"vocal_tract": 0.3},
        {"noise_share": 1.0},
        {"equalizer_db": 6.0},
        {"reverb_share": 1.0},
        {"overdrive_share": 1.0},
        {"shift_s": 0.2},
        {"band_mask_share": 0.3},
        {"time_mask_share": 0.3},
    ],
)
def test_every_change_changes_something_and_keeps_the_range(change):
    plain = heard(0, OFF)
    found = [heard(seed, OFF.model_copy(update=change)) for seed in range(4)]
    assert any(one.shape != plain.shape or not np.allclose(one, plain, atol=1e-3) for one in found)
    assert all(np.isfinite(one).all() and one.min() >= -1 and one.max() <= 1 for one in found)


@pytest.mark.parametrize("length", [1, 2, 100, 1_600])
def test_no_clip_is_too_short_or_too_quiet_to_be_changed(length):
    for seed in range(30):
        for pcm in (np.zeros(length, np.int16), PCM[:length]):
            assert np.isfinite(heard(seed, HearingConfig(noise_share=1, reverb_share=1, overdrive_share=1), pcm)).all()


def objective() -> HeardLetters:
    rows = [{"text": text, "audio": b""} for text in ("seven", "one", "two")]
    encoder = fit_speech_encoder(rows, config=CONFIG.model.audio)
    pcm = [PCM, PCM[1_000:4_000], PCM[2_000:6_000]]
    letters = [target["letters"] for target in encoder.targets(rows)]
    return HeardLetters(ragged(pcm), ragged(letters), config=CONFIG, encoder=encoder)


def ragged(parts: list[np.ndarray]) -> Ragged:
    return Ragged(np.concatenate(parts), np.cumsum([0, *map(len, parts)]).astype(np.int64))


def test_a_batch_depends_on_its_index_alone_and_an_epoch_has_every_row():
    one, other = objective(), objective()
    ahead = one.batch(len(one) + 1)
    again = [other.batch(index) for index in range(len(other) + 2)][-1]
    assert torch.equal(ahead.inputs["mel"], again.inputs["mel"]) and torch.equal(ahead.targets, again.targets)
    seen = sorted(int(row) for index in range(len(one)) for row in one.batch(index).rows)
    assert seen == [0, 1, 2]


def recognizer() -> SpeechRecognizer:
    torch.manual_seed(0)
    return SpeechRecognizer(CONFIG.model, num_mels=64, num_letters=8).eval()


@pytest.mark.parametrize("length", [9, 10, 31])
def test_padding_changes_no_answer_and_is_answered_by_blanks(length):
    model = recognizer()
    short, long = torch.randn(1, length, 64), torch.randn(1, 48, 64)
    padded = torch.cat([torch.nn.functional.pad(short, (0, 0, 0, 48 - length), value=7.0), long])
    with torch.no_grad():
        alone = model(short, torch.tensor([length]))
        together = model(padded, torch.tensor([length, 48]))
    frames = (length + 3) // 4
    assert alone.shape == (1, frames, 8)
    torch.testing.assert_close(together[0, :frames], alone[0], atol=1e-5, rtol=0)
    assert (together[0, frames:, 0] == 0).all() and (together[0, frames:, 1:] < -10).all()
    torch.testing.assert_close(together[1].exp().sum(-1), torch.ones(12))


def test_a_transcript_that_does_not_fit_into_its_frames_teaches_nothing():
    logits = recognizer()(torch.randn(1, 4, 64), torch.tensor([4]))
    loss = ctc_loss(logits, torch.tensor([4]), torch.tensor([[1, 1, 1, 1]]), torch.tensor([4]))
    loss.backward()
    assert loss == 0


def test_one_batch_can_be_learned_by_heart():
    model, task = recognizer(), objective()
    batch = task.largest()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(400):
        optimizer.zero_grad()
        loss = task.loss(model, batch) / batch.num_targets
        loss.backward()
        optimizer.step()
    assert loss < 0.1

import numpy as np
import pytest
import torch

from noria.config import Config
from noria.data.image_text_encoder import fit_image_text_encoder, load_image_text_encoder
from noria.data.pixels import encode_png
from noria.data.ragged import store_rows
from noria.data.text_encoder import PAD
from noria.model.image_text_classifier import ImageTextBranch
from noria.recipes.image_text_classification import ImagesAlone, LabelsOfEither
from noria.training.data import TrainingRows

RNG = np.random.default_rng(0)
IMAGES = [encode_png(RNG.integers(0, 256, (16, 16, 1), dtype=np.uint8)) for _ in range(40)]
ROWS = [
    {
        "image": image if number % 5 else b"",
        "text": f"some words of {number}" if number % 5 != 2 else "",
        "label": "ab"[number % 2],
    }
    for number, image in enumerate(IMAGES)
]


def config(**train):
    return Config.model_validate(
        {
            "name": "a",
            "scenario": "image-text-classification",
            "source": {"path": "x"},
            "tokenizer": {"vocabulary_size": 50},
            "model": {
                "layers": 1,
                "dim": 16,
                "heads": 2,
                "feed_forward_dim": 32,
                "bigram_buckets": 0,
                "image": {"size": 16, "patch": 8, "stride": 8},
            },
            "train": {"batch_tokens": 200, "token_mask": 0.0, "clause_shuffle": 0.0, **train},
        }
    )


@pytest.fixture(scope="module")
def encoder():
    return fit_image_text_encoder(ROWS, config())


@pytest.fixture
def rows(encoder, tmp_path):
    encoded = [{**a, **b} for a, b in zip(encoder.encode_batch(ROWS), encoder.targets(ROWS), strict=True)]
    return TrainingRows(store_rows(encoded, tmp_path), np.array([b"id"] * len(ROWS)), np.arange(len(ROWS)) % 10 == 9)


def batches(objective):
    return [objective.batch(index) for index in range(len(objective))]


def test_rows_are_learned_whole_when_nothing_is_hidden(rows, encoder):
    seen = {}
    for batch in batches(LabelsOfEither(rows, config=config(modality_dropout=0.0), encoder=encoder)):
        for place, row in enumerate(batch.rows):
            ids = batch.inputs["token_ids"][place].numpy()
            seen[int(row)] = (ids[ids != PAD].tolist(), bool(batch.inputs["has_image"][place]))
    token_ids, has_image = (rows.view(name, holdout=False) for name in ("token_ids", "has_image"))
    assert seen == {row: (token_ids[row].tolist(), bool(has_image[row][0])) for row in range(len(token_ids))}


def test_what_is_hidden_is_never_all_that_a_row_has(rows, encoder):
    objective = LabelsOfEither(rows, config=config(modality_dropout=0.5, token_mask=0.9), encoder=encoder)
    num_hidden = 0
    for batch in batches(objective):
        ids, has_image = batch.inputs["token_ids"].numpy(), batch.inputs["has_image"].numpy()
        has_text = (ids != PAD).sum(1) > 1  # one token stands for a text that is missing or hidden
        assert (has_text | has_image).all()
        num_hidden += int((has_text ^ has_image).sum())
    assert num_hidden > len(ROWS) // 2


def test_images_alone_leaves_rows_without_one_out_and_names_rows_by_their_numbers(rows, encoder):
    has_image = rows.tensor("has_image", holdout=False).values.astype(bool)
    found = np.concatenate([b.rows for b in batches(ImagesAlone(rows, config=config(), encoder=encoder.image))])
    assert sorted(found) == np.flatnonzero(has_image).tolist()
    classes = rows.classes(holdout=False)
    for batch in batches(ImagesAlone(rows, config=config(), encoder=encoder.image)):
        assert batch.targets.tolist() == classes[batch.rows].tolist()


def test_pixels_of_a_missing_image_change_nothing(encoder):
    torch.manual_seed(0)
    model = ImageTextBranch(config().model, vocabulary_size=50, max_tokens=8, num_classes=2, mean=0.5, std=0.3).eval()
    token_ids = torch.tensor([[3, 4, 5, 0], [6, 7, 0, 0]])
    pixels = torch.randint(0, 256, (2, 1, 16, 16), dtype=torch.uint8)
    none, both = torch.tensor([False, False]), torch.tensor([True, True])
    torch.testing.assert_close(model(token_ids, pixels, none), model(token_ids, 255 - pixels, none))
    torch.testing.assert_close(model(token_ids, pixels, none), model(token_ids))
    assert not torch.allclose(model(token_ids, pixels, both), model(token_ids, 255 - pixels, both))


def test_an_encoder_is_the_same_when_it_is_read_back(encoder, tmp_path):
    encoder.save(tmp_path)
    again = load_image_text_encoder(tmp_path)
    assert again.image == encoder.image and again.labels == encoder.labels == ("a", "b")
    for row in ROWS[:10]:
        for name, array in encoder.encode(row).items():
            np.testing.assert_array_equal(again.encode(row)[name], array)


def test_training_rows_without_any_image_can_be_encoded():
    texts = [{**row, "image": b""} for row in ROWS]
    assert fit_image_text_encoder(texts, config()).image.std > 0

"""What clients may send to be classified, and where `noria init` thinks that labels are."""

import base64

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from noria.cli import main
from noria.config import ImageConfig
from noria.data.image_encoder import fit_image_encoder, load_image_encoder
from noria.data.pixels import encode_png
from noria.errors import TrainingError
from noria.scenarios import load_scenario

SCENARIO = load_scenario("image-classification")
PNG = encode_png(np.random.default_rng(0).integers(0, 256, (9, 12, 1), dtype=np.uint8))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("", "at least 1 character"),
        ("no base64!", "not base64"),
        ("é", "not base64"),
        (base64.b64encode(b"a text").decode(), "no image of PNG"),
        (base64.b64encode(PNG[:60]).decode(), "can't be decoded"),
        (base64.b64encode(encode_png(np.zeros((5_000, 5_000, 1), np.uint8))).decode(), "at most 24,000,000"),
    ],
)
def test_a_request_that_is_no_image_is_refused_with_the_reason(image, message):
    with pytest.raises(ValidationError, match=message):
        SCENARIO.request.model_validate({"image": image})


def test_a_row_is_the_same_after_a_request_and_a_file_name_is_a_request(tmp_path):
    request = SCENARIO.as_request({"image": PNG})
    assert SCENARIO.row_of(SCENARIO.request.model_validate(request)) == {"image": PNG}
    (tmp_path / "a.png").write_bytes(PNG)
    assert SCENARIO.as_request_of_text(f"{tmp_path / 'a.png'}\n") == request
    for name in (str(tmp_path / "none.png"), str(tmp_path), "a\0b"):
        with pytest.raises(ValueError, match="the image can't be read"):
            SCENARIO.as_request_of_text(name)


def test_an_encoder_is_the_same_when_it_is_read_back_and_scales_any_image_to_its_size(tmp_path):
    rows = [{"image": PNG, "label": label} for label in "ab"]
    encoder = fit_image_encoder(rows, image=ImageConfig(size=16, patch=8, stride=4, channels=3))
    encoder.save(tmp_path)
    assert load_image_encoder(tmp_path) == encoder
    batch = encoder.collate(encoder.encode_batch(rows))["pixels"]
    assert batch.shape == (2, 3, 16, 16) and batch.dtype == np.uint8
    assert not batch[:, :, :2].any() and batch[:, :, 2:14].any()  # 12 x 9 in the middle of a square, on black
    assert encoder.targets([{"label": "b"}, {"label": "never seen"}]) == [{"class": np.array([1])}, None]


def test_one_class_is_a_training_error():
    with pytest.raises(TrainingError, match="1 class"):
        fit_image_encoder([{"image": PNG, "label": "a"}], image=ImageConfig())


@pytest.mark.parametrize(
    ("name", "format", "label_from"),
    [
        ("cat/1.png", "media", "directory"),
        ("train-images-idx3-ubyte.gz", "auto", "column"),
        ("a.csv", "auto", "column"),
    ],
)
def test_init_tells_a_folder_of_images_from_tables_and_idx(tmp_path, name, format, label_from):
    path = tmp_path / "images" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(PNG)
    root = tmp_path / "workspace"
    root.mkdir()
    assert main(["init", str(root), "--scenario", SCENARIO.name, "--source", str(tmp_path / "images")]) == 0
    source = yaml.safe_load((root / "params.yaml").read_text())["source"]
    assert (source["format"], source["label_from"]) == (format, label_from)

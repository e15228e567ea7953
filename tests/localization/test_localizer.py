"""The localizer's plumbing with fresh and with made-up networks; its accuracy is in docs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pictures import RIGHT_HAND, noise

from palmforge.data.hands.frames import PalmFrame, frame_of_points
from palmforge.errors import CheckpointError
from palmforge.localization.localizer import (
    LocalizerSettings,
    PalmLocalizer,
    _Candidate,
    _Reading,
)
from palmforge.localization.location import Localizer
from palmforge.localization.weights import (
    LocalizerWeights,
    NetworkSettings,
    export_localizer,
    fused,
    load_weights,
)
from palmforge.networks.landmarks import PalmDetector, PalmLandmarks

TINY = {"widths": (8, 8, 16, 16), "depths": (1, 1, 1, 1), "neck": 16}


@pytest.fixture(scope="module")
def weights() -> LocalizerWeights:
    torch.manual_seed(0)
    detector, landmarks = PalmDetector(**TINY), PalmLandmarks(**TINY)
    for network in (detector, landmarks):  # statistics of a batch, as after training
        network.train()(torch.rand(8, 3, 64, 64))
        network.eval().requires_grad_(False)
    return LocalizerWeights(
        detector, landmarks, NetworkSettings(**TINY, image_size=96),
        NetworkSettings(**TINY, image_size=64),
    )  # fmt: skip


def _everything(weights) -> PalmLocalizer:
    """Reports whatever its networks say."""
    return PalmLocalizer(weights, LocalizerSettings(candidate_score=0.0, min_confidence=0.0))


@pytest.mark.parametrize("shape", [(64, 64), (1, 1), (33, 700), (1500, 1000), (5000, 6000)])
def test_pictures_of_any_size_go_through(weights, shape):
    localizer = _everything(weights)
    for palm in localizer.locate_all(np.full((*shape, 3), 90, np.uint8)):
        assert palm.quad.shape == (4, 2) and np.isfinite(palm.keypoints21).all()
        assert palm.handedness in "LR" and 0 <= palm.confidence <= 1
        assert palm.visible14.shape == (14,) and palm.visible21.shape == (21,)


def test_the_surest_comes_first_and_locate_gives_it(weights):
    localizer, image = _everything(weights), noise(200, 300, smooth=8)
    palms = localizer.locate_all(image)
    assert palms and [p.confidence for p in palms] == sorted(
        (p.confidence for p in palms), reverse=True
    )
    first = localizer.locate(image)
    np.testing.assert_array_equal(first.keypoints14, palms[0].keypoints14)


def test_nothing_sure_is_none(weights):
    strict = PalmLocalizer(weights, LocalizerSettings(candidate_score=0.999))
    assert strict.locate(noise(100, 100)) is None and strict.locate_all(noise(100, 100)) == []


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((9, 9), np.uint8),
        np.zeros((9, 9, 4), np.uint8),
        np.zeros((9, 9, 3), np.float32),
        None,
    ],
)
def test_what_is_no_rgb_picture_is_refused(weights, image):
    with pytest.raises(ValueError, match="RGB"):
        PalmLocalizer(weights).locate(image)


def test_it_is_a_localizer(weights):
    assert isinstance(PalmLocalizer(weights), Localizer)


def _reader(truth: np.ndarray, mirrored_frames: list[bool]):
    """A landmark network that always reads `truth`, and tells when it is shown mirrored."""
    left = frame_of_points(truth[:14]).left

    def read(pyramid, frames):
        mirrored_frames.extend(frame.left != left for frame in frames)
        return [
            _Reading(truth, np.ones(35), 0.98, 0.99 if frame.left != left else 0.01)
            for frame in frames
        ]

    return read


@pytest.mark.parametrize("wrong", [{"left": True}, {"up": np.array([0.0, 1.0])}, {}])
def test_a_detector_that_errs_is_put_right_by_the_points(weights, monkeypatch, wrong):
    truth = np.concatenate([RIGHT_HAND, RIGHT_HAND[:7], RIGHT_HAND])
    true = frame_of_points(RIGHT_HAND)
    start = {"centre": true.centre + 5, "side": true.side, "up": true.up, "left": False, **wrong}
    localizer, shown = PalmLocalizer(weights), []
    monkeypatch.setattr(localizer, "_read", _reader(truth, shown))
    monkeypatch.setattr(localizer, "_detect", lambda *_: [_Candidate(PalmFrame(**start), 0.9)])
    palm = localizer.locate(noise(200, 240))
    assert palm.handedness == "R" and palm.confidence > 0.9
    np.testing.assert_allclose(palm.quad, true.quad)
    assert not shown[-1]  # the last look was the right way round


def test_one_palm_found_twice_is_reported_once(weights, monkeypatch):
    truth = np.concatenate([RIGHT_HAND, RIGHT_HAND[:7], RIGHT_HAND])
    true, localizer = frame_of_points(RIGHT_HAND), PalmLocalizer(weights)
    far = PalmFrame(true.centre + 4 * true.side, true.side, true.up, False)
    monkeypatch.setattr(localizer, "_read", _reader(truth, []))
    monkeypatch.setattr(
        localizer, "_detect", lambda *_: [_Candidate(true, 0.9), _Candidate(far, 0.6)]
    )
    assert len(localizer.locate_all(noise(200, 240))) == 1


def test_weights_survive_saving_and_loading(weights, tmp_path):
    PalmLocalizer(weights).save_pretrained(tmp_path / "mine")
    again = load_weights(tmp_path / "mine")
    image = torch.rand(1, 3, 64, 64)
    for ours, theirs in ((weights.detector, again.detector), (weights.landmarks, again.landmarks)):
        for one, other in zip(ours(image), theirs(image), strict=True):
            torch.testing.assert_close(one, other, atol=0.03, rtol=0.03)
    assert again.detector_settings == weights.detector_settings
    assert (tmp_path / "mine" / "model.safetensors").stat().st_size < 200_000  # float16


def test_fusing_changes_nothing(weights):
    image = torch.rand(1, 3, 64, 64)
    for network in (weights.detector, weights.landmarks):
        for one, other in zip(network(image), fused(network)(image), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_missing_and_broken_weights_are_named(weights, tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        PalmLocalizer.from_pretrained(tmp_path / "nowhere")
    weights.save(tmp_path / "cut")
    whole = (tmp_path / "cut" / "model.safetensors").read_bytes()
    (tmp_path / "cut" / "model.safetensors").write_bytes(whole[:1000])
    with pytest.raises(CheckpointError, match="cut"):
        PalmLocalizer.from_pretrained(tmp_path / "cut")
    weights.save(tmp_path / "old")
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    (tmp_path / "old" / "config.json").write_text(json.dumps({**config, "format_version": 0}))
    with pytest.raises(CheckpointError, match="format 0"):
        PalmLocalizer.from_pretrained(tmp_path / "old")


def test_two_checkpoints_make_a_localizer(weights, tmp_path):
    paths = {}
    for name in ("detector", "landmarks"):
        state = {f"network.{k}": v for k, v in getattr(weights, name).state_dict().items()}
        hyper = {**TINY, "image_size": 96}
        paths[name] = str(tmp_path / f"{name}.ckpt")
        torch.save({"state_dict": state, "hyper_parameters": hyper}, paths[name])
    export_localizer(paths["detector"], paths["landmarks"], str(tmp_path / "out"))
    assert PalmLocalizer.from_pretrained(tmp_path / "out").locate_all(noise(64, 64)) is not None
    with pytest.raises(CheckpointError, match="in this order"):
        export_localizer(paths["landmarks"], paths["detector"], str(tmp_path / "swapped"))

"""SAM 2 as a segmenter: a random one of 0.1 million weights, saved to a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hand_photographs import hand
from safetensors.torch import load_file, save_file

from palmforge.data.deidentification.sam2 import Sam2Segmenter
from palmforge.data.deidentification.segmentation import load_segmenter, palm_mask
from palmforge.errors import CheckpointError

IMAGE, POINTS = hand()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """As `save_pretrained` writes it."""
    from transformers import (
        Sam2Config,
        Sam2HieraDetConfig,
        Sam2ImageProcessor,
        Sam2MaskDecoderConfig,
        Sam2Model,
        Sam2Processor,
        Sam2PromptEncoderConfig,
        Sam2VisionConfig,
    )

    backbone = Sam2HieraDetConfig(
        hidden_size=8, image_size=[64, 64], blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64], num_attention_heads_per_stage=[1, 1, 1, 1],
        window_size_per_stage=[4, 2, 2, 2], global_attention_blocks=[3],
        window_positional_embedding_background_size=[2, 2],
    )  # fmt: skip
    config = Sam2Config(
        vision_config=Sam2VisionConfig(
            backbone_config=backbone, backbone_channel_list=[64, 32, 16, 8],
            backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]], fpn_hidden_size=32,
        ),
        prompt_encoder_config=Sam2PromptEncoderConfig(
            hidden_size=32, image_size=64, mask_input_channels=4
        ),
        mask_decoder_config=Sam2MaskDecoderConfig(
            hidden_size=32, mlp_dim=32, num_hidden_layers=1, num_attention_heads=2,
            iou_head_hidden_dim=16,
        ),
    )  # fmt: skip
    out = tmp_path_factory.mktemp("sam2")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Sam2Model(config).save_pretrained(out)
    sizes = {"size": {"height": 64, "width": 64}, "mask_size": {"height": 16, "width": 16}}
    Sam2Processor(Sam2ImageProcessor(**sizes)).save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def segment(folder) -> Sam2Segmenter:
    found = load_segmenter(f"sam2:{folder}")
    assert isinstance(found, Sam2Segmenter)
    return found


def test_it_is_a_segmenter_as_the_others_are(segment):
    wide = np.hstack([IMAGE, IMAGE[:, :50]])
    found = segment(wide, POINTS)
    assert found.shape == wide.shape[:2] and found.dtype == bool and 0 < found.mean() < 1
    np.testing.assert_array_equal(found, segment(wide, POINTS))
    assert palm_mask(IMAGE, POINTS, segment).any()


def test_it_is_asked_by_points_and_box_and_its_best_mask_is_taken(segment, monkeypatch):
    _, processor = segment._parts
    asked, masks = {}, torch.full((1, 1, 3, 16, 16), -1.0)
    masks[0, 0, 1, :8] = 1.0  # the upper half

    def answer(**inputs):
        asked.update(inputs)
        answers = {"pred_masks": masks, "iou_scores": torch.tensor([[[0.2, 0.9, 0.3]]])}
        return type("Output", (), answers)()

    monkeypatch.setitem(segment.__dict__, "_parts", (answer, processor))
    some = POINTS.copy()
    some[[4, 8]] = [[-3, 50], [5000, 5000]]  # beyond the picture
    found = segment(IMAGE, some)
    assert found[:79].all() and not found[81:].any()
    scale = 64 / len(IMAGE)
    inside = np.delete(POINTS, [4, 8], axis=0) * scale
    np.testing.assert_allclose(asked["input_points"][0, 0].numpy(), inside, atol=1e-3)
    assert asked["input_labels"].tolist() == [[[1] * 19]] and asked["multimask_output"] is True
    left, top, right, bottom = asked["input_boxes"][0, 0].tolist()
    assert left == 0 and right == bottom == pytest.approx(159 * scale)
    assert top <= inside[:, 1].min()


def test_without_a_point_in_the_picture_there_is_no_hand(segment):
    assert not segment(IMAGE, POINTS + 5000).any()
    assert not segment(IMAGE, np.full((21, 2), np.nan)).any()


def test_one_that_cannot_be_had_is_refused_at_once(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere", "nobody/has-this"):
        with pytest.raises(CheckpointError, match=r"no folder of SAM 2.*hf download"):
            load_segmenter(f"sam2:{place}")


def test_another_model_is_refused_at_once(folder, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "sam"}))
    with pytest.raises(CheckpointError, match="'sam', not SAM 2"):
        load_segmenter(f"sam2:{tmp_path}")


def test_weights_that_are_not_whole_are_refused(folder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    weights = load_file(broken / "model.safetensors")
    del weights["no_memory_embedding"]
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="1 weights are missing"):
        load_segmenter(f"sam2:{broken}")(IMAGE, POINTS)
    (broken / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="could not be had"):
        load_segmenter(f"sam2:{broken}")(IMAGE, POINTS)

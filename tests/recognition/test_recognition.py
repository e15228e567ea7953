"""A recogniser on disk is the one that was trained; templates and distances are what they say."""

from __future__ import annotations

import json

import pytest
import torch

from palmforge.errors import CheckpointError
from palmforge.modules.recognizer import MarginRecognizer
from palmforge.networks.embedding import PalmEmbedding
from palmforge.recognition import EmbeddingRecognizer, load, save
from palmforge.recognition.weights import EMBEDDED

SMALL = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}


@pytest.fixture
def network() -> PalmEmbedding:
    torch.manual_seed(0)
    network = PalmEmbedding(embedding_dim=24, image_size=64, grid_channels=4, backbone_args=SMALL)
    network(torch.rand(8, 3, 64, 64))  # batch norm has seen something
    return network.eval()


@pytest.fixture
def rois():
    return torch.rand(7, 3, 72, 72, generator=torch.Generator().manual_seed(1))


def test_a_folder_gives_the_network_back(network, rois, tmp_path):
    save(network, str(tmp_path / "exact"), "a test", half=False)
    torch.testing.assert_close(load(str(tmp_path / "exact"))(rois), network(rois))
    save(network, str(tmp_path / "half"), "a test")
    assert (load(str(tmp_path / "half"))(rois) * network(rois)).sum(1).min() > 0.9999
    assert json.loads((tmp_path / "half" / "config.json").read_text())["made_by"] == "a test"
    sizes = [(tmp_path / n / "model.safetensors").stat().st_size for n in ("exact", "half")]
    assert sizes[1] < 0.6 * sizes[0]


def test_a_checkpoint_gives_the_network_back(rois, tmp_path):
    module = MarginRecognizer(["a", "b"], 64, embedding_dim=24, backbone_args=SMALL)
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "last.ckpt")
    expected = module.eval()(rois)
    torch.testing.assert_close(load(str(tmp_path / "last.ckpt"))(rois), expected)


def test_embed_takes_bytes_and_any_number_and_distance_is_cosine(network, rois):
    recognizer = EmbeddingRecognizer(network, batch_size=3)
    templates = recognizer.embed(rois)
    torch.testing.assert_close(templates, network(rois))
    as_bytes = (rois * 255).round().to(torch.uint8)
    torch.testing.assert_close(recognizer.embed(as_bytes), network(as_bytes / 255))
    assert recognizer.embed(rois[:0]).shape == (0, 24)
    found = recognizer.distance(templates[:2], templates)
    torch.testing.assert_close(found, (1 - templates[:2] @ templates.T).clamp(min=0))


def test_quality_is_the_length_of_a_vector_before_it_is_brought_to_one(network, rois):
    templates, quality = EmbeddingRecognizer(network, batch_size=3).embed_with_quality(rois)
    torch.testing.assert_close(templates * quality[:, None], network.features(rois))
    assert quality.shape == (7,) and quality.std() > 0


def test_it_stays_in_eval_mode_with_frozen_weights_and_lets_gradients_through(network, rois):
    recognizer = EmbeddingRecognizer(network)
    holder = torch.nn.Sequential(recognizer).train()
    before = {k: v.clone() for k, v in recognizer.state_dict().items()}
    rois.requires_grad_()
    holder(rois)[:, 0].sum().backward()
    assert rois.grad.abs().sum() > 0
    assert all(p.grad is None for p in recognizer.parameters())
    for name, values in recognizer.state_dict().items():
        torch.testing.assert_close(values, before[name])


def test_what_is_no_recogniser_is_refused(network, tmp_path):
    with pytest.raises(CheckpointError, match="no recogniser 'nothing'"):
        load("nothing")
    (tmp_path / "text.ckpt").write_text("no")
    with pytest.raises(CheckpointError, match="not a checkpoint of a recogniser"):
        load(str(tmp_path / "text.ckpt"))
    save(network, str(tmp_path / "cut"), "a test")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="not a whole recogniser"):
        load(str(tmp_path / "cut"))
    save(network, str(tmp_path / "other"), "a test")
    config = tmp_path / "other" / "config.json"
    config.write_text(config.read_text().replace('"embedding_dim": 24', '"embedding_dim": 32'))
    with pytest.raises(CheckpointError, match="do not fit"):
        load(str(tmp_path / "other"))


def test_the_embedded_recogniser_tells_rendered_palms_apart(palms_root):
    """A clean clone, no network: pictures of the tests' 8 palms."""
    from palmforge.data.layouts import scan
    from palmforge.data.roi_cache import RoiSettings, extract

    records = scan(palms_root, "xjtu_up", ["IN"]).records
    pictures = [torch.from_numpy(extract(r, RoiSettings(128))).permute(2, 0, 1) for r in records]
    recognizer = load()
    templates = recognizer.embed(torch.stack(pictures))
    distances = recognizer.distance(templates, templates).fill_diagonal_(9)
    names = [record.identity for record in records]
    right = [names[i] == names[int(d.argmin())] for i, d in enumerate(distances)]
    assert sum(right) / len(right) > 0.9
    files = EMBEDDED["synthetic-only"].iterdir()
    assert sum(file.stat().st_size for file in files) <= 20 * 2**20

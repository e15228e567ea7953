"""The embedded recogniser is the one that was trained: a known embedding, and palms told apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from palmforge.data.synthetic import render_roi
from palmforge.recognition import load
from palmforge.recognition.weights import EMBEDDED, WEIGHTS

FOLDER = EMBEDDED["synthetic-only"]
# Of `pattern()`; the weights' commit changes them.
KNOWN = {
    "synthetic-only": [0.0813, 0.0804, -0.0094, 0.083, -0.0738, 0.0821, -0.0953, -0.1538],
    "synthetic-only-v1": [0.0859, 0.074, 0.0356, 0.1277, -0.0816, 0.0509, -0.1041, -0.1068],
}


@pytest.fixture(scope="module")
def recognizer():
    return load("synthetic-only")


def pattern() -> torch.Tensor:
    """A picture that no renderer has a part in, [1, 3, 128, 128]."""
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    lines = torch.stack([torch.sin(x / 7 + y / 19), torch.cos(y / 11), torch.sin((x - y) / 13)])
    return (lines * 0.4 + 0.5)[None]


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_picture_has_a_known_embedding(name):
    embedding = load(name)(pattern())[0]
    assert embedding.norm().item() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(embedding[:8].numpy(), KNOWN[name], atol=2e-3)


def test_it_is_small(recognizer):
    assert sum(p.numel() for p in recognizer.parameters()) <= 5_000_000
    assert (FOLDER / WEIGHTS).stat().st_size <= 20 * 2**20


def test_any_size_and_grey_pictures_are_read(recognizer):
    rois = torch.rand(2, 3, 200, 180, generator=torch.Generator().manual_seed(0))
    assert recognizer(rois).shape == recognizer(rois[..., :60, :50]).shape
    grey = rois.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    assert recognizer(grey).isfinite().all()


def test_quality_falls_where_noise_hides_the_lines(recognizer):
    rois = np.stack([render_roi(i, 1, "IN", 128, 991)[0] for i in range(8)]).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 120, rois.shape)
    pictures = np.concatenate([rois, np.clip(rois + noise, 0, 255)]).transpose(0, 3, 1, 2) / 255
    quality = recognizer.embed_with_quality(torch.from_numpy(pictures).float())[1]
    assert (quality[:8] > quality[8:]).all()


def test_palms_it_has_never_seen_are_told_apart(recognizer):
    identities, captures = range(30), (1, 2)
    rois = np.stack([render_roi(i, c, "IN", 128, 991)[0] for c in captures for i in identities])
    with torch.inference_mode():
        templates = recognizer(torch.from_numpy(rois).permute(0, 3, 1, 2).float() / 255)
    distances = recognizer.distance(templates[30:], templates[:30])
    assert (distances.argmin(1) == torch.arange(30)).float().mean() >= 0.9

"""Competitive Code gives lines the code of their way, and palms distances that tell them apart."""

from __future__ import annotations

import pytest
import torch
from hand_crafted import dark_lines, genuine_and_impostor, near_the_middle_line, rendered_palms

from palmforge.errors import ConfigError
from palmforge.recognition.competitive_code import BITS, CompetitiveCode
from palmforge.recognition.shifted_hamming import pack_maps, unpack_maps


def template_of(codes: torch.Tensor) -> torch.Tensor:
    """[grid, grid] in 0 … 5 → [1, 3, grid, grid / 8]."""
    return pack_maps(torch.tensor(BITS).bool()[codes].permute(2, 0, 1)[None])


@pytest.mark.parametrize("code", range(6))
def test_lines_have_the_code_of_their_way(code):
    degrees = 90 + 30 * code
    found = CompetitiveCode().codes(dark_lines(degrees))[0]
    on_line = found[near_the_middle_line(degrees)]
    assert len(on_line) > 10
    assert (on_line == code).all()


def test_distances_by_hand():
    small = CompetitiveCode(image_size=32, grid=8, filter_size=9, max_shift=0)
    p = torch.zeros(8, 8, dtype=torch.long)
    q = p.clone()
    q[0] = torch.tensor([0, 1, 2, 3, 4, 5, 5, 3])  # angles 0 1 2 3 2 1 1 3: 13 of 3 · 64 bits
    found = small.distance(template_of(p), template_of(q)).item()
    assert found == pytest.approx(13 / 192, abs=1e-7)


def test_distance_is_the_angle_between_codes():
    small = CompetitiveCode(image_size=32, grid=8, filter_size=9)
    even = torch.cat([template_of(torch.full((8, 8), code)) for code in range(6)])
    steps = (torch.arange(6)[:, None] - torch.arange(6)).abs()
    torch.testing.assert_close(small.distance(even, even), torch.minimum(steps, 6 - steps) / 3)


def test_a_template_is_the_packed_codes():
    recognizer = CompetitiveCode(batch_size=4)
    rois, _ = rendered_palms()
    templates = recognizer.embed(rois[:6])
    assert templates.shape == (6, 3, 32, 4) and templates.dtype == torch.uint8
    assert templates[0].numel() == recognizer.template_bytes == 384
    bits = torch.tensor(BITS).bool()[recognizer.codes(rois[:6])].permute(0, 3, 1, 2)
    assert torch.equal(unpack_maps(templates), bits)
    assert recognizer.embed(rois[:0]).shape == (0, 3, 32, 4)
    assert torch.equal(recognizer.embed(rois[:6] / 255), templates)


def test_palms_are_told_apart():
    rois, labels = rendered_palms()
    recognizer = CompetitiveCode()
    templates = recognizer.embed(rois)
    distances = recognizer.distance(templates, templates)
    assert torch.equal(distances, distances.T)
    assert (distances.diagonal() == 0).all()
    assert distances.min() >= 0 and distances.max() <= 1
    genuine, impostor = genuine_and_impostor(distances, labels)
    assert genuine.mean() < impostor.mean() - 0.1
    assert (genuine.quantile(0.9) < impostor.quantile(0.1)).item()


def test_a_palm_moved_by_four_codes_is_itself_where_nothing_came_in():
    """Codes near an edge see what is mirrored there, so the picture is cut from a larger one."""
    rois, _ = rendered_palms()
    large = torch.nn.functional.interpolate(rois[:1].float() / 255, size=176, mode="bilinear")
    recognizer = CompetitiveCode()
    base = recognizer.embed(large[..., 24:152, 24:152])
    near = recognizer.embed(large[..., 40:168, 8:136])  # 16 pixels: 4 codes
    far = recognizer.embed(large[..., 48:176, :128])  # 6 codes
    # Not zero: codes near an edge saw mirrored pixels. 0.09 … 0.11 and 0.42 … 0.46 for six palms.
    assert recognizer.distance(base, near).item() < 0.12
    assert recognizer.distance(base, far).item() > recognizer.distance(base, near).item() + 0.1


@pytest.mark.parametrize("level", [0, 77, 255])
def test_an_even_roi_has_one_code(level):
    recognizer = CompetitiveCode()
    even = torch.full((1, 3, 128, 128), level, dtype=torch.uint8)
    assert (recognizer.codes(even) == 0).all()
    palm = recognizer.embed(rendered_palms()[0][:1])
    assert 0.3 < recognizer.distance(recognizer.embed(even), palm).item() < 0.7


def test_what_does_not_fit_is_refused():
    recognizer = CompetitiveCode()
    with pytest.raises(ValueError, match="expected"):
        recognizer.embed(torch.rand(2, 1, 128, 128))
    with pytest.raises(ValueError, match="expected"):
        recognizer.embed(torch.rand(3, 128, 128))
    with pytest.raises(ValueError, match="expected"):
        recognizer.embed(torch.ones(1, 3, 128, 128, dtype=torch.int64))
    with pytest.raises(ValueError, match="NaN"):
        recognizer.embed(torch.full((1, 3, 128, 128), torch.nan))
    templates = recognizer.embed(rendered_palms()[0][:2])
    with pytest.raises(ValueError, match="packed bit maps"):
        recognizer.distance(templates.flatten(1), templates)
    with pytest.raises(ValueError, match="cannot be compared"):
        recognizer.distance(templates[:, :2], templates)
    for wrong in ({"grid": 30}, {"image_size": 100}, {"max_shift": 32}, {"filter_size": 257}):
        with pytest.raises(ConfigError):
            CompetitiveCode(**wrong)

"""Line maps: dark lines and nothing else, whatever the light, and the same at every size."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from palmforge.data.synthetic import render_roi
from palmforge.errors import ConfigError
from palmforge.networks.line_filters import LineFilters, grow, half_line_filters

SKIN = torch.tensor([0.8, 0.6, 0.5]).view(3, 1, 1)


def skin_with_line(
    size: int, degrees: float = 90.0, depth: float = 0.2, width: float = 0.012, offset: float = 0.0
) -> tuple[Tensor, Tensor]:
    """`[1, 3, size, size]` and each pixel's distance from the line, in sides (90°: upright)."""
    axis = (torch.arange(size) + 0.5) / size - 0.5
    angle = math.radians(degrees)
    distance = axis * math.sin(angle) + axis[:, None] * math.cos(angle) - offset
    profile = 1 - depth * torch.exp(-0.5 * (distance / width).square())
    return (SKIN * profile)[None], distance.abs()


@lru_cache
def rois(size: int, domain: str, capture: int = 1) -> Tensor:
    """`[5, 3, size, size]` uint8: five rendered palms."""
    pictures = [render_roi(2 * i, capture, domain, size, 0)[0] for i in range(5)]
    return torch.from_numpy(np.stack(pictures)).movedim(-1, 1).contiguous()


def correlations(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's, `[Na, Nb]`, of flattened maps."""
    rows = [m.flatten(1).double() for m in (a, b)]
    rows = [m - m.mean(1, keepdim=True) for m in rows]
    one, other = (m / m.norm(dim=1, keepdim=True) for m in rows)
    return one @ other.T


def d_prime(genuine: Tensor, impostor: Tensor) -> float:
    pooled = (genuine.var() + impostor.var()) / 2
    return float((genuine.mean() - impostor.mean()) / pooled.sqrt())


@pytest.mark.parametrize("mode", ["soft", "binary"])
@pytest.mark.parametrize("degrees", [0.0, 37.0, 90.0, 101.25])
def test_a_dark_line_is_found_where_it_is(mode, degrees):
    image, distance = skin_with_line(96, degrees)
    lines = LineFilters(mode)(image)[0, 0]
    assert lines[distance < 0.006].min() > 0.85
    assert lines[distance > 0.05].max() < 0.06


def test_a_bright_line_and_the_edge_of_a_shadow_are_none():
    bright, distance = skin_with_line(96, 60.0, depth=-0.2)
    dark, _ = skin_with_line(96, 60.0)
    shadow = dark * torch.where(torch.arange(96) < 30, 0.6, 1.0)
    edge = (distance > 0.05) & ((torch.arange(96) - 29.5).abs() < 8)
    assert LineFilters()(bright).max() < 0.15
    seen = {s: LineFilters(sidedness=s)(shadow)[0, 0][edge].max() for s in (0.0, 0.75, 1.0)}
    assert seen[1.0] < 0.05 and seen[0.75] < 0.4
    assert seen[0.0] > 0.95  # an ordinary second derivative is deceived


@pytest.mark.parametrize("mode", ["soft", "binary"])
def test_even_skin_and_a_slope_of_light_have_no_lines_at_the_border_either(mode):
    slope = torch.linspace(0.3, 1.0, 80)
    pictures = torch.cat([SKIN.expand(1, 3, 80, 80), torch.zeros(1, 3, 80, 80)])
    slopes = torch.stack([SKIN * slope.expand(80, 80), SKIN * slope[:, None] * slope])
    lines = LineFilters(mode)(torch.cat([pictures, slopes]))
    assert lines.max() < 0.05


def test_light_gamma_and_tone_do_not_change_the_map():
    image = rois(128, "IF").float() / 255
    axis = torch.linspace(-1, 1, 128)
    light = 0.75 + 0.25 * axis * axis[:, None].cos()
    tone = torch.tensor([0.9, 0.5, 0.4]).view(3, 1, 1)
    filters = LineFilters()
    lines = filters(image)
    for changed in (image * 0.5, image * light, image**1.6, image**0.7, image * tone):
        assert correlations(lines, filters(changed)).diag().min() > 0.94


def test_noise_hardly_changes_the_map():
    image = rois(64, "IF").float() / 255
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    noisy = (image + 0.02 * noise).clamp(0, 1)
    assert correlations(LineFilters()(image), LineFilters()(noisy)).diag().min() > 0.85


@pytest.mark.parametrize("size", [64, 100, 512])
def test_the_map_is_the_same_at_each_size(size):
    """One picture, resized: to halves, doubles and to a size that no scale divides."""
    image = rois(256, "SN").float() / 255
    resized = interpolate(image, (size, size), mode="bilinear", antialias=True)
    filters = LineFilters()
    lines, again = (interpolate(filters(i), (64, 64), mode="area") for i in (image, resized))
    assert correlations(lines, again).diag().min() > 0.98
    assert again.mean().item() == pytest.approx(lines.mean().item(), rel=0.1)


@pytest.mark.parametrize("mode", ["soft", "binary"])
def test_maps_of_one_palm_are_alike_across_devices_and_light(mode):
    filters = LineFilters(mode)
    one, other = filters(rois(64, "IF")), filters(rois(64, "SN", 2))
    one, other = (interpolate(m, (32, 32), mode="area") for m in (one, other))
    alike = torch.stack(  # the best of small shifts: a palm is never held twice in one place
        [correlations(one, other.roll((y, x), (2, 3))) for y in range(-3, 4) for x in range(-3, 4)]
    ).amax(0)
    strangers = ~torch.eye(5, dtype=torch.bool)
    assert d_prime(alike.diag(), alike[strangers]) > 1.5


def test_binary_is_nought_or_one_with_the_gradient_of_soft():
    image = (rois(64, "IF")[:2].float() / 255).requires_grad_()
    weights = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    soft, binary = LineFilters("soft")(image), LineFilters("binary")(image)
    assert set(binary.unique().tolist()) == {0.0, 1.0}
    assert (soft[binary == 1] >= LineFilters().keep_level).all()
    of_soft, of_binary = (
        torch.autograd.grad((m * weights).sum(), image)[0] for m in (soft, binary)
    )
    assert of_soft.abs().max() > 0
    torch.testing.assert_close(of_soft, of_binary)


def test_gradient_is_that_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    image = 0.2 + 0.6 * torch.rand(1, 3, 17, 19, generator=generator, dtype=torch.float64)
    filters = LineFilters(num_orientations=4, scales=(0.03, 0.05), elongation=2.0)
    assert torch.autograd.gradcheck(filters, image.requires_grad_(), fast_mode=True)


def test_gradient_is_finite_on_even_and_black_pictures():
    image = torch.cat([torch.zeros(1, 3, 32, 32), torch.full((1, 3, 32, 32), 0.5)])
    image[0, 0] -= 0.1  # what a generator may give
    (gradient,) = torch.autograd.grad(LineFilters()(image.requires_grad_()).sum(), image)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("mode", ["soft", "binary"])
def test_shape_and_type_of_the_map(mode):
    filters = LineFilters(mode)
    image = rois(64, "IF")[:2, :, :48]
    lines = filters(image)
    assert lines.shape == (2, 1, 48, 64) and lines.dtype == torch.float32
    assert lines.min() >= 0 and lines.max() <= 1
    torch.testing.assert_close(filters(image.float() / 255), lines)
    assert filters(image.double() / 255).dtype == torch.float64
    assert filters((image.float() / 255).half()).dtype == torch.float32
    assert filters(image[:0]).shape == (0, 1, 48, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(filters(image), lines)
    torch.testing.assert_close(filters(image[1:]), lines[1:])  # whatever is beside it


def test_a_region_is_kept_where_it_holds_a_seed():
    rows = ["##...#", "..#..#", "...#..", "......", "###..#"]
    region = torch.tensor([[c == "#" for c in row] for row in rows])[None, None]
    seeds = torch.zeros_like(region)
    seeds[0, 0, 0, 0] = seeds[0, 0, 4, 5] = seeds[0, 0, 3, 1] = True  # the last: in no region
    kept = ["".join(".#"[int(v)] for v in row) for row in grow(seeds, region)[0, 0]]
    assert kept == ["##....", "..#...", "...#..", "......", ".....#"]


def test_growth_follows_a_line_to_its_end():
    region = torch.zeros(1, 1, 3, 200, dtype=torch.bool)
    region[..., 1, :] = True
    seeds = torch.zeros_like(region)
    seeds[..., 1, 0] = True
    assert torch.equal(grow(seeds, region), region)


def test_filters_see_no_evenness_and_come_in_two_sides():
    bank = half_line_filters(6, 3.0, 2.5)
    assert bank.shape == (12, 1, 17, 17)
    assert bank.sum((1, 2, 3)).abs().max() < 1e-6
    torch.testing.assert_close(bank[:6].flip(2, 3), bank[6:], atol=1e-7, rtol=0)
    assert bank[0, 0, 8, 10] > 0 > bank[0, 0, 8, 8]  # side 0 is to the right


def test_nothing_is_saved():
    assert not LineFilters().state_dict() and not list(LineFilters().parameters())


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(3, 64, 64),
        torch.zeros(1, 1, 64, 64),
        torch.zeros(1, 3, 64, 15),
        torch.zeros(1, 3, 64, 64, dtype=torch.int64),
    ],
    ids=["no batch", "grey", "small", "int64"],
)
def test_other_pictures_are_refused(wrong):
    with pytest.raises(ValueError, match=r"uint8 or floats in \[0, 1\], expected, got"):
        LineFilters()(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "hard"},
        {"num_orientations": 1},
        {"elongation": 0.5},
        {"threshold": 0.0},
        {"gain": 0.5},
        {"locality": 1.5},
        {"sidedness": -0.1},
        {"keep_level": 0.9},
        {"scales": ()},
        {"scales": (0.01, 0.2)},
        {"scales": (0.0, 0.01)},
    ],
)
def test_impossible_settings_are_refused_by_name(wrong):
    name = next(iter(wrong))
    with pytest.raises(ConfigError, match=name):
        LineFilters(**wrong)

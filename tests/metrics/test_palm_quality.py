"""Which pictures are no palms at all."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.functional import gaussian_blur

from palmforge.data.factory.filters import Filters
from palmforge.data.synthetic.render import render_roi
from palmforge.metrics.palm_quality import palm_quality

SIZE = 64


def flat(grey: int) -> torch.Tensor:
    return torch.full((3, SIZE, SIZE), grey, dtype=torch.uint8)


def noise() -> torch.Tensor:
    drawn = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    return (drawn * 255).to(torch.uint8)


def palm(identity: int, preset: str = "IF") -> torch.Tensor:
    return torch.from_numpy(render_roi(identity, 0, preset, SIZE, 0)[0]).permute(2, 0, 1)


def why(*pictures: torch.Tensor) -> list[str | None]:
    """What the filters say of them."""
    scores = palm_quality(torch.stack(pictures))
    columns = {name: values.tolist() for name, values in scores.items()}
    return [
        Filters().poor({name: values[i] for name, values in columns.items()})
        for i in range(len(pictures))
    ]


def test_rendered_palms_are_good():
    assert why(*(palm(i, preset) for i in range(4) for preset in ("IF", "MN"))) == 8 * [None]


def test_what_is_no_palm_is_rejected_and_the_reason_is_named():
    dim = (palm(0).float() / 12).to(torch.uint8)
    bright = palm(0).float().mul(0.05).add(240).to(torch.uint8)
    assert why(flat(0), flat(128), flat(255), dim, bright) == [
        "brightness", "contrast", "brightness", "brightness", "brightness",
    ]  # fmt: skip


def test_a_gradient_has_contrast_but_no_lines():
    ramp = torch.linspace(40, 200, SIZE).to(torch.uint8).expand(3, SIZE, SIZE)
    assert why(ramp) == ["lines"]


def test_noise_has_more_lines_than_any_palm():
    coarse = torch.nn.functional.interpolate(noise()[None].float(), scale_factor=4, mode="bicubic")
    crop = coarse[0, :, :SIZE, :SIZE].clamp(0, 255).to(torch.uint8)
    grey = noise()[:1].expand(3, -1, -1)
    assert set(why(noise(), grey, crop)) <= {"lines", "relief"}


def test_scores_are_in_their_ranges_and_floats_and_bytes_agree():
    pictures = torch.stack([noise(), flat(0), flat(255), palm(1)])
    scores = palm_quality(pictures)
    assert scores.keys() == {"brightness", "contrast", "relief", "lines"}
    for name, most in (("brightness", 1.0), ("contrast", 0.5), ("lines", 1.0)):
        assert scores[name].shape == (4,) and scores[name].dtype == torch.float32
        assert scores[name].min() >= 0 and scores[name].max() <= most + 1e-6
        torch.testing.assert_close(palm_quality(pictures / 255)[name], scores[name])
    torch.testing.assert_close(scores["brightness"][1:3], torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("count", [1, 17])
def test_pictures_do_not_depend_on_their_company(count):
    pictures = torch.stack([palm(i % 3) for i in range(count)])
    alone = [palm_quality(picture[None])["lines"] for picture in pictures]
    torch.testing.assert_close(palm_quality(pictures)["lines"], torch.cat(alone))


@pytest.mark.parametrize("size", [64, 256])
def test_relief_is_that_of_the_creases_whatever_the_light_and_the_size(size):
    image = torch.full((1, 3, size, size), 0.6)
    width = size // 32
    image[..., size // 2 : size // 2 + width, :] *= 0.7
    deep = palm_quality(image)["relief"]
    torch.testing.assert_close(palm_quality(0.5 * image)["relief"], deep, rtol=0.2, atol=0)
    blurred = gaussian_blur(image, 16 * width + 1, 3.0 * width)
    assert palm_quality(blurred)["relief"] < 0.5 * deep
    small = torch.nn.functional.interpolate(image, 64, mode="area")
    torch.testing.assert_close(palm_quality(small)["relief"], deep, rtol=0.2, atol=0)

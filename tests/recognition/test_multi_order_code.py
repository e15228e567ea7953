"""MTCC's bits are the signs of its two orders of responses; its distances tell palms apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hand_crafted import dark_lines, genuine_and_impostor, near_the_middle_line, rendered_palms

from palmforge.errors import ConfigError
from palmforge.networks.gabor import real_gabors
from palmforge.recognition.multi_order_code import MultiOrderCode
from palmforge.recognition.shifted_hamming import pack_maps, unpack_maps
from palmforge.recognition.texture import texture


def test_bits_are_those_of_a_loop_over_filters():
    """Reference: whole convolutions with SciPy, sampled afterwards."""
    from scipy.ndimage import convolve

    rois = rendered_palms()[0][:2]
    grey = texture(rois, 128)[:, 0].double().numpy()
    bank = real_gabors()[:, 0].double().numpy()
    found = MultiOrderCode().bits(rois).numpy()
    for picture, bits in zip(grey, found, strict=True):
        for k, kernel in enumerate(bank):
            first = convolve(picture, kernel, mode="mirror")
            second = convolve(first, kernel, mode="mirror")
            for order, response in enumerate((first, second)):
                sampled = response[2::4, 2::4]
                sure = np.abs(sampled) > 1e-6 * np.abs(response).max()  # no rounding's affair
                assert sure.mean() > 0.99
                np.testing.assert_array_equal(
                    bits[6 * order + k][sure], (sampled > 0)[sure], err_msg=f"{order=} {k=}"
                )


@pytest.mark.parametrize("code", range(6))
def test_the_filter_of_a_dark_line_answers_below_zero_and_the_one_across_above(code):
    degrees = 90 + 30 * code
    bits = MultiOrderCode().bits(dark_lines(degrees))[0]
    on_line = near_the_middle_line(degrees)
    assert not bits[code][on_line].any()
    assert bits[code + 6][on_line].float().mean() < 0.1


def test_distances_by_hand():
    small = MultiOrderCode(image_size=32, grid=8, filter_size=9, max_shift=0)
    a = torch.zeros(1, 12, 8, 8, dtype=torch.bool)
    b = a.clone()
    b[0, 0] = True  # 64 of 64 bits differ
    b[0, 3, 0] = True  # 8 of 64
    b[0, 11, :, 0] = True  # 8 of 64
    found = small.distance(pack_maps(a), pack_maps(b)).item()
    assert found == pytest.approx((1 + 1 / 8 + 1 / 8) / 12, abs=1e-7)
    # With a shift of one the row and the column at the edge fall outside: only channel 0 is left.
    small.max_shift = 1
    assert small.distance(pack_maps(a), pack_maps(b)).item() == pytest.approx(1 / 12, abs=1e-7)


def test_each_channel_has_its_own_shift_unless_it_is_shared():
    generator = torch.Generator().manual_seed(0)
    field = torch.rand(12, 40, 40, generator=generator) < 0.5
    own = [(4 + k % 3, 4 - k % 2) for k in range(12)]  # every channel is displaced otherwise
    a = pack_maps(field[None, :, 4:36, 4:36])
    b = pack_maps(
        torch.stack([field[k, y : y + 32, x : x + 32] for k, (y, x) in enumerate(own)])[None]
    )
    assert MultiOrderCode().distance(a, b).item() == 0
    assert MultiOrderCode(shared_shift=True).distance(a, b).item() > 0.35


def test_a_template_is_the_packed_bits():
    recognizer = MultiOrderCode(batch_size=4)
    rois, _ = rendered_palms()
    templates = recognizer.embed(rois[:6])
    assert templates.shape == (6, 12, 32, 4) and templates.dtype == torch.uint8
    assert templates[0].numel() == recognizer.template_bytes == 1536
    assert torch.equal(unpack_maps(templates), recognizer.bits(rois[:6]))
    assert recognizer.embed(rois[:0]).shape == (0, 12, 32, 4)
    assert torch.equal(recognizer.embed(rois[:6] / 255), templates)


@pytest.mark.parametrize("shared_shift", [False, True])
def test_palms_are_told_apart(shared_shift):
    rois, labels = rendered_palms()
    recognizer = MultiOrderCode(shared_shift=shared_shift)
    templates = recognizer.embed(rois)
    distances = recognizer.distance(templates, templates)
    assert torch.equal(distances, distances.T)
    assert (distances.diagonal() == 0).all()
    assert distances.min() >= 0 and distances.max() <= 1
    genuine, impostor = genuine_and_impostor(distances, labels)
    assert genuine.mean() < impostor.mean() - 0.1
    assert (genuine.quantile(0.9) < impostor.quantile(0.1)).item()


@pytest.mark.parametrize("level", [0, 77, 255])
def test_an_even_roi_has_no_bit(level):
    recognizer = MultiOrderCode()
    even = recognizer.embed(torch.full((1, 3, 128, 128), level, dtype=torch.uint8))
    assert (even == 0).all()
    palm = recognizer.embed(rendered_palms()[0][:1])
    assert 0.3 < recognizer.distance(even, palm).item() < 0.7


def test_what_does_not_fit_is_refused():
    recognizer = MultiOrderCode()
    with pytest.raises(ValueError, match="expected"):
        recognizer.embed(torch.rand(2, 4, 128, 128))
    with pytest.raises(ValueError, match="NaN"):
        recognizer.embed(torch.full((1, 3, 128, 128), torch.nan))
    templates = recognizer.embed(rendered_palms()[0][:2])
    with pytest.raises(ValueError, match="packed bit maps"):
        recognizer.distance(templates.float(), templates)
    with pytest.raises(ValueError, match="cannot be compared"):
        recognizer.distance(templates[:, :6], templates)
    for wrong in ({"grid": 30}, {"image_size": 100}, {"max_shift": -1}, {"filter_size": 16}):
        with pytest.raises(ConfigError):
            MultiOrderCode(**wrong)

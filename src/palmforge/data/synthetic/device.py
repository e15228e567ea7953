"""What takes the pictures: the phones of XJTU-UP, and whatever takes pictures in the wild."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from palmforge.data.synthetic.streams import truncated_normal


@dataclass(frozen=True)
class Device:
    """One camera, and what it does in one capture.

    Lengths are in pixels of a picture of 384 × 384; larger pictures have more of them.

    Attributes:
        folder: name of its folder in XJTU-UP, or what kind of camera it is.
        white_balance: [R, G, B] cast.
        saturation: colourfulness, 1 = as it was, 0 = grey.
        contrast: strength of its S-shaped tone curve, 0 = none; below 0 it is flat.
        lens_blur: standard deviation of the lens's blur.
        sharpening: amount of unsharp masking.
        noise: standard deviation of the noise, in grey levels of 255.
        jpeg_quality: 1..100, of the file that is written.
        subsampling: chroma subsampling of that file: "444", "422" or "420".
        exposure: stops above (or below) what its meter would choose.
        metering: share of the picture's middle in what the meter sees.
        gamma: exponent of the tone curve; above 1 is darker.
        black: grey level 0..1 of the darkest pixel.
        haze: share of stray light.
        tint: [R, G, B] added to every pixel: filters and old films.
        clarity: local contrast over a wide neighbourhood.
        halo: standard deviation of the unsharp mask.
        shadow_noise: how much stronger noise is in the dark.
        chroma_noise: coloured noise against grey noise.
        grain: size of the noise in pixels of the picture itself.
        blotch: size of the coloured noise in pixels of the picture itself.
        denoising: strength of an edge-keeping filter that smears detail, 0..1.
        defocus: radius of the disc of a missed focus.
        motion: length of a shaking hand's trace.
        motion_angle: its direction, radians.
        vignetting: loss of light in the corners, 0..1.
        camera_quality: JPEG quality inside the camera, before it is made smaller; 0 = none.
        camera_subsampling: its chroma subsampling.
        shrink: factor by which the picture is made smaller, and then larger again.
        enlarging: interpolation of the latter: "nearest", "linear", "cubic" or "lanczos".
        web_quality: JPEG quality of the small picture; 0 = none.
        web_subsampling: its chroma subsampling.
    """

    folder: str
    white_balance: tuple[float, float, float]
    saturation: float
    contrast: float
    lens_blur: float
    sharpening: float
    noise: float
    jpeg_quality: int
    subsampling: str
    exposure: float = 0.0
    metering: float = 1.0
    gamma: float = 1.0
    black: float = 0.0
    haze: float = 0.0
    tint: tuple[float, float, float] = (0.0, 0.0, 0.0)
    clarity: float = 0.0
    halo: float = 1.1
    shadow_noise: float = 0.0
    chroma_noise: float = 0.7
    grain: float = 1.0
    blotch: float = 2.0
    denoising: float = 0.0
    defocus: float = 0.0
    motion: float = 0.0
    motion_angle: float = 0.0
    vignetting: float = 0.0
    camera_quality: int = 0
    camera_subsampling: str = "420"
    shrink: float = 1.0
    enlarging: str = "linear"
    web_quality: int = 0
    web_subsampling: str = "420"


DEVICES = {
    "I": Device("iPhone", (1.03, 1.00, 0.95), 1.02, 0.25, 0.50, 0.35, 1.6, 93, "420"),
    "H": Device("huawei", (0.99, 1.00, 1.03), 1.16, 0.45, 0.55, 0.90, 1.8, 90, "420"),
    "L": Device("LG", (1.00, 1.01, 1.00), 0.92, 0.20, 0.75, 0.45, 2.8, 92, "422"),
    "S": Device("Samsung", (1.01, 1.00, 0.99), 1.22, 0.40, 0.55, 0.75, 2.0, 95, "422"),
    "M": Device("MI8", (0.97, 1.00, 1.05), 1.05, 0.30, 0.65, 0.60, 2.3, 88, "420"),
}

# Pictures in the wild bring their artefacts with them; the file on disk adds as good as none.
ANY_DEVICE = Device("wild", (1.0, 1.0, 1.0), 1.0, 0.3, 0.5, 0.5, 2.0, 95, "444")


def sample_phone(phone: Device, flash: bool, rng: np.random.Generator) -> Device:
    """A phone of XJTU-UP in one capture: what its automatics and the hand that holds it do.

    Args:
        phone: one of `DEVICES`.
        flash: whether its flash fires: less noise, and no time to shake.
        rng: the capture's generator.

    Returns:
        The phone with the values of this capture.
    """
    warmth, green = 0.04 * truncated_normal(rng), 0.015 * truncated_normal(rng)
    cast = np.array(phone.white_balance) * np.exp([warmth, green, -warmth])
    return replace(
        phone,
        white_balance=_triple(cast),
        saturation=phone.saturation * float(np.exp(0.08 * truncated_normal(rng))),
        exposure=0.19 * float(truncated_normal(rng)),
        lens_blur=float(np.hypot(phone.lens_blur, 0.9 * rng.beta(1.0, 4.0))),
        noise=phone.noise * (1.0 if flash else rng.uniform(1.2, 2.6)),
        motion=0.0 if flash else 2.2 * rng.beta(1.0, 4.0),
        motion_angle=rng.uniform(0, np.pi),
    )


class _Kind(NamedTuple):
    """How one kind of camera is distributed: medians, or (least, most)."""

    share: float
    noise: float
    lens_blur: float
    sharpening: float
    denoising: float
    cast: float
    quality: tuple[int, int]
    shrunk: float


_KINDS = {
    "phone": _Kind(0.44, 1.6, 0.45, 0.70, 0.45, 0.07, (78, 97), 0.30),
    "old phone": _Kind(0.10, 3.8, 0.80, 0.60, 0.60, 0.13, (55, 88), 0.45),
    "webcam": _Kind(0.17, 3.4, 0.85, 0.90, 0.60, 0.15, (45, 88), 0.40),
    "compact": _Kind(0.13, 1.9, 0.50, 0.45, 0.30, 0.08, (75, 96), 0.35),
    "press": _Kind(0.16, 1.2, 0.35, 0.45, 0.15, 0.06, (70, 97), 0.45),
}


def sample_wild_device(rng: np.random.Generator) -> Device:
    """A camera of any kind, well or badly used.

    Args:
        rng: the capture's generator.

    Returns:
        A camera with every value drawn. About a third of the pictures are good; the faults of the
        others come one or two at a time, as they do in photographs.
    """
    names = list(_KINDS)
    shares = np.array([kind.share for kind in _KINDS.values()])
    name = names[int(rng.choice(len(names), p=shares / shares.sum()))]
    kind = _KINDS[name]
    return Device(
        folder=name,
        jpeg_quality=ANY_DEVICE.jpeg_quality,
        subsampling=ANY_DEVICE.subsampling,
        **_colour(kind, rng),
        **_tone(rng),
        **_sharpness(kind, rng),
        **_grain(kind, rng),
        **_files(kind, rng),
    )


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = (float(v) for v in values)
    return red, green, blue


def _colour(kind: _Kind, rng: np.random.Generator) -> dict:
    """White balance, saturation, filters."""
    # One picture in eight misses the light's colour outright: tungsten, shade, fluorescent tubes.
    spread = kind.cast * (2.3 if rng.random() < 0.12 else 1.0)
    warmth, green = np.clip(spread * truncated_normal(rng, 2), -0.3, 0.3) * [1, 0.35]
    saturation = float(np.exp(rng.normal(-0.1, 0.2)))  # the tone curve adds to it
    if rng.random() < 0.10:
        saturation = rng.uniform(0.25, 1.5)
    tint = np.array([1, 0.2, -1]) * rng.normal(0, 0.03) if rng.random() < 0.12 else np.zeros(3)
    if rng.random() < 0.04:  # black-and-white pictures, a few of them toned
        saturation, tint = 0.0, tint * (rng.random() < 0.3)
    return {
        "white_balance": _triple(np.exp([warmth, green, -warmth])),
        "saturation": float(np.clip(saturation, 0.0, 1.5)),
        "tint": _triple(tint),
    }


def _tone(rng: np.random.Generator) -> dict:
    """Exposure and tone curve."""
    exposure = rng.normal(0.0, 0.35)
    if rng.random() < 0.14:
        exposure = rng.uniform(-1.8, 1.3)
    return {
        "exposure": float(exposure),
        "metering": float(rng.beta(2.0, 1.2)),
        "contrast": float(np.clip(rng.normal(0.28, 0.25), -0.3, 0.95)),
        "gamma": float(np.exp(rng.normal(0.0, 0.10))),
        "black": float(rng.uniform(0.0, 0.10)) if rng.random() < 0.25 else 0.0,
        "haze": float(rng.exponential(0.04)) if rng.random() < 0.3 else 0.0,
        "clarity": float(rng.uniform(0.1, 0.45)) if rng.random() < 0.2 else 0.0,
        "vignetting": float(rng.beta(1.2, 3.0)) if rng.random() < 0.4 else 0.0,
    }


def _sharpness(kind: _Kind, rng: np.random.Generator) -> dict:
    """Lens, focus, shake, and the sharpening that is to make up for them."""
    defocus = motion = 0.0
    if rng.random() < 0.18:
        defocus = rng.uniform(0.6, 2.2) if rng.random() < 0.75 else rng.uniform(2.2, 4.5)
    if rng.random() < 0.12:
        motion = rng.uniform(1.0, 4.0) if rng.random() < 0.8 else rng.uniform(4.0, 9.0)
    return {
        "lens_blur": float(kind.lens_blur * np.exp(rng.normal(0.0, 0.35))),
        "defocus": float(defocus),
        "motion": float(motion),
        "motion_angle": float(rng.uniform(0, np.pi)),
        "sharpening": float(min(2.2, kind.sharpening * np.exp(rng.normal(0.0, 0.6)))),
        "halo": float(rng.uniform(0.7, 1.7)),
    }


def _grain(kind: _Kind, rng: np.random.Generator) -> dict:
    """Noise by ISO, and the filter against it."""
    iso = np.exp(rng.normal(0.0, 0.55))
    smeared = rng.random() < kind.denoising
    return {
        "noise": float(min(14.0, kind.noise * iso)),
        "shadow_noise": float(rng.uniform(0.0, 0.35)),
        "chroma_noise": float(rng.uniform(0.2, 1.2)),
        "grain": float(rng.choice([1.0, 1.5, 2.0], p=[0.6, 0.25, 0.15])),
        "blotch": float(rng.choice([2.0, 3.0, 5.0, 8.0], p=[0.4, 0.3, 0.2, 0.1])),
        "denoising": float(rng.uniform(0.2, 1.0)) if smeared else 0.0,
    }


def _files(kind: _Kind, rng: np.random.Generator) -> dict:
    """JPEG, and what the web does to a picture: smaller, JPEG again, larger again."""
    shrunk = rng.random() < kind.shrunk
    shrink = 1 + 4 * rng.beta(1.1, 2.6) if shrunk else 1.0
    # Small pictures of poor quality lose the palm altogether: the smaller, the better kept.
    least = 25 if shrink < 1.7 else 60
    web = shrunk or rng.random() < 0.25
    ways = ["420", "422", "444"]
    return {
        "camera_quality": int(rng.integers(*kind.quality, endpoint=True)),
        "camera_subsampling": str(rng.choice(ways, p=[0.7, 0.2, 0.1])),
        "shrink": float(shrink),
        "enlarging": str(
            rng.choice(["nearest", "linear", "cubic", "lanczos"], p=[0.03, 0.4, 0.45, 0.12])
        ),
        "web_quality": int(least + (97 - least) * rng.beta(2.2, 1.3)) if web else 0,
        "web_subsampling": str(rng.choice(ways, p=[0.75, 0.1, 0.15])),
    }


def legible(device: Device, palm_width: float) -> Device:
    """The same camera, no worse than lets the palm be told from another.

    Args:
        device: camera of one capture.
        palm_width: of the picture's side.

    Returns:
        The camera, its blur bounded by the palm's size: a picture in which nothing is left of the
        lines teaches nothing, and nobody keeps it.
    """
    roi = 0.6 * palm_width * 384  # pixels of a side, in the pictures that lengths are given for
    return replace(
        device,
        lens_blur=min(device.lens_blur, 0.014 * roi),
        defocus=min(device.defocus, 0.030 * roi),
        motion=min(device.motion, 0.055 * roi),
    )

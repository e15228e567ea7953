"""The phones: how each turns light into pixels, and the ten XJTU-UP presets made of them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from palmforge.data.synthetic.streams import truncated_normal


@dataclass(frozen=True)
class Device:
    """One phone.

    Attributes:
        folder: name of its folder in XJTU-UP.
        white_balance: [R, G, B] cast that it always has.
        saturation: colourfulness, 1 = as it was.
        contrast: strength of its S-shaped tone curve, 0 = none.
        lens_blur: standard deviation in pixels of a 384-pixel picture.
        sharpening: amount of unsharp masking.
        noise: standard deviation in a well lit picture, in grey levels of 255.
        jpeg_quality: 1..100.
        subsampling: chroma subsampling of its JPEG files: "444", "422" or "420".
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


DEVICES = {
    "I": Device("iPhone", (1.03, 1.00, 0.95), 1.02, 0.25, 0.50, 0.35, 1.6, 93, "420"),
    "H": Device("huawei", (0.99, 1.00, 1.03), 1.16, 0.45, 0.55, 0.90, 1.8, 90, "420"),
    "L": Device("LG", (1.00, 1.01, 1.00), 0.92, 0.20, 0.75, 0.45, 2.8, 92, "422"),
    "S": Device("Samsung", (1.01, 1.00, 0.99), 1.22, 0.40, 0.55, 0.75, 2.0, 95, "422"),
    "M": Device("MI8", (0.97, 1.00, 1.05), 1.05, 0.30, 0.65, 0.60, 2.3, 88, "420"),
}


@dataclass(frozen=True)
class Preset:
    """A device under one illumination: a domain of XJTU-UP.

    Attributes:
        code: domain code, such as "IF".
        device: the phone.
        flash: whether its flash fires; else natural light.
    """

    code: str
    device: Device
    flash: bool

    @property
    def folder(self) -> str:
        """The domain's folder below the root: `{device}/{Flash|Nature}`."""
        return f"{self.device.folder}/{'Flash' if self.flash else 'Nature'}"


PRESETS = {
    initial + light: Preset(initial + light, device, light == "F")
    for initial, device in DEVICES.items()
    for light in "FN"
}

_SUBSAMPLING = {
    "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "422": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
}


def get_preset(code: str) -> Preset:
    """Look up a preset.

    Raises:
        ValueError: the code is none of `PRESETS`.
    """
    if code not in PRESETS:
        raise ValueError(f"unknown preset {code!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[code]


def expose(scene: np.ndarray, preset: Preset, rng: np.random.Generator) -> np.ndarray:
    """Take the picture.

    Args:
        scene: [S, S, 3] float32 linear RGB light; 1 is white at normal exposure. Overwritten.
        preset: phone and illumination.
        rng: the capture's generator.

    Returns:
        [S, S, 3] uint8 RGB.
    """
    device, size = preset.device, len(scene)
    gain = _exposure(scene, rng) * _white_balance(device, rng)
    scene *= gain.astype(np.float32)
    image = cv2.sqrt(
        _focus(scene, device, preset.flash, rng)
    )  # gamma 2: near enough to sRGB, and fast
    # Photon noise grows with the root of the light: after the root it is the same everywhere.
    level = device.noise * (1.0 if preset.flash else rng.uniform(1.2, 2.6)) / 255
    image += _noise(size, level, rng)
    image = _develop(image, device, rng)
    np.clip(image, 0, 1, out=image)
    return (image * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def _exposure(scene: np.ndarray, rng: np.random.Generator) -> float:
    """Automatic exposure: the middle is brought towards a medium tone, not all the way."""
    n = len(scene)
    metered = scene[n // 4 : -n // 4 : 4, n // 4 : -n // 4 : 4, 1].mean()
    return float((0.27 / max(metered, 0.02)) ** 0.75 * np.exp(0.13 * truncated_normal(rng)))


def _white_balance(device: Device, rng: np.random.Generator) -> np.ndarray:
    """Gains [3]: the phone's cast, and what automatic white balance gets wrong in this capture."""
    warmth, green = 0.04 * truncated_normal(rng), 0.015 * truncated_normal(rng)
    return np.array(device.white_balance) * np.exp([warmth, green, -warmth])


def _focus(scene: np.ndarray, device: Device, flash: bool, rng: np.random.Generator) -> np.ndarray:
    """Lens, missed focus, and a shaking hand when the light is poor."""
    unit = len(scene) / 384
    sigma = unit * np.hypot(device.lens_blur, 0.9 * rng.beta(1.0, 4.0))
    shake, angle = (0.0 if flash else unit * 2.2 * rng.beta(1.0, 4.0)), rng.uniform(0, np.pi)
    blurred = cv2.GaussianBlur(scene, (0, 0), max(0.3, sigma))
    if shake < 0.6:
        return blurred
    reach = int(np.ceil(shake))
    at = np.arange(-reach, reach + 1)
    x, y = np.meshgrid(at, at)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-2 * (along / shake) ** 2 - 3 * across**2)
    return cv2.filter2D(blurred, -1, (kernel / kernel.sum()).astype(np.float32))


def _noise(size: int, level: float, rng: np.random.Generator) -> np.ndarray:
    """Sensor noise [S, S, 3]: fine in brightness, in blotches of two pixels in colour."""
    grain = rng.standard_normal((size, size, 1), dtype=np.float32)
    half = -(-size // 2)
    blotches = rng.standard_normal((half, half, 3), dtype=np.float32)
    colour = cv2.resize(blotches, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.float32(level) * (grain + np.float32(0.7) * colour)


def _develop(image: np.ndarray, device: Device, rng: np.random.Generator) -> np.ndarray:
    """Unsharp mask, colour and tone curve, as the phone's processor does them."""
    soft = cv2.GaussianBlur(image, (0, 0), 1.1 * len(image) / 384)
    image = cv2.addWeighted(image, 1 + device.sharpening, soft, -device.sharpening, 0)
    s = device.saturation * np.exp(0.08 * truncated_normal(rng))
    grey = np.array([[0.299, 0.587, 0.114]])
    mixing = s * np.eye(3) + (1 - s) * np.repeat(grey, 3, axis=0)
    mixed = np.clip(cv2.transform(image, mixing), 0, 1)
    curved = mixed * mixed * (3 - 2 * mixed)
    return cv2.addWeighted(mixed, 1 - device.contrast, curved, device.contrast, 0)


def encode_jpeg(image: np.ndarray, preset: Preset) -> bytes:
    """The file that the phone would write.

    Args:
        image: [H, W, 3] uint8 RGB.
        preset: gives quality and chroma subsampling.

    Returns:
        A JPEG file.
    """
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        preset.device.jpeg_quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        _SUBSAMPLING[preset.device.subsampling],
    ]
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not ok:
        raise RuntimeError(f"OpenCV could not encode a {image.shape} picture as JPEG")
    return data.tobytes()

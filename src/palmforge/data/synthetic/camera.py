"""The camera: presets, and how light becomes a picture and the picture a file."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from palmforge.data.synthetic.device import (
    ANY_DEVICE,
    DEVICES,
    Device,
    sample_phone,
    sample_wild_device,
)


@dataclass(frozen=True)
class Preset:
    """A device under one illumination: a domain of XJTU-UP, or the wild.

    Attributes:
        code: domain code, such as "IF", or "wild".
        device: the phone; in the wild what the files on disk are written as.
        flash: whether its flash fires, else natural light; None: drawn for every capture.
    """

    code: str
    device: Device
    flash: bool | None

    @property
    def folder(self) -> str:
        """The domain's folder below the root: `{device}/{Flash|Nature}`; in the wild the root."""
        if self.flash is None:
            return ""
        return f"{self.device.folder}/{'Flash' if self.flash else 'Nature'}"

    @property
    def wild(self) -> bool:
        """Whether everything is drawn anew for every capture."""
        return self.flash is None


XJTU_PRESETS = {
    initial + light: Preset(initial + light, device, light == "F")
    for initial, device in DEVICES.items()
    for light in "FN"
}
PRESETS = {**XJTU_PRESETS, "wild": Preset("wild", ANY_DEVICE, None)}

_FLASH_SHARE = 0.15  # of pictures in the wild
_SUBSAMPLING = {
    "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "422": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
}
_ENLARGING = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}
_SMALLEST = 72  # pixels: no picture loses more resolution than this, whatever its `shrink`
_WIDEST = 15  # pixels: blur that reaches farther is applied to a picture of half the size
_STEPS = 4096  # of the tone curve's table


def get_preset(code: str) -> Preset:
    """Look up a preset.

    Raises:
        ValueError: the code is none of `PRESETS`.
    """
    if code not in PRESETS:
        raise ValueError(f"unknown preset {code!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[code]


def sample_flash(preset: Preset, rng: np.random.Generator) -> bool:
    """Whether the flash fires in this capture: as the preset says, or now and then."""
    fires = bool(rng.random() < _FLASH_SHARE)
    return fires if preset.flash is None else preset.flash


def sample_device(preset: Preset, rng: np.random.Generator) -> Device:
    """The camera of one capture.

    Args:
        preset: phone and illumination, or the wild.
        rng: the capture's generator.

    Returns:
        The preset's phone with the values of this capture, or in the wild any camera. All that is
        random in it but the noise itself is a field (`dataclasses.asdict` for the manifest).
    """
    if preset.flash is None:
        return sample_wild_device(rng)
    return sample_phone(preset.device, preset.flash, rng)


def expose(
    scene: np.ndarray,
    device: Device,
    flash: bool,
    rng: np.random.Generator,
    frame: float | None = None,
) -> np.ndarray:
    """Take the picture.

    Args:
        scene: [H, W, 3] float32 linear RGB light; 1 is white at normal exposure.
        device: camera of this capture.
        flash: whether the flash fires: nothing moves in so short a time.
        rng: the capture's generator, for the noise.
        frame: side in pixels of the whole picture, where `scene` is a part of it (a ROI): blur is
            as strong as it would be there. None: `scene` is the whole.

    Returns:
        [H, W, 3] uint8 RGB, with the JPEG artefacts that the device says.
    """
    height, width = scene.shape[:2]
    unit = (frame or float(np.sqrt(height * width))) / 384
    image = _collect(scene, device)
    image = _focus(image, device, 0.0 if flash else device.motion, unit)
    np.clip(image, 0, 1.7, out=image)
    cv2.sqrt(image, dst=image)  # gamma 2: near enough to sRGB, and fast
    _add_noise(image, device, rng)
    image = _develop(image, device, unit)
    return _publish(image, device)


def _collect(scene: np.ndarray, device: Device) -> np.ndarray:
    """Exposure, white balance, stray light and vignetting: light on the sensor."""
    n, m = (max(1, side // 4) for side in scene.shape[:2])
    middle = scene[n:-n:4, m:-m:4, 1].mean()
    sample = scene[::8, ::8].reshape(-1, 3)
    mean = sample.mean(0)
    metered = device.metering * middle + (1 - device.metering) * mean[1]
    # Automatic exposure brings what it sees towards a medium tone, not all the way.
    gain = (0.27 / max(float(metered), 0.02)) ** 0.75
    # … nor so far that a hand on black would be white.
    gain = min(gain, 0.95 / max(float(np.quantile(sample[:, 0], 0.98)), 0.02)) * 2**device.exposure
    gains = gain * np.array(device.white_balance)
    stray = device.haze * gains * mean
    image: np.ndarray = cv2.transform(scene, np.c_[np.diag(gains * (1 - device.haze)), stray])
    if device.vignetting > 0:
        at = np.square(np.linspace(-1, 1, 16, dtype=np.float32))
        loss: np.ndarray = 1 - np.float32(0.4 * device.vignetting) * (at[None] + at[:, None])
        loss = cv2.resize(loss, scene.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        image *= np.asarray(cv2.merge([loss, loss, loss]))
    return image


def _focus(image: np.ndarray, device: Device, motion: float, unit: float) -> np.ndarray:
    """Lens, missed focus and a shaking hand."""
    sigma, radius, trace = device.lens_blur * unit, device.defocus * unit, motion * unit
    if max(radius, trace) < 0.6:
        return cv2.GaussianBlur(image, (0, 0), max(0.3, sigma))
    kernel = _spread(sigma, radius, trace, device.motion_angle)
    if len(kernel) <= _WIDEST or min(image.shape[:2]) < 64:
        return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    # A wide blur leaves nothing that half the pixels do not show, at a tenth of the time.
    small = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    kernel = _spread(sigma / 2, radius / 2, trace / 2, device.motion_angle)
    small = cv2.filter2D(small, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def _spread(sigma: float, radius: float, trace: float, angle: float) -> np.ndarray:
    """What the camera makes of a point: [K, K] float32, sum 1."""
    reach = int(np.ceil(2.5 * sigma + radius + 0.5 * trace)) or 1
    at = np.arange(-reach, reach + 1, dtype=np.float32)
    x, y = at[None], at[:, None]
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    along, across = x * cos + y * sin, y * cos - x * sin
    past = np.maximum(np.abs(along) - 0.5 * trace, 0)
    off = np.sqrt(past**2 + across**2)
    kernel = np.clip(radius + 0.5 - off, 0, 1) if radius > 0 else (off < 0.5).astype(np.float32)
    kernel = cv2.GaussianBlur(kernel.astype(np.float32), (0, 0), max(0.3, sigma))
    return kernel / kernel.sum()


def _add_noise(image: np.ndarray, device: Device, rng: np.random.Generator) -> None:
    """Sensor noise, in place: fine in brightness, in blotches in colour.

    Photon noise grows with the root of the light: after the root it is the same everywhere. What
    the electronics add is seen in the dark.
    """
    level = device.noise / 255
    if level <= 0:
        return
    # OpenCV's generator is four times as fast as NumPy's; its state is per thread, set here.
    cv2.setRNGSeed(int(rng.integers(1, 2**31 - 1)))
    grain = _normal(image.shape, 1, device.grain, level)
    if device.shadow_noise > 0:
        dark: np.ndarray = cv2.extractChannel(image, 1)
        dark += np.float32(0.12)
        np.divide(np.float32(device.shadow_noise), dark, out=dark)
        dark += np.float32(0.7)
        grain *= dark
    image += cv2.merge([grain] * 3)
    image += _normal(image.shape, 3, device.blotch, level * device.chroma_noise)


def _normal(shape: tuple[int, ...], channels: int, size: float, level: float) -> np.ndarray:
    """Normal noise [H, W(, channels)] with standard deviation `level`, `size` pixels coarse."""
    height, width = shape[:2]
    coarse = (int(np.ceil(height / size)), int(np.ceil(width / size)))
    noise = np.empty(coarse if channels == 1 else (*coarse, channels), np.float32)
    cv2.randn(noise, (0.0,) * 4, (level,) * 4)  # type: ignore[call-overload]
    if size == 1:
        return noise
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)


def _develop(image: np.ndarray, device: Device, unit: float) -> np.ndarray:
    """Noise filter, unsharp mask, colour and tone curve, as the camera's processor does them."""
    if device.denoising > 0:
        image = _smear(image, device)
    if device.clarity > 0:
        height, width = image.shape[:2]
        tiny = cv2.resize(image, (width // 8, height // 8), interpolation=cv2.INTER_AREA)
        wide = cv2.GaussianBlur(tiny, (0, 0), 2.5 * unit)
        wide = cv2.resize(wide, (width, height), interpolation=cv2.INTER_LINEAR)
        cv2.addWeighted(image, 1 + device.clarity, wide, -device.clarity, 0, dst=image)
    soft = cv2.GaussianBlur(image, (0, 0), max(0.5, device.halo * unit))
    image = cv2.addWeighted(image, 1 + device.sharpening, soft, -device.sharpening, 0)
    s = device.saturation
    grey = np.array([[0.299, 0.587, 0.114]])
    mixing = s * np.eye(3) + (1 - s) * np.repeat(grey, 3, axis=0)
    mixed = cv2.transform(image, np.c_[mixing, device.tint] * (_STEPS - 1))
    # The conversion stops at 0, the table at its end.
    steps: np.ndarray = cv2.add(mixed, np.zeros(4), dtype=cv2.CV_16U)
    return np.take(_tone_curve(device), steps, mode="clip")


def _smear(image: np.ndarray, device: Device) -> np.ndarray:
    """What a noise filter leaves: flat where it was faint, sharp along strong edges."""
    bytes_ = cv2.convertScaleAbs(image, alpha=200)
    reach = 2.5 * device.noise * 0.8 + 10 * device.denoising
    smooth = cv2.bilateralFilter(bytes_, 5, reach, 1.0 + 1.5 * device.denoising)
    smooth = cv2.addWeighted(
        image, 1 - device.denoising, smooth.astype(np.float32), device.denoising / 200, 0
    )
    return smooth


def _tone_curve(device: Device) -> np.ndarray:
    """Table [_STEPS] uint8 of the tone curve."""
    x = np.linspace(0, 1, _STEPS) ** device.gamma
    bent = x * x * (3 - 2 * x) if device.contrast >= 0 else np.full_like(x, 0.45)
    strength = abs(device.contrast)
    y = (1 - strength) * x + strength * bent
    return np.rint(255 * (device.black + (1 - device.black) * y)).astype(np.uint8)


def _publish(image: np.ndarray, device: Device) -> np.ndarray:
    """JPEG in the camera; then smaller, JPEG again and larger, as pictures on the web are."""
    height, width = image.shape[:2]
    if device.camera_quality:
        image = _through_jpeg(image, device.camera_quality, device.camera_subsampling)
    shrink = min(device.shrink, max(1.0, min(height, width) / _SMALLEST))
    if shrink > 1.05:
        small = (round(width / shrink), round(height / shrink))
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    if device.web_quality:
        image = _through_jpeg(image, device.web_quality, device.web_subsampling)
    if shrink > 1.05:
        image = cv2.resize(image, (width, height), interpolation=_ENLARGING[device.enlarging])
    return image


def _through_jpeg(image: np.ndarray, quality: int, subsampling: str) -> np.ndarray:
    """What a JPEG file keeps of a picture [H, W, 3] uint8 RGB."""
    data = _jpeg(image, quality, subsampling)
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB))


def _jpeg(image: np.ndarray, quality: int, subsampling: str) -> bytes:
    """A JPEG file of a picture [H, W, 3] uint8 RGB."""
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        _SUBSAMPLING[subsampling],
    ]
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not ok:
        raise RuntimeError(f"OpenCV could not encode a {image.shape} picture as JPEG")
    return data.tobytes()


def encode_jpeg(image: np.ndarray, camera: Device | Preset) -> bytes:
    """The file that the camera would write.

    Args:
        image: [H, W, 3] uint8 RGB.
        camera: gives quality and chroma subsampling.

    Returns:
        A JPEG file.
    """
    device = camera.device if isinstance(camera, Preset) else camera
    return _jpeg(image, device.jpeg_quality, device.subsampling)

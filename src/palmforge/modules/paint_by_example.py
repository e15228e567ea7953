"""A Paint-by-Example: from the hub, a folder, or configs; and into a folder.

The published layout (`Fantasy-Studio/Paint-by-Example`) is read part by part: diffusers' pipeline
of it is deprecated and can no longer be loaded, as its `model_index.json` names a class that is not
exported. Of that file only what the parts are is used, not where older diffusers kept them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from palmforge.data.atomic import check_writable, write_aside
from palmforge.errors import CheckpointError, ConfigError, first_line
from palmforge.networks.paint_by_example import TinyPaintByExample, tiny_components
from palmforge.networks.preparation import as_signed

EMBEDDED = "embedded"
EMBEDDED_PATH = Path(__file__).resolve().parents[1] / "assets" / "paint_by_example_tiny"
PARTS = ("unet", "vae", "image_encoder", "scheduler", "feature_extractor")
INDEX = "model_index.json"
_PIPELINE = "PaintByExamplePipeline"
_CONFIGS = ["*.json"]
_SAFE = [f"{part}/*model.safetensors" for part in PARTS]
_PICKLED = [f"{part}/*model.bin" for part in PARTS]


@dataclass(frozen=True)
class PaintByExample:
    """The parts, all for inference.

    Attributes:
        unet: Reads noisy latents, latents of the masked picture, and the mask.
        vae: Always float32.
        image_encoder: `networks.exemplar_encoder.ExemplarEncoder`.
        scheduler: Any of diffusers; `dataclasses.replace` puts another in.
        feature_extractor: From pictures to what the encoder reads.
    """

    unet: Any
    vae: Any
    image_encoder: Any
    scheduler: Any
    feature_extractor: Any

    @property
    def vae_scale_factor(self) -> int:
        """Pixels on a side of a latent."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def device(self) -> torch.device:
        """Where the UNet is."""
        device: torch.device = self.unet.device
        return device

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> PaintByExample:
        """Moves all parts; `dtype` is of UNet and encoder, and changes how they are kept."""
        self.vae.to(device)
        for network in (self.unet, self.image_encoder):
            network.to(device=device, dtype=dtype)
        return self

    @torch.no_grad()
    def embed(self, exemplars: Tensor) -> Tensor:
        """Exemplars `[N, E, 3, S, S]` uint8 → `[N, E, D]` float32, each after the projection."""
        pixels = self.feature_extractor(
            list(exemplars.flatten(0, 1)), return_tensors="pt", device=str(self.device)
        ).pixel_values
        embeddings = self.image_encoder(pixels.to(self.device, self.image_encoder.dtype))
        return embeddings.float().view(*exemplars.shape[:2], -1)

    def encode(self, pictures: Tensor, noise: Tensor) -> Tensor:
        """Pictures `[N, 3, H, W]` in 0 … 255 → scaled latents; `noise` draws from the posterior."""
        with torch.autocast(self.device.type, enabled=False):
            posterior = self.vae.encode(as_signed(pictures)).latent_dist
        # In the order in which diffusers' pipeline multiplies: the result is its to the bit.
        latents: Tensor = self.vae.config.scaling_factor * (posterior.mean + posterior.std * noise)
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents → pictures `[N, 3, H, W]`, float32 in [0, 1]."""
        with torch.autocast(self.device.type, enabled=False):
            decoded: Tensor = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return (decoded / 2 + 0.5).clamp(0, 1)


def tiny_paint_by_example(sizes: TinyPaintByExample, image_size: int) -> PaintByExample:
    """One with random weights: the same for the same state of torch's generator."""
    return _at_rest(tiny_components(sizes, image_size))


def load_paint_by_example(name_or_path: str, revision: str | None = None) -> PaintByExample:
    """All parts, in float32 on the CPU, in eval mode.

    Weights are safetensors where there are any; else those of PyTorch, read with
    `weights_only=True`: nothing in them is run. The safety checker of the published model is left
    out, and not downloaded.

    Args:
        name_or_path: A hub id, or a folder in its layout; `embedded`: the small one of the package.
        revision: Of the hub's repository.

    Raises:
        CheckpointError: If it cannot be had, a part is missing, damaged or unsafe, or the parts do
            not fit together.
    """
    folder = EMBEDDED_PATH if name_or_path == EMBEDDED else _local(name_or_path, revision)
    _check_index(folder)
    parts = {
        "unet": _network(folder, "unet"),
        "vae": _network(folder, "vae"),
        "image_encoder": _network(folder, "image_encoder"),
        "scheduler": _scheduler(folder),
        "feature_extractor": _feature_extractor(folder),
    }
    _check_parts(parts, folder)
    return _at_rest(parts)


def save_paint_by_example(model: PaintByExample, folder: str) -> None:
    """Writes the published layout, in safetensors; it can be loaded once it is all there.

    Args:
        model: What to write.
        folder: A new or an empty one.

    Raises:
        ConfigError: If the folder holds something.
        DataError: If it cannot be written to.
    """
    out = Path(folder)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{folder} is there and not empty. Give a new folder")
    check_writable(out, "folder")
    for part in PARTS:
        getattr(model, part).save_pretrained(str(out / part))
    index = {
        "_class_name": _PIPELINE,
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        # As published: older versions of diffusers, which still have the pipeline, load it so.
        "image_encoder": ["paint_by_example", "PaintByExampleImageEncoder"],
        "safety_checker": [None, None],
        "scheduler": ["diffusers", type(model.scheduler).__name__],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    with write_aside(out / INDEX) as aside:
        aside.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _at_rest(parts: dict[str, Any]) -> PaintByExample:
    for name in ("unet", "vae", "image_encoder"):
        parts[name].requires_grad_(False).eval()
    return PaintByExample(**parts)


def _local(name_or_path: str, revision: str | None) -> Path:
    """The folder, or one of the hub's cache: pickled weights only of parts that have no others."""
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    from huggingface_hub import snapshot_download

    def fetched(patterns: list[str]) -> Path:
        return Path(snapshot_download(name_or_path, revision=revision, allow_patterns=patterns))

    try:
        folder = fetched([*_CONFIGS, *_SAFE])
        wanted = ("unet", "vae", "image_encoder")
        if not all(any((folder / part).glob("*.safetensors")) for part in wanted):
            folder = fetched([*_CONFIGS, *_SAFE, *_PICKLED])
    except Exception as error:  # of the network, of the hub, of a name that is none
        raise CheckpointError(
            f"{name_or_path!r} is not a folder here, and could not be had from the hub "
            f"({first_line(error)}). Without a network: `hf download {name_or_path} --local-dir "
            "DIR` on a machine that has one, and give DIR"
        ) from error
    return folder


def _check_index(folder: Path) -> None:
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder} has no readable {INDEX} ({first_line(error)}): not a model in diffusers' "
            "layout. An original model.ckpt must be converted first"
        ) from error
    found = index.get("_class_name") if isinstance(index, dict) else None
    if found != _PIPELINE:
        raise CheckpointError(f"{folder} holds a {found}, not a {_PIPELINE}")
    for part in PARTS:
        if not (folder / part).is_dir():
            raise CheckpointError(
                f"{folder} lacks {part!r}, a part of Paint-by-Example; there must be "
                f"{', '.join(PARTS)}. Was the download cut?"
            )


def _network(folder: Path, part: str) -> Any:
    """One network, every weight of it from the file."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from palmforge.networks.exemplar_encoder import ExemplarEncoder

    kinds: dict[str, Any] = {
        "unet": UNet2DConditionModel,
        "vae": AutoencoderKL,
        "image_encoder": ExemplarEncoder,
    }
    place = folder / part
    try:
        network, report = kinds[part].from_pretrained(
            str(place),
            use_safetensors=any(place.glob("*.safetensors")),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by name
            dtype=torch.float32,
            **({"config": _encoder_config(place)} if part == "image_encoder" else {}),
        )
    except Exception as error:  # of five libraries
        raise CheckpointError(
            f"{place} cannot be read ({first_line(error)}). Weights must be safetensors, or a "
            ".bin that torch.load(weights_only=True) takes: no code in a file is ever run"
        ) from error
    missing, other = sorted(report["missing_keys"]), sorted(report["mismatched_keys"])
    if missing or other:
        example = missing[0] if missing else other[0][0]  # with its two sizes
        raise CheckpointError(
            f"{place}: {len(missing)} weights are missing and {len(other)} of another size, such "
            f"as {example}. They are not of this part"
        )
    if unexpected := sorted(report["unexpected_keys"]):
        rank_zero_warn(f"{place}: {len(unexpected)} weights are not used, such as {unexpected[0]}")
    return network


def _encoder_config(place: Path) -> Any:
    """Of the vision model: what stands at the top of its file.

    diffusers' class reads it as one of a whole CLIP. Saved again it comes as such, with a text and
    a vision model of default sizes inside that are neither of them there.
    """
    from transformers import CLIPVisionConfig

    record = json.loads((place / "config.json").read_text(encoding="utf-8"))
    inside = ("model_type", "text_config", "vision_config")
    return CLIPVisionConfig.from_dict({k: v for k, v in record.items() if k not in inside})


def _scheduler(folder: Path) -> Any:
    import diffusers

    file = folder / "scheduler" / "scheduler_config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        name = str(config["_class_name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file} cannot be read ({first_line(error)})") from error
    kind = getattr(diffusers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
        raise CheckpointError(f"{file}: diffusers has no scheduler {name!r}")
    return kind.from_config(config)  # type: ignore[attr-defined]


def _feature_extractor(folder: Path) -> Any:
    from transformers import CLIPImageProcessor

    try:
        return CLIPImageProcessor.from_pretrained(str(folder / "feature_extractor"))
    except Exception as error:
        place = folder / "feature_extractor"
        raise CheckpointError(f"{place} cannot be read ({first_line(error)})") from error


def _check_parts(parts: dict[str, Any], folder: Path) -> None:
    """Parts of two models would fail in the middle of the first step."""
    latents, taken = parts["vae"].config.latent_channels, parts["unet"].config.in_channels
    if taken != 2 * latents + 1:
        raise CheckpointError(
            f"{folder}/unet takes {taken} channels, not {2 * latents + 1}: {latents} of the noisy "
            f"latents, {latents} of the masked picture's and the mask. It is no Paint-by-Example"
        )
    given = parts["image_encoder"].config.projection_dim
    if given != parts["unet"].config.cross_attention_dim:
        raise CheckpointError(
            f"{folder}: the image encoder gives {given} numbers an exemplar, the UNet takes "
            f"{parts['unet'].config.cross_attention_dim}. They are not of one model"
        )
    side = parts["image_encoder"].config.image_size
    crop = parts["feature_extractor"].crop_size
    if (crop["height"], crop["width"]) != (side, side):
        raise CheckpointError(
            f"{folder}: the feature extractor gives {crop['height']} × {crop['width']} pixels, "
            f"the image encoder reads {side} × {side}. They are not of one model"
        )

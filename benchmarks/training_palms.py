"""What both ways of a training step are fed: rendered palms with prompts, and a saved pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader

from benchmarks.lora_checkpoint import one_step_trainer
from benchmarks.training_ways import CHECKED, Case
from palmforge.data.augmentation import RoiAugmentation
from palmforge.data.dataset import PalmDataset
from palmforge.data.generation.prompted import PromptedDataset
from palmforge.data.generation.prompts import DEFAULT_TEMPLATES, draw_prompts
from palmforge.data.layouts import scan
from palmforge.data.roi_cache import RoiCache, RoiSettings
from palmforge.data.synthetic import SyntheticPalms
from palmforge.data.tensor_shards import TensorShards

Prompted = TypeVar("Prompted", bound=PromptedDataset)


def saved_pipeline(case: Case, folder: Path) -> str:
    """A pipeline in a folder, as any Stable Diffusion comes."""
    from diffusers import StableDiffusionPipeline

    checker = {"safety_checker": None, "requires_safety_checker": False}
    pipeline = StableDiffusionPipeline(**case.build(), feature_extractor=None, **checker)
    pipeline.to(case.dtype).save_pretrained(folder)
    return str(folder)


def configured(module: Any, case: Case) -> Any:
    """A module of ours on its device, its frozen weights in their precision."""
    module.trainer = one_step_trainer(case.device, case.dtype)  # whose precision these take
    module.configure_model()
    module.trainer = None  # the loop is ours
    return module.to(case.device).train()


def pictures(case: Case, folder: Path, kind: type[Prompted]) -> Prompted:
    """Rendered palms of the size to train at, with prompts."""
    root = str(folder / "palms")
    SyntheticPalms(case.num_images, 1, ("IF",), case.image_size, what="rois").write(root, 1)
    records = scan(root).records
    cache = RoiCache(str(folder / "cache"), RoiSettings(case.image_size, "whole"))
    cache.fill(records)
    labels = {record.identity: row for row, record in enumerate(records)}
    plain = RoiAugmentation("none", True, case.image_size)
    prompts = draw_prompts(len(records), DEFAULT_TEMPLATES, seed=0)
    return kind(PalmDataset(records, labels, cache, plain, ["IF"]), prompts)


def keep(data: PromptedDataset, module: Any, folder: Path) -> None:
    """Fills both caches, as the callback `CacheLatents` does; encoders leave the GPU."""
    latents = TensorShards(folder / "latents", "benchmark")
    for row in data.all_views():
        latents.add(
            [data.palms.key(row)], module.encoders.images(data[row]["image"][None], module.device)
        )
    words = TensorShards(folder / "words", "benchmark")
    for prompt in data.all_prompts():
        words.add([prompt], module.encoders.prompts([prompt], module.device))
    data.latents, data.embeddings = latents, words
    module.encoders.release()


def batches(dataset: Any, case: Case) -> DataLoader:
    """The same (row, seed) items for whoever asks."""
    total = CHECKED + (case.rounds + 1) * (case.steps + case.settle)
    drawn = torch.Generator().manual_seed(1)
    rows = torch.randint(case.num_images, (total, case.batch_size), generator=drawn).tolist()
    items = [
        [(row, place * case.batch_size + slot) for slot, row in enumerate(batch)]
        for place, batch in enumerate(rows)
    ]
    return DataLoader(
        dataset,
        batch_sampler=items,
        num_workers=case.num_workers,
        pin_memory=case.device == "cuda",
    )

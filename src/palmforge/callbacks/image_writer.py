"""`predict` → a folder of generated palms, which is a data set again."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import pyarrow as pa
import pyarrow.parquet as pq
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities import rank_zero_info

from palmforge.callbacks.rank_zero import on_rank_zero
from palmforge.callbacks.run_folder import output_folder
from palmforge.data.atomic import check_writable, write_aside
from palmforge.data.digests import checkpoint_digest
from palmforge.data.generation.output import (
    check_settings,
    claim,
    is_there,
    refuse_foreign,
    told_if_full,
    write_png,
)
from palmforge.data.generation.plan import GenerationPlan
from palmforge.errors import ConfigError, DataError

MANIFEST = "manifest.parquet"
SETTINGS = "generation.json"
FORMAT_VERSION = 1  # raise it when the same settings would give other pictures
_PARTS = ".parts"  # rows of the manifest, a file a batch, until the last picture is there
_KEY = "ImageWriter.directory"


class ImageWriter(BasePredictionWriter):
    """Writes images as `OUT/{identity:06d}/{capture:03d}.png` and `OUT/manifest.parquet`.

    The layout is `folder`: identity/image. The manifest has the columns `file`, `index` (the
    image's place in the plan), `identity`, `prompt`, `seed`, `checkpoint`, `size` (pixels), and the
    module's `provenance`. All processes write as batches come; a run that was killed loses a batch
    of each at most. The same command then goes on: `OUT/generation.json` tells what decides the
    pictures (provenance, SHA-256 of checkpoint and of other weights, prompts, seed, batch size; not
    their number: a set can grow).

    Other modules' `predict` is left alone: this writes where the DataModule has a `plan`
    (`GenerationPlan`) and a prediction has an `image` ([B, 3, H, W] uint8 RGB, with `index` [B],
    `prompt`, `seed` [B]).

    Args:
        directory: OUT, new or empty or of the same settings; null: `predictions/images` in the
            run's folder. `--data.out` wins over it.
    """

    def __init__(self, directory: str | None = None) -> None:
        super().__init__("batch")
        self.directory = directory
        self._plan: GenerationPlan | None = None
        self._done: set[int] = set()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Looks at the directory and takes from the plan what is there: the loader comes later."""
        super().setup(trainer, pl_module, stage)
        plan = getattr(getattr(trainer, "datamodule", None), "plan", None)
        mine = stage == "predict" and isinstance(plan, GenerationPlan)
        self._plan = plan if mine else None
        if self._plan is None:
            return
        # A batch says itself which images it holds; Lightning need not guess it from a sampler.
        warnings.filterwarnings("ignore", "Couldn't infer the batch indices")
        warnings.filterwarnings("ignore", "Total length of `DataLoader` across ranks is zero")
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        given = getattr(datamodule, "out", None) or self.directory
        self._out = output_folder(trainer, given, _KEY)
        self._provenance: dict[str, str | int | float] = getattr(pl_module, "provenance", {})
        # Of gigabytes; a module of which nothing is known by name has none.
        self._digests = on_rank_zero(trainer, getattr(pl_module, "digests", dict))
        self._image_size = getattr(pl_module, "image_size", 0)
        self._done = on_rank_zero(trainer, self._look)
        self._claimed = False
        self._plan.leave_out(self._done, at_least=trainer.world_size)
        rank_zero_info(f"{self._out}: {_progress(self._done, self._plan)} are there already")

    def on_predict_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Claims the directory. In `setup`, Lightning does not yet tell the checkpoint.

        Not at `on_predict_start`, where modules may still refuse what they are asked for.
        """
        if self._plan is not None:
            on_rank_zero(trainer, lambda: self._claim(trainer.ckpt_path))
            self._claimed = True

    def write_on_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, prediction: Any, *_: Any
    ) -> None:
        """Pictures first, then their rows: what has a row is there.

        Raises:
            DataError: If the disk is full.
        """
        if self._plan is None or not isinstance(prediction, dict) or "image" not in prediction:
            return
        with told_if_full(self._out, self._written):
            self._write(prediction, str(trainer.ckpt_path) if trainer.ckpt_path else None)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Barrier, and the whole. Lightning skips `on_predict_end` where nothing was left to do."""
        if stage != "predict" or self._plan is None:
            return
        if not self._claimed:
            self.on_predict_epoch_start(trainer, pl_module)
        trainer.strategy.barrier("images written")
        if trainer.is_global_zero:
            with told_if_full(self._out, self._written):
                self._join()
        self._plan = None

    def _written(self) -> str:
        assert self._plan is not None
        return _progress({row["index"] for row in read_rows(self._out)}, self._plan)

    def _look(self) -> set[int]:
        """The images that are there. Raises what can be known to be wrong before the model runs."""
        assert self._plan is not None
        path = self._out / SETTINGS
        if path.exists():
            check_settings(path, self._settings(), _KEY)
        else:
            refuse_foreign(self._out, _KEY, "were not generated here")
        done = self._there()
        left = [index for index in range(self._plan.num_images) if index not in done]
        # A PNG of noise has 3 bytes a pixel, one of a palm about half of that.
        needed = 3 * self._image_size**2 * len(left) // 2
        check_writable(self._out, _KEY, needed)
        for index in left:  # what a killed process was writing
            path = self._out / self._plan.file(index)
            for aside in path.parent.glob(f".{path.name}.*"):
                aside.unlink()
        return done

    def _there(self) -> set[int]:
        """The images that are there, and are what this plan has at their places."""
        assert self._plan is not None
        rows = {row["index"]: row for row in reversed(read_rows(self._out))}
        for index in sorted(rows.keys() & set(range(self._plan.num_images))):
            for name, now in self._plan.columns(index).items():
                if (there := rows[index].get(name)) != now:
                    raise ConfigError(
                        f"{_KEY}: {self._out / rows[index]['file']} has the {name} {there!r}, and "
                        f"would have {now!r} now. Choose another directory with --data.out"
                    )
        return set(rows)

    def _claim(self, checkpoint: Any) -> None:
        """Checks or writes `generation.json`."""
        settings = {**self._settings(), "checkpoint_sha256": checkpoint_digest(checkpoint)}
        claim(self._out / SETTINGS, settings, _KEY)

    def _settings(self) -> dict[str, Any]:
        """What decides the pictures, but for the checkpoint."""
        assert self._plan is not None
        return {
            "format_version": FORMAT_VERSION,
            **{f"provenance.{name}": value for name, value in self._provenance.items()},
            **self._digests,
            **self._plan.settings(),
            "size": self._image_size,
        }

    def _write(self, prediction: dict[str, Any], checkpoint: str | None) -> None:
        """The pictures of a batch that are not there yet, and all its rows."""
        assert self._plan is not None
        rows = []
        pixels = prediction["image"].permute(0, 2, 3, 1).cpu().numpy()
        for place, index in enumerate(prediction["index"].tolist()):
            if index >= self._plan.num_images:
                continue
            if index not in self._done:
                write_png(self._out / self._plan.file(index), pixels[place])
            row = {
                "file": self._plan.file(index),
                "index": index,
                "identity": self._plan.identity(index),
                "prompt": prediction["prompt"][place],
                "seed": int(prediction["seed"][place]),
                "checkpoint": checkpoint,
                "size": pixels.shape[1],
            }
            rows.append(row | self._provenance | self._plan.columns(index) | row)
        if rows:
            with write_aside(self._out / _PARTS / f"{rows[0]['index']:08d}.json") as aside:
                aside.write_text(json.dumps(rows), encoding="utf-8")

    def _join(self) -> None:
        """All rows in one file, each image once, in order."""
        rows = {row["index"]: row for row in reversed(read_rows(self._out))}
        if not rows:
            return
        table = pa.Table.from_pylist([rows[index] for index in sorted(rows)])
        place = table.column_names.index("checkpoint")  # of the type null where there is none
        table = table.set_column(place, "checkpoint", table["checkpoint"].cast(pa.string()))
        with write_aside(self._out / MANIFEST) as aside:
            pq.write_table(table, aside)
        shutil.rmtree(self._out / _PARTS, ignore_errors=True)
        rank_zero_info(f"{len(rows)} images in {self._out}")


def read_rows(out: Path) -> list[dict[str, Any]]:
    """Rows of the manifest, then those that are not in it yet, of all pictures that are there.

    Raises:
        DataError: If a file of rows is damaged.
    """
    path = out / MANIFEST
    try:
        rows = pq.read_table(path).to_pylist() if path.exists() else []
        for path in sorted((out / _PARTS).glob("[0-9]*.json")):
            rows += json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # pyarrow's and json's errors
        raise DataError(
            f"{path}: damaged ({error}). Delete it: its images are made again"
        ) from error
    return [row for row in rows if is_there(out / row["file"])]


def _progress(done: set[int], plan: GenerationPlan) -> str:
    return f"{sum(index < plan.num_images for index in done)} of {plan.num_images} images"

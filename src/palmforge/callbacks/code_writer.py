"""`predict` → one Parquet file of codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities import rank_zero_info

from palmforge.callbacks.run_folder import run_folder
from palmforge.data.atomic import write_aside
from palmforge.errors import ConfigError
from palmforge.metrics.hamming import pack_codes


class CodeWriter(BasePredictionWriter):
    """Writes the binary codes of `predict` with their identities and paths.

    Each process writes its part, then rank 0 joins them, in the order of the data and each image
    once. Columns: `path`, `subject`, `hand`, `identity`, `domain`, and what the module predicts:
    `code` (packed, bit 1 = +1) and `predicted` (the classifier's identity) of a hashing network,
    `embedding` (floats of unit length) of a recogniser.

    Args:
        path: The Parquet file; null: `predictions/codes.parquet` in the run's folder.
    """

    def __init__(self, path: str | None = None) -> None:
        super().__init__("batch")
        self.path = path
        self._rows: list[dict[str, np.ndarray]] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Finds the place to write to before anything is computed."""
        super().setup(trainer, pl_module, stage)
        if stage != "predict":
            return
        folder = run_folder(trainer)
        if self.path is not None:
            self._target = Path(self.path).expanduser()
        elif folder is not None:
            self._target = folder / "predictions" / "codes.parquet"
        else:
            raise ConfigError("CodeWriter.path must be given where trainer.logger is false")
        self._rows = []

    def write_on_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, prediction: Any, *_: Any
    ) -> None:
        """Keeps 16 bytes and two numbers an image, or its embedding."""
        row = {"index": prediction["index"].cpu().numpy()}
        if "codes" in prediction:
            row["code"] = pack_codes(prediction["codes"].cpu())
            row["predicted"] = prediction["predicted"].cpu().numpy()
        if "embeddings" in prediction:
            row["embedding"] = prediction["embeddings"].float().cpu().numpy()
        self._rows.append(row)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Parts, barrier, and the whole."""
        part = {name: np.concatenate([row[name] for row in self._rows]) for name in self._rows[0]}
        with write_aside(self._part(trainer.global_rank)) as aside, aside.open("wb") as file:
            np.savez(file, **part)  # type: ignore[arg-type]
        trainer.strategy.barrier("codes written")
        if trainer.is_global_zero:
            self._join(trainer, pl_module)

    def _part(self, rank: int) -> Path:
        return self._target.with_name(f".{self._target.stem}.{rank}.npz")

    def _join(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        parts = [np.load(self._part(rank)) for rank in range(trainer.world_size)]
        index, first = np.unique(np.concatenate([p["index"] for p in parts]), return_index=True)
        found = {
            name: np.concatenate([p[name] for p in parts])[first]
            for name in parts[0].files
            if name != "index"
        }
        records = [trainer.datamodule.predict_dataset.records[row] for row in index]  # type: ignore[attr-defined]
        names = getattr(pl_module, "class_names", [])
        columns: dict[str, Any] = {
            name: [getattr(record, name) for record in records]
            for name in ("path", "subject", "hand", "identity", "domain")
        }
        if (codes := found.get("code")) is not None:
            packed = [code.tobytes() for code in codes]
            columns["code"] = pa.array(packed, pa.binary(codes.shape[1]))
            columns["predicted"] = [
                names[p] if 0 <= p < len(names) else None for p in found["predicted"]
            ]
        if (embeddings := found.get("embedding")) is not None:
            flat = pa.array(embeddings.ravel())
            columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, embeddings.shape[1])
        with write_aside(self._target) as aside:
            pq.write_table(pa.table(columns), aside)
        for rank in range(trainer.world_size):
            self._part(rank).unlink()
        rank_zero_info(f"{len(index)} codes written to {self._target}")

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
    once. Columns: `path`, `subject`, `hand`, `identity`, `domain`, `code` (packed, bit 1 = +1),
    `predicted` (the classifier's identity).

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
        """Keeps 16 bytes and two numbers an image."""
        self._rows.append(
            {
                "index": prediction["index"].cpu().numpy(),
                "code": pack_codes(prediction["codes"].cpu()),
                "predicted": prediction["predicted"].cpu().numpy(),
            }
        )

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
        codes = np.concatenate([p["code"] for p in parts])[first]
        predicted = np.concatenate([p["predicted"] for p in parts])[first]
        records = [trainer.datamodule.predict_dataset.records[row] for row in index]  # type: ignore[attr-defined]
        names = getattr(pl_module, "class_names", [])
        columns: dict[str, Any] = {
            name: [getattr(record, name) for record in records]
            for name in ("path", "subject", "hand", "identity", "domain")
        }
        columns["code"] = pa.array([code.tobytes() for code in codes], pa.binary(codes.shape[1]))
        columns["predicted"] = [names[p] if 0 <= p < len(names) else None for p in predicted]
        with write_aside(self._target) as aside:
            pq.write_table(pa.table(columns), aside)
        for rank in range(trainer.world_size):
            self._part(rank).unlink()
        rank_zero_info(f"{len(index)} codes written to {self._target}")

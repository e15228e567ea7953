"""`predict` of a factory → a data set, its manifest and its card."""

from __future__ import annotations

import time
from collections import Counter
from datetime import timedelta
from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_info

from palmforge.callbacks.rank_zero import on_rank_zero
from palmforge.callbacks.run_folder import output_folder
from palmforge.data.atomic import check_writable, write_aside
from palmforge.data.factory.card import data_card
from palmforge.data.factory.ledger import Row
from palmforge.data.factory.plan import WAIT, FactoryPlan
from palmforge.data.factory.store import FactoryStore
from palmforge.data.generation.output import (
    check_settings,
    claim,
    refuse_foreign,
    told_if_full,
)
from palmforge.errors import ConfigError

SETTINGS, CARD = "factory.json", "README.md"
FORMAT_VERSION = 1  # raise it when the same settings would give other pictures


class FactoryWriter(L.Callback):
    """Keeps what a `PalmFactory` makes, as `FactoryStore` lays it out.

    A run that was killed, on however many GPUs, goes on with the same command: each process loses
    the batch that it was at. A larger `num_identities` adds to the set.

    Args:
        directory: OUT, new or empty or of the same settings; null: `predictions/images` in the
            run's folder. `--data.out` wins over it.
    """

    def __init__(self, directory: str | None = None) -> None:
        self.directory = directory

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Whose directory it is.

        Raises:
            ConfigError: If none is known, it has something else in it, or the model is no factory.
        """
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        plan = getattr(datamodule, "plan", None)
        self._plan = plan if stage == "predict" and isinstance(plan, FactoryPlan) else None
        if self._plan is None:
            return
        if not getattr(pl_module, "makes_sets", False):
            raise ConfigError(
                f"model: FactoryDataModule is for PalmFactory, not for {type(pl_module).__name__}"
            )
        trainer.predict_loop.return_predictions = False  # they are on the disk
        out = output_folder(trainer, datamodule.out or self.directory, "data.out")
        self._store = FactoryStore(out, datamodule.shard_identities)
        self._plan.load_reference = self._store.load_reference
        self._plan.after_round = self._after_round
        self._plan.ready = False
        self._size = datamodule.image_size
        self._is_first = trainer.is_global_zero
        on_rank_zero(trainer, self._check_directory)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Claims the directory and reads what is there; the models are loaded now.

        Raises:
            ConfigError: If it has something else in it, was made with other settings, or has more.
        """
        if self._plan is None:
            return
        module: Any = pl_module
        digests = on_rank_zero(trainer, module.digests)  # gigabytes are read for them
        self._made_by: dict[str, Any] = {**module.provenance, **digests}
        rows, placed = on_rank_zero(trainer, self._look)
        self._plan.add(rows)
        self._check_smaller(placed)
        self._plan.ready = True
        self._began, self._kept_before = time.monotonic(), self._plan.num_kept
        self._tell()

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """The plan decides what is kept; pictures first, then their rows.

        Raises:
            DataError: If the disk is full.
        """
        if self._plan is None or not isinstance(outputs, dict) or outputs["kind"] == WAIT:
            return
        rows = self._plan.report(outputs["job"], outputs["rows"])
        with told_if_full(self._store.out, self._progress):
            self._store.write(outputs["job"], rows, outputs["image"].permute(0, 2, 3, 1).numpy())

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The tables and the card, when all processes are done."""
        if self._plan is None:
            return
        trainer.strategy.barrier("palms written")
        is_whole = self._plan.num_complete == self._plan.num_identities
        if not is_whole:
            rank_zero_info(f"stopped at {self._progress()}; without a limit of batches it goes on")
        if self._is_first and is_whole:
            with told_if_full(self._store.out, self._progress):
                count = self._store.finish(self._plan, self._made_by)
                settings = self._plan.settings()
                card = data_card(
                    self._store.out.resolve().name, self._plan, self._size, self._made_by, settings
                )
                with write_aside(self._store.out / CARD) as aside:
                    aside.write_text(card, encoding="utf-8")
            rank_zero_info(
                f"{count:,} images of {self._plan.num_complete:,} palms in {self._store.out}"
            )
        trainer.strategy.barrier("tables written")

    def _check_directory(self) -> None:
        """What can be refused before the models are loaded."""
        if (path := self._store.out / SETTINGS).exists():
            check_settings(path, self._settings(), "data.out", partly=True)
        else:
            refuse_foreign(self._store.out, "data.out", "no factory made")

    def _settings(self) -> dict[str, Any]:
        """What decides the set, but for the models."""
        assert self._plan is not None
        return {
            "format_version": FORMAT_VERSION, "size": self._size,
            "shard_identities": self._store.shard_identities, **self._plan.settings(),
        }  # fmt: skip

    def _look(self) -> tuple[list[Row], set[int]]:
        """The rows that are there, and the palms in the set, of a directory that is ours."""
        assert self._plan is not None
        out, path = self._store.out, self._store.out / SETTINGS
        settings = {**self._settings(), **self._made_by}
        for name in ("controlnet", "generator", "recogniser"):  # paths: their digests are compared
            if settings.get(f"{name}_sha256") is not None:
                settings.pop(name)
        if path.exists():
            check_settings(path, settings, "data.out")
        else:
            refuse_foreign(out, "data.out", "no factory made")
        images = self._plan.num_identities * self._plan.captures
        self._store.sweep()
        there = self._store.rows()
        check_writable(out, "data.out", 3 * self._size**2 * max(0, images - len(there)) // 2)
        claim(path, settings, "data.out")
        return there, self._store.placed()

    def _check_smaller(self, placed: set[int]) -> None:
        assert self._plan is not None
        wanted, used = self._plan.num_identities, self._plan.used()
        if len(placed) > wanted or (len(used) == wanted and not placed <= set(used)):
            raise ConfigError(
                f"data.num_identities: {self._store.out} was made for more palms than {wanted} and "
                f"has {len(placed)} already; nothing is taken away"
            )

    def _after_round(self) -> None:
        assert self._plan is not None
        if self._is_first:
            self._store.place(self._plan)
        self._tell()

    def _progress(self) -> str:
        assert self._plan is not None
        wanted = self._plan.num_identities * self._plan.captures
        return f"{self._plan.num_kept:,} of {wanted:,} images"

    def _tell(self) -> None:
        """Once a round: how far, what was rejected, how long still."""
        assert self._plan is not None
        reasons = sum(self._plan.rejected.values(), start=Counter[str]())
        told = ", ".join(f"{why} {count:,}" for why, count in reasons.most_common())
        line = (
            f"{self._plan.num_complete:,} of {self._plan.num_identities:,} palms, "
            f"{self._progress()}; rejected: {told or 'none'}"
        )
        if self._plan.num_surplus:
            line += f"; not needed: {self._plan.num_surplus:,}"
        made = self._plan.num_kept - self._kept_before
        seconds = time.monotonic() - self._began
        if made > 0 and seconds > 0:
            lacking = self._plan.num_identities * self._plan.captures - self._plan.num_kept
            left = timedelta(seconds=round(lacking * seconds / made))
            line += f"; {made / seconds:.2f} images/s, {left} left"
        rank_zero_info(line)

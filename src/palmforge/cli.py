"""The command line: LightningCLI for single runs, and our own subcommands beside it."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import yaml
from jsonargparse import ArgumentParser, Namespace, auto_cli
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_info

# Importing them makes their short names known to the YAML files.
import palmforge.callbacks
import palmforge.data.datamodule
import palmforge.data.deidentification.datamodule
import palmforge.data.factory.datamodule
import palmforge.data.generation.capture_datamodule
import palmforge.data.generation.datamodule
import palmforge.data.hands.datamodule
import palmforge.data.inpainting.datamodule
import palmforge.modules
from palmforge.callbacks import StepSeed, StopOnSignal
from palmforge.callbacks.lineage_fetch import PREFIX, fetch, has_wandb_key
from palmforge.callbacks.run_folder import run_folder
from palmforge.checkpoints import resolve_checkpoint
from palmforge.commands.overrides import gathered
from palmforge.data.atomic import check_writable, write_aside
from palmforge.errors import CheckpointError, ConfigError, PalmForgeError

# Commands whose required settings are --name value, as the others.
_ALL_BY_NAME = (
    "audit", "data synthesize", "deidentify", "evaluate", "export", "gallery",
    "generator identity", "generator measure", "locate",
)  # fmt: skip
_SWITCHES = {"__dry_run": "--dry_run=true", "__retry_failed": "--retry_failed=true"}
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
WANDB_ID = "wandb_id.txt"
PRETRAINED = "pretrained"  # --ckpt_path of a model that has not been trained further

# Lightning's own, about torch's pytree; nothing that a user can mend.
warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")


def own_commands() -> dict[str, Any]:
    """Our subcommands that need no Trainer: name → what `jsonargparse.auto_cli` takes."""
    from palmforge.commands import (
        audit,
        data,
        deidentify_alpha,
        evaluate,
        export,
        gallery,
        generator,
        generator_export,
        generator_identity,
        locate,
        recognizer,
        study,
        sweep,
    )
    from palmforge.localization.weights import export_localizer

    return {
        "study": study.study,
        "sweep": sweep.sweep,
        "data": {"summary": data.summary, "synthesize": data.synthesize},
        "locate": {
            "predict": locate.predict,
            "fit": locate.fit,
            "evaluate": locate.evaluate,
            "export": export_localizer,
        },
        "recognizer": {"export": recognizer.export, "verify": recognizer.verify},
        "generator": {
            "export": generator_export.export,
            "measure": generator.measure,
            "identity": generator_identity.identity,
        },
        "audit": audit.audit,
        "deidentify": {"alpha": deidentify_alpha.alpha},
        "evaluate": evaluate.evaluate,
        "export": export.export,
        "gallery": {
            "build": gallery.build,
            "add": gallery.add,
            "remove": gallery.remove,
            "calibrate": gallery.calibrate,
            "search": gallery.search,
            "info": gallery.info,
        },
    }


class SaveRun(SaveConfigCallback):
    """Keeps the whole config beside the run and in every tracker, and the tracker's run id."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Nothing where nothing is logged: Lightning would write to the working directory."""
        if run_folder(trainer) is not None:
            super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """On rank 0."""
        text = self.parser.dump(self.config, skip_none=False)
        # Trackers need not learn the user's name.
        config = yaml.safe_load(text.replace(f"{Path.home()}{os.sep}", f"~{os.sep}"))
        for logger in trainer.loggers:
            if not isinstance(logger, CSVLogger):  # config.yaml stands beside its metrics already
                logger.log_hyperparams(config)
            if isinstance(logger, WandbLogger):
                # Of the first logger itself: trainer.log_dir asks all processes, and this is one.
                folder = Path(trainer.loggers[0].log_dir or logger.save_dir or ".")
                with write_aside(folder / WANDB_ID) as aside:
                    aside.write_text(logger.experiment.id, encoding="utf-8")


class PalmCLI(LightningCLI):
    """LightningCLI with run folders by experiment and checkpoints by name."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds `--name`, `--test_ckpt` and the links between data and model."""
        parser.add_argument(
            "--name",
            type=str,
            default="unnamed",
            help="Experiment: its runs are lightning_logs/<name>/version_<n>.",
        )
        parser.add_argument(
            "--test_ckpt",
            type=str | None,
            default=None,
            help="After fit, test this checkpoint of the run: last, best or null.",
        )
        parser.add_lightning_class_args(StepSeed, "step_seed")
        parser.link_arguments("seed_everything", "step_seed.seed", compute_fn=_as_seed)
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=_as_seed)
        parser.link_arguments("data.init_args.image_size", "model.init_args.image_size")
        parser.link_arguments(
            "data.class_names", "model.init_args.class_names", apply_on="instantiate"
        )

    def _parse_ckpt_path(self) -> None:
        """What is given wins: Lightning lets a checkpoint override it (#21455)."""

    def before_instantiate_classes(self) -> None:
        """Names the run's folder, finds the checkpoint, and prepares the tracker."""
        config = self.config[self.subcommand]
        if os.environ.get("WANDB_SWEEP_ID") and os.environ.get("WANDB_RUN_ID"):
            # Of an agent. Two on one machine would else share a version_<n>.
            config.name = f"{config.name}/{os.environ['WANDB_RUN_ID']}"
        loggers = config.trainer.logger if isinstance(config.trainer.logger, list) else []
        for logger in loggers:
            kind = logger.class_path.rsplit(".", 1)[-1]
            if kind in ("CSVLogger", "TensorBoardLogger"):
                logger.init_args.name = config.name
        save_dir = _save_dir(loggers)
        if loggers:  # before ROIs are cut, which may take an hour
            check_writable(Path(save_dir), "trainer.logger.save_dir")
        if config.get("ckpt_path") == PRETRAINED:
            _check_pretrained(config, str(self.subcommand))
            config.ckpt_path = None
        elif not (config.ckpt_path is None and _brings_checkpoints(config)):
            config.ckpt_path = resolve_checkpoint(
                config.get("ckpt_path"), save_dir, config.name, str(self.subcommand)
            )
        _fetch_weights(config, save_dir)
        for logger in loggers:
            if logger.class_path.endswith("WandbLogger"):
                _prepare_wandb(logger.init_args, config)

    def instantiate_classes(self) -> None:
        """Builds everything; an error of ours stays what it is.

        Raises:
            PalmForgeError: Of a constructor. jsonargparse makes a ValueError of it, in which all
                settings are printed.
        """
        try:
            super().instantiate_classes()
        except ValueError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, PalmForgeError):
                cause = cause.__cause__ or cause.__context__
            raise cause or error from None

    def before_fit(self) -> None:
        """Loads what a fit starts from while nothing has been computed yet."""
        strategy = str(self.config.fit.trainer.strategy)
        if self.config.fit.test_ckpt is not None and strategy.endswith(("fork", "spawn")):
            raise ConfigError(
                f"test_ckpt: with the strategy {strategy} the CSV log of the fit, which another "
                "process wrote, would be lost. Leave it out and run `test` after `fit`"
            )
        load = getattr(self.model, "load_pretrained", None)
        if load is not None:
            load(resuming=self.config.fit.ckpt_path is not None)

    def after_fit(self) -> None:
        """Tests, if asked, in the same process: importing torch again costs ten seconds."""
        which = self.config.fit.test_ckpt
        folder = run_folder(self.trainer)
        if which is None or folder is None or self.trainer.interrupted:
            return
        path = folder / "checkpoints" / f"{which}.ckpt"
        if not path.is_file() and self.config.fit.ckpt_path:  # it had all its steps already
            path = Path(self.config.fit.ckpt_path)
        self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path=str(path))


def _check_pretrained(config: Namespace, command: str) -> None:
    """`--ckpt_path pretrained`: the weights that a model comes with, before any training."""
    arguments = config.model.init_args
    if command == "fit" or not arguments.get("pretrained_model_name_or_path"):
        raise CheckpointError(
            f"ckpt_path: {PRETRAINED} is for validate, test and predict of a model with "
            "pretrained_model_name_or_path"
        )


def _brings_checkpoints(config: Namespace) -> bool:
    """Whether the model's own arguments name the checkpoints that it is made of."""
    kind = getattr(palmforge.modules, config.model.class_path.rsplit(".", 1)[-1], None)
    return getattr(kind, "brings_checkpoints", False)


def _as_seed(seed: bool | int) -> int:
    return 0 if isinstance(seed, bool) else seed


def _fetch_weights(config: Namespace, save_dir: str) -> None:
    """Of the model's settings (`teacher_ckpt`, `weights`, `controlnet`), those that wandb has."""
    for name, value in vars(config.model.get("init_args") or Namespace()).items():
        if isinstance(value, str) and value.startswith(PREFIX):
            config.model.init_args[name] = str(fetch(value, save_dir, f"model.{name}"))


def _save_dir(loggers: Sequence[Namespace]) -> str:
    for logger in loggers:
        if logger.class_path.endswith("CSVLogger"):
            return str(logger.init_args.save_dir)
    return "lightning_logs"


def _prepare_wandb(arguments: Namespace, config: Namespace) -> None:
    """Run name, the id of the run that is resumed, and offline where there is no key."""
    if arguments.name is None:
        arguments.name = config.name
    if config.ckpt_path is not None and arguments.id is None:
        earlier = Path(config.ckpt_path).absolute().parents[1] / WANDB_ID
        if earlier.is_file():
            arguments.id = earlier.read_text(encoding="utf-8").strip()
    Path(arguments.save_dir).mkdir(parents=True, exist_ok=True)
    if not arguments.offline and os.environ.get("WANDB_MODE") is None and not has_wandb_key():
        arguments.offline = True
        rank_zero_info(
            "wandb: no API key, so the run is kept offline under "
            f"{arguments.save_dir}/wandb; `wandb sync` uploads it after `wandb login`"
        )


def main(args: list[str] | None = None) -> None:
    """Runs a command line, that of the process by default."""
    argv = sys.argv[1:] if args is None else args
    # wandb would send what is printed: warnings have names of palms' files in them. It looks once,
    # when it is first asked for anything, a checkpoint say.
    os.environ.setdefault("WANDB_CONSOLE", "off")
    commands: dict[str, Any] = own_commands()
    if argv and argv[0] in commands:
        _run_own(commands[argv[0]], argv)
        return
    base = {"default_config_files": [str(CONFIGS / "base.yaml")]}
    PalmCLI(
        model_class=L.LightningModule,
        datamodule_class=L.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=SaveRun,
        save_config_kwargs={"overwrite": True},
        trainer_defaults={"callbacks": StopOnSignal()},  # whatever callbacks a file lists
        # No abbreviations: `max_step` would silently be `max_steps`.
        parser_kwargs={"allow_abbrev": False, **{name: base for name in PalmCLI.subcommands()}},
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        args=args,
    )


class _ByNameParser(ArgumentParser):
    """That calls what is missing as it is typed: `--checkpoint`, not `identity.checkpoint`."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """See `ArgumentParser`."""
        told, found, names = message.partition("arguments are required: ")
        if found:
            flags = ", ".join(f"--{name.rpartition('.')[2]}" for name in names.split(", "))
            message = told + found + flags
        super().error(message, ex)


def _run_own(command: Any, argv: list[str]) -> None:
    # jsonargparse wants `--dry_run true`; a switch is what everybody types.
    args = gathered([_SWITCHES.get(word.replace("-", "_"), word) for word in argv[1:]])
    by_name = bool({argv[0], " ".join(argv[:2])} & set(_ALL_BY_NAME))
    auto_cli(
        command,
        args=args,
        parser_class=_ByNameParser if by_name else ArgumentParser,
        prog=f"train.py {argv[0]}",
        as_positional=not by_name,
    )

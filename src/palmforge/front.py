"""The door: answers a bare `--help` at once, and turns endings into exit codes."""

from __future__ import annotations

import os
import signal
import sys

# `import lightning` alone takes five seconds. tests/test_front.py holds this page equal to the
# subcommands that there are.
HELP = """\
usage: train.py COMMAND [--config configs/experiment/NAME.yaml] [--key=value ...]

PalmForge: generate, recognise and anonymise palmprints.

Training (LightningCLI; each has a --help and a --print_config)
  fit        train an experiment:       fit --config configs/experiment/dhn_teacher.yaml
  validate   validate a checkpoint:     validate --config ... --ckpt_path last
  test       report on the test set:    test --config ... --ckpt_path best
  predict    codes of images, or palms: predict --config ... --ckpt_path last
             whole sets of palms:       predict --config configs/experiment/factory.yaml
             photos without palms:      predict --config configs/experiment/deidentify.yaml

Many runs
  study      train and test a table:    study configs/study/dhn_xjtu.yaml --dry-run
  sweep      search settings:           sweep configs/sweep/teacher.yaml --trials 40 --jobs 2

Data
  data       look at a data set:        data summary /data/XJTU-UP
             render synthetic palms:    data synthesize --preset wild --out data/wild
  locate     cut palms out of photos:   locate predict --images photos --out palms
             measure, train locators:   locate evaluate | locate fit | locate export
  recognizer embed and verify ROIs:     recognizer verify | recognizer export
  generator  palms that it has made:    generator measure --images DIR --training ROOT
             kept palms, dial, sharing: generator identity --checkpoint CKPT --out DIR
             for plain diffusers:       generator export CKPT DIR --format kohya
  audit      does a set leak palms?     audit --images DIR --training ROOT --held_out ROOT
  deidentify how much may be seen:      deidentify alpha --images DIR --target 80
  evaluate   judge recognisers:         evaluate --config configs/evaluation/open_set.yaml
  gallery    enrol, search 1:N:         gallery build --codes codes.parquet --out DIR
             change, measure it:        gallery add | remove | calibrate | search | info
  export     one file for a phone:      export --ckpt CKPT --format onnx --out DIR

Presets compose, the later one wins:
  train.py fit --config configs/experiment/dhn_teacher.yaml \\
    --trainer configs/trainer/ddp.yaml --config configs/logger/wandb.yaml --model.lr=3e-4
"""


def main() -> None:
    """Runs the command line.

    Exits with 2 for what the user can mend, 143 after SIGTERM, 138 after SIGUSR1 (`StopOnSignal`).
    """
    if len(sys.argv) == 1 or sys.argv[1] in ("-h", "--help"):
        print(HELP, end="")
        return
    _end_with_launcher()
    from palmforge.cli import main as run
    from palmforge.errors import PalmForgeError

    try:
        run()
    except PalmForgeError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except Exception as error:
        if type(error).__name__ != "MisconfigurationException":  # Lightning's: no such GPU, say
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except SystemExit as stop:
        if type(stop).__name__ == "SIGTERMException":  # Lightning would leave with status 0
            raise SystemExit(143 if stop.code is None else stop.code) from stop
        raise


def _end_with_launcher() -> None:
    """One of many processes: without the one that started it, it would wait for ever."""
    if "LOCAL_RANK" in os.environ and sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG; it may be in a collective

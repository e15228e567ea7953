"""Every command that README and docs show is one that the programs take, and is run or marked."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import sys
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from conftest import ROOT
from jsonargparse import ArgumentParser, auto_parser
from lightning.pytorch.cli import LightningCLI

from palmforge import cli

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
RUNS = ("fit", "validate", "test", "predict")
# Files that an earlier command of the page makes, or the reader: what stands in for them here.
STANDS_IN = {
    "results/sweep/dhn_teacher/best.yaml": "configs/experiment/dhn_teacher.yaml",
    "small.yaml": "configs/experiment/margin_small.yaml",
}

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", flags=re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`(?!`)((?:python |make |train\.py |torchrun |sbatch )[^`]+)`")
_DRAWN = re.compile("[\u2500-\u257f]")  # boxes and lines: a drawing
_VARIABLE = re.compile(r"[A-Z_]+=\S*")


@dataclass(frozen=True)
class Command:
    """A command as a page shows it, without what precedes the program."""

    page: str
    words: tuple[str, ...]
    in_prose: bool = False
    launcher: str = ""

    @property
    def text(self) -> str:
        return shlex.join(self.words)

    @property
    def key(self) -> str:
        """What it does, without settings: `fit dhn_teacher`, `gallery build`, `make test`."""
        words = self.words
        if words[0] == "make":
            return f"make {words[-1]}"
        if words[0] != "train.py" or len(words) == 1:
            return words[0]
        if words[1] in RUNS:
            return f"{words[1]} {_config(words)}"
        if words[1] in ("study", "sweep"):
            return f"{words[1]} --dry-run" if "--dry-run" in words else words[1]
        grouped = isinstance(cli.own_commands().get(words[1]), dict)
        return " ".join(words[1 : 3 if grouped else 2])

    @property
    def is_name(self) -> bool:
        """In prose `train.py audit` names a command, it does not give it."""
        flags = [word for word in self.words if word.startswith("--")]
        return self.in_prose and (not flags or any(f.endswith(".help") for f in flags))


def _config(words: tuple[str, ...]) -> str:
    for word, following in pairwise(words):
        if word == "--config" and "/logger/" not in following:
            return Path(following).stem
    return ""


def _lines(block: str) -> list[str]:
    """Its commands, with continuation lines and open quotes joined."""
    found, open_line = [], ""
    for line in re.sub(r"\\\n\s*", " ", block).splitlines():
        open_line = f"{open_line} {line.strip()}".strip()
        try:
            shlex.split(open_line, comments=True)
        except ValueError:  # a quote that the next line closes
            continue
        if open_line:
            found.append(open_line)
        open_line = ""
    return found


def _command(page: str, line: str, in_prose: bool = False) -> Command | None:
    words = shlex.split(line, comments=True)
    while words and (_VARIABLE.fullmatch(words[0]) or words[0] in ("python", "python3", "$")):
        del words[0]
    if words[:1] == ["-m"]:
        del words[0]
    if not words:
        return None
    places = [place for place, word in enumerate(words) if Path(word).name == "train.py"]
    launcher = words[0] if places and places[0] else ""  # torchrun … train.py fit …
    words = ["train.py", *words[places[0] + 1 :]] if places else words
    return Command(page, tuple(words), in_prose, launcher)


@cache
def commands() -> list[Command]:
    """Of all pages: of fenced blocks without a language or of a shell, and of inline code."""
    found = []
    for path in PAGES:
        page, text = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        for _, language, block in _FENCE.findall(text):
            if language in ("", "sh", "bash", "console") and not _DRAWN.search(block):
                found += [_command(page, line) for line in _lines(block)]
        for code in _INLINE.findall(_FENCE.sub("", text).replace("\n", " ")):
            if not re.search(r"…|\.\.\.| \| |[A-Z]{7,}", code):  # a pattern, not a command
                found.append(_command(page, code, in_prose=True))
    return list(dict.fromkeys(command for command in found if command is not None))


_taken: set[tuple[str, ...]] = set()  # pages show the same ones


@pytest.fixture(scope="module")
def run_parser():
    """That of fit, validate, test and predict, built once; nothing is instantiated."""
    found: list[Any] = []

    class Built(Exception):
        pass

    def stop(self, parser, args) -> None:
        found.append(parser)
        raise Built

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LightningCLI, "parse_arguments", stop)
        patch.setattr("sys.argv", ["train.py"])
        with pytest.raises(Built):
            cli.main(["fit"])
    return found[0]


@pytest.mark.parametrize("page", sorted({command.page for command in commands()}))
def test_the_commands_of_a_page_are_taken(page, run_parser, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    wrong = []
    for command in commands():
        if command.page == page:
            try:
                check(command, run_parser)
            except SystemExit as stop:
                told = capsys.readouterr().err
                if stop.code:
                    wrong.append(f"{command.text}\n{told[told.find('error:') :]}")
            except (AssertionError, OSError) as error:
                wrong.append(f"{command.text}\n{error}")
    assert not wrong, "\n\n".join(wrong)


def check(command: Command, run_parser) -> None:
    """Raises where the program would not take it."""
    words = [STANDS_IN.get(word, word) for word in command.words]
    if command.words in _taken:
        return
    if words[0] == "make":
        assert words[-1] in _targets(), "no such target in Makefile"
    elif words[0] == "train.py":
        _check_train(words[1:], command.is_name, run_parser)
    elif words[0].endswith(".py") or "." in words[0] or words[0] == "benchmarks":
        _check_module(words)
    else:
        assert need(command), "unknown program: say in NEEDS what it needs"
    _taken.add(command.words)


def _check_train(words: list[str], is_name: bool, run_parser) -> None:
    if words in (["--help"], ["-h"]):
        return
    if words[0] in RUNS:
        if not is_name:
            run_parser.parse_args([word for word in words if word != "--print_config"])
        return
    known = cli.own_commands()
    assert words[0] in known, f"no subcommand {words[0]}"
    if is_name:
        members = known[words[0]] if isinstance(known[words[0]], dict) else None
        assert members is None or words[1:2] == [] or words[1] in members, f"no {words[1]}"
        return
    by_name = bool({words[0], " ".join(words[:2])} & set(cli._ALL_BY_NAME))
    taken = [cli._SWITCHES.get(word.replace("-", "_"), word) for word in words[1:]]
    parser: ArgumentParser = auto_parser(known[words[0]], as_positional=not by_name)
    parser.parse_args(taken)


def _targets() -> set[str]:
    return set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def _check_module(words: list[str]) -> None:
    """Its file is there, and so are its flags; a name after `benchmarks` is one of them."""
    name = words[0]
    if name == "benchmarks":
        for word in words[1:]:
            there = word.startswith("--") or (ROOT / "benchmarks" / f"{word}.py").is_file()
            assert there, f"no benchmark {word}"
        name = "benchmarks.__main__"
    path = ROOT / name if name.endswith(".py") else _module_path(name)
    assert path.is_file(), f"no {path}"
    flags = _flags(path)
    for word in words[1:]:
        flag = word.split("=")[0]
        assert not flag.startswith("--") or flag in flags, f"{name} takes no {flag}"


def _module_path(name: str) -> Path:
    below = ROOT / "src" if name.startswith("palmforge") else ROOT
    return below / f"{name.replace('.', '/')}.py"


def _flags(path: Path) -> set[str]:
    """Options by `add_argument`, also of a neighbour from which it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            found |= {a.value for a in node.args if isinstance(a, ast.Constant)}
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("benchmarks."):
            found |= _flags(_module_path(str(node.module)))
    return found


# Where a command, or the same one on a few rendered palms, is run in earnest.
RUN_BY = {
    "--help": "test_front.py",
    "make quickstart": "test_outcome.py",
    "make docs": "test_docs_site.py",
    "make test": "",  # is what runs this
    "benchmarks": "test_benchmarks.py",
    "data summary": "commands/test_data.py",
    "data synthesize": "commands/test_data.py",
    "study": "commands/test_study.py",
    "study --dry-run": "commands/test_study.py",
    "sweep": "commands/test_sweep.py",
    "sweep --dry-run": "commands/test_sweep.py",
    "locate predict": "commands/test_locate.py",
    "locate fit": "commands/test_locate.py",
    "locate evaluate": "commands/test_locate.py",
    "locate export": "commands/test_locate.py",
    "recognizer verify": "commands/test_recognizer.py",
    "evaluate": "commands/test_evaluate.py",
    "export": "commands/test_export.py",
    "examples/verify_onnx.py": "commands/test_export.py",
    "audit": "commands/test_audit.py",
    "deidentify alpha": "commands/test_deidentify_alpha.py",
    "generator export": "modules/test_identity_generator_files.py",
    "generator measure": "commands/test_generator.py",
    "generator identity": "commands/test_generator_identity.py",
    "gallery build": "commands/test_gallery.py",
    "gallery add": "commands/test_gallery.py",
    "gallery remove": "commands/test_gallery.py",
    "gallery calibrate": "commands/test_gallery.py",
    "gallery search": "commands/test_gallery.py",
    "gallery info": "commands/test_gallery.py",
    "palmforge.data.databases.page": "data/test_databases.py",
    "test dhn_teacher": "test_runs.py",
    "test dhn_student": "test_runs.py",
    "test dhn_distilled": "test_outcome.py",
    "predict dhn_student": "test_runs.py",
    "predict dhn_distilled": "test_runs.py",
    "test identity_lora_tiny": "modules/test_identity_generator_runs.py",
    "predict identity_lora_tiny": "test_generation.py",
    "predict identity_controlnet_tiny": "modules/test_identity_controlnet_runs.py",
    "predict factory": "modules/test_palm_factory.py",
    "predict deidentify_tiny": "test_configs.py",
    "fit small": "test_howtos.py",
    "predict small": "test_howtos.py",
    "fit best": "commands/test_sweep.py",
}
BUILT_BY = "test_configs.py"  # every experiment: all of a fit but the training
# What no test can have. Commands on several GPUs are told by their settings (`need`).
NEEDS = {
    "make lint": "is run by hand: it tells of style",
    "make bench": "minutes; test_benchmarks.py runs each of them small",
    "pip": "network",
    "hf": "network",
    "wandb": "network: a W&B server",
    "sbatch": "GPUs: a cluster with SLURM",
    "predict deidentify": "network: the weights of Paint-by-Example; GPUs to be done with it",
    "test deidentify": "network: the weights of Paint-by-Example; GPUs to be done with it",
    "predict identity_lora": "GPUs, and Stable Diffusion from the network",
    "scripts/concept_figures.py": "minutes; it draws docs/images",
    "benchmarks.deidentify": "GPUs: Paint-by-Example",
    "benchmarks.lora_step": "GPUs",
    "benchmarks.controlnet_step": "GPUs",
    "benchmarks.gallery": "half an hour; test_benchmarks.py runs it small",
}


def need(command: Command) -> str | None:
    """Why no test can run it."""
    if command.launcher or re.search(
        r"trainer\.devices=[2-9]|trainer/(ddp|deepspeed|fsdp|gpu|slurm)", command.text
    ):
        return "GPUs"
    return NEEDS.get(command.key)


def test_every_command_is_run_or_marked():
    experiments = {path.stem for path in (ROOT / "configs" / "experiment").glob("*.yaml")}
    homeless = []
    for command in commands():
        what, _, config = command.key.partition(" ")
        built = what == "fit" and config in experiments
        if not (command.is_name or need(command) or command.key in RUN_BY or built):
            homeless.append(f"{command.page}: [{command.key}] {command.text}")
    assert not homeless, "say in RUN_BY which test runs it, or in NEEDS why none can:\n" + (
        "\n".join(homeless)
    )
    for test in {*RUN_BY.values(), BUILT_BY} - {""}:
        assert (ROOT / "tests" / test).is_file(), test


def test_settings_named_in_prose_are_settings_of_something():
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        reference = importlib.import_module("config_reference").classes()
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    known = set(re.findall(r"^\| `([\w.]+)` \|", reference, flags=re.MULTILINE)) | {"help"}
    known |= set(inspect.signature(L.Trainer).parameters)
    wrong = []
    for path in PAGES:
        text = _FENCE.sub("", path.read_text(encoding="utf-8"))
        for name in re.findall(r"`[^`\n]*--(?:model|data|trainer)\.(\w+(?:\.\w+)*)", text):
            first = name.split(".")[0]
            if name not in known and first not in known:
                wrong.append(f"{path.relative_to(ROOT)}: {name}")
    assert not wrong, wrong

"""The code on the pages runs, as it stands there."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT

from palmforge.data.synthetic import render_palm
from palmforge.recognition.weights import HAND_CRAFTED

DOCS = ROOT / "docs"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
# Blocks that a test elsewhere holds: page → (which of its blocks, where).
ELSEWHERE = {
    "captures.md": (0, "modules/test_identity_controlnet_files.py"),  # plain diffusers
}
HOWTOS = ("howto_dataset.md", "howto_recogniser.md")


def blocks(page: str, language: str = "python") -> list[str]:
    """The fenced blocks of a page."""
    text = (ROOT / page if page == "README.md" else DOCS / page).read_text(encoding="utf-8")
    return [code for found, code in _BLOCK.findall(text) if found == language]


def run(page: str, names: dict) -> dict:
    """All Python of a page, one block after the other, in one namespace."""
    for number, code in enumerate(blocks(page)):
        exec(compile(code, f"{page}, block {number}", "exec"), names)
    return names


@pytest.mark.parametrize("page", HOWTOS)
def test_the_blocks_of_a_howto_run_one_after_the_other(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("palmforge.recognition.weights.HAND_CRAFTED", dict(HAND_CRAFTED))
    names = run(page, {"__name__": "howto"})
    if page == "howto_recogniser.md":
        assert (tmp_path / "report" / "report.html").is_file()
        assert names["figures"]["eer"] < 0.3


def test_a_model_outside_the_package_trains_goes_on_and_predicts(
    cli, logs, tmp_path, monkeypatch, request
):
    (module,), (config,) = blocks("howto_model.md"), blocks("howto_model.md", "yaml")
    (tmp_path / "my_models.py").write_text(module, encoding="utf-8")
    (tmp_path / "small.yaml").write_text(config, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    request.addfinalizer(lambda: sys.modules.pop("my_models", None))
    few = ("--config=small.yaml", "--trainer.accelerator=cpu", "--trainer.val_check_interval=2")
    cli("fit", *few, "--trainer.max_steps=2", "--test_ckpt=last")
    cli("fit", *few, "--trainer.max_steps=4", "--ckpt_path=last")
    cli("predict", *few, "--ckpt_path=best")
    assert (logs / "small/version_0/results.json").is_file()
    step = torch.load(logs / "small/version_1/checkpoints/last.ckpt", weights_only=True)
    assert step["global_step"] == 4
    assert list(logs.glob("small/version_*/predictions/codes.parquet"))


@pytest.fixture
def palm_picture() -> np.ndarray:
    return render_palm(2, 1, "IF", 320, seed=0)[0]


@pytest.mark.parametrize("page", ["README.md", "localization.md", "recognition.md"])
def test_the_code_of_the_pages_runs_on_a_picture_of_a_hand(page, palm_picture):
    rois = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    names = run(page, {"image": palm_picture, "rois": rois})
    if page == "README.md":
        assert names["roi"].shape == (128, 128, 3)
    elif page == "localization.md":
        assert names["palm"].handedness == "L"
    else:
        assert names["distances"].shape == (2, 2)


def test_the_code_of_galleries_runs(tmp_path):
    drawn = np.random.default_rng(0)
    codes = drawn.integers(0, 256, (6, 16), dtype=np.uint8)
    names: dict = {
        "codes": codes, "probes": codes[:2], "identities": [f"palm {i}" for i in range(6)],
        "identity": "palm 3", "np": np, "k": 2,
    }  # fmt: skip
    code = blocks("scale.md")
    exec("import hashlib", names)
    exec(code[0], names)
    exec(code[1], names)
    assert 0 <= names["shard"] < 256
    gallery = names["Gallery"]
    settings = names["IndexSettings"]("flat")
    names["shards"] = [
        gallery.build(codes[rows], [f"palm {i}" for i in rows], settings)
        for rows in ([0, 2, 4], [1, 3, 5])
    ]
    exec(code[2], names)
    assert names["identities"][:, 0].tolist() == ["palm 0", "palm 1"]
    assert len(code) == 3


def test_every_page_with_python_is_run_by_a_test():
    pages = [page.name for page in sorted(DOCS.glob("*.md")) if blocks(page.name)]
    known = {*HOWTOS, *ELSEWHERE, "howto_model.md", "localization.md", "recognition.md", "scale.md"}
    assert set(pages) <= known
    for page, (_, test) in ELSEWHERE.items():
        assert (ROOT / "tests" / test).is_file(), page

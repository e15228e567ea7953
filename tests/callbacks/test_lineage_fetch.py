"""`wandb:` references, against a stub of wandb's public API."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import wandb

from palmforge.callbacks.lineage_fetch import fetch
from palmforge.callbacks.lineage_models import model_node
from palmforge.checkpoints import resolve_checkpoint
from palmforge.errors import CheckpointError

REFERENCE = "wandb:team/palms/q-teacher:best"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Stored:
    """An artifact on a server: files, or only a reference."""

    entity, project = "team", "palms"

    def __init__(self, name: str, files: dict[str, bytes], sha256: str | None = None) -> None:
        self.name, self.files = name, files
        self.digest = sha(repr(files).encode())[:32]
        self.metadata = {} if sha256 is None else {"sha256": sha256}
        entries = {path: SimpleNamespace(ref=None) for path in files}
        self.manifest = SimpleNamespace(
            entries=entries or {"sha256": SimpleNamespace(ref="sha256:0")}
        )
        self.downloads = 0

    def download(self, root: str, skip_cache: bool) -> str:
        self.downloads += 1
        for name, content in self.files.items():
            path = Path(root) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return root


@pytest.fixture
def server(monkeypatch):
    """References (without `wandb:`) → artifacts."""
    stored: dict[str, Stored] = {}

    class Api:
        def artifact(self, path: str) -> Stored:
            if path not in stored:
                raise wandb.errors.CommError(f"artifact {path!r} not found")
            return stored[path]

    monkeypatch.setattr(wandb, "Api", Api)
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return stored


@pytest.fixture
def uploaded(server) -> Stored:
    """As `Lineage(upload=True)` leaves it: a description, and apart from it the file."""
    digest = sha(b"weights")
    server["team/palms/q-teacher:best"] = Stored("q-teacher:v3", {}, digest)
    files = Stored("q-teacher.files:v0", {"best.ckpt": b"weights"}, digest)
    server[f"team/palms/q-teacher.files:sha256-{digest[:12]}"] = files
    return files


def test_a_description_leads_to_its_file_which_comes_once(uploaded, tmp_path):
    path = fetch(REFERENCE, str(tmp_path), "ckpt_path")
    assert path.read_bytes() == b"weights"
    assert path == tmp_path / "wandb_artifacts" / uploaded.digest / "files/best.ckpt"
    assert fetch(REFERENCE, str(tmp_path), "ckpt_path") == path
    assert uploaded.downloads == 1
    # In the graph it is the model of the run that made it.
    node = model_node(path, "teacher")
    assert (node.name, node.digest) == ("q-teacher", sha(b"weights"))


def test_processes_that_start_together_download_it_once(uploaded, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: fetch(REFERENCE, str(tmp_path), "k"), range(4)))
    assert len(paths) == uploaded.downloads == 1
    left = {path.name for path in (tmp_path / "wandb_artifacts").iterdir()}
    assert left == {uploaded.digest, f"{uploaded.digest}.lock"}  # and nothing aside


def test_artifacts_of_others_need_no_digest_of_ours(server, tmp_path):
    server["a/b/net:v1"] = Stored("net:v1", {"model.ckpt": b"1", "card.md": b"2"})
    assert fetch("wandb:a/b/net:v1", str(tmp_path), "k").name == "model.ckpt"


def test_an_adapter_is_a_folder_and_a_lone_file_is_itself(server, tmp_path):
    files = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"1"}
    server["a/b/lora:v1"] = Stored("lora:v1", files)
    assert fetch("wandb:a/b/lora:v1", str(tmp_path), "k").is_dir()
    server["a/b/vgg:v1"] = Stored("vgg:v1", {"blocks.safetensors": b"1"})
    assert fetch("wandb:a/b/vgg:v1", str(tmp_path), "k").name == "blocks.safetensors"


@pytest.mark.parametrize(
    "reference",
    ["wandb:net:v1", "wandb:a/net:v1", "wandb:a/b/net", "wandb://a/b/net:v1", "wandb:a/b/c/d:v1"],
)
def test_a_malformed_reference_says_the_form(server, tmp_path, reference):
    with pytest.raises(CheckpointError, match=r"^k: .* form wandb:entity/project/name:alias"):
        fetch(reference, str(tmp_path), "k")


@pytest.mark.parametrize("mode", ["offline", "disabled", "dryrun"])
def test_offline_it_says_so(uploaded, tmp_path, monkeypatch, mode):
    monkeypatch.setenv("WANDB_MODE", mode)
    with pytest.raises(CheckpointError, match=f"WANDB_MODE={mode}"):
        fetch(REFERENCE, str(tmp_path), "k")


def test_without_a_key_it_says_so(uploaded, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))  # no ~/.netrc
    with pytest.raises(CheckpointError, match="wandb login"):
        fetch(REFERENCE, str(tmp_path), "k")


def test_what_was_never_uploaded_is_told_from_what_is_not_there(server, tmp_path):
    server["team/palms/q-teacher:best"] = Stored("q-teacher:v3", {}, sha(b"weights"))
    with pytest.raises(CheckpointError, match=r"only describes its file.*never uploaded"):
        fetch(REFERENCE, str(tmp_path), "k")
    with pytest.raises(CheckpointError, match="no_such:best cannot be had: artifact"):
        fetch("wandb:team/palms/no_such:best", str(tmp_path), "k")


def test_several_checkpoints_are_a_choice_that_is_not_ours(server, tmp_path):
    server["a/b/net:v1"] = Stored("net:v1", {"a.ckpt": b"1", "b.ckpt": b"2"})
    with pytest.raises(CheckpointError, match=r"several checkpoints \(a.ckpt, b.ckpt\)"):
        fetch("wandb:a/b/net:v1", str(tmp_path), "k")
    assert not any(p.is_dir() for p in (tmp_path / "wandb_artifacts").iterdir())


def test_what_is_not_what_was_sent_is_refused(uploaded, tmp_path):
    uploaded.files["best.ckpt"] = b"other"
    with pytest.raises(CheckpointError, match="came with SHA-256"):
        fetch(REFERENCE, str(tmp_path), "k")
    assert not (tmp_path / "wandb_artifacts" / uploaded.digest).exists()


def test_a_file_that_was_changed_here_is_refused(uploaded, tmp_path):
    path = fetch(REFERENCE, str(tmp_path), "k")
    path.write_bytes(b"damage")
    with pytest.raises(CheckpointError, match=r"is not what wandb:team/palms/q-teacher.files:v0"):
        fetch(REFERENCE, str(tmp_path), "k")


def test_a_download_that_breaks_off_leaves_nothing(uploaded, tmp_path, monkeypatch):
    def broken(self, root, skip_cache):
        Path(root).mkdir()
        (Path(root) / "best.ckpt").write_bytes(b"wei")
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(Stored, "download", broken)
    with pytest.raises(CheckpointError, match="cannot be downloaded: reset by peer"):
        fetch(REFERENCE, str(tmp_path), "k")
    assert [p.suffix for p in (tmp_path / "wandb_artifacts").iterdir()] == [".lock"]


def test_ckpt_path_takes_it_and_looks_at_it_as_at_any_file(server, tmp_path):
    torch.save({"w": torch.zeros(1)}, tmp_path / "x.ckpt")
    server["a/b/good:v1"] = Stored("good:v1", {"x.ckpt": (tmp_path / "x.ckpt").read_bytes()})
    server["a/b/bad:v1"] = Stored("bad:v1", {"x.ckpt": b"no checkpoint"})
    found = resolve_checkpoint("wandb:a/b/good:v1", str(tmp_path), "x", "test")
    assert found is not None and os.path.basename(found) == "x.ckpt"
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        resolve_checkpoint("wandb:a/b/bad:v1", str(tmp_path), "x", "test")

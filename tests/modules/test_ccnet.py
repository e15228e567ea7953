"""CCNet as a recogniser: its loss by hand, a short fit, and its checkpoint."""

from __future__ import annotations

import math

import pytest
import torch
from runs import assert_same_bits, callbacks_yaml, load, newest
from torch.nn.functional import cross_entropy, normalize

from palmforge import recognition
from palmforge.errors import CheckpointError
from palmforge.modules.ccnet import CCNetRecognizer

SMALL = {"hidden_dim": 24, "embedding_dim": 16, "orientations": [3, 4, 3], "channels": 4}
SETTINGS = [
    "--config=configs/experiment/ccnet.yaml",
    *(f"--model.{name}={value}" for name, value in SMALL.items()),
    "--model.margin_start_step=1",
    "--model.margin_full_step=3",
    "--model.lr_schedule=constant",
    "--data.image_size=64",
    "--data.fractions=[0.5, 0.25, 0.25]",
    "--trainer.val_check_interval=2",
    "--trainer.limit_val_batches=2",
]


def _module(names=("a", "b", "c"), **settings) -> CCNetRecognizer:
    torch.manual_seed(0)
    return CCNetRecognizer(list(names), **{"image_size": 64, **SMALL, **settings})


def _batch(count: int = 6) -> dict:
    torch.manual_seed(1)
    images = torch.randint(0, 255, (count, 3, 64, 64), dtype=torch.uint8)
    return {"image": images, "label": torch.arange(count) % 3}


def _loss(module: CCNetRecognizer, batch: dict, logged: dict | None = None) -> torch.Tensor:
    """`training_step` without a trainer."""
    seen = logged if logged is not None else {}
    module.log = lambda name, value, **_: seen.update({name: value})  # type: ignore[method-assign]
    module._trainer = _Trainer()  # type: ignore[assignment]
    return module.training_step(batch, 0)


class _Trainer:
    global_step = 1
    optimizers = (torch.optim.SGD([torch.zeros(1)], lr=0.5),)


def test_the_loss_is_arcface_and_supervised_contrastive_eight_to_two():
    module, batch, logged = _module(dropout=0.0), _batch(), {}
    loss = _loss(module, batch, logged)
    hidden, embeddings = module.network.both_layers(batch["image"] / 255)
    labels = batch["label"]
    cosines = normalize(embeddings) @ normalize(module.loss.head.W, dim=0)
    own = torch.arange(6), labels
    with_margin = cosines.index_put(own, torch.cos(torch.acos(cosines[own]) + 0.5))
    arcface = cross_entropy(30 * with_margin, labels)

    both = normalize(torch.cat([hidden, embeddings], dim=1))
    contrastive = 0.0
    for i in range(6):
        others = [j for j in range(6) if j != i]
        exponents = {j: (both[i] @ both[j] / 0.07) for j in others}
        everyone = torch.logsumexp(torch.stack(list(exponents.values())), 0)
        same = [j for j in others if labels[j] == labels[i]]
        contrastive += sum(everyone - exponents[j] for j in same) / len(same) / 6
    torch.testing.assert_close(loss, 0.8 * arcface + 0.2 * contrastive)
    torch.testing.assert_close(logged["train/margin_loss"], arcface.detach())
    torch.testing.assert_close(logged["train/contrastive_loss"], contrastive.detach())
    assert logged["train/margin_strength"] == 1 and logged["train/lr"] == 0.5


def test_dropout_is_of_what_arcface_reads_only():
    module, batch, logged, again = _module(), _batch(), {}, {}
    _loss(module, batch, logged)
    _loss(module, batch, again)
    assert logged["train/margin_loss"] != again["train/margin_loss"]
    torch.testing.assert_close(logged["train/contrastive_loss"], again["train/contrastive_loss"])


def test_the_defaults_are_the_papers():
    module = CCNetRecognizer(["a", "b"])
    config = module.network.config
    assert (config["hidden_dim"], config["embedding_dim"], config["normalized"]) == (
        4096, 2048, False,
    )  # fmt: skip
    assert module.margin_strength(1) == 1 and module.contrastive_weight == 0.2
    assert (module.loss.margin, module.dropout.p) == (0.5, 0.5)


@pytest.mark.parametrize("normalized", [True, False])
def test_a_few_steps_lower_the_loss(normalized):
    module, batch = _module(normalized=normalized, dropout=0.0), _batch()
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = _loss(module, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert math.isfinite(losses[-1]) and losses[-1] < 0.7 * losses[0]


def test_its_checkpoint_is_a_recogniser_and_a_start_for_another_run(tmp_path):
    module = _module(normalized=True).eval()
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    path = str(tmp_path / "last.ckpt")
    torch.save(checkpoint, path)
    pictures = torch.rand(3, 3, 72, 72)
    expected = module(pictures)
    recognizer = recognition.load(path)
    torch.testing.assert_close(recognizer.embed(pictures), expected)
    folder = str(tmp_path / "folder")
    recognition.save(recognizer.network, folder, "a test", half=False)
    torch.testing.assert_close(recognition.load(folder).embed(pictures), expected)
    torch.manual_seed(9)
    again = CCNetRecognizer(["x"], 64, **SMALL, normalized=True, weights=folder)
    again.load_pretrained(resuming=False)
    torch.testing.assert_close(again.eval()(pictures), expected)
    with pytest.raises(CheckpointError, match=r"model\.weights"):
        _module(weights=folder).load_pretrained(resuming=False)


def test_a_checkpoint_serves_other_identities_but_not_another_network():
    checkpoint = {"state_dict": (module := _module()).state_dict()}
    module.on_save_checkpoint(checkpoint)
    with pytest.raises(CheckpointError, match="another network"):
        _module(hidden_dim=8).on_load_checkpoint(checkpoint)
    other = _module(names=("x", "y"))
    with pytest.warns(UserWarning, match="trained on other identities"):
        other.on_load_checkpoint(checkpoint)
    other.load_state_dict(checkpoint["state_dict"])


def test_a_run_tests_open_set_and_resumes_to_the_same_bits(cli, tiny_data, tmp_path, logs):
    from palmforge.callbacks.evaluation_report import read_results

    callbacks = callbacks_yaml(tmp_path / "callbacks.yaml", 2)

    def fit(name: str, steps: int, *settings: str) -> None:
        cli(
            "fit", *SETTINGS, *tiny_data, callbacks, f"--name={name}",
            f"--trainer.max_steps={steps}", "--data.identities_per_batch=2",
            "--trainer.log_every_n_steps=1", *settings,
        )  # fmt: skip

    fit("whole", 4, "--test_ckpt=last")
    metrics, counts = read_results(logs / "whole" / "version_0" / "results.json")
    assert 0 <= metrics["test/eer"] <= 1 and counts.num_genuine > 0
    fit("half", 2)
    fit("half", 4, "--ckpt_path=last")
    whole, half = (load(newest(logs / name, "last.ckpt")) for name in ("whole", "half"))
    assert_same_bits(whole["state_dict"], half["state_dict"])

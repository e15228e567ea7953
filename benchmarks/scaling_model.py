"""Computed, not measured: what a training step sends, and how it scales to 64 GPUs.

    python -m benchmarks.scaling_model

No weights exist and nothing is sent: bytes are those of the trained parameters, operations are
counted on the meta device, times follow from the figures of `MACHINES`. Data loading, the
optimizer, the host and slow machines are not in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks import controlnet_costs, lora_costs
from benchmarks.step_costs import TOKENS, counted, latents_and_words, stable_diffusion_15

GPUS = (1, 8, 16, 32, 64)
BUCKET = 25 * 2**20  # bytes that DDP sends at once


@dataclass(frozen=True)
class Machine:
    """A cluster of nodes.

    Attributes:
        flops: Of a GPU, a second, bf16, dense, as its data sheet says.
        share: Of them that a training reaches.
        inside: Bytes a second between GPUs of a node, one way.
        between: Bytes a second between nodes, one way: all links of a node together.
        latency: Seconds a message waits.
        gpus: A node.
    """

    flops: float
    share: float
    inside: float
    between: float
    latency: float = 5e-6
    gpus: int = 8


MACHINES = {
    "A100, NVLink 300 GB/s, one 200 Gb/s link a node": Machine(312e12, 0.4, 300e9, 25e9),
    "H100, NVLink 450 GB/s, one 400 Gb/s link a node": Machine(989e12, 0.4, 450e9, 50e9),
    "H100, NVLink 450 GB/s, eight 400 Gb/s links a node": Machine(989e12, 0.4, 450e9, 400e9),
}


@dataclass(frozen=True)
class Step:
    """One step of a process.

    Attributes:
        name: Of the model.
        batch: Samples of a process.
        trained: Parameters whose gradients are sent, in float32.
        flops: Of all samples, forward and backward.
        gathered: Further bytes that each process gives to all others: codes.
    """

    name: str
    batch: int
    trained: int
    flops: float
    gathered: int = 0

    @property
    def reduced(self) -> int:
        """Bytes of gradients."""
        return 4 * self.trained


def sent(step: Step, gpus: int) -> float:
    """Bytes that each process sends: a ring all-reduce of the gradients, an all-gather of codes."""
    return 2 * (gpus - 1) / gpus * step.reduced + (gpus - 1) * step.gathered


def seconds_sending(step: Step, gpus: int, machine: Machine) -> float:
    """Of one ring through all GPUs; its slowest link sets the pace.

    A ring enters and leaves each node once, so the bytes over the link between nodes are those of
    one process. The latency is that of a tree, up and down for each bucket: NCCL takes trees where
    it matters, and they send as many bytes.
    """
    if gpus == 1:
        return 0.0
    pace = machine.inside if gpus <= machine.gpus else min(machine.inside, machine.between)
    height = math.ceil(math.log2(gpus))
    hops = 2 * height * math.ceil(step.reduced / BUCKET) + (height if step.gathered else 0)
    return sent(step, gpus) / pace + hops * machine.latency


def efficiency(step: Step, gpus: int, machine: Machine) -> tuple[float, float]:
    """Of N GPUs with the same batch each: time of one / time of N.

    Returns:
        When nothing is sent while gradients are computed, and when as much as possible is.
    """
    computing = step.flops / (machine.flops * machine.share)
    sending = seconds_sending(step, gpus, machine)
    return computing / (computing + sending), computing / max(computing, sending)


# --- the models, by the shapes of their configs ---


def _trained(*networks: nn.Module) -> int:
    return sum(p.numel() for n in networks for p in n.parameters() if p.requires_grad)


def _classified(build: Callable[[], nn.Module], batch: int, size: int = 128) -> tuple[int, float]:
    with torch.device("meta"):
        network = build()
        pictures = torch.empty(batch, 3, size, size)

        def learn() -> None:
            found = network(pictures)
            parts = [found] if isinstance(found, torch.Tensor) else found
            torch.stack([part.sum() for part in parts if part is not None]).sum().backward()

        return _trained(network), counted(learn)


def hashing_steps(batch: int = 40, classes: int = 200) -> list[Step]:
    """Of dhn_teacher.yaml with vgg16_imagenet.yaml, and of dhn_distilled.yaml."""
    from palmforge.networks.hashing import TinyHashing, VGG16Hashing

    def teacher() -> nn.Module:
        network = VGG16Hashing(128, classes)
        network.freeze(4)
        return network

    trained, flops = _classified(teacher, batch)
    student, own = _classified(lambda: TinyHashing(128, classes), batch)
    with torch.device("meta"):
        frozen = teacher().requires_grad_(False)
        asked = counted(lambda: frozen(torch.empty(batch, 3, 128, 128)))
    codes = batch * (128 * 4 + 8)  # and labels
    return [
        Step("hashing teacher, VGG-16, blocks 1-4 frozen", batch, trained, flops, codes),
        Step("hashing student, distilled", batch, student, own + asked, codes),
    ]


def margin_step(batch: int = 64, classes: int = 1000) -> Step:
    """Of margin_resnet.yaml with the whole ResNet-18, and its classes' centres."""
    from palmforge.networks.embedding import PalmEmbedding

    trained, flops = _classified(lambda: PalmEmbedding("resnet18", 512, grid_channels=32), batch)
    return Step("margin recogniser, ResNet-18", batch, trained + 512 * classes, flops)


def diffusion_steps(size: int = 512) -> list[Step]:
    """Of identity_lora.yaml, identity_controlnet.yaml, and `train: full`; latents are kept."""
    lora = lora_costs.without_weights(stable_diffusion_15)
    control = controlnet_costs.without_weights(stable_diffusion_15)
    with torch.device("meta"):
        parts = stable_diffusion_15()
        unet, text = parts["unet"], parts["text_encoder"]
        told = latents_and_words(unet, size // 8, TOKENS)
        tokens = torch.zeros(1, TOKENS, dtype=torch.long)

        def learn() -> None:
            words = text(tokens).last_hidden_state
            unet(*told[:2], words).sample.sum().backward()

        whole = counted(learn)
    return [
        Step("Stable Diffusion 1.5, LoRA of rank 16", 2, _trained(lora["unet"]),
             2 * lora_costs.flops(lora, size).ours),
        Step("Stable Diffusion 1.5, ControlNet", 4, _trained(control["controlnet"]),
             4 * controlnet_costs.flops(control, size).ours),
        Step("Stable Diffusion 1.5, UNet and text encoder", 4, _trained(unet, text), 4 * whole),
    ]  # fmt: skip


def table(steps: Sequence[Step], machine: Machine) -> str:
    """Markdown: what is sent, and the bounds of the efficiency in percent."""
    head = ["model", "batch a GPU", "trained, M", "sent a step, MB", "TFLOP a step"]
    lines = [[*head, *(f"{n} GPUs" if n > 1 else "1" for n in GPUS)]]
    lines.append([":---"] + ["---:"] * (len(lines[0]) - 1))
    for step in steps:
        bounds = [efficiency(step, n, machine) for n in GPUS]
        lines.append([
            step.name, str(step.batch), f"{step.trained / 1e6:.2f}",
            f"{sent(step, GPUS[-1]) / 1e6:.1f}", f"{step.flops / 1e12:.3g}",
            *(f"{100 * low:.0f}–{100 * high:.0f}" if n > 1 else "100"
              for n, (low, high) in zip(GPUS, bounds, strict=True)),
        ])  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Prints the tables of docs/many_gpus.md."""
    steps = [*hashing_steps(), margin_step(), *diffusion_steps()]
    print("Computed, not measured. Efficiency in %: nothing sent while computing – all of it.")
    for name, machine in MACHINES.items():
        print(f"\n{name}; {100 * machine.share:.0f} % of {machine.flops / 1e12:.0f} TFLOP/s\n")
        print(table(steps, machine))


if __name__ == "__main__":
    main()

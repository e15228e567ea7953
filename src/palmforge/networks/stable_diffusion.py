"""A Stable Diffusion small enough to be trained on a CPU, built from configs alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

START, END = "<|startoftext|>", "<|endoftext|>"
# What CLIP takes for a word.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class TinyStableDiffusion:
    """Sizes of a small latent diffusion stack. The defaults are the embedded one's.

    Attributes:
        latent_channels: Of the autoencoder's code, whose side is a quarter of the picture's.
        vae_channels: Of the autoencoder, from fine to coarse; the quarter follows from their three.
        vae_norm_groups: Of its GroupNorms. Each group forgets how light it was: with few, whole
            scenes keep their colours after far fewer steps.
        unet_channels: Of the UNet, from fine to coarse. All but the coarsest attend to the words.
        layers_per_block: Residual blocks on each of the UNet's levels.
        attention_heads: Of the UNet.
        text_dim: Width of the words' embeddings.
        text_layers: Transformer layers over the words.
        max_tokens: Longest prompt, in tokens, with start and end.
        prediction_type: What the UNet predicts: `epsilon`, `v_prediction` or `sample`. With few
            steps of training `sample` gives the cleanest lines.
        beta_schedule: Of the noise; `squaredcos_cap_v2` is the cosine schedule (Nichol & Dhariwal).
    """

    latent_channels: int = 8
    vae_channels: tuple[int, int, int] = (16, 32, 64)
    vae_norm_groups: int = 8
    unet_channels: tuple[int, ...] = (64, 96, 160)
    layers_per_block: int = 1
    attention_heads: int = 4
    text_dim: int = 96
    text_layers: int = 3
    max_tokens: int = 40
    prediction_type: str = "sample"
    beta_schedule: str = "squaredcos_cap_v2"


def tiny_components(
    sizes: TinyStableDiffusion, image_size: int, texts: Sequence[str]
) -> dict[str, Any]:
    """The parts of a `StableDiffusionPipeline`, with random weights.

    Args:
        sizes: What to build.
        image_size: Side in pixels of what it makes.
        texts: Prompts that the tokenizer shall know as whole words; others are spelt.

    Returns:
        `vae`, `text_encoder`, `tokenizer`, `unet`, `scheduler`.
    """
    from diffusers import DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = local_tokenizer(texts, sizes.max_tokens)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=sizes.text_dim,
            intermediate_size=4 * sizes.text_dim,
            projection_dim=sizes.text_dim,
            num_hidden_layers=sizes.text_layers,
            num_attention_heads=max(1, sizes.text_dim // 32),
            max_position_embeddings=sizes.max_tokens,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    levels = len(sizes.unet_channels)
    unet = UNet2DConditionModel(
        sample_size=image_size // 4,
        in_channels=sizes.latent_channels,
        out_channels=sizes.latent_channels,
        block_out_channels=sizes.unet_channels,
        down_block_types=("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1),
        layers_per_block=sizes.layers_per_block,
        attention_head_dim=sizes.attention_heads,  # diffusers' name for how many there are
        cross_attention_dim=sizes.text_dim,
        norm_num_groups=16,
    )
    scheduler = DDIMScheduler(
        beta_schedule=sizes.beta_schedule,
        prediction_type=sizes.prediction_type,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )
    return {
        "vae": tiny_autoencoder(sizes, image_size),
        "text_encoder": text_encoder,
        "tokenizer": tokenizer,
        "unet": unet,
        "scheduler": scheduler,
    }


def tiny_autoencoder(sizes: TinyStableDiffusion, image_size: int) -> Any:
    """The `AutoencoderKL` alone; it is trained before the rest."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=sizes.vae_channels,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=sizes.latent_channels,
        norm_num_groups=sizes.vae_norm_groups,
        sample_size=image_size,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def local_tokenizer(texts: Sequence[str], max_tokens: int) -> Any:
    """A `CLIPTokenizer` made on the spot: byte pairs as CLIP's, learned from a few texts.

    Args:
        texts: What to learn from.
        max_tokens: Length that prompts are padded and cut to.

    Returns:
        A tokenizer of transformers. Every text can be spelt with it; the words of `texts` are one
        token each.
    """
    from transformers import CLIPTokenizer

    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    endings = [f"{byte}</w>" for byte in alphabet]  # a word may end in any byte
    trainer = trainers.BpeTrainer(
        vocab_size=100_000,  # as many as the texts give
        initial_alphabet=alphabet,
        special_tokens=endings,  # found in the texts, they come in another order in each process
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learned = sorted(set(texts))
    bpe.train_from_iterator(learned, trainer)
    model = json.loads(bpe.to_str())["model"]
    used = {f"{word[-1]}</w>" for text in learned for word in _words(bpe, text)}
    merged = sorted(model["vocab"].keys() - {*alphabet, *endings}, key=model["vocab"].get)
    tokens = dict.fromkeys([*alphabet, *sorted(used), *merged, *endings, START, END])
    vocabulary = {token: number for number, token in enumerate(tokens)}
    merges = [tuple(pair) for pair in model["merges"]]
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,  # type: ignore[arg-type]  # pairs, as in the JSON of tokenizers
        model_max_length=max_tokens,
    )


def _words(bpe: Tokenizer, text: str) -> list[str]:
    return [w for w, _ in bpe.pre_tokenizer.pre_tokenize_str(bpe.normalizer.normalize_str(text))]

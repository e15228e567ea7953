"""The image encoder of Paint-by-Example: one vector for what an exemplar shows (Yang et al. 2023).

Made of parts that stay, CLIP's vision model of transformers and the transformer block of diffusers'
UNets, under the names that the published weights have. diffusers' own class of it is deprecated,
cannot be loaded by its pipeline any more, and will go; nothing here needs it.

Imports transformers and diffusers: import it where it is needed.
"""

from __future__ import annotations

from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn, zeros
from transformers import CLIPPreTrainedModel, CLIPVisionConfig, CLIPVisionModel


class ExemplarEncoder(CLIPPreTrainedModel):
    """CLIP's class token → blocks → normalised → projected. The bottleneck hides the details.

    `from_pretrained` and `save_pretrained` are those of transformers.

    Args:
        config: Of the vision model. `projection_dim` is D; there are (layers + 1) // 5 blocks.
    """

    config_class = CLIPVisionConfig
    config: CLIPVisionConfig  # type: ignore[assignment]  # of both halves, in the base
    main_input_name = "pixel_values"

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.model = CLIPVisionModel(config)
        self.mapper = _Mapper(width, (config.num_hidden_layers + 1) // 5)
        self.final_layer_norm = nn.LayerNorm(width)
        self.proj_out = nn.Linear(width, config.projection_dim)
        self.uncond_vector = nn.Parameter(zeros(1, 1, config.projection_dim))
        self.post_init()

    def forward(
        self, pixel_values: Tensor, return_uncond_vector: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """`[N, 3, S, S]`, normalised as CLIP's → `[N, 1, D]`.

        Args:
            pixel_values: What the feature extractor gives; S is `config.image_size`.
            return_uncond_vector: Gives `[1, 1, D]` too, what stands for no exemplar: the pipeline
                of diffusers asks so.
        """
        seen = self.model(pixel_values=pixel_values).pooler_output
        embedding: Tensor = self.proj_out(self.final_layer_norm(self.mapper(seen[:, None])))
        return (embedding, self.uncond_vector) if return_uncond_vector else embedding


class _Mapper(nn.Module):
    """Blocks over a single token: self-attention of one head, then feed-forward."""

    def __init__(self, width: int, num_blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            BasicTransformerBlock(width, 1, width, activation_fn="gelu", attention_bias=True)
            for _ in range(num_blocks)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

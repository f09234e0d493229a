"""Captioners: transformers image-to-text models that write several captions of a picture, always the same ones."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer, LogitsProcessor
from transformers.generation import LogitsProcessorList, TopPLogitsWarper

from cliptd.data.identity import wherever
from cliptd.dual_encoders import hash_weights


class Captioner:
    """Any transformers model that generates a text from `pixel_values` alone: BLIP, GIT, ViT + GPT-2, ….

    Args:
        name: its id on the hub or a local folder.
        top_p: nucleus out of which tokens are sampled (arXiv 1904.09751). max_tokens: of a caption, if the model has as
            many positions.

    Raises:
        FileNotFoundError, ValueError: there is no such model, or it is none that writes captions.
    """

    def __init__(
        self,
        name: str,
        *,
        device: str | torch.device = "cpu",
        top_p: float = 0.9,
        max_tokens: int = 40,
        batch_size: int = 64,
    ) -> None:
        if not 0 < top_p <= 1 or max_tokens < 1:
            raise ValueError(
                f"found top_p {top_p} and max_tokens {max_tokens}; expected in (0, 1] and 1 at least"
            )
        self.name, self.top_p, self.batch_size = wherever(name), top_p, batch_size
        if "/" in name and name.startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
            raise FileNotFoundError(f"captioner folder {name} does not exist")
        try:
            self.processor = AutoImageProcessor.from_pretrained(name)
            self.tokenizer = AutoTokenizer.from_pretrained(name)
            self.model = AutoModelForImageTextToText.from_pretrained(name, dtype=torch.float32)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"captioner {name!r} could not be loaded as an image-to-text model ({' '.join(str(error).split())}); "
                "give the id or the folder of one"
            ) from error
        self.fingerprint = (
            f"{hash_weights(self.model).hexdigest()[:16]}, top_p {top_p:g}, {max_tokens} tokens"
        )
        self.model = self.model.requires_grad_(False).eval().to(device)
        config = self.model.config
        of_text = getattr(config, "decoder", None) or getattr(config, "text_config", None) or config
        self.max_tokens = min(max_tokens, getattr(of_text, "max_position_embeddings", None) or max_tokens)

    @torch.no_grad()
    def captions(self, images: Sequence[Image.Image], seeds: Sequence[Sequence[int]]) -> list[list[str]]:
        """Sampled captions of each image, one for each of its seeds.

        A caption depends on its picture and its seed, not on the batch it is made in.

        Raises ValueError if images have different numbers of seeds.
        """
        counts = {len(own) for own in seeds}
        if len(counts) > 1 or len(seeds) != len(images):
            raise ValueError(
                f"{len(images)} images came with {len(seeds)} groups of {counts} seeds; expected as many each"
            )
        wanted = [(image, seed) for image, own in zip(images, seeds, strict=True) for seed in own]
        texts: list[str] = []
        for start in range(0, len(wanted), self.batch_size):
            texts += self._batch(*zip(*wanted[start : start + self.batch_size], strict=True))
        count = counts.pop() if counts else 0
        return [texts[k * count : (k + 1) * count] for k in range(len(images))]

    def _batch(self, images: Sequence[Image.Image], seeds: Sequence[int]) -> list[str]:
        device = next(self.model.parameters()).device
        pixels = self.processor(images=[image.convert("RGB") for image in images], return_tensors="pt")
        tokens = self.model.generate(
            pixel_values=pixels["pixel_values"].to(device),
            max_new_tokens=self.max_tokens,
            do_sample=False,
            num_beams=1,
            logits_processor=LogitsProcessorList([SeededSampling(seeds, self.top_p)]),
        )
        decoded = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(text.split()) for text in decoded]


class SeededSampling(LogitsProcessor):
    """Adds Gumbel noise of each sequence's own generator, so that the largest logit is a sample of the nucleus.

    What is sampled for a sequence depends on its seed and its logits alone, whatever else is in the batch.
    """

    def __init__(self, seeds: Sequence[int], top_p: float) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.nucleus = TopPLogitsWarper(top_p) if top_p < 1 else None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores = scores.float()
        kept = scores if self.nucleus is None else self.nucleus(input_ids, scores)
        uniform = torch.stack(
            [
                torch.rand(scores.shape[-1], generator=generator, dtype=torch.float64)
                for generator in self.generators
            ]
        )
        gumbel = -(-uniform.clamp_min(1e-300).log()).log()
        return kept + gumbel.to(kept)

"""Captioners: transformers image-to-text models whose sampled captions depend on the image and a seed only."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer, LogitsProcessor
from transformers.generation.logits_process import LogitsProcessorList, TopPLogitsWarper

from cliptd.data.identity import wherever
from cliptd.teachers.fingerprints import hash_weights


class Captioner:
    """A transformers model that generates a text from `pixel_values` alone, such as BLIP, GIT or ViT + GPT-2.

    Args:
        name: the model's id on the hub, or a local folder.
        top_p: the share of probability of the nucleus that tokens are sampled from (arXiv 1904.09751).
        max_tokens: the most tokens of a caption, if the model has as many positions.
        batch_size: captions that are generated together.

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
                f"found top_p {top_p} and max_tokens {max_tokens}; expected top_p above 0 to 1 and at least one token"
            )
        self.name, self.top_p, self.batch_size = wherever(name), top_p, batch_size
        if "/" in name and name.startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
            raise FileNotFoundError(
                f"captioner folder {name} does not exist; give a folder or an id on the hub"
            )
        try:
            self.processor = AutoImageProcessor.from_pretrained(name)
            self.tokenizer = AutoTokenizer.from_pretrained(name)
            self.model = AutoModelForImageTextToText.from_pretrained(name, dtype=torch.float32)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"captioner {name!r} could not be loaded as an image-to-text model ({' '.join(str(error).split())}); "
                "give the id or the folder of such a model"
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
        """Sample captions of each image, one for each of its seeds.

        A caption depends on its image and its seed, not on the rest of the batch.

        Raises:
            ValueError: images have different numbers of seeds.
        """
        counts = {len(own) for own in seeds}
        if len(counts) > 1 or len(seeds) != len(images):
            raise ValueError(
                f"{len(images)} images came with {len(seeds)} groups of {counts} seeds; expected one group for each "
                "image, all with one number of seeds"
            )
        if not any(counts):
            return [[] for _ in images]
        at_once = max(1, self.batch_size // max(counts))
        starts = range(0, len(images), at_once)
        return [own for k in starts for own in self._batch(images[k : k + at_once], seeds[k : k + at_once])]

    def _batch(self, images: Sequence[Image.Image], seeds: Sequence[Sequence[int]]) -> list[list[str]]:
        device, count = next(self.model.parameters()).device, len(seeds[0])
        pixels = self.processor(images=[image.convert("RGB") for image in images], return_tensors="pt")
        sampling = SeededSampling(list(itertools.chain(*seeds)), self.top_p)
        # transformers samples from the one token that `sampling` leaves: only its sampling reuses an encoded image
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            tokens = self.model.generate(
                pixel_values=pixels["pixel_values"].to(device),
                max_new_tokens=self.max_tokens,
                do_sample=True,
                num_return_sequences=count,
                num_beams=1,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                logits_processor=LogitsProcessorList([sampling]),
            )
        texts = [
            " ".join(text.split()) for text in self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        ]
        return [texts[k : k + count] for k in range(0, len(texts), count)]


class SeededSampling(LogitsProcessor):
    """Leaves one token for each sequence: a sample from the nucleus, by Gumbel noise of the sequence's own generator.

    The sample depends only on the sequence's seed and logits, not on the rest of the batch.
    """

    def __init__(self, seeds: Sequence[int], top_p: float) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.nucleus = TopPLogitsWarper(top_p) if top_p < 1 else None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return scores of -inf, and 0 for the sampled token: (sequences, vocabulary)."""
        scores = scores.float()
        kept = scores if self.nucleus is None else self.nucleus(input_ids, scores)
        uniform = torch.stack(
            [
                torch.rand(scores.shape[-1], generator=generator, dtype=torch.float64)
                for generator in self.generators
            ]
        )
        gumbel = -(-uniform.clamp_min(1e-300).log()).log()
        sampled = (kept + gumbel.to(kept)).argmax(dim=-1, keepdim=True)
        return torch.full_like(scores, -torch.inf).scatter(-1, sampled, 0.0)

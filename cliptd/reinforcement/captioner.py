"""Captioners: transformers image-to-text models that write several captions of a picture, always the same ones."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer, LogitsProcessor
from transformers.generation import LogitsProcessorList, TopPLogitsWarper

from cliptd.data.identity import wherever
from cliptd.teachers.fingerprints import hash_weights


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
        if not any(counts):
            return [[] for _ in images]
        at_once = max(1, self.batch_size // max(counts))
        starts = range(0, len(images), at_once)
        return [own for k in starts for own in self._batch(images[k : k + at_once], seeds[k : k + at_once])]

    def _batch(self, images: Sequence[Image.Image], seeds: Sequence[Sequence[int]]) -> list[list[str]]:
        device, count = next(self.model.parameters()).device, len(seeds[0])
        pixels = self.processor(images=[image.convert("RGB") for image in images], return_tensors="pt")
        sampling = SeededSampling(list(itertools.chain(*seeds)), self.top_p)
        # transformers' own sampling, of what `sampling` leaves: it alone decodes one encoded picture several times
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
    """Leaves one token of each sequence: a sample of the nucleus, by Gumbel noise of the sequence's own generator.

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
        sampled = (kept + gumbel.to(kept)).argmax(dim=-1, keepdim=True)
        return torch.full_like(scores, -torch.inf).scatter(-1, sampled, 0.0)

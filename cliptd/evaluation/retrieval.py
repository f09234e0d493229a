"""Image–text retrieval: R@1, R@5 and R@10 in both directions (CLIP, arXiv 2103.00020)."""

from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from cliptd.data.map_style import MapStyle
from cliptd.data.pairs.pair import OnBadSample, Pair
from cliptd.evaluation.embeddings import DualEncoder, embed_images, embed_texts
from cliptd.evaluation.ranking import block_rows, hits, wrong_before_right

RECALLS = (1, 5, 10)


def retrieval(
    model: DualEncoder, pairs: MapStyle[Pair], *, on_bad_sample: OnBadSample = "raise"
) -> dict[str, Any]:
    """Measure how often a right answer is among the k nearest: all texts for an image, all images for a text.

    Pairs with one `key` show one image, and each of their texts is right for it. A text in pairs with several images is
    right for each of them. Each image counts once. A text counts as often as it occurs, as a query and as a candidate.
    Equally near candidates rank in the order of `pairs`.

    Args:
        pairs: a map-style data set, such as `cliptd.data.pairs.loading.load_pairs` returns.
        on_bad_sample: "raise" at an image that cannot be opened, or "skip" its pairs and list it.

    Returns: {"images", "texts", "image_to_text_r1", "image_to_text_r5", "image_to_text_r10", "text_to_image_r1",
        "text_to_image_r5", "text_to_image_r10", "skipped": [the reason of a line or an image, …]}, in percent.
    Raises:
        ValueError, FileNotFoundError: the message names the image.
    """
    images: dict[str, Pair] = {}
    listed: list[tuple[str, str]] = []
    unread: list[str] = []
    for position in tqdm(range(len(pairs)), desc="pairs", unit="pair", disable=None):
        try:
            pair = pairs[position]
        except (ValueError, OSError) as error:
            if on_bad_sample == "raise":
                raise
            unread.append(str(error))
            continue
        images.setdefault(pair.key, pair)
        listed.append((pair.key, pair.text))
    keys = list(images)
    embedded = embed_images(model, [images[key].image for key in keys], keys, on_bad_sample=on_bad_sample)
    row_of_image = {keys[position]: row for row, position in enumerate(embedded.kept)}
    listed = [(key, text) for key, text in listed if key in row_of_image]
    texts = list(dict.fromkeys(text for _, text in listed))
    row_of_text = {text: row for row, text in enumerate(texts)}
    device = embedded.embeds.device
    image_of = torch.tensor([row_of_image[key] for key, _ in listed], device=device)
    text_of = torch.tensor([row_of_text[text] for _, text in listed], device=device)
    to_text, to_image = ranks_both_ways(embedded.embeds, embed_texts(model, texts), image_of, text_of)
    return {
        "images": len(to_text),
        "texts": len(to_image),
        **{f"image_to_text_r{k}": hits(to_text, k) for k in RECALLS},
        **{f"text_to_image_r{k}": hits(to_image, k) for k in RECALLS},
        "skipped": [*getattr(pairs, "skipped", []), *unread, *embedded.skipped],
    }


def ranks_both_ways(
    image_embeds: Tensor, text_embeds: Tensor, image_of: Tensor, text_of: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the ranks of each image's nearest right text, and of each pair's text's nearest right image.

    A rank is the number of wrong candidates that are nearer. One block of similarities is held at a time, never those
    of all images and texts.

    Args:
        image_embeds: (images, dim) of distinct images.
        text_embeds: (texts, dim) of distinct texts.
        image_of, text_of: (pairs,), the rows that belong together.

    Returns: (images,) and (pairs,) int64.
    """
    to_text = _ranks(image_embeds, text_embeds, image_of, text_of, text_of)
    everyone = torch.arange(len(image_embeds), device=image_embeds.device)
    to_image = _ranks(text_embeds, image_embeds, text_of, image_of, everyone)
    return to_text, to_image[text_of]


def _ranks(
    queries: Tensor, candidates: Tensor, query_of: Tensor, candidate_of: Tensor, listed: Tensor
) -> Tensor:
    """Return (queries,) ranks among the candidates that `listed` (places,) names, which may name one several times."""
    rows = block_rows(max(len(candidates), len(listed)))
    ranks = []
    for start in tqdm(range(0, len(queries), rows), desc="ranking", unit="block", disable=None):
        scores = queries[start : start + rows] @ candidates.T
        right = torch.zeros_like(scores, dtype=torch.bool)
        here = (query_of >= start) & (query_of < start + rows)
        right[query_of[here] - start, candidate_of[here]] = True
        ranks.append(wrong_before_right(scores[:, listed], right[:, listed]))
    return torch.cat(ranks)

"""The selection of visually grounded sentences from a large corpus: those that a teacher embeds near some images.

They are the sentences of unpaired distillation (DIME-FM, arXiv 2303.18232). The paper does not describe its own
selection in detail, so this one is ours.
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save
from torch import Tensor
from tqdm import tqdm

from cliptd.data.bad_samples import BadSampleList
from cliptd.data.identity import identity_of
from cliptd.evaluation.embeddings import embed_images
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.teacher import Teacher
from cliptd.unpaired.config import SentenceSelection
from cliptd.unpaired.images_and_sentences import Images, Sentences
from cliptd.unpaired.score_table import ENTRY, distinct_texts, parts, scores_of_ranks
from cliptd.utils.files import read_json, whole_file, write_atomically
from cliptd.utils.finite import check_finite
from cliptd.utils.run_folder import refuse_other_settings, remember_settings, remembered_settings

POOL, SCORES, SELECTION, SELECTED = "pool.safetensors", "scores.npy", "selection.json", "sentences.txt"
BAD = "bad_samples.txt"
DISTINCT = "distinct.npy"
DAMAGED = "delete it to score the sentences again"


def select_sentences(
    sentences: Sentences,
    images: Images,
    teacher: Teacher | TeacherEnsemble,
    settings: SentenceSelection,
    out: str | Path,
    *,
    accelerator: Accelerator | None = None,
) -> dict[str, float]:
    """Write OUT/sentences.txt with the selected sentences in the order of the corpus, each once, one per line.

    A file keeps the score of every sentence (12 bytes each). After a kill the same call goes on from there. Another
    `keep`, `share` or `least` in the same folder needs no teacher. Memory holds the pool's embeddings and a chunk of
    sentences. At the end it holds the hashes of at most 67 million sentences, some 3 GB.

    Args:
        sentences, images: map-style data sets; see `load_sentences` and `load_images`.
        teacher: embeds both.
        settings: decides which sentences are selected.
        out: the folder of the files.
        accelerator: shares the chunks between its processes.

    Returns: {"sentences", "distinct", "selected", "least", "median"} on the main process: three counts, the lowest
        selected score and the median of all scores. They are also in OUT/selection.json.
    Raises:
        ValueError: the folder holds scores of another corpus, pool or teacher, or an embedding is not finite.
    """
    out = Path(out)
    rank, processes = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    if rank == 0:
        _begin(out, sentences, images, teacher, settings)
    if accelerator is not None:
        accelerator.wait_for_everyone()
    entries = np.load(out / SCORES, mmap_mode="r+")
    starts = range(rank * settings.chunk, len(sentences), processes * settings.chunk)
    todo = [start for start in starts if np.isnan(entries["score"][start : start + settings.chunk]).any()]
    if todo:
        pool = load_file(out / POOL)["embeds"].to(teacher.device)
        bad = BadSampleList(out / BAD)
        for start in tqdm(todo, desc="scored", unit=" chunks", disable=None):
            texts = sentences.part(start, start + settings.chunk)
            bad.add(getattr(sentences, "skipped", ()))
            entries["text"][start : start + len(texts)] = [_hash(text) for text in texts]
            entries["score"][start : start + len(texts)] = _scores(texts, pool, teacher, settings.neighbours)
        entries.flush()
    if accelerator is not None:
        accelerator.wait_for_everyone()
    return _write_selected(out, sentences, settings) if rank == 0 else {}


def _begin(
    out: Path,
    sentences: Sentences,
    images: Images,
    teacher: Teacher | TeacherEnsemble,
    settings: SentenceSelection,
) -> None:
    """Write an empty table of scores and the pool's embeddings, if they are not there.

    Raises:
        ValueError: the folder holds scores of other data, or there are too few images or no sentences.
    """
    described = {
        "sentences": identity_of(sentences),
        "images": identity_of(images),
        "teacher": f"{teacher.fingerprint} ({teacher.name})",
        **{name: getattr(settings, name) for name in ("neighbours", "pool", "seed", "chunk")},
    }
    out.mkdir(parents=True, exist_ok=True)
    there = remembered_settings(out / SELECTION, DAMAGED)
    if there is not None:
        refuse_other_settings(
            out,
            _by_fingerprint(there["scores_of"]),
            _by_fingerprint(described),
            holds="scores of something else",
            remedy="use another folder",
        )
        return
    if len(images) < settings.neighbours or not len(sentences):
        raise ValueError(
            f"found {len(images)} images and {len(sentences)} sentences; expected at least {settings.neighbours} and 1"
        )
    chosen = list(range(len(images)))
    if len(images) > settings.pool:
        drawn = np.random.default_rng(settings.seed).choice(len(images), settings.pool, replace=False)
        chosen = sorted(drawn.tolist())
    pool = [images[k] for k in chosen]
    embedded = embed_images(
        teacher,
        [one.image for one in pool],
        [one.key for one in pool],
        on_bad_sample=settings.on_bad_sample,
    )
    if len(embedded.kept) < settings.neighbours:
        raise ValueError(
            f"{images.name}: {len(embedded.kept)} images could be read, expected at least {settings.neighbours}; give "
            "more images or lower neighbours"
        )
    bad = [*getattr(sentences, "skipped", ()), *getattr(images, "skipped", ()), *embedded.skipped]
    write_atomically(out / BAD, "".join(f"{reason}\n" for reason in bad).encode())
    write_atomically(out / POOL, save({"embeds": embedded.embeds.cpu()}))
    entries = np.lib.format.open_memmap(out / SCORES, mode="w+", dtype=ENTRY, shape=(len(sentences),))
    entries["score"] = np.nan
    entries.flush()
    remember_settings(out / SELECTION, {"scores_of": described})


def _by_fingerprint(described: dict[str, Any]) -> dict[str, Any]:
    """Return the description without the teacher's name, because its folder may have moved."""
    return {**described, "teacher": described["teacher"].split(" (")[0]}


def _scores(
    texts: list[str], pool: Tensor, teacher: Teacher | TeacherEnsemble, neighbours: int
) -> np.ndarray:
    """Return (texts,) float32, the mean cosine to the nearest images, -inf for "".

    The pool is compared one block at a time.
    """
    embeds = check_finite(teacher.encode_texts(texts), "text", texts, teacher.name)
    best = embeds.new_full((len(texts), neighbours), -2.0)
    for block in pool.split(16_384):
        best = torch.cat([best, embeds @ block.T], dim=1).topk(neighbours, dim=1).values
    blank = torch.tensor([not text for text in texts], device=best.device)
    return best.mean(dim=1).masked_fill(blank, -torch.inf).cpu().numpy()


def _hash(text: str) -> int:
    """Return a 64-bit hash of a text's words."""
    digest = hashlib.blake2b(" ".join(text.split()).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _write_selected(out: Path, sentences: Sentences, settings: SentenceSelection) -> dict[str, float]:
    entries = np.load(out / SCORES, mmap_mode="r")
    try:
        distinct = distinct_texts(entries, out / DISTINCT)
        count = int(sum(distinct[part].sum() for part in parts(len(entries))))
        if not count:
            raise ValueError(
                f"{sentences.name}: none of {len(sentences)} sentences could be read; look at the files"
            )
        lower, upper = scores_of_ranks(entries, distinct, ((count - 1) // 2, count // 2))
        found: dict[str, float] = {
            "sentences": len(sentences),
            "distinct": count,
            "median": float((lower + upper) / 2),
        }
        found |= _write_best(
            out, sentences, settings, entries, distinct, _cut(settings, entries, distinct, count)
        )
    finally:
        (out / DISTINCT).unlink(missing_ok=True)
    described = read_json(out / SELECTION, DAMAGED)
    remember_settings(out / SELECTION, described | found)
    return found


class _Cut(NamedTuple):
    """The limit of the selection: all scores above `last`, and the first `level` that equal `last`."""

    last: np.float32
    level: int


def _cut(settings: SentenceSelection, entries: np.ndarray, distinct: np.ndarray, count: int) -> _Cut:
    """Return the limit of the selection among `count` distinct sentences."""
    if settings.least is not None:
        (highest,) = scores_of_ranks(entries, distinct, (count - 1,))
        if highest < settings.least:
            raise ValueError(
                f"no sentence has a cosine of {settings.least}; the highest is {highest:.3f}, so lower least"
            )
        return _Cut(np.float32(settings.least), count)
    keep = count
    if settings.keep is not None:
        keep = min(settings.keep, count)
    elif settings.share is not None:
        keep = min(max(1, round(settings.share * count)), count)
    (last,) = scores_of_ranks(entries, distinct, (count - keep,))
    above = sum((distinct[part] & (entries["score"][part] > last)).sum() for part in parts(len(entries)))
    return _Cut(last, keep - int(above))


def _write_best(
    out: Path,
    sentences: Sentences,
    settings: SentenceSelection,
    entries: np.ndarray,
    distinct: np.ndarray,
    cut: _Cut,
) -> dict[str, float]:
    """Write the selected sentences; return how many there are and their lowest score."""
    selected, least, level = 0, np.inf, cut.level
    with whole_file(out / SELECTED) as partial, open(partial, "w", encoding="utf-8", newline="\n") as file:
        for first in range(0, len(sentences), settings.chunk):
            here = slice(first, first + settings.chunk)
            scores, counts = entries["score"][here], distinct[here]
            of_last = np.flatnonzero(counts & (scores == cut.last))[:level]
            level -= len(of_last)
            chosen = np.union1d(np.flatnonzero(counts & (scores > cut.last)), of_last)
            if not len(chosen):
                continue
            texts = sentences.part(first, first + settings.chunk)
            changed = [k for k in chosen if _hash(texts[k]) != entries["text"][first + k]]
            if changed:
                raise ValueError(
                    f"{sentences.name}: sentence {first + changed[0]} is now {texts[changed[0]]!r}, which has no score "
                    f"in {out}; use another folder"
                )
            file.writelines(" ".join(texts[k].split()) + "\n" for k in chosen)
            selected += len(chosen)
            least = min(least, scores[chosen].min())
    return {"selected": selected, "least": float(least)}

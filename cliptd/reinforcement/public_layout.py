"""Reinforced shards in the public webdataset layout of DataCompDR, read by random access.

The files of a sample are KEY.jpg, KEY.txt, KEY.syn.json {"syn_text": […]}, KEY.paug.json {"param_aug": […]} and KEY.npz
or KEY.pth.gz with image_emb (augmentations, Σ dims) and text_emb (1 + captions, Σ dims). No pickle that could run code
is loaded.
"""

import gzip
import io
import itertools
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch

from cliptd.data.augmentation import Augmentation
from cliptd.data.files.tables import TableDataset, cached_table
from cliptd.data.files.text_files import decode, read_text
from cliptd.data.identity import identity_of_files
from cliptd.data.images import ImageFile
from cliptd.data.pairs.pair import IMAGE_SUFFIXES, OnBadSample
from cliptd.data.pairs.tar_pairs import EARLY_END, TarImage, members_of, read_member
from cliptd.reinforcement.dataset import CARD, Reinforced, ReinforcementCard, identity_of_card, read_card

TABLE_VERSION = 2
MEMBERS = {".txt": "text", ".syn.json": "syn", ".paug.json": "paug", ".npz": "npz", ".pth.gz": "pth"}
FEATURES = datasets.Features(
    {
        "shard": datasets.Value("int32"),
        "key": datasets.Value("string"),
        **{
            f"{member}_{what}": datasets.Value("int64")
            for member in ("image", *MEMBERS.values())
            for what in ("offset", "size")
        },
        "picture": datasets.Value("string"),
        "reason": datasets.Value("string"),
    }
)


class ReinforcedTars(TableDataset):
    """A map-style dataset of `Reinforced`, in the order of the shards.

    Args:
        shards: uncompressed tars.
        card: describes the dataset. None: the reinforcement.json beside the first shard. Apple's shards have none: give
            `DATACOMP_DR`.
        pictures: a folder with KEY.jpg (or another image) and KEY.txt, for shards that hold neither. Public shards hold
            only the addresses of their images.
        on_bad_sample: "raise" at a sample that lacks a file and at a shard that ends early, or "skip" such samples and
            list them in `skipped`.

    Raises:
        ValueError, FileNotFoundError: the message names shard and sample. An index raises them too, if the parts of a
            sample do not fit together or the card.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        card: ReinforcementCard | None = None,
        *,
        pictures: Path | None = None,
        on_bad_sample: OnBadSample = "raise",
    ) -> None:
        self.shards, self.pictures = list(shards), pictures
        if not self.shards:
            raise ValueError("there are no shards; give at least one")
        self.card = card or read_card(self.shards[0].parent / CARD)
        if pictures is not None and not pictures.is_dir():
            raise FileNotFoundError(
                f"{pictures}: is not a folder; expected a folder with the shards' images and texts"
            )
        elsewhere = None if pictures is None else str(pictures.resolve())
        when = None if pictures is None else pictures.stat().st_mtime_ns  # new files change the table
        table = cached_table(
            _rows, tuple(self.shards), FEATURES, version=TABLE_VERSION, elsewhere=elsewhere, when=when
        )
        super().__init__(self.shards[0], table, on_bad_sample=on_bad_sample)
        self.resolved = [shard.resolve() for shard in self.shards]  # only once, because it reads the disk
        self.identity = identity_of_files(self.shards)
        if card is None:
            self.identity += f", {identity_of_card(self.shards[0].parent / CARD)}"

    def __getitem__(self, position: int) -> Reinforced:
        row = self.row(position)
        shard, key = self.shards[row["shard"]], row["key"]
        where = f"shard {shard}, sample {key}"
        image_embeds, text_embeds = self._embeds(row, where)
        try:
            captions = tuple(json.loads(self._read(row, "syn"))["syn_text"]) if row["syn_size"] else ()
            encoded = json.loads(self._read(row, "paug"))["param_aug"]
            if isinstance(encoded, str):  # as in public tables, and in shards that were made from them
                encoded = json.loads(encoded)
            augmentations = tuple(Augmentation.decode(one) for one in encoded)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{where}: its syn.json or paug.json is not as expected ({error}); get the shard anew"
            ) from None
        found = {
            "image embeddings": (len(image_embeds), image_embeds.shape[-1]),
            "text embeddings": (len(text_embeds), text_embeds.shape[-1]),
        }
        width = sum(self.card.embed_dims)
        expected = {
            "image embeddings": (len(augmentations), width),
            "text embeddings": (1 + len(captions), width),
        }
        if found != expected or not augmentations:
            raise ValueError(
                f"{where}: found {found}, expected {expected} for {len(augmentations)} augmentations, a text with "
                f"{len(captions)} captions and teachers of {' + '.join(map(str, self.card.embed_dims))}"
            )
        image, text = self._pair(row, shard, where)
        return Reinforced(
            f"{self.resolved[row['shard']]}/{key}",
            image,
            text,
            captions,
            augmentations,
            image_embeds,
            text_embeds,
        )

    def _read(self, row: dict[str, Any], member: str) -> bytes:
        return read_member(self.shards[row["shard"]], row[f"{member}_offset"], row[f"{member}_size"])

    def _pair(self, row: dict[str, Any], shard: Path, where: str) -> tuple[TarImage | ImageFile, str]:
        """Return the image, unopened, and the text of a sample."""
        if row["image_offset"] is not None:
            image: TarImage | ImageFile = TarImage(shard, row["key"], row["image_offset"], row["image_size"])
        else:
            image = ImageFile(self._folder() / row["picture"], where, "it was there a moment ago")
        if row["text_offset"] is not None:
            text = decode(self._read(row, "text"), where).strip()
        else:
            text = read_text(self._folder() / f"{_name(row['key'])}.txt").strip()
        if not text:
            raise ValueError(f"{where}: its text is empty; expected a sentence")
        return image, text

    def _folder(self) -> Path:
        """Return the folder of images and texts; without one a sample that lacks them is skipped or refused before."""
        assert self.pictures is not None
        return self.pictures

    def _embeds(self, row: dict[str, Any], where: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the image embeddings (augmentations, Σ dims) and text embeddings (1 + captions, Σ dims)."""
        try:
            if row["npz_size"] is not None:  # float32, preferred to bfloat16 if a sample has both
                with np.load(io.BytesIO(self._read(row, "npz")), allow_pickle=False) as arrays:
                    return arrays["image_emb"], arrays["text_emb"]
            packed = io.BytesIO(gzip.decompress(self._read(row, "pth")))
            tensors = torch.load(packed, weights_only=True, map_location="cpu")
            images, texts = (torch.as_tensor(tensors[name]).float() for name in ("image_emb", "text_emb"))
            return images.numpy(), texts.numpy()
        except (
            OSError,
            EOFError,
            KeyError,
            ValueError,
            RuntimeError,
            zlib.error,
            zipfile.BadZipFile,
        ) as error:
            raise ValueError(
                f"{where}: its embeddings are corrupt ({_short(error)}); get the shard anew"
            ) from None
        except Exception as error:  # such as UnpicklingError for what weights_only refuses
            raise ValueError(
                f"{where}: its embeddings cannot be read safely ({_short(error)}); get the shard from its publisher"
            ) from None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _name(key: str) -> str:
    return key.rsplit("/", 1)[-1]


def _rows(files: tuple[str, ...], elsewhere: str | None, when: int | None) -> Iterator[dict[str, Any]]:
    """Yield a row for each sample: where its files are in the shard, or why it cannot be read."""
    there = set() if elsewhere is None else {entry.name for entry in os.scandir(elsewhere)}
    for number, path in enumerate(files):
        for key, members in itertools.groupby(members_of(Path(path)), key=lambda member: member[0]):
            row: dict[str, Any] = dict.fromkeys(FEATURES) | {"shard": number, "key": key}
            for _, suffix, offset, size in members:
                name = "image" if suffix in IMAGE_SUFFIXES else MEMBERS.get(suffix)
                if name is not None:
                    row |= {f"{name}_offset": offset, f"{name}_size": size}
                elif suffix == EARLY_END:
                    row["reason"] = (
                        f"shard {path} is cut short, damaged or not a tar, at or after sample {key}; download it again"
                    )
            if row["image_offset"] is None:
                names = (f"{_name(key)}{suffix}" for suffix in IMAGE_SUFFIXES)
                row["picture"] = next((name for name in names if name in there), None)
            if row["reason"] is None:
                row["reason"] = _lacking(row, path, elsewhere, there)
            yield row


def _lacking(row: dict[str, Any], path: str, elsewhere: str | None, there: set[str]) -> str | None:
    """Return the reason if a sample lacks a file, else None."""
    where = f"shard {path}, sample {row['key']}"
    if row["paug_size"] is None:
        return f"{where}: has no paug.json, so its augmentations cannot be replayed; get the shard anew"
    if row["npz_size"] is None and row["pth_size"] is None:
        return f"{where}: has neither npz nor pth.gz, so it holds no embeddings; get the shard anew"
    lacking = [name for name in ("image", "text") if row[f"{name}_size"] is None]
    if elsewhere is not None:
        files = {
            "image": (f"{_name(row['key'])}.jpg", row["picture"]),
            "text": (f"{_name(row['key'])}.txt",) * 2,
        }
        missing = [files[name][0] for name in lacking if files[name][1] not in there]
        if missing:
            return f"{where}: lacks {' and '.join(missing)} in {elsewhere}; download it, or skip the sample"
    elif lacking:
        return (
            f"{where}: has no {' and no '.join(lacking)}; name the folder of images and texts, KEY.jpg and KEY.txt, "
            "because public shards hold only their addresses"
        )
    return None

"""The writer of reinforced shards in the public webdataset layout, which `public_layout.py` reads."""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cliptd.data.images import open_image
from cliptd.data.pairs.pair import IMAGE_SUFFIXES
from cliptd.reinforcement.dataset import Reinforced
from cliptd.utils.files import whole_file, write_atomically


def write_tar(path: Path, rows: Sequence[tuple[int, Reinforced]], bad: Sequence[str]) -> None:
    """Write a shard of (position, sample), and beside it the reasons of the pairs that were skipped.

    The same rows make the same bytes.
    """
    write_atomically(path.with_suffix(".bad.json"), json.dumps(list(bad), ensure_ascii=False).encode())
    with whole_file(path) as partial, tarfile.open(partial, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for position, sample in rows:
            suffix, image = image_file(sample.image)
            arrays = io.BytesIO()
            np.savez(arrays, image_emb=sample.image_embeds, text_emb=sample.text_embeds)
            members: dict[str, bytes] = {
                suffix: image,
                "txt": sample.text.encode(),
                "syn.json": json.dumps({"syn_text": sample.captions}, ensure_ascii=False).encode(),
                "paug.json": json.dumps({"param_aug": [a.encode() for a in sample.augmentations]}).encode(),
                "npz": arrays.getvalue(),
                "json": json.dumps(
                    {"uid": sample.key, "sha256": hashlib.sha256(image).hexdigest()}, ensure_ascii=False
                ).encode(),
            }
            for name, content in members.items():
                head = tarfile.TarInfo(f"{position:09d}.{name}")  # without date and owner
                head.size = len(content)
                tar.addfile(head, io.BytesIO(content))


def image_file(image: Any) -> tuple[str, bytes]:
    """Return the suffix and the bytes of an image: its file if shards may hold such files, or else a lossless PNG."""
    if hasattr(image, "read_bytes"):
        content = image.read_bytes()
        with Image.open(io.BytesIO(content)) as opened:
            kind = str(opened.format).lower()
        suffix = {"jpeg": "jpg", "mpo": "jpg"}.get(kind, kind)  # an MPO is a JPEG with more of them behind it
        if f".{suffix}" in IMAGE_SUFFIXES:
            return suffix, content
    decoded, png = open_image(image), io.BytesIO()
    if not isinstance(decoded, Image.Image):
        raise ValueError(f"found a {type(decoded).__name__}, expected a PIL image")
    decoded.convert("RGB").save(png, format="PNG")
    return "png", png.getvalue()

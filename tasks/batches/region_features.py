"""Frozen features of image regions from any timm backbone, cached on disk.

A region student reads features of a trained backbone. The user chooses it: a timm model name, or `local-dir:<folder>`
with timm's own config.json and model.safetensors.
"""

import hashlib
import os
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from timm.data.config import resolve_data_config
from torch import Tensor
from torchvision.ops import roi_align
from torchvision.transforms.functional import pil_to_tensor, resize

from cliptd.data.images import as_rgb
from tasks.batches.example import Example, all_boxes

GEOMETRY_DIM = 6


class RegionFeatures:
    """A source of features (R, D) for the R boxes of an image.

    Args:
        backbone: timm model name (pretrained weights) or "local-dir:<folder>".
        mode: "crop" resizes each box to a square, sends it through the backbone and takes the pooled feature.
            "roi_align" sends the whole image through once and averages the feature map inside each box
            (convolutional backbones).
        crop_size: side in pixels of the square that enters the backbone: a box, or the image in roi_align. None: the
            backbone's own input size.
        geometry: if true, append x1, y1, x2, y2 and area as shares of the image, and 1 for the box that is the whole
            image.
        cache: folder for features on disk, with one safetensors file for each image. Many processes may share it.
        memory: number of images whose features also stay in memory. The least recently used are dropped first.
        batch_size: crops (or images) in a forward.

    Raises:
        ValueError: the mode is unknown. From `lookup`: a box is outside its image, or the backbone has no feature map.
        FileNotFoundError: a local folder lacks one of its two files.
    """

    def __init__(
        self,
        backbone: str,
        *,
        mode: Literal["crop", "roi_align"] = "crop",
        crop_size: int | None = None,
        geometry: bool = True,
        cache: str | Path | None = None,
        memory: int = 1024,
        batch_size: int = 64,
        device: str | torch.device = "cpu",
    ) -> None:
        if mode not in ("crop", "roi_align"):
            raise ValueError(f"mode is {mode!r}; choose 'crop' or 'roi_align'")
        self.backbone = _create(backbone).requires_grad_(False).to(device).eval()
        data = resolve_data_config(model=self.backbone)
        self.mode, self.geometry, self.batch_size, self.memory = mode, geometry, batch_size, memory
        self.crop_size = crop_size or data["input_size"][-1]
        self.device = torch.device(device)
        self.mean, self.std = (torch.tensor(data[key]).view(3, 1, 1) for key in ("mean", "std"))
        self.dim: int = self.backbone.num_features + GEOMETRY_DIM * geometry
        if mode == "crop":
            with torch.no_grad():
                side = self.crop_size
                self.dim = self.backbone(torch.zeros(1, 3, side, side, device=self.device)).shape[1]
                self.dim += GEOMETRY_DIM * geometry
        self.fingerprint = self._fingerprint()
        self.cache = None if cache is None else Path(cache)
        self._recent: OrderedDict[str, Tensor] = OrderedDict()

    def features(self, image: Image.Image, boxes: Tensor) -> Tensor:
        """Return the features (R, D) of one image's boxes, float32 on the CPU, without the cache.

        boxes: (R, 4), x1 y1 x2 y2 in pixels.
        """
        return self._compute([image], [boxes])[0]

    def lookup(
        self, keys: Sequence[str], images: Sequence[Callable[[], Image.Image]], boxes: Sequence[Tensor]
    ) -> list[Tensor]:
        """Return the features (R_i, D) of several images. Only images that the cache lacks are opened.

        Args:
            keys: names of the images.
            images: functions that open them.
            boxes: (R_i, 4) of each image.
        """
        names = [self._entry(key, box) for key, box in zip(keys, boxes, strict=True)]
        found: dict[str, Tensor] = {}
        for name in dict.fromkeys(names):
            cached = self._recent.get(name)
            cached = self._read(name) if cached is None else cached
            if cached is not None:
                found[name] = cached
        missing = {name: n for n, name in enumerate(names) if name not in found}
        if missing:
            opened = [images[n]() for n in missing.values()]
            computed = self._compute(opened, [boxes[n] for n in missing.values()])
            for name, value in zip(missing, computed, strict=True):
                found[name] = value
                self._write(name, value)
        for name in names:
            self._recent[name] = found[name]
            self._recent.move_to_end(name)
        while len(self._recent) > self.memory:
            self._recent.popitem(last=False)
        return [found[name] for name in names]

    def precompute(self, examples: Iterable[Example]) -> int:
        """Fill the cache with every image of some examples. Return the number of images."""
        seen: set[str] = set()
        waiting: list[Example] = []

        def look_up() -> None:
            keys, images = [e.image_key for e in waiting], [e.image for e in waiting]
            self.lookup(keys, images, [all_boxes(e) for e in waiting])
            waiting.clear()

        for example in examples:
            if example.image_key not in seen:
                seen.add(example.image_key)
                waiting.append(example)
            if len(waiting) == self.batch_size:
                look_up()
        if waiting:
            look_up()
        return len(seen)

    @torch.no_grad()
    def _compute(self, images: Sequence[Image.Image], boxes: Sequence[Tensor]) -> list[Tensor]:
        boxes = [torch.as_tensor(box, dtype=torch.float32).reshape(-1, 4) for box in boxes]
        for image, box in zip(images, boxes, strict=True):
            limit = torch.tensor([*image.size, *image.size])
            bad = ((box < -1) | (box > limit + 1)).any(1) | (box[:, 2:] <= box[:, :2]).any(1)
            if bad.any():
                raise ValueError(
                    f"box {box[bad][0].tolist()} is outside its image of {image.width} x {image.height} "
                    "pixels or without area; expected x1 y1 x2 y2 in pixels"
                )
        pooled = (self._crop if self.mode == "crop" else self._align)(images, boxes)
        counts = [len(box) for box in boxes]
        features = list(pooled.float().cpu().split(counts))
        if self.geometry:
            sizes = [image.size for image in images]
            features = [
                torch.cat([f, geometry(box, size)], dim=1)
                for f, box, size in zip(features, boxes, sizes, strict=True)
            ]
        return features

    def _crop(self, images: Sequence[Image.Image], boxes: Sequence[Tensor]) -> Tensor:
        crops = (
            self._square(image, (x1, y1, x2, y2))
            for image, box in zip(images, boxes, strict=True)
            for x1, y1, x2, y2 in box.tolist()
        )
        return torch.cat([self.backbone(batch) for batch in _batches(crops, self.batch_size, self.device)])

    def _align(self, images: Sequence[Image.Image], boxes: Sequence[Tensor]) -> Tensor:
        squares = (self._square(image, (0, 0, *image.size)) for image in images)
        maps = [
            self.backbone.forward_features(batch) for batch in _batches(squares, self.batch_size, self.device)
        ]
        feature_map = torch.cat(maps)
        if feature_map.ndim != 4 or feature_map.shape[1] != self.backbone.num_features:
            raise ValueError(
                f"the backbone gives features of shape {tuple(feature_map.shape)}, and roi_align needs a "
                f"map (images, {self.backbone.num_features}, height, width); use mode='crop' or a "
                "convolutional backbone"
            )
        height, width = feature_map.shape[2:]
        scaled = [
            box * torch.tensor([width / i.width, height / i.height] * 2)
            for i, box in zip(images, boxes, strict=True)
        ]
        return roi_align(
            feature_map, [box.to(self.device) for box in scaled], output_size=7, aligned=True
        ).mean((2, 3))

    def _square(self, image: Image.Image, box: tuple[float, float, float, float]) -> Tensor:
        # crop first, at whole pixels around the box, so that resizing reads nothing outside it
        x1, y1 = int(max(0, box[0])), int(max(0, box[1]))
        x2, y2 = min(image.width, -int(-box[2] // 1)), min(image.height, -int(-box[3] // 1))
        crop = as_rgb(image).crop((x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)))
        pixels = pil_to_tensor(crop).float() / 255
        pixels = resize(pixels, [self.crop_size, self.crop_size], antialias=True)
        return (pixels - self.mean) / self.std

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        state = self.backbone.state_dict()
        for name in sorted(state):
            tensor = state[name].detach().cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        settings = (self.mode, self.crop_size, self.geometry, self.mean.tolist(), self.std.tolist())
        digest.update(repr(settings).encode())
        return "sha256:" + digest.hexdigest()[:16]

    def _entry(self, key: str, boxes: Tensor) -> str:
        digest = hashlib.sha256(f"{self.fingerprint} {key} ".encode())
        digest.update(torch.as_tensor(boxes, dtype=torch.float32).contiguous().numpy().tobytes())
        return digest.hexdigest()[:40]

    def _read(self, name: str) -> Tensor | None:
        if self.cache is None:
            return None
        path = _file(self.cache, name)
        try:
            return load_file(path)["features"]  # memory-mapped
        except FileNotFoundError:
            return None
        except (SafetensorError, KeyError) as error:
            raise ValueError(f"region cache {path} is broken ({error}); delete this file") from error

    def _write(self, name: str, features: Tensor) -> None:
        if self.cache is None:
            return
        path = _file(self.cache, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(
            f"{name}.{secrets.token_hex(8)}.partial"
        )  # a name that no other process uses
        partial.write_bytes(save({"features": features.contiguous()}))
        os.replace(partial, path)  # the file is whole or absent at any time


def _file(cache: Path, name: str) -> Path:
    return cache / name[:2] / f"{name}.safetensors"


def geometry(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (R, 6): x1, y1, x2, y2 and area as shares of an image of `size`, and 1 for the whole image.

    boxes: (R, 4) in pixels. size: (width, height).

    >>> geometry(torch.tensor([[0.0, 0.0, 50.0, 20.0]]), (100, 20)).tolist()
    [[0.0, 0.0, 0.5, 1.0, 0.5, 0.0]]
    """
    shares = boxes / torch.tensor([*size, *size], dtype=torch.float32)
    area = ((shares[:, 2] - shares[:, 0]) * (shares[:, 3] - shares[:, 1])).unsqueeze(1)
    whole = (boxes == torch.tensor([0.0, 0.0, *size])).all(1, keepdim=True).float()
    return torch.cat([shares, area, whole], dim=1)


def _create(backbone: str) -> Any:
    """Return timm's model with its weights, as Any because nn.Module declares none of timm's attributes."""
    if backbone.startswith("local-dir:"):
        folder = Path(backbone.removeprefix("local-dir:"))
        for name in ("config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"backbone {backbone!r}: {folder / name} is missing; save it with timm"
                )
    try:
        return timm.create_model(backbone, pretrained=True, num_classes=0)
    except RuntimeError as error:
        raise ValueError(
            f"backbone {backbone!r} could not be created ({error}); expected a timm model name with "
            "pretrained weights (timm.list_models(pretrained=True)) or local-dir:<folder>"
        ) from error
    except OSError as error:  # Hugging Face's errors of a missing connection are of this kind
        raise FileNotFoundError(
            f"the weights of backbone {backbone!r} are not on this machine and could not be downloaded "
            f"({error}); download them once with a connection, or give local-dir:<folder>"
        ) from error


def _batches(tensors: Iterable[Tensor], size: int, device: torch.device) -> Iterable[Tensor]:
    batch = []
    for tensor in tensors:
        batch.append(tensor)
        if len(batch) == size:
            yield torch.stack(batch).to(device)
            batch = []
    if batch:
        yield torch.stack(batch).to(device)

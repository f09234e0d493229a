"""A dual encoder for inference elsewhere: both towers as ONNX, fused where they can be, checked and timed."""

import copy
import json
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.utils.model import reparameterize_model
from torch import Tensor, nn

from cliptd.embedding.student import Student
from cliptd.teachers.teacher import PROBES
from cliptd.utils.files import write_atomically

TOLERANCE = 1e-4
"""The largest difference of an element of a unit embedding that still counts as rounding."""
FILES = {"image": "image.onnx", "text": "text.onnx"}


@dataclass(frozen=True)
class Exported:
    """What was written, and how far it is from the model: the largest difference of an element of an embedding."""

    folder: Path
    differences: dict[str, float]
    fused: int


class ImageTower(nn.Module):
    """(batch, 3, height, width) pixels → (batch, dim) of unit length."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        """The embeddings."""
        return self.model.encode_image(pixel_values, normalize=True)


class TextTower(nn.Module):
    """(batch, tokens) ids → (batch, dim) of unit length."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        """The embeddings."""
        return self.model.encode_text(input_ids, normalize=True)


def fused(model: nn.Module) -> tuple[nn.Module, int]:
    """A copy whose branches that train side by side are one convolution each (MobileCLIP's RepMixer, RepVGG, …).

    Returns: the copy and how many parameters fewer it has: 0 if its architecture has nothing to fuse.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    small = reparameterize_model(model)
    counts = [sum(p.numel() for p in one.parameters()) for one in (model, small)]
    return small, counts[0] - counts[1]


def export_onnx(student: Student, folder: str | Path, *, reparameterize: bool = False) -> Exported:
    """Write image.onnx and text.onnx, for batches of any size, and export.json, which says what goes in.

    Inputs are `pixel_values` (batch, 3, height, width) float32 and `input_ids` (batch, tokens) int64, outputs
    `image_embeds` and `text_embeds` (batch, dim) of unit length. Weights of more than 1 GiB go beside them. The
    tokenizer's files are written too, if it has any; open_clip's own BPE has none.

    Args:
        student: an open_clip model, exported in float32.
        reparameterize: fuse first what can be; see `fused`.

    Raises:
        ImportError: without `pip install "cliptd[onnx]"`.
        ValueError: there is nothing to fuse, or onnxruntime's embeddings are further than 1e-4 from the model's.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  torch.onnx needs it
    except ImportError as error:
        raise ImportError(f'exporting needs {error.name}; pip install "cliptd[onnx]"') from error
    folder, original = Path(folder), copy.deepcopy(student.model).eval().requires_grad_(False)
    original = original.float().cpu()
    model, saved = original, 0
    if reparameterize:
        model, saved = fused(original)
        if not saved:
            raise ValueError(
                f"{student.name} has no branches to fuse, as MobileCLIP's RepMixer has; leave reparameterize out"
            )
    folder.mkdir(parents=True, exist_ok=True)
    differences = {}
    for name, inputs in example_inputs(student).items():
        tower, other = (tower_of(one, name) for one in (model, original))
        _write(tower, inputs, folder / FILES[name], name)
        session = onnxruntime.InferenceSession(folder / FILES[name], providers=["CPUExecutionProvider"])
        key = session.get_inputs()[0].name
        differences[name] = max(
            (torch.from_numpy(session.run(None, {key: part.numpy()})[0]) - other(part)).abs().max().item()
            for part in (inputs, inputs[:1])
        )
        if not differences[name] <= TOLERANCE:  # NaN, too
            raise ValueError(
                f"{folder / FILES[name]}: onnxruntime's embeddings differ from the model's by {differences[name]:.2g}, "
                f"expected at most {TOLERANCE:g}; do not use it"
            )
    _describe(student, folder, differences, saved)
    return Exported(folder, differences, saved)


def example_inputs(student: Student, batch: int = 2) -> dict[str, Tensor]:
    """{"image": noise as the transform gives it, "text": tokens of a few texts}, `batch` each."""
    size = student.model.visual.image_size
    height, width = size if isinstance(size, tuple | list) else (size, size)
    pixels = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))
    return {"image": pixels, "text": student.tokenize([PROBES[k % len(PROBES)] for k in range(batch)])}


def tower_of(model: nn.Module, name: str) -> nn.Module:
    """The image or the text tower of an open_clip model, as a module of one input."""
    return (ImageTower if name == "image" else TextTower)(model).eval()


def latencies(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each way's call; a round calls every way once, after one that does not count."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, call in ways.items():
            start = time.perf_counter()
            call()
            if number:
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(found) for name, found in times.items()}


def _write(tower: nn.Module, inputs: Tensor, path: Path, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter about itself
        program = torch.onnx.export(
            tower,
            (inputs,),
            input_names=["pixel_values" if name == "image" else "input_ids"],
            output_names=[f"{name}_embeds"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    size = sum(p.numel() * p.element_size() for p in tower.parameters())
    program.save(path, external_data=size > 2**30)


def _describe(student: Student, folder: Path, differences: dict[str, float], saved: int) -> None:
    if hasattr(student.tokenizer, "save_pretrained"):
        student.tokenizer.save_pretrained(folder)
    bias = getattr(student.model, "logit_bias", None)
    described = {
        "model": student.name,
        "files": FILES,
        "preprocess_cfg": student.config["preprocess_cfg"],
        "context_length": student.model.context_length,
        "embed_dim": student.embed_dim,
        "logit_scale": student.model.logit_scale.exp().item(),
        "logit_bias": None if bias is None else bias.item(),
        "parameters_fused_away": saved,
        "largest_difference_from_torch": differences,
    }
    write_atomically(folder / "export.json", (json.dumps(described, indent=2, default=str) + "\n").encode())

"""The export of a dual encoder for inference elsewhere: both towers as ONNX, fused if possible, checked and timed."""

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

from cliptd.embedding.inheritance.towers import OpenClipModel
from cliptd.embedding.student import Student
from cliptd.teachers.fingerprints import PROBES
from cliptd.utils.files import write_atomically

TOLERANCE = 1e-4
"""The largest difference in an element of a unit embedding that counts as rounding."""
FILES = {"image": "image.onnx", "text": "text.onnx"}


@dataclass(frozen=True)
class Exported:
    """The files that were written.

    differences: the largest difference in an element of a unit embedding between the model and each tower's file.
    fused: how many parameters fewer the fused model has.
    """

    folder: Path
    differences: dict[str, float]
    fused: int


class ImageTower(nn.Module):
    """The image tower of an open_clip model as a module of one input."""

    def __init__(self, model: OpenClipModel) -> None:
        super().__init__()
        self.model: OpenClipModel = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Embed (batch, 3, height, width) pixels: (batch, dim) of unit length."""
        return self.model.encode_image(pixel_values, normalize=True)


class TextTower(nn.Module):
    """The text tower of an open_clip model as a module of one input."""

    def __init__(self, model: OpenClipModel) -> None:
        super().__init__()
        self.model: OpenClipModel = model

    def forward(self, input_ids: Tensor) -> Tensor:
        """Embed (batch, tokens) ids: (batch, dim) of unit length."""
        return self.model.encode_text(input_ids, normalize=True)


def fused(model: OpenClipModel) -> tuple[OpenClipModel, int]:
    """Return a copy whose parallel branches are fused into one convolution each (MobileCLIP's RepMixer, RepVGG, …).

    Returns: the copy, and how many parameters fewer it has: 0 if its architecture has nothing to fuse.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    small = reparameterize_model(model)
    counts = [sum(p.numel() for p in one.parameters()) for one in (model, small)]
    return small, counts[0] - counts[1]


def require_onnx() -> None:
    """Raise ImportError with the command that installs it if a package of the export is missing."""
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401  (torch.onnx needs it)
    except ImportError as error:
        raise ImportError(f'exporting needs {error.name}; pip install "cliptd[onnx]"') from error


def export_onnx(student: Student, folder: str | Path, *, reparameterize: bool = False) -> Exported:
    """Write image.onnx and text.onnx for batches of any size, and export.json, which describes their inputs.

    The inputs are `pixel_values` (batch, 3, height, width) float32 and `input_ids` (batch, tokens) int64. The outputs
    are `image_embeds` and `text_embeds` (batch, dim) of unit length. Weights of more than 1 GiB go into a file beside
    the .onnx. The tokenizer's files are written too, if it has any; open_clip's own BPE has none.

    Args:
        student: holds the model, which is exported in float32.
        folder: the folder of the files. It is created if it does not exist.
        reparameterize: If true, fuse the model first; see `fused`.

    Raises:
        ImportError: a package of `pip install "cliptd[onnx]"` is missing.
        ValueError: there is nothing to fuse, or onnxruntime's embeddings are further than 1e-4 from the model's.
    """
    require_onnx()
    import onnxruntime

    folder, original = Path(folder), copy.deepcopy(student.model).eval().requires_grad_(False)
    original = original.float().cpu()
    model, saved = original, 0
    if reparameterize:
        model, saved = fused(original)
        if not saved:
            raise ValueError(
                f"{student.name} has no branches to fuse, as MobileCLIP's RepMixer has; export without reparameterize"
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
        if not differences[name] <= TOLERANCE:  # also true for NaN
            raise ValueError(
                f"{folder / FILES[name]}: onnxruntime's embeddings differ from the model's by {differences[name]:.2g}, "
                f"expected at most {TOLERANCE:g}; do not use it"
            )
    _describe(student, folder, differences, saved)
    return Exported(folder, differences, saved)


def example_inputs(student: Student, batch: int = 2) -> dict[str, Tensor]:
    """Return `batch` inputs of each tower: {"image": noise as pixels, "text": token ids of a few texts}."""
    size = student.model.visual.image_size
    height, width = size if isinstance(size, tuple | list) else (size, size)
    pixels = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))
    return {"image": pixels, "text": student.tokenize([PROBES[k % len(PROBES)] for k in range(batch)])}


def tower_of(model: OpenClipModel, name: str) -> nn.Module:
    """Return the image or the text tower of an open_clip model as a module of one input."""
    return (ImageTower if name == "image" else TextTower)(model).eval()


def latencies(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median milliseconds of each way's call.

    Each round calls every way once. One more round comes first and does not count.
    """
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
        warnings.simplefilter("ignore")  # torch's exporter warns about its own code
        program = torch.onnx.export(
            tower,
            (inputs,),
            input_names=["pixel_values" if name == "image" else "input_ids"],
            output_names=[f"{name}_embeds"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # with dynamo=True it is always a program
    size = sum(p.numel() * p.element_size() for p in tower.parameters())
    program.save(path, external_data=size > 2**30)


def _describe(student: Student, folder: Path, differences: dict[str, float], saved: int) -> None:
    if hasattr(student.tokenizer, "save_pretrained"):
        student.tokenizer.save_pretrained(folder)
    bias = student.model.logit_bias
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

"""Export both towers of a dual encoder to ONNX, check them against torch and time them: torch, fused, onnxruntime.

Needs pip install "cliptd[onnx]". --reparameterize fuses what MobileCLIP's RepMixer (or another such tower) trains side
by side.

    python scripts/export.py --model runs/distill_embeddings/model --out runs/onnx
    python scripts/export.py --model MobileCLIP-S1 --pretrained datacompdr --reparameterize --out runs/onnx
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cliptd.utils.options import shown_default
from tasks.command_line import command, parse_options

if TYPE_CHECKING:
    from cliptd.embedding.student import Student


@dataclass(kw_only=True)
class Export:
    """What is exported, and how it is timed."""

    model: str
    """The name of an open_clip model, or the path of an open_clip folder."""
    pretrained: Annotated[str | None, shown_default("none")] = None
    """open_clip's tag of the weights, or a checkpoint file."""
    to: Literal["onnx"] = "onnx"
    """Format of the files."""
    untrained: bool = False
    """Export fresh, random weights if the model has none, to time an architecture."""
    reparameterize: bool = False
    """First fuse the branches that exist in training only."""
    batch_sizes: tuple[int, ...] = (1, 32)
    """Batch sizes at which the towers are timed."""
    rounds: int = 20
    """Rounds of timing. The table shows their median. 0: no table."""
    threads: int = 1
    """CPU threads of torch and of onnxruntime."""
    out: Path = Path("runs/export")
    """Folder of image.onnx, text.onnx, export.json and latency.md."""

    def __post_init__(self) -> None:
        if self.rounds < 0 or self.threads < 1 or any(size < 1 for size in self.batch_sizes):
            raise ValueError(
                f"found rounds {self.rounds}, threads {self.threads} and batch_sizes {self.batch_sizes}; expected no "
                "negative rounds and at least 1 of the others"
            )


@command
def main(arguments: list[str]) -> None:
    asked = parse_options(Export, arguments, description=__doc__)
    import torch

    from cliptd.embedding.export import FILES, export_onnx, require_onnx
    from cliptd.embedding.student import load_student
    from cliptd.utils.files import write_atomically
    from cliptd.utils.tables import markdown_table, print_table

    require_onnx()
    torch.set_num_threads(asked.threads)
    student = load_student(asked.model, asked.pretrained)
    if student.fresh and not asked.untrained:
        raise ValueError(
            f"--model {asked.model} has no weights; name its --pretrained tag, a folder with weights, or ask for "
            "--untrained ones"
        )
    print(
        f"Exporting {student.parameters / 1e6:,.1f} million parameters; this takes about a minute", flush=True
    )
    exported = export_onnx(student, asked.out, reparameterize=asked.reparameterize)
    if asked.rounds:
        rows = _latencies(student, asked)
        title = f"Milliseconds a batch, median of {asked.rounds} rounds, {asked.threads} threads"
        write_atomically(asked.out / "latency.md", f"{title}\n\n{markdown_table(rows)}\n")
        print_table(rows, title=title)
    differences = ", ".join(f"{name} {value:.1e}" for name, value in exported.differences.items())
    print(f"Largest difference from torch: {differences}. Folder: {asked.out.resolve()}")
    image = asked.out / FILES["image"]
    print(f'Next: onnxruntime.InferenceSession("{image}") in Python; export.json describes the inputs')


def _latencies(student: "Student", asked: Export) -> list[dict[str, Any]]:
    """Time each tower at each batch size; return a row for each."""
    import onnxruntime

    from cliptd.embedding.export import FILES, example_inputs, fused, latencies, tower_of

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = asked.threads
    models = {"torch": student.model.eval().requires_grad_(False)}
    if asked.reparameterize:
        models["torch fused"] = fused(student.model)[0]
    rows = []
    for name in FILES:
        session = onnxruntime.InferenceSession(
            asked.out / FILES[name], options, providers=["CPUExecutionProvider"]
        )
        key = session.get_inputs()[0].name
        for size in asked.batch_sizes:
            inputs = example_inputs(student, size)[name]
            ways: dict[str, Callable[[], object]] = {
                way: partial(tower_of(model, name), inputs) for way, model in models.items()
            }
            ways["onnxruntime"] = partial(session.run, None, {key: inputs.numpy()})
            rows.append({"tower": name, "batch": size, **latencies(ways, asked.rounds)})
    return rows


if __name__ == "__main__":
    main()

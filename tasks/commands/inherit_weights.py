"""Make a small open_clip model out of a large one's weights, to be distilled from there; saves an open_clip folder.

Sizes that are not named stay the teacher's. Heads keep their width. Towers out of timm have the sizes of timm's models:
name a student of the same widths.

    python scripts/inherit_weights.py --teacher ViT-B-16 --pretrained openai --layers 6 --width 512 --text-layers 3 \\
        --how even --out students/ViT-B-16-half
    python scripts/inherit_weights.py --teacher ViT-SO400M-16-SigLIP2-384 --pretrained webli --student half.json \\
        --out students/SigLIP2-half
"""

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cliptd.embedding.options import How
from cliptd.utils.options import shown_default
from tasks.command_line import as_started, command, parse_options

SIZES = ("layers", "width", "text_layers", "text_width", "embed_dim", "patch_size")
AS_TEACHER = shown_default("as in the teacher")


@dataclass(kw_only=True)
class InheritWeights:
    """What to inherit, and from whom."""

    teacher: str
    """The name of an open_clip model, the path of an open_clip folder, or hf-hub: and the id of an open_clip model."""
    pretrained: Annotated[str | None, shown_default("none")] = None
    """The tag or checkpoint file of an open_clip name."""
    student: Annotated[str | None, shown_default("none, the sizes below count")] = None
    """Instead of sizes: an open_clip name, or a folder or .json with a config like its open_clip_config.json."""
    layers: Annotated[tuple[int, ...], AS_TEACHER] = ()
    """Layers of the image tower. A ResNet needs one number for each of its four stages."""
    width: Annotated[int | None, AS_TEACHER] = None
    """Channels of the image tower."""
    patch_size: Annotated[int | None, AS_TEACHER] = None
    """Height and width of a patch in pixels. Kernel and positional embeddings are interpolated."""
    text_layers: Annotated[int | None, AS_TEACHER] = None
    """Layers of the text tower."""
    text_width: Annotated[int | None, AS_TEACHER] = None
    """Channels of the text tower."""
    embed_dim: Annotated[int | None, AS_TEACHER] = None
    """Dimensions of the embedding that both towers share."""
    how: How = "even"
    """even: layers evenly spaced, leading channels. leading: the first layers, leading channels. magnitude: layers
    evenly spaced, and the channels, heads and MLP units with the largest weights."""
    out: Path
    """Folder of the student."""

    def __post_init__(self) -> None:
        given = [name for name in SIZES if getattr(self, name) not in (None, ())]
        if self.student is not None and given:
            raise ValueError(
                f"--student names all sizes, and {', '.join(given)} another; remove one of the two"
            )
        folder = Path(self.teacher.removeprefix("local-dir:"))
        if folder.is_dir() and folder.resolve() == self.out.resolve():
            raise ValueError(f"--out {self.out} is the teacher's own folder; choose another one")


@command
def main(arguments: list[str]) -> None:
    asked = parse_options(InheritWeights, arguments, description=__doc__)
    from cliptd.embedding.inheritance import inherit_weights, shrunk_config
    from cliptd.embedding.student import load_student
    from cliptd.teachers import load_teacher
    from cliptd.teachers.from_open_clip import OpenClipTeacher, save_open_clip

    teacher = load_teacher(asked.teacher, asked.pretrained)
    if not isinstance(teacher, OpenClipTeacher):
        raise ValueError(
            f"--teacher {asked.teacher}: only one open_clip model can be inherited from, found a "
            f"{type(teacher).__name__}"
        )
    if asked.student is not None:
        config = load_student(asked.student, teacher=teacher).config["model_cfg"]
    else:
        layers = asked.layers[0] if len(asked.layers) == 1 else asked.layers or None
        sizes = {name: getattr(asked, name) for name in SIZES}
        config = shrunk_config(teacher.config["model_cfg"], **{**sizes, "layers": layers})
    student = inherit_weights(teacher.model, config, asked.how)
    saved = {"model_cfg": config, "preprocess_cfg": teacher.config["preprocess_cfg"]}
    save_open_clip(student, asked.out, config=saved, tokenizer=teacher.tokenizer)
    models = {"teacher": teacher.model, "student": student}
    parameters = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    print(json.dumps({"folder": str(asked.out), "how": asked.how, "parameters": parameters}, indent=2))
    share = parameters["student"] / parameters["teacher"]
    print(
        f"The student has {100 * share:.0f} % of the teacher's parameters. Folder: {asked.out.resolve()}",
        file=sys.stderr,
    )
    named = f"--teacher {shlex.quote(asked.teacher)}"
    named += f" --pretrained {shlex.quote(asked.pretrained)}" if asked.pretrained else ""
    line = f"accelerate launch scripts/distill_embeddings.py {named} --student {shlex.quote(str(asked.out))}"
    print(as_started(f"Next: {line} --data DATA --zero-shot FOLDER"), file=sys.stderr)


if __name__ == "__main__":
    main()

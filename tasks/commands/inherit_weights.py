"""Make a small open_clip model out of a large one's weights, to be distilled from there; saves an open_clip folder.

Sizes that are not named stay the teacher's; heads keep their width. Towers out of timm have the sizes of timm's models:
name a student of the same widths.

    python scripts/inherit_weights.py --teacher ViT-B-16 --pretrained openai --layers 6 --width 512 --text-layers 3 \\
        --how even --out students/ViT-B-16-half
    python scripts/inherit_weights.py --teacher ViT-SO400M-16-SigLIP2-384 --pretrained webli --student half.json \\
        --out students/SigLIP2-half
"""

import json
from dataclasses import dataclass
from pathlib import Path

from cliptd.embedding.inheritance import How, inherit_weights, shrunk_config
from cliptd.embedding.student import load_student
from cliptd.teachers import load_teacher
from cliptd.teachers.from_open_clip import OpenClipTeacher, save_open_clip
from tasks.command_line import command, parse_options

SIZES = ("layers", "width", "text_layers", "text_width", "embed_dim", "patch_size")


@dataclass(kw_only=True)
class InheritWeights:
    """What to inherit, and from whom."""

    teacher: str
    """An open_clip name, the path of an open_clip folder, or hf-hub: and the id of an open_clip model."""
    pretrained: str | None = None
    """The tag or checkpoint file of an open_clip name."""
    student: str | None = None
    """Instead of sizes: an open_clip name, or a folder or .json with a config like its open_clip_config.json."""
    layers: tuple[int, ...] = ()
    """Of the image tower; of a ResNet one number for each of its four stages."""
    width: int | None = None
    """Channels of the image tower."""
    patch_size: int | None = None
    """Pixels; kernel and positional embeddings are interpolated."""
    text_layers: int | None = None
    """Of the text tower."""
    text_width: int | None = None
    """Channels of the text tower."""
    embed_dim: int | None = None
    """Dimensions of the embedding that both towers share."""
    how: How = "even"
    """even: layers evenly spaced, leading channels. leading: the first layers, leading channels. magnitude: layers
    evenly spaced, the channels, heads and MLP units with the largest weights."""
    out: Path
    """Folder of the student."""


@command
def main(arguments: list[str]) -> None:
    settings = parse_options(InheritWeights, arguments, description=__doc__)
    teacher = load_teacher(settings.teacher, settings.pretrained)
    if not isinstance(teacher, OpenClipTeacher):
        raise SystemExit(
            f"--teacher {settings.teacher}: only one open_clip model can be inherited from, found a "
            f"{type(teacher).__name__}"
        )
    folder = Path(settings.teacher.removeprefix("local-dir:"))
    if folder.is_dir() and folder.resolve() == settings.out.resolve():
        raise SystemExit(f"--out {settings.out} is the teacher's own folder; choose another one")
    sizes = {name: getattr(settings, name) for name in SIZES}
    given = [name for name, size in sizes.items() if size is not None and size != ()]
    if settings.student is not None and given:
        raise SystemExit(
            f"--student names all sizes, and {', '.join(given)} another; leave one of the two out"
        )
    if settings.student is not None:
        config = load_student(settings.student, teacher=teacher).config["model_cfg"]
    else:
        layers = settings.layers[0] if len(settings.layers) == 1 else settings.layers or None
        config = shrunk_config(teacher.config["model_cfg"], **{**sizes, "layers": layers})
    student = inherit_weights(teacher.model, config, settings.how)
    saved = {"model_cfg": config, "preprocess_cfg": teacher.config["preprocess_cfg"]}
    save_open_clip(student, settings.out, config=saved, tokenizer=teacher.tokenizer)
    sizes = {"teacher": teacher.model, "student": student}
    parameters = {name: sum(p.numel() for p in model.parameters()) for name, model in sizes.items()}
    print(json.dumps({"folder": str(settings.out), "how": settings.how, "parameters": parameters}, indent=2))


if __name__ == "__main__":
    main()

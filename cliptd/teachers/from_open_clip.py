"""Load open_clip models as teachers, by name and pretrained tag or from a folder, and save such folders."""

import copy
import difflib
import json
import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import open_clip
import torch
from huggingface_hub import snapshot_download
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from cliptd.data.images import as_rgb
from cliptd.teachers.fingerprints import hash_vocabulary
from cliptd.teachers.teacher import Teacher, Tokens
from cliptd.utils.files import write_atomically
from cliptd.utils.messages import one_line
from cliptd.utils.tensor_files import save_tensors

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
OpenClipModel: TypeAlias = open_clip.CLIP | open_clip.CustomTextCLIP
HUB = "hf-hub:"
"""The prefix by which open_clip knows models on the hub."""


class OpenClipTeacher(Teacher):
    """An open_clip model with its eval transform and tokenizer. `config` is its `open_clip_config.json` as a dict."""

    model: OpenClipModel
    transform: Callable[[Image.Image], Tensor]
    tokenizer: Callable[..., Tensor]
    config: dict[str, Any]

    def __init__(
        self,
        model: OpenClipModel,
        transform: Callable[[Image.Image], Tensor],
        tokenizer: Callable[..., Tensor],
        config: dict[str, Any],
        name: str,
        batch_size: int = 256,
    ) -> None:
        self.__dict__.update(transform=transform, tokenizer=tokenizer, config=config)
        super().__init__(model, name, batch_size)

    def image_transform(self, image: Image.Image) -> Tensor:
        return self.transform(as_rgb(image))

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        return self.tokenizer(list(texts))

    def image_features(self, pixels: Tensor) -> Tensor:
        return self.model.encode_image(pixels)

    def text_features(self, tokens: Tokens) -> Tensor:
        return self.model.encode_text(tokens)

    def describe(self) -> dict[str, Any]:
        vocabulary = getattr(self.tokenizer, "encoder", None)  # open_clip's own BPE
        if vocabulary is None and hasattr(self.tokenizer, "tokenizer"):
            vocabulary = self.tokenizer.tokenizer.get_vocab()
        # The repr of a function holds its address, which differs between runs.
        transform = re.sub(r" at 0x[0-9a-f]+", "", repr(self.transform))
        return {"transform": transform, "vocabulary": hash_vocabulary(vocabulary or {})}


def load_by_name(
    name: str, pretrained: str | None, *, device: str | torch.device, precision: str, batch_size: int
) -> OpenClipTeacher:
    """Load an open_clip model by name, with a pretrained tag or a checkpoint file. Raises as `load_teacher`."""
    if name not in open_clip.list_models():
        names = {model.lower(): model for model in open_clip.list_models()}
        near = [names[match] for match in difflib.get_close_matches(name.lower(), names, n=5, cutoff=0.5)]
        raise ValueError(
            f"open_clip has no model named {name!r}; nearest: {', '.join(near) or 'none'}. For a "
            "transformers model write 'hf:<id>', for a local open_clip folder its path"
        )
    is_file = pretrained is not None and Path(pretrained).is_file()
    if not is_file and not open_clip.is_pretrained_cfg(name, pretrained or ""):
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none, give a checkpoint file"
        raise ValueError(
            f"pretrained={pretrained!r} is neither a pretrained tag of {name} nor a checkpoint file; "
            f"its tags: {tags}"
        )
    tag = {} if is_file else open_clip.get_pretrained_cfg(name, pretrained)
    if is_file:
        needs = _settings_of_tags(name)
        if needs:
            warnings.warn(
                f"{pretrained}: a checkpoint file holds no settings. The weights of these tags of {name} need other "
                f"settings than the architecture's: {needs}. If this file holds one of them, give a local open_clip "
                f"folder with its settings (or, for quick_gelu alone, the name {name}-quickgelu)",
                stacklevel=3,
            )
    quick_gelu = bool(tag.get("quick_gelu", False))  # open_clip only warns if tag and config disagree
    try:
        model = open_clip.create_model(
            name,
            pretrained=pretrained,
            precision=precision,
            device=device,
            force_quick_gelu=quick_gelu,
            require_pretrained=True,
        )
    except Exception as error:
        if is_file:
            raise ValueError(f"checkpoint {pretrained} does not fit {name}: {one_line(error)}") from error
        repository = os.path.dirname(tag.get("hf_hub", ""))
        get_it = f"run `hf download {repository}`" if repository else f"fetch {tag.get('url')}"
        raise FileNotFoundError(
            f"the checkpoint {pretrained!r} of {name} is not on this machine and could not be downloaded "
            f"({one_line(error)}): {get_it} where there is a network and copy the cache here, or give "
            "the path of a local open_clip folder instead of the name (a checkpoint file brings no settings)"
        ) from error
    config = open_clip.get_model_config(name)
    try:
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:
        repository = config["text_cfg"].get("hf_tokenizer_name", name)
        raise FileNotFoundError(
            f"the tokenizer of {name} is not on this machine and could not be downloaded "
            f"({one_line(error)}): run `hf download {repository}` where there is a network and copy the "
            "cache here"
        ) from error
    if quick_gelu:
        config["quick_gelu"] = True
    return as_teacher(model, tokenizer, config, f"{name}, {pretrained}", batch_size)


def _settings_of_tags(name: str) -> str:
    """List the pretrained tags of an architecture that need settings which open_clip does not use by default."""
    usual = {**asdict(PreprocessCfg()), "quick_gelu": False}
    found = []
    for tag in open_clip.list_pretrained_tags_by_model(name):
        settings = open_clip.get_pretrained_cfg(name, tag)
        differing = [
            key
            for key, value in usual.items()
            if key in settings and _plain(settings[key]) not in (None, _plain(value))
        ]
        if differing:
            found.append(f"{tag} ({', '.join(differing)})")
    return ", ".join(found)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def load_from_hub(
    name: str, *, device: str | torch.device, precision: str, batch_size: int
) -> OpenClipTeacher:
    """Load an open_clip model of the hub, "hf-hub:<id>", from the cache or the network. Raises as `load_teacher`."""
    repository = name.removeprefix(HUB)
    try:
        folder = snapshot_download(repository, allow_patterns=["*.json", "*.txt", "*.model", WEIGHTS])
    except (OSError, ValueError) as error:  # HfHubHTTPError, LocalEntryNotFoundError, HFValidationError
        raise FileNotFoundError(
            f"{name} is not on this machine and could not be downloaded ({one_line(error)}): run "
            f"`hf download {repository}` where there is a network and copy the cache here"
        ) from error
    loaded = load_folder(Path(folder), device=device, precision=precision, batch_size=batch_size)
    loaded.name = name
    return loaded


def load_folder(
    folder: Path, *, device: str | torch.device, precision: str, batch_size: int
) -> OpenClipTeacher:
    """Load a local open_clip folder. Raises as `load_teacher`; no tensor may be random, filled in or resized."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"teacher folder {folder} does not exist; expected {CONFIG} and {WEIGHTS} in it"
        )
    present = sorted(entry.name for entry in folder.iterdir())
    for needed in (CONFIG, WEIGHTS):
        if needed not in present:
            hint = (
                f"save the weights as safetensors under the name {WEIGHTS} (a .pt or .bin file is not read)"
            )
            if "config.json" in present:
                hint = f"for a transformers model write 'hf:{folder}'"
            raise FileNotFoundError(
                f"teacher folder {folder} has no {needed}, only {', '.join(present) or 'nothing'}; {hint}"
            )
    where = f"local-dir:{folder}"
    try:
        config = open_clip.get_model_config(where)
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            stored = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        model = open_clip.create_model(where, precision=precision, device=device, require_pretrained=True)
        tokenizer = open_clip.get_tokenizer(where)
    except Exception as error:  # open_clip passes on any error of its parts
        raise ValueError(
            f"teacher folder {folder} cannot be loaded by open_clip: {one_line(error)}"
        ) from error
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    unlike = sorted(key for key in expected if stored.get(key) != expected[key])
    if unlike:  # open_clip fills in a missing bias and resizes position embeddings silently
        listed = [f"{key} (found {stored.get(key)}, expected {expected[key]})" for key in unlike[:3]]
        raise ValueError(
            f"{folder / WEIGHTS} lacks tensors that {CONFIG} asks for, or has them in another shape: "
            f"{', '.join(listed)}; {len(unlike)} in all. Save weights and config of one model together"
        )
    return as_teacher(model, tokenizer, config, str(folder), batch_size)


def as_teacher(
    model: OpenClipModel,
    tokenizer: Callable[..., Tensor],
    model_cfg: dict[str, Any],
    name: str,
    batch_size: int = 256,
) -> OpenClipTeacher:
    """Return a loaded open_clip model as a teacher, with the transform that it names. The model is frozen in place."""
    preprocess = dict(model.visual.preprocess_cfg)
    transform = image_transform_v2(PreprocessCfg(**preprocess), is_train=False)
    config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess}
    return OpenClipTeacher(model, transform, tokenizer, config, name, batch_size=batch_size)


def save_open_clip(
    teacher: OpenClipTeacher | OpenClipModel,
    folder: str | Path,
    *,
    config: dict[str, Any] | None = None,
    tokenizer: Callable[..., Any] | None = None,
) -> Path:
    """Write an ordinary open_clip folder, which both `load_teacher(folder)` and open_clip's "local-dir:" read.

    Args:
        teacher: an open_clip teacher, or a bare open_clip model with its `config` and `tokenizer`.
        folder: where open_clip_config.json, open_clip_model.safetensors and the tokenizer's files are written.
        config: {"model_cfg": …, "preprocess_cfg": …}; by default the teacher's.
        tokenizer: an object with `save_pretrained`; by default the teacher's. open_clip's own BPE needs no file.

    Returns:
        The folder.

    Raises:
        ValueError: there is no config, or the tokenizer that it names cannot be saved.
    """
    if isinstance(teacher, OpenClipTeacher):
        config, tokenizer, teacher = config or teacher.config, tokenizer or teacher.tokenizer, teacher.model
    if config is None or "model_cfg" not in config:
        raise ValueError(
            "a bare open_clip model needs config={'model_cfg': …, 'preprocess_cfg': …} to be saved"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(config)
    text = config["model_cfg"]["text_cfg"]
    if tokenizer is not None and hasattr(tokenizer, "save_pretrained"):
        tokenizer.save_pretrained(folder)
        text.setdefault("hf_tokenizer_name", folder.name)  # open_clip reads the files only if there is a name
    elif text.get("hf_tokenizer_name"):
        raise ValueError(
            f"the config names the tokenizer {text['hf_tokenizer_name']!r}, but {type(tokenizer).__name__} "
            "cannot save its files; give tokenizer=<one with save_pretrained>"
        )
    save_tensors(folder / WEIGHTS, teacher.state_dict(), metadata={"format": "pt"})
    # The config comes last, so that a folder with a config is whole.
    write_atomically(folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())
    return folder

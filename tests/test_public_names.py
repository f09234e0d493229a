"""The names that others rely on: they resolve, and importing the packages that hold them stays light."""

import importlib
import subprocess
import sys

import pytest
from torch import nn

import cliptd
from cliptd.adapter.distilled_model import DistilledModel

NAMES = {
    "cliptd": [
        "DistillationCollator", "DistilledModel", "LiveSource", "StoreWriter", "StudentStates",
        "TargetedDistillationConfig", "Teacher", "TeacherEnsemble", "TeacherInput", "TeacherStore", "embedding",
        "load_teacher", "targeted", "wrap",
    ],
    "cliptd.targeted": [
        "DistillationCollator", "DistillationInputs", "DistillationTerms", "DocumentFrequency", "STOP_WORDS",
        "TargetedDistillation", "TargetedDistillationConfig", "WordedText", "combine_relevance", "confidence_weights",
        "embedding_distance", "encode_with_words", "is_content_word", "leave_one_out", "mean_by_word", "precompute",
        "select_tokens", "semantic_relevance", "teacher_probability", "visual_relevance",
    ],
    "cliptd.embedding": ["inherit_weights", "losses", "shrunk_config"],
    "cliptd.embedding.losses": [
        "AFFINITY_SCALE", "affinity_mimicking", "contrastive", "contrastive_relation", "dime_fm", "feature_mimicking",
        "interactive_contrastive", "reinforced_contrastive", "sigmoid",
    ],
    "cliptd.training": ["TrainingConfig", "TrainingResult", "make_accelerator", "read_log", "train"],
    "cliptd.teachers": ["ImageError", "Teacher", "TeacherEnsemble", "load_teacher"],
    "cliptd.store": ["LiveSource", "Source", "StoreMissError", "StoreWriter", "TeacherStore", "as_source"],
    "cliptd.data": ["JsonLines", "Split", "holdout_split", "low_shot_split"],
    "cliptd.data.pairs": ["OnBadSample", "Pair", "load_pairs"],
    "cliptd.unpaired": [
        "SentenceSelection", "UnpairedPairs", "load_images", "load_sentences", "select_sentences",
    ],
    "cliptd.reinforcement": [
        "Captioner", "ReinforcedDataset", "ReinforcedStore", "ReinforcedTars", "Reinforcement", "ReinforcementCard",
        "check_replay", "distil_reinforced", "known_pictures", "load_reinforced", "reinforce",
    ],
}  # fmt: skip
LIGHT = {
    "cliptd": ("torch", "transformers", "open_clip"),
    "cliptd.store": ("torch", "transformers", "open_clip"),
    "cliptd.embedding.losses": ("transformers", "open_clip"),
    "cliptd.embedding.config": ("torch", "open_clip", "PIL"),
    "cliptd.reinforcement.config": ("torch", "open_clip", "PIL"),
    "cliptd.unpaired.config": ("torch", "open_clip", "PIL"),
}


@pytest.mark.parametrize("package", NAMES)
def test_public_names_resolve(package):
    module = importlib.import_module(package)
    assert sorted(module.__all__) == sorted(NAMES[package])
    assert all(getattr(module, name) is not None for name in module.__all__)
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nonsense'"):
        _ = module.nonsense


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(AttributeError, match=r"module 'cliptd' has no attribute 'wrapp'; it has .*wrap"):
        _ = cliptd.wrapp


@pytest.mark.parametrize("package", LIGHT)
def test_packages_are_light_until_a_name_is_used(package):
    code = (
        f"import sys, {package}; found = set({LIGHT[package]!r}) & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_wrap_is_a_function_whatever_was_imported_before():
    importlib.import_module("cliptd.adapter.distilled_model")
    student = nn.Linear(2, 2)
    config = cliptd.TargetedDistillationConfig.for_method("none")
    assert isinstance(cliptd.wrap(student, None, config), DistilledModel)

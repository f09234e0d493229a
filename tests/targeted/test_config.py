"""Settings: choices and ranges are checked, and the methods is settings only."""

import pickle
from dataclasses import asdict, fields, replace
from typing import get_type_hints

import pytest

from cliptd.targeted import TargetedDistillationConfig as Config
from cliptd.targeted.changes import DistillationChanges


@pytest.mark.parametrize(
    "field",
    [
        "distance",
        "head",
        "selection",
        "score",
        "semantic",
        "relative_to",
        "text_target",
        "text_candidates",
        "confidence",
        "confidence_over",
    ],
)
def test_unknown_choice_names_the_field_and_the_choices(field):
    with pytest.raises(ValueError, match=rf"{field} is 'nonsense'; expected one of '"):
        Config(**{field: "nonsense"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_weight", -0.1),
        ("word_weight", float("nan")),
        ("text_weight", float("inf")),
        ("infonce_temperature", 0.0),
        ("visual_temperature", -1.0),
        ("semantic_temperature", 0),
        ("confidence_temperature", 0.0),
        ("confidence_eps", 0.0),
        ("confidence_max_ratio", 0.5),
        ("mass", 0.0),
        ("mass", 1.01),
        ("mass", "0.8"),
        ("top_k", 0),
        ("top_k", 2.5),
        ("seed", -1),
        ("seed", True),
    ],
)
def test_number_out_of_range_names_the_field_and_the_range(field, value):
    with pytest.raises(ValueError, match=f"{field} is .*; expected "):
        Config(**{field: value})


@pytest.mark.parametrize("prompt", ["a photo", "{word} {word}", "{word} of {thing}"])
def test_word_prompt_holds_word_once(prompt):
    with pytest.raises(ValueError, match=r"word_prompt is .* exactly once"):
        Config(word_prompt=prompt)


def test_ladder_differs_from_the_full_method_in_settings_alone():
    full = asdict(Config())
    changes = {
        name: {key for key, value in asdict(Config.for_method(name)).items() if value != full[key]}
        for name in (
            "none",
            "naive",
            "all_words",
            "random_words",
            "visual_only",
            "semantic_only",
            "selected",
            "targeted",
            "shuffled_teacher",
        )
    }
    assert changes == {
        "none": {"image_weight", "region_weight", "word_weight", "text_weight", "confidence"},
        "naive": {"region_weight", "word_weight", "confidence"},
        "all_words": {"selection", "drop_stopwords", "confidence"},
        "random_words": {"selection", "confidence"},
        "visual_only": {"score", "confidence"},
        "semantic_only": {"score", "confidence"},
        "selected": {"confidence"},
        "targeted": set(),
        "shuffled_teacher": {"shuffle_teacher"},
    }


def test_ladder_takes_changes_and_refuses_unknown_names():
    assert Config.for_method("naive", word_weight=0.5).word_weight == 0.5
    with pytest.raises(ValueError, match="method is 'best'; expected one of 'none'"):
        Config.for_method("best")
    with pytest.raises(ValueError, match=r"field is 'masss'; expected one of .*'mass'"):
        Config.for_method("naive", masss=0.5)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (Config.for_method("none", distance="infonce"), ""),
        (Config.for_method("selected"), ""),
        (Config(normalise_weights=False), ""),
        (Config.for_method("selected", distance="infonce"), "infonce"),
        (Config.for_method("targeted"), "normalise_weights=False"),
        (Config(normalise_weights=False, confidence_over="batch"), "confidence_over"),
        (Config.for_method("shuffled_teacher", confidence="constant"), "shuffle_teacher"),
    ],
)
def test_couples_batch_says_why(config, why):
    assert config.couples_batch == bool(why)
    assert why in config.couples_batch_why


def test_none_distils_nothing():
    assert not Config.for_method("none").distils
    assert replace(Config.for_method("none"), text_weight=0.1).distils


def test_changes_hold_what_was_given_and_go_to_another_process():
    changes = pickle.loads(pickle.dumps(DistillationChanges(mass=0.5)))
    assert changes.given() == {"mass": 0.5}
    assert Config.for_method("targeted", **changes.given()) == Config(mass=0.5)


def test_changes_have_the_settings_fields_types_and_documentation_each_optional():
    settings = {field.name: field.type | None for field in fields(Config)}
    assert get_type_hints(DistillationChanges) == settings
    assert [field.name for field in fields(DistillationChanges)] == list(settings)
    assert vars(DistillationChanges()) == dict.fromkeys(settings)
    assert DistillationChanges.__doc__ == Config.__doc__


def test_help_shows_the_value_of_the_full_method_as_the_default_of_a_change():
    hints = get_type_hints(DistillationChanges, include_extras=True)
    shown = {name: hint.__metadata__[0].help_behavior_hint("None") for name, hint in hints.items()}
    assert shown == {
        name: f"(default: the method's own; targeted has {value!r})" for name, value in vars(Config()).items()
    }

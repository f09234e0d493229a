"""Six architectures behind one interface, against the native models called row by row."""

import json

import pytest
import torch
import transformers as tf
from safetensors.torch import save_file

import cliptd
from tasks.students.architectures import ARCHITECTURES, FlavaForImageTextScore
from tasks.students.loading import load_classifier, load_student
from tasks.students.models import Classifier, MultipleChoice
from tests.helpers.tiny_vcr import tiny_config

TYPES = list(ARCHITECTURES)
VOCABULARY, VISUAL_DIM = 50, 6
BATCH, CHOICES, TOKENS, REGIONS = 2, 4, 7, 3


def tiny_student(model_type):
    torch.manual_seed(0)
    config = tiny_config(model_type, VOCABULARY, VISUAL_DIM)
    if model_type == "lxmert":
        config.num_qa_labels = 1
    native = ARCHITECTURES[model_type].score.native(config)
    for parameter in native.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)  # so that no head starts at zero
    return MultipleChoice(native).eval()


def batch_for(model_type, seed=1):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, VOCABULARY, (BATCH, CHOICES, TOKENS), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, 1, 5:] = 0
    types = torch.zeros_like(ids)
    types[..., 3:] = 1
    batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    regions = torch.randn(BATCH, REGIONS, VISUAL_DIM, generator=generator)
    region_mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    if model_type == "visual_bert":
        batch |= {"visual_embeds": regions, "visual_attention_mask": region_mask}
        batch["visual_token_type_ids"] = torch.ones(BATCH, REGIONS, dtype=torch.long)
        batch["image_text_alignment"] = torch.randint(0, 5, (BATCH, CHOICES, REGIONS, 2), generator=generator)
    elif model_type == "lxmert":
        boxes = torch.rand(BATCH, REGIONS, 4, generator=generator)
        batch |= {"visual_feats": regions, "visual_pos": boxes, "visual_attention_mask": region_mask}
    else:
        batch["pixel_values"] = torch.randn(BATCH, 3, 32, 32, generator=generator)
        batch["pixel_mask"] = torch.ones(BATCH, 32, 32, dtype=torch.long)
    return batch


def native_score(model_type, native, row):
    """The score of one candidate by the native class's documented call."""
    text = {name: row[name][None] for name in ("input_ids", "attention_mask")}
    types = {"token_type_ids": row["token_type_ids"][None]}
    if model_type == "vilt":
        images = {name: row[name][None] for name in ("pixel_values", "pixel_mask")}
        return native(**text, **types, **images).logits[0, 0]
    if model_type == "visual_bert":
        text = {name: value[None] for name, value in (text | types).items()}
        names = ("visual_embeds", "visual_attention_mask", "visual_token_type_ids")
        images = {name: row[name][None, None] for name in names}
        alignment = row["image_text_alignment"][None]
        return native(**text, **images, image_text_alignment=alignment).logits[0, 0]
    if model_type == "lxmert":
        images = {name: row[name][None] for name in ("visual_feats", "visual_pos", "visual_attention_mask")}
        return native(**text, **types, **images).question_answering_score[0, 0]
    images = {"pixel_values": row["pixel_values"][None]}
    if model_type == "bridgetower":
        logits = native(**text, **types, **images, pixel_mask=row["pixel_mask"][None]).logits[0]
        return logits[1] - logits[0]
    if model_type == "flava":
        states = native.flava(**text, **types, **images).multimodal_embeddings[0, 0]
        return (native.score.weight[0] * states).sum() + native.score.bias[0]
    logits = native(**text, **images).itm_score[0]
    return logits[1] - logits[0]


@pytest.mark.parametrize("model_type", TYPES)
@torch.no_grad()
def test_logits_are_the_native_models_scores_of_each_candidate(model_type):
    student, batch = tiny_student(model_type), batch_for(model_type)
    labels = torch.tensor([2, 0])
    output = student(**batch, labels=labels)
    per_candidate = {"input_ids", "attention_mask", "token_type_ids", "image_text_alignment"}
    expected = torch.stack(
        [
            native_score(
                model_type,
                student.native,
                {name: value[b, c] if name in per_candidate else value[b] for name, value in batch.items()},
            )
            for b in range(BATCH)
            for c in range(CHOICES)
        ]
    ).view(BATCH, CHOICES)
    assert expected.std() > 1e-4
    torch.testing.assert_close(output.logits, expected, atol=2e-5, rtol=1e-4)
    probabilities = expected.double().exp() / expected.double().exp().sum(1, keepdim=True)
    by_hand = -(probabilities[0, 2].log() + probabilities[1, 0].log()) / 2
    torch.testing.assert_close(output.loss.double(), by_hand, atol=1e-5, rtol=1e-5)
    assert student(**batch).loss is None


@pytest.mark.parametrize("model_type", TYPES)
def test_what_is_saved_is_the_native_model(model_type, tmp_path):
    student, batch = tiny_student(model_type), batch_for(model_type)
    student.save_pretrained(tmp_path)
    native_class = tf.FlavaModel if model_type == "flava" else ARCHITECTURES[model_type].score.native
    native, report = native_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    own = dict(student.native.named_parameters())
    prefix = "flava." if model_type == "flava" else ""
    assert all(torch.equal(value, own[prefix + name]) for name, value in native.named_parameters())
    again = load_student(tmp_path).eval()
    assert again.fresh_parameters == ()
    torch.manual_seed(0)
    first = student(**batch).logits
    torch.manual_seed(0)
    assert torch.equal(again(**batch).logits, first)


OTHER_TASKS = {
    "vilt": tf.ViltForMaskedLM,
    "visual_bert": tf.VisualBertForPreTraining,
    "lxmert": tf.LxmertForPreTraining,
    "bridgetower": tf.BridgeTowerForMaskedLM,
    "flava": tf.FlavaModel,
    "blip": tf.BlipForQuestionAnswering,
}


@pytest.mark.parametrize("model_type", TYPES)
def test_the_backbone_of_another_tasks_checkpoint_gets_a_fresh_head_and_says_so(model_type, tmp_path):
    torch.manual_seed(0)
    other = OTHER_TASKS[model_type](tiny_config(model_type, VOCABULARY, VISUAL_DIM))
    other.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"fresh, to be trained: "):
        student = load_student(tmp_path)
    heads = ARCHITECTURES[model_type].score.fresh
    assert student.fresh_parameters
    assert all(name.startswith(heads) for name in student.fresh_parameters)
    theirs = {name.removeprefix("flava."): value for name, value in other.named_parameters()}
    ours = {name.removeprefix("flava."): value for name, value in student.native.named_parameters()}
    shared = theirs.keys() & ours.keys() - {n for n in ours if n.startswith(heads)}
    assert len(shared) > 0.6 * len(ours)
    assert all(torch.equal(theirs[name], ours[name]) for name in shared)
    assert student(**batch_for(model_type)).logits.shape == (BATCH, CHOICES)


@pytest.mark.parametrize(
    ("model_type", "column"), [("visual_bert", "visual_embeds"), ("lxmert", "visual_feats")]
)
def test_region_students_take_features_of_another_width(model_type, column, tmp_path):
    tiny_student(model_type).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"fresh, to be trained: .*vis"):
        student = load_student(tmp_path, visual_dim=9)
    batch = batch_for(model_type)
    batch[column] = torch.randn(BATCH, REGIONS, 9)
    assert student(**batch).logits.shape == (BATCH, CHOICES)


def test_vilt_gets_more_text_positions(tmp_path):
    student = tiny_student("vilt")
    old = student.native.vilt.embeddings.text_embeddings.position_embeddings.weight.detach().clone()
    student.save_pretrained(tmp_path / "a")
    longer = load_student(tmp_path / "a", max_text_tokens=100).eval()
    new = longer.native.vilt.embeddings.text_embeddings.position_embeddings.weight
    assert longer.max_text_tokens == 100
    assert torch.equal(new, torch.cat([old, old])[:100])
    batch = batch_for("vilt")
    with torch.no_grad():
        torch.testing.assert_close(longer(**batch).logits, student(**batch).logits)
    wide = {n: v.repeat(1, 1, 12) for n, v in batch.items() if n in ("input_ids", "attention_mask")}
    batch |= wide | {"token_type_ids": torch.zeros_like(wide["input_ids"])}
    assert longer(**batch).logits.shape == (BATCH, CHOICES)
    longer.save_pretrained(tmp_path / "b")  # transformers alone loads the longer model
    assert tf.ViltModel.from_pretrained(tmp_path / "b").config.max_position_embeddings == 100
    with pytest.raises(ValueError, match=r"texts have 84 tokens, and this vilt has positions for 64; lower"):
        student(**batch)


def test_other_architectures_cannot_be_extended(tmp_path):
    tiny_student("visual_bert").save_pretrained(tmp_path)
    assert load_student(tmp_path, max_text_tokens=64).max_text_tokens == 64
    with pytest.raises(ValueError, match="has positions for 64 text tokens, 65 are asked for"):
        load_student(tmp_path, max_text_tokens=65)
    tiny_student("vilt").save_pretrained(tmp_path / "vilt")
    with pytest.raises(ValueError, match="visual_dim is for region students"):
        load_student(tmp_path / "vilt", visual_dim=4)


def test_unsupported_and_foreign_models_are_named(tmp_path):
    bert = tf.BertModel(
        tf.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
    )
    bert.save_pretrained(tmp_path)
    with pytest.raises(
        ValueError,
        match=r"model type 'bert' is not supported as a student of the tasks; expected one of vilt",
    ):
        load_student(tmp_path)
    with pytest.raises(
        ValueError, match="native is a ViltForMaskedLM; expected ViltForImageAndTextRetrieval"
    ):
        MultipleChoice(tf.ViltForMaskedLM(tiny_config("vilt", VOCABULARY)))
    folder = tmp_path / "mixed"
    tiny_student("vilt").save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(
        ValueError, match=r"weights of another shape than its config\.json says: .*intermediate"
    ):
        load_student(folder)
    save_file({"unrelated": torch.zeros(2)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="weights of vilt's backbone are not in the checkpoint"):
        load_student(folder)


def test_bad_batches_are_named():
    student, batch = tiny_student("visual_bert"), batch_for("visual_bert")
    with pytest.raises(
        ValueError, match=r"input_ids has shape \(4, 7\), expected \(batch, candidates, tokens\)"
    ):
        student(**{**batch, "input_ids": batch["input_ids"][0]})
    with pytest.raises(
        ValueError, match="visual_bert needs visual_embeds, which the batch lacks; use RegionColl"
    ):
        student(input_ids=batch["input_ids"])
    with pytest.raises(ValueError, match="vilt needs pixel_values, which the batch lacks; use PatchCollator"):
        tiny_student("vilt")(**batch)


def test_gradients_reach_the_backbone_with_gradient_checkpointing():
    student, batch = tiny_student("visual_bert").train(), batch_for("visual_bert")
    student.gradient_checkpointing_enable()
    student(**batch, labels=torch.tensor([0, 1])).loss.backward()
    embeddings = student.native.visual_bert.embeddings
    assert embeddings.word_embeddings.weight.grad.abs().sum() > 0
    assert embeddings.visual_projection.weight.grad.abs().sum() > 0


def test_flava_score_is_a_transformers_model():
    assert issubclass(FlavaForImageTextScore, tf.PreTrainedModel)


ANSWERS = 5
NAMES = [f"answer {number}" for number in range(ANSWERS)]


def tiny_classifier(model_type, **options):
    torch.manual_seed(0)
    config = tiny_config(model_type, VOCABULARY, VISUAL_DIM)
    config.num_qa_labels = ANSWERS
    config.id2label = dict(enumerate(NAMES))
    native = ARCHITECTURES[model_type].classify.native(config)
    for parameter in native.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return Classifier(native, **options).eval()


def one_text(batch):
    """The batch with its first candidate only."""
    texts = ("input_ids", "attention_mask", "token_type_ids", "image_text_alignment")
    return {name: value[:, :1] if name in texts else value for name, value in batch.items()}


def native_logits(model_type, native, row, folder):
    """The answers' logits of one row by the native class's documented call."""
    text = {name: row[name] for name in ("input_ids", "attention_mask")}
    types = {"token_type_ids": row["token_type_ids"]}
    images = {name: value[None] for name, value in row.items() if name not in text | types}
    if model_type == "visual_bert":
        images["image_text_alignment"] = row["image_text_alignment"]  # its only candidate is its row
    if model_type == "visual_bert":
        return native(**text, **types, **images).logits[0]
    if model_type == "lxmert":
        return native(**text, **types, **images).question_answering_score[0]
    if model_type == "vilt":
        return native(**text, **types, **images).logits[0]
    if model_type == "bridgetower":
        backbone, head = tf.BridgeTowerModel.from_pretrained(folder), native.classifier
        state = backbone(**text, **types, **images).pooler_output[0]
    elif model_type == "flava":
        backbone, head = tf.FlavaModel.from_pretrained(folder), native.score
        state = backbone(**text, **types, pixel_values=images["pixel_values"]).multimodal_embeddings[0, 0]
    else:
        backbone, head = tf.BlipForImageTextRetrieval.from_pretrained(folder), native.classifier
        state = backbone(**text, pixel_values=images["pixel_values"]).question_embeds[0, 0]
    return head.weight @ state + head.bias


@pytest.mark.parametrize("model_type", TYPES)
@torch.no_grad()
def test_a_classifiers_logits_are_the_native_models(model_type, tmp_path):
    student, batch = tiny_classifier(model_type), one_text(batch_for(model_type))
    student.save_pretrained(tmp_path)
    output = student(**batch)
    rows = []
    for b in range(BATCH):
        row = {name: value[b] for name, value in batch.items()}
        rows.append(native_logits(model_type, student.native, row, tmp_path))
    assert torch.stack(rows).std() > 1e-4
    torch.testing.assert_close(output.logits, torch.stack(rows), atol=2e-5, rtol=1e-4)
    assert output.loss is None
    again = load_classifier(tmp_path, NAMES).eval()
    assert again.fresh_parameters == ()
    torch.manual_seed(0)
    first = student(**batch).logits
    torch.manual_seed(0)
    assert torch.equal(again(**batch).logits, first)


@pytest.mark.parametrize("model_type", TYPES)
def test_another_number_of_answers_or_another_task_means_a_fresh_head(model_type, tmp_path):
    tiny_classifier(model_type).save_pretrained(tmp_path / "five")
    tiny_student(model_type).save_pretrained(tmp_path / "choices")
    heads = ARCHITECTURES[model_type].classify.fresh
    for folder in ("five", "choices"):
        with pytest.warns(UserWarning, match=r"fresh, to be trained: "):
            student = load_classifier(tmp_path / folder, [*NAMES, "one more"])
        assert student.fresh_parameters
        assert all(name.startswith(heads) for name in student.fresh_parameters)
        assert student(**one_text(batch_for(model_type))).logits.shape == (BATCH, ANSWERS + 1)


@pytest.mark.parametrize("model_type", TYPES)
def test_as_many_labels_of_other_names_mean_a_fresh_head_and_the_new_names_are_saved(model_type, tmp_path):
    tiny_classifier(model_type).save_pretrained(tmp_path / "old")
    with pytest.warns(
        UserWarning, match=r"fresh, .* \(its labels are answer 0, .*, …, not yes, no, 1, …\)"
    ) as told:
        student = load_classifier(tmp_path / "old", ["yes", "no", "1", "2", "red"])
    assert len(told) == 1
    old = tiny_classifier(model_type).native.state_dict()
    for name, value in student.native.named_parameters():
        assert torch.equal(value, old[name]) is (name not in student.fresh_parameters)
    assert all(name.startswith(ARCHITECTURES[model_type].classify.fresh) for name in student.fresh_parameters)
    student.save_pretrained(tmp_path / "new")
    saved = tf.AutoConfig.from_pretrained(tmp_path / "new")
    assert saved.id2label == {0: "yes", 1: "no", 2: "1", 3: "2", 4: "red"}
    assert saved.label2id["red"] == 4
    assert load_classifier(tmp_path / "new", ["yes", "no", "1", "2", "red"]).fresh_parameters == ()
    with pytest.warns(UserWarning, match="fresh"):  # the same names in another order
        load_classifier(tmp_path / "new", ["no", "yes", "1", "2", "red"])


@torch.no_grad()
def test_the_losses_of_a_classifier_by_hand():
    student, batch = tiny_classifier("visual_bert"), one_text(batch_for("visual_bert"))
    logits = student(**batch).logits.double()
    soft = torch.tensor([[1, 0.3, 0, 0, 0], [0, 0, 0.6, 0.9, 0]])
    p = 1 / (1 + (-logits).exp())
    by_hand = -(soft * p.log() + (1 - soft) * (1 - p).log()).sum() / BATCH
    torch.testing.assert_close(student(**batch, labels=soft).loss.double(), by_hand, atol=1e-5, rtol=1e-5)
    log_softmax = logits - logits.exp().sum(1, keepdim=True).log()
    hard = -(log_softmax[0, 3] + log_softmax[1, 1]) / 2
    loss = student(**batch, labels=torch.tensor([3, 1])).loss.double()
    torch.testing.assert_close(loss, hard, atol=1e-5, rtol=1e-5)
    student.multi_label = False
    shares = soft.double() / torch.tensor([[1.3], [1.5]]).double()
    by_hand = -(shares * log_softmax).sum() / BATCH
    torch.testing.assert_close(student(**batch, labels=soft).loss.double(), by_hand, atol=1e-5, rtol=1e-5)
    nothing = torch.zeros(BATCH, ANSWERS)  # no answer of the vocabulary is right
    assert student(**batch, labels=nothing).loss == 0
    with pytest.raises(ValueError, match=r"labels have shape \(2, 4\), expected \(2, 5\)"):
        student(**batch, labels=nothing[:, 1:])


@pytest.mark.parametrize("model_type", TYPES)
def test_a_classifier_can_be_wrapped(model_type):
    student, batch = tiny_classifier(model_type), one_text(batch_for(model_type))
    torch.manual_seed(0)
    bare = student(**batch).logits
    model = cliptd.wrap(student, embed_dim=6, config=cliptd.TargetedDistillationConfig())
    torch.manual_seed(0)
    assert torch.equal(model(**batch).logits, bare)
    assert model.unwrap() is student

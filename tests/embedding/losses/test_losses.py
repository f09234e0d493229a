"""Losses over all pairs against the plain formulas in float64: values, gradients, blocks, two processes, memory."""

import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch.utils._python_dispatch import TorchDispatchMode

from cliptd.embedding import losses
from cliptd.embedding.losses import blockwise
from tests.helpers.losses_worker import work
from tests.helpers.reference_losses import CASES, NAMES, embeddings, value_and_gradients

TEACHER = ("teacher_image", "teacher_text")


@pytest.mark.parametrize("pairs_of_a_block", [1, 24, 10**6])
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_are_those_of_the_plain_formula(name, pairs_of_a_block, monkeypatch):
    monkeypatch.setattr(blockwise, "BLOCK_PAIRS", pairs_of_a_block)  # a row, three rows of eight, all at once
    ours, plain = CASES[name]
    value, gradients = value_and_gradients(ours, embeddings())
    expected, expected_gradients = value_and_gradients(plain, embeddings())
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
    for key, gradient in gradients.items():
        if key in TEACHER:
            assert not gradient.any(), key
        else:
            torch.testing.assert_close(gradient, expected_gradients[key], rtol=1e-10, atol=1e-10)
    assert any(gradients[key].any() for key in ("student_image", "student_text"))


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gloo")
    torch.multiprocessing.spawn(work, (f"file://{folder}/rendezvous", str(folder)), nprocs=2)
    return [torch.load(folder / f"{index}.pt") for index in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_have_the_loss_and_the_gradients_of_one(two_processes, name):
    value, gradients = value_and_gradients(CASES[name][0], embeddings())
    (value_0, gradients_0), (value_1, gradients_1) = (found[name] for found in two_processes)
    torch.testing.assert_close((value_0 + value_1) / 2, value, rtol=1e-10, atol=1e-10)
    for key in NAMES:  # DDP takes the mean over processes
        own = torch.cat([gradients_0[key], gradients_1[key]]) / 2
        torch.testing.assert_close(own, gradients[key], rtol=1e-10, atol=1e-10)
    for key in ("scale", "bias"):
        mean = (gradients_0[key] + gradients_1[key]) / 2
        torch.testing.assert_close(mean, gradients[key], rtol=1e-10, atol=1e-10)


def test_contrastive_and_sigmoid_are_open_clips():
    x = {name: torch.nn.functional.normalize(value, dim=-1) for name, value in embeddings().items()}
    image, text = x["student_image"], x["student_text"]
    expected = ClipLoss()(image, text, torch.tensor(5.0))
    torch.testing.assert_close(losses.contrastive(image=image, text=text, scale=5.0), expected)
    expected = SigLipLoss()(image, text, torch.tensor(5.0), torch.tensor(-2.0))
    torch.testing.assert_close(losses.sigmoid(image=image, text=text, scale=5.0, bias=-2.0), expected)


def test_the_length_of_an_embedding_does_not_matter():
    x = embeddings()
    longer = {name: 7 * value for name, value in x.items()}
    for ours, _ in CASES.values():
        torch.testing.assert_close(ours(x, 5.0, -2.0), ours(longer, 5.0, -2.0))


def test_relation_is_affinity_less_the_teachers_entropy_and_nothing_where_both_agree():
    x = embeddings()
    x["student_image"], x["student_text"] = x["teacher_image"], x["teacher_text"]
    alike = {"student_scale": 7.0, "teacher_scale": 7.0}
    assert losses.contrastive_relation(**x, **alike).item() == pytest.approx(0, abs=1e-12)
    teacher = (
        7
        * torch.nn.functional.normalize(x["teacher_image"], dim=-1)
        @ torch.nn.functional.normalize(x["teacher_text"], dim=-1).T
    )
    entropy = sum(
        torch.distributions.Categorical(logits=rows).entropy().mean() for rows in (teacher, teacher.T)
    )
    assert losses.affinity_mimicking(**x, **alike).item() == pytest.approx(entropy.item() / 2)


@pytest.mark.parametrize("name", CASES)
def test_half_precision_and_autocast_compute_in_float32(name):
    half = {key: value.to(torch.bfloat16) for key, value in embeddings().items()}
    ours, plain = CASES[name]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradients = value_and_gradients(ours, half)
    assert value.dtype == torch.float32
    expected = plain({key: x.float() for key, x in half.items()}, 5.0, -2.0)
    torch.testing.assert_close(value, expected)
    assert gradients["student_image"].dtype == torch.bfloat16


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that any result had."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for result in found if isinstance(found, tuple | list) else (found,):
            if isinstance(result, torch.Tensor):
                self.elements = max(self.elements, result.numel())
        return found


@pytest.mark.parametrize("name", CASES)
def test_no_matrix_of_all_pairs_is_ever_held(name, monkeypatch):
    monkeypatch.setattr(blockwise, "BLOCK_PAIRS", 1024)
    x, (ours, plain) = embeddings(256), CASES[name]
    with LargestTensor() as largest:
        value_and_gradients(ours, x)
    assert largest.elements <= 256 * 6  # the embeddings themselves
    if name != "feature":
        with LargestTensor() as largest:
            value_and_gradients(plain, x)
        assert largest.elements == 256**2


@pytest.mark.parametrize("name", CASES)
def test_without_gradients_none_are_computed(name):
    with torch.no_grad():
        value = CASES[name][0]({key: x.requires_grad_() for key, x in embeddings().items()}, 5.0, -2.0)
    assert not value.requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"student_text": torch.zeros(7, 6)},
            r"with one number of pairs, found student_image \(8, 6\), student_text \(7, 6\)",
        ),
        ({"teacher_image": torch.zeros(8)}, r"expected \(pairs, dim\) tensors .* teacher_image \(8,\)"),
        ({"student_text": torch.zeros(8, 5)}, "the student's image and text embeddings are 6 and 5 wide"),
        ({"teacher_text": torch.zeros(8, 5)}, "the teacher's image and text embeddings are 6 and 5 wide"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    for loss in (losses.affinity_mimicking, losses.contrastive_relation):
        with pytest.raises(ValueError, match=message):
            loss(**{**embeddings(), **change}, student_scale=1.0, teacher_scale=1.0)


def test_widths_that_do_not_fit_are_named():
    x = embeddings()
    with pytest.raises(
        ValueError, match="the student's embeddings are 6 wide and the teacher's 4; project the student's"
    ):
        losses.feature_mimicking(student=x["student_image"], teacher=x["teacher_image"][:, :4])
    x |= {"teacher_text": x["teacher_text"][:, :4]}
    with pytest.raises(ValueError, match=r"the student's image and the teacher's text: .* are 6 and 4 wide"):
        losses.interactive_contrastive(**x, scale=1.0)


def test_images_and_sentences_that_never_met_need_not_be_as_many():
    x = embeddings()
    del x["student_text"]
    more = {**x, "teacher_text": torch.cat([x["teacher_text"], x["teacher_image"].flip(0)])}
    for case in (more, {**x, "teacher_text": x["teacher_text"][:3]}):
        ours, plain = (
            value_and_gradients(lambda y, *_, f=f: f({**y, "student_text": None}, 9.0, 0.0), case)
            for f in CASES["dime_fm"]
        )
        torch.testing.assert_close(ours[0], plain[0], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(
            ours[1]["student_image"], plain[1]["student_image"], rtol=1e-10, atol=1e-10
        )


def test_a_weight_of_one_or_nothing_leaves_a_part_of_the_reinforced_loss_out():
    x = embeddings()
    images, texts = [x.pop("teacher_image")], [x.pop("teacher_text")]
    of = {"teacher_image": images, "teacher_text": texts, "student_scale": 5.0, "teacher_scales": [5.0]}
    alone = losses.contrastive(image=x["student_image"], text=x["student_text"], scale=5.0)
    torch.testing.assert_close(losses.reinforced_contrastive(**x, **of, distill_weight=0), alone)
    relation = losses.contrastive_relation(
        **x, teacher_image=images[0], teacher_text=texts[0], student_scale=5.0, teacher_scale=5.0
    )
    torch.testing.assert_close(losses.reinforced_contrastive(**x, **of, distill_weight=1), relation)
    for change, message in (
        ({"teacher_scales": [5.0, 5.0]}, "1 teachers' images, 1 teachers' texts and 2 scales"),
        ({"distill_weight": 1.5}, "distill_weight is 1.5, expected 0 to 1"),
        ({"teacher_text": [texts[0][:, :4]]}, "teacher 0's image and text embeddings are 6 and 4 wide"),
        ({"teacher_image": [images[0][:5]]}, r"with one number of pairs, found .*teacher_image \(5, 6\)"),
    ):
        with pytest.raises(ValueError, match=message):
            losses.reinforced_contrastive(**{**x, **of, "distill_weight": 0.5, **change})


def test_a_tower_of_another_width_has_to_be_projected_first():
    x = embeddings()
    del x["student_text"]
    with pytest.raises(ValueError, match="the student's embeddings are 5 wide and the teacher's 6; project"):
        losses.dime_fm(**{**x, "student_image": torch.zeros(8, 5)})
    with pytest.raises(ValueError, match="are all 0"):
        losses.dime_fm(**x, vl_weight=0, pvl_weight=0)

"""Cases of every loss over all pairs, and the plain formula of each: whole matrices, autograd. No pytest."""

import torch
import torch.nn.functional as F

from cliptd.embedding import losses

NAMES = ("student_image", "student_text", "teacher_image", "teacher_text")


def embeddings(pairs: int = 8, dtype=torch.float64) -> dict[str, torch.Tensor]:
    """Not normalised; the teacher is as wide as the student, for the losses that compare the two."""
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(pairs, 6, generator=generator, dtype=dtype) for name in NAMES}


def similarities(a, b):
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T


def cross_entropy(p, logits):
    return -(p * logits.log_softmax(1)).sum(1).mean()


def _affinity(x, scale, bias):
    logits = scale * similarities(x["student_image"], x["student_text"])
    teacher = 7.0 * similarities(x["teacher_image"], x["teacher_text"])
    return (cross_entropy(teacher.softmax(1), logits) + cross_entropy(teacher.T.softmax(1), logits.T)) / 2


def _relation(x, scale, bias):
    logits = scale * similarities(x["student_image"], x["student_text"])
    teacher = 7.0 * similarities(x["teacher_image"], x["teacher_text"])
    parts = [
        F.kl_div(own.log_softmax(1), other.softmax(1), reduction="batchmean")
        for own, other in ((logits, teacher), (logits.T, teacher.T))
    ]
    return sum(parts) / 2


def _interactive(x, scale, bias):
    labels = torch.arange(len(x["student_image"]))
    to_texts = scale * similarities(x["student_image"], x["teacher_text"])
    to_images = scale * similarities(x["student_text"], x["teacher_image"])
    return (F.cross_entropy(to_texts, labels) + F.cross_entropy(to_images, labels)) / 2


def _contrastive(x, scale, bias):
    logits, labels = (
        scale * similarities(x["student_image"], x["student_text"]),
        torch.arange(len(x["student_text"])),
    )
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def _sigmoid(x, scale, bias):
    logits = scale * similarities(x["student_image"], x["student_text"]) + bias
    sign = 2 * torch.eye(len(logits), dtype=logits.dtype) - 1
    return -F.logsigmoid(sign * logits).sum() / len(logits)


def _feature(x, scale, bias):
    return F.mse_loss(F.normalize(x["student_image"], dim=-1), F.normalize(x["teacher_image"], dim=-1))


def _teachers(x):
    """Two teachers of other widths and scales, out of the one."""
    return tuple([x[name], x[name][:, :4]] for name in NAMES[2:])


def _divergence(teacher, student):
    return F.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="batchmean")


def _reinforced(x, scale, bias):
    logits = scale * similarities(x["student_image"], x["student_text"])
    teachers = [t * similarities(i, c) for t, i, c in zip((7.0, 3.0), *_teachers(x), strict=True)]
    parts = [(_divergence(t, logits) + _divergence(t.T, logits.T)) / 2 for t in teachers]
    return 0.25 * _contrastive(x, scale, bias) + 0.75 * sum(parts) / 2


def _dime_fm(x, scale, bias):
    student, teacher, text = x["student_image"], x["teacher_image"], x["teacher_text"]
    ours, theirs = 9 * similarities(student, text), 9 * similarities(teacher, text)
    among = 9 * similarities(teacher, teacher)
    vl = _divergence(theirs, ours) + _divergence(theirs.T, ours.T)
    pvl = 2 * _divergence(among / 3, 9 * similarities(student, teacher) / 3)
    udist = 2 * _divergence(among / 7, 9 * similarities(student, student) / 7)
    return 0.7 * vl + 0.3 * pvl + 0.2 * udist


CASES = {
    "affinity": (
        lambda x, scale, bias: losses.affinity_mimicking(**x, student_scale=scale, teacher_scale=7.0),
        _affinity,
    ),
    "relation": (
        lambda x, scale, bias: losses.contrastive_relation(**x, student_scale=scale, teacher_scale=7.0),
        _relation,
    ),
    "interactive": (lambda x, scale, bias: losses.interactive_contrastive(**x, scale=scale), _interactive),
    "contrastive": (
        lambda x, scale, bias: losses.contrastive(
            image=x["student_image"], text=x["student_text"], scale=scale
        ),
        _contrastive,
    ),
    "sigmoid": (
        lambda x, scale, bias: losses.sigmoid(
            image=x["student_image"], text=x["student_text"], scale=scale, bias=bias
        ),
        _sigmoid,
    ),
    "reinforced": (
        lambda x, scale, bias: losses.reinforced_contrastive(
            student_image=x["student_image"],
            student_text=x["student_text"],
            **dict(zip(NAMES[2:], _teachers(x), strict=True)),
            student_scale=scale,
            teacher_scales=[7.0, 3.0],
            distill_weight=0.75,
        ),
        _reinforced,
    ),
    "dime_fm": (
        lambda x, scale, bias: losses.dime_fm(
            **{name: x[name] for name in NAMES if name != "student_text"}, logit_scale=9.0, udist_weight=0.2
        ),
        _dime_fm,
    ),
    "feature": (
        lambda x, scale, bias: losses.feature_mimicking(
            student=x["student_image"], teacher=x["teacher_image"]
        ),
        _feature,
    ),
}


def value_and_gradients(function, x: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss, and its gradient by every embedding, scale and bias; 0 where there is none."""
    leaves = {name: value.detach().clone().requires_grad_() for name, value in x.items()}
    dtype = next(iter(x.values())).dtype
    scale, bias = (torch.tensor(value, dtype=dtype, requires_grad=True) for value in (5.0, -2.0))
    loss = function(leaves, scale, bias)
    (3 * loss).backward()
    leaves |= {"scale": scale, "bias": bias}
    return loss.detach(), {
        name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for name, leaf in leaves.items()
    }

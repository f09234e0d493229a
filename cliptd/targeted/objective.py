"""The objective: image, region, word and sentence terms between student states and teacher embeddings."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliptd.targeted.config import WEIGHTS, TargetedDistillationConfig
from cliptd.targeted.distances import embedding_distance
from cliptd.targeted.shapes import (
    COLUMNS,
    REGION_COLUMNS,
    RIVAL_COLUMN,
    WHOLE_TEXT_COLUMN,
    check_columns,
    check_labels,
    flat_rows,
)
from cliptd.targeted.token_states import gather_padded, mean_by_word
from cliptd.targeted.weighting import Gather, confidence_weights, teacher_probability

TERMS = ("image", "regions", "words", "text")
"""The objective's terms, in the order of the configuration's WEIGHTS."""


class DistillationTerms(NamedTuple):
    """The losses and the weights of one batch.

    Args:
        loss: scalar, λ_v·image + λ_r·regions + λ_t·words + λ_s·text. Only the loss has a gradient.
        image: scalar, without λ, for logs.
        regions: scalar, without λ, for logs.
        words: scalar, without λ, for logs.
        text: scalar, without λ, for logs.
        weights: (batch,) confidence weights.
    """

    loss: Tensor
    image: Tensor
    regions: Tensor
    words: Tensor
    text: Tensor
    weights: Tensor


class TargetedDistillation(nn.Module):
    """CLIP-targeted distillation (arXiv 2201.05729), with the heads that exist in training only.

    L = λ_v mean_i w_i D(P_v h^v_i, v_i) + λ_r mean_i w_i mean_r D(P_v h^v_ir, v_ir)
      + λ_t mean_i w_i mean_c mean_{k∈K_ic} D(P_t h_ick, u_ick)
      + λ_s mean_i w_i mean_c D(P_s h^s_ic, s_ic)

    for instances i, their regions r (VCR: boxes), candidates c (VCR: 4 answers) and kept words K_ic. The word term
    averages over the candidates that have kept words. An instance without words or regions adds 0 to that term.
    All is computed in float32, under autocast too.

    Args:
        config: the settings.
        embed_dim: e, the teacher's width.
        text_width: d, the width of the student's text states.
        image_width: d_v, the width of the student's image state.
        logit_scale: the teacher's, for its probability over the batch.
        logit_bias: a sigmoid teacher's (SigLIP), whose probability of a pair is a sigmoid. None for other teachers.

    Raises:
        ValueError: share_heads is "all" and the two widths differ. From `forward`: columns are missing or shapes do not
            fit; the message names them.
    """

    def __init__(
        self,
        config: TargetedDistillationConfig,
        *,
        embed_dim: int,
        text_width: int,
        image_width: int,
        logit_scale: float = 100.0,
        logit_bias: float | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.embed_dim = embed_dim
        self.text_width = text_width
        self.image_width = image_width
        self.logit_scale = float(logit_scale)
        self.logit_bias = logit_bias
        self.heads = nn.ModuleDict()
        sees = config.image_weight > 0 or config.region_weight > 0
        if config.share_heads == "all" and sees and text_width != image_width:
            raise ValueError(
                f'share_heads="all" needs states of one width, and this student\'s text states are {text_width} '
                f'wide, its image states {image_width}; use "text"'
            )
        self.head_of = {
            "all": dict.fromkeys(TERMS, "all"),
            "text": {"image": "image", "regions": "image", "words": "text", "text": "text"},
            "none": {term: term for term in TERMS},
        }[config.share_heads]
        for term, weight in zip(TERMS, WEIGHTS, strict=True):
            name = self.head_of[term]
            if getattr(config, weight) > 0 and name not in self.heads:
                width = image_width if term in ("image", "regions") else text_width
                self.heads[name] = _head(config.head, width, embed_dim)

    def forward(
        self,
        columns: dict[str, Tensor],
        *,
        text_states: Tensor,
        text_cls: Tensor,
        image_state: Tensor | None,
        image_states: Tensor | None = None,
        student_probability: Tensor | None = None,
        labels: Tensor | None = None,
        labelled: bool = True,
        gather: Gather | None = None,
    ) -> DistillationTerms:
        """Return the distillation loss of a batch of B instances with C candidates.

        Args:
            columns: columns of a DistillationCollator, at least those named in COLUMNS.
            text_states: (B*C, T, d) or (B, C, T, d) states of text tokens; row b*C + c is candidate c of instance b.
            text_cls: (B*C, d) or (B, C, d) states of whole texts.
            image_state: (B, d_v) state of the whole image, or (B*C, d_v) if there is one for each candidate. None if
                there is no image term.
            image_states: (B, P, d_v) or (B*C, P, d_v) states of the image tokens, needed if the columns have regions.
            student_probability: (B,) probability of the right answer, needed by confidence "ratio".
            labels: (B,) index of the right candidate, needed if C > 1 and the settings use it.
            labelled: if false, there is no right answer for the student to be unsure of, and confidence "ratio" means
                "teacher".
            gather: concatenates a tensor over processes. It gets teacher embeddings and weights only.
        """
        with torch.autocast(text_states.device.type, enabled=False):
            config = self.config
            check_columns(columns, self.embed_dim)
            columns = {
                name: columns[name].detach().to(text_states.device)
                for name in (*COLUMNS, *REGION_COLUMNS, RIVAL_COLUMN, WHOLE_TEXT_COLUMN)
                if name in columns
            }
            batch, candidates = columns["teacher_match"].shape
            rows = batch * candidates
            contrastive = config.distance == "infonce"
            weights = self._weights(columns, student_probability, labels, labelled, gather)
            share = self._candidate_share(labels, columns["teacher_match"])
            image = regions = words = text = torch.zeros((), device=text_states.device)
            if config.image_weight > 0:
                if image_state is None:
                    raise ValueError(
                        f"image_weight is {config.image_weight}, and the student gives no image state to compare "
                        "with the teacher's; name its image states, or set image_weight=0"
                    )
                state = flat_rows("image_state", image_state, 1, self.image_width, {batch, rows})
                target = columns["teacher_image_embeds"]
                rivals = target if gather is None or not contrastive else gather(target)
                looks = len(state) // batch
                distances = self._distance("image", state, target.repeat_interleave(looks, dim=0), rivals)
                image = (weights * distances.view(batch, looks).mean(dim=1)).mean()
            if config.region_weight > 0 and "teacher_region_ids" in columns:
                if image_states is None:
                    raise ValueError(
                        "the batch has regions, and the student gives no image token states to compare with them; "
                        "name its image states, or set region_weight=0"
                    )
                state = flat_rows("image_states", image_states, 2, self.image_width, {batch, rows})
                looks = len(state) // batch
                per_look = self._region_term(columns, state, looks, gather).view(batch, looks)
                regions = (weights * per_look.mean(dim=1)).mean()
            if config.text_weight > 0:
                state = flat_rows("text_cls", text_cls, 1, self.text_width, {rows})
                target = columns["teacher_text_embeds"].flatten(0, 1)
                rivals = target if gather is None or not contrastive else gather(target)
                distances = self._distance("text", state, target, rivals).view(batch, candidates)
                text = (weights * (share * distances).sum(dim=1)).mean()
            if config.word_weight > 0:
                state = flat_rows("text_states", text_states, 2, self.text_width, {rows})
                words = (weights * self._word_term(columns, state, share, gather)).mean()
            loss = (
                config.image_weight * image
                + config.region_weight * regions
                + config.word_weight * words
                + config.text_weight * text
            )
            return DistillationTerms(
                loss, image.detach(), regions.detach(), words.detach(), text.detach(), weights
            )

    def _weights(
        self,
        columns: dict[str, Tensor],
        student_probability: Tensor | None,
        labels: Tensor | None,
        labelled: bool,
        gather: Gather | None,
    ) -> Tensor:
        config = self.config
        match = columns["teacher_match"]
        if config.confidence == "constant" or not config.distils:
            return torch.ones(len(match), device=match.device)
        over_batch = match.shape[1] == 1 and RIVAL_COLUMN not in columns and self.logit_bias is None
        if over_batch and config.confidence_over == "candidates" and not config.normalise_weights:
            raise ValueError(  # couples_batch knows the settings alone
                "the instances have one candidate and no rivals, so the teacher's probability is over the batch. Then "
                "the loss is no sum over instances, which normalise_weights=False promises; say "
                'confidence_over="batch", or use confidence="constant"'
            )
        with torch.no_grad():
            teacher = teacher_probability(
                match,
                columns["teacher_image_embeds"],
                columns.get(WHOLE_TEXT_COLUMN, columns["teacher_text_embeds"]),
                labels=labels,
                rivals=columns.get(RIVAL_COLUMN),
                logit_scale=self.logit_scale,
                sigmoid=self.logit_bias is not None,
                over=config.confidence_over,
                gather=gather,
            )
            return confidence_weights(
                teacher,
                student_probability,
                mode="teacher" if config.confidence == "ratio" and not labelled else config.confidence,
                max_ratio=config.confidence_max_ratio,
                temperature=config.confidence_temperature,
                eps=config.confidence_eps,
                normalise=config.normalise_weights,
                gather=gather,
            )

    def _candidate_share(self, labels: Tensor | None, match: Tensor) -> Tensor:
        """Return (B, C) weights of the candidates in an instance's mean. Each row sums to 1."""
        batch, candidates = match.shape
        if self.config.text_candidates == "right" and candidates > 1:
            right = check_labels(labels, batch, candidates, 'text_candidates="right"')
            return F.one_hot(right, candidates).float()
        return torch.full_like(match, 1.0 / candidates, dtype=torch.float32)

    def _region_term(
        self, columns: dict[str, Tensor], image_states: Tensor, looks: int, gather: Gather | None
    ) -> Tensor:
        """Return (B * looks,) mean distances of the regions in each image state; 0 if there are none."""
        targets = columns["teacher_region_embeds"]
        ids = columns["teacher_region_ids"]
        if ids.shape[1] != image_states.shape[1]:
            raise ValueError(
                f"image_states hold {image_states.shape[1]} tokens and teacher_region_ids {ids.shape[1]}; "
                "expected the same tokens in both: check the student's image slice"
            )
        present = ids >= 0
        targets = F.pad(targets, (0, 0, 0, 1))  # a row to gather from in a batch without any box
        own = targets.gather(1, ids.clamp(min=0)[:, :, None].expand(-1, -1, targets.shape[-1]))
        own = own * present[:, :, None]
        rivals = self._rivals(own, gather)
        own, present = (x.repeat_interleave(looks, dim=0) for x in (own, present))
        distances = self._distances_where(present, "regions", image_states, own, rivals)
        return distances.sum(dim=1) / present.sum(dim=1).clamp(min=1)

    def _word_term(
        self, columns: dict[str, Tensor], text_states: Tensor, share: Tensor, gather: Gather | None
    ) -> Tensor:
        """Return (B,) mean distances of each instance's kept words; 0 if there are none."""
        target = columns["teacher_word_embeds"].flatten(0, 1)
        word_ids = columns["teacher_word_ids"].flatten(0, 1)
        if word_ids.shape[1] != text_states.shape[1]:
            raise ValueError(
                f"text_states hold {text_states.shape[1]} tokens and teacher_word_ids {word_ids.shape[1]}; "
                "expected the same tokens in both: check the student's text slice"
            )
        states, present = mean_by_word(text_states, word_ids, target.shape[1])
        kept = columns["teacher_word_mask"].flatten(0, 1) & present
        rivals = self._rivals(target * columns["teacher_word_mask"].flatten(0, 1)[:, :, None], gather)
        distances = self._distances_where(kept, "words", states, target, rivals)
        per_candidate = (distances.sum(dim=1) / kept.sum(dim=1).clamp(min=1)).view(share.shape)
        share = share * kept.any(dim=1).view(share.shape)
        share = share / share.sum(dim=1, keepdim=True).clamp(min=1e-12)
        return (share * per_candidate).sum(dim=1)

    def _rivals(self, padded: Tensor, gather: Gather | None) -> Tensor | None:
        """Return (others, e): the rows of (rows, K, e) over all processes. Padding, which is 0, is dropped."""
        if self.config.distance != "infonce":
            return None
        rows = gather_padded(padded, gather).flatten(0, 1)
        return rows[rows.any(dim=1)]

    def _distances_where(
        self, mask: Tensor, term: str, states: Tensor, targets: Tensor, rivals: Tensor | None
    ) -> Tensor:
        """Return (rows, K) distances under the mask, 0 elsewhere. Padding, most of the places, costs nothing."""
        distances = torch.zeros(mask.shape, device=states.device)
        return distances.masked_scatter(mask, self._distance(term, states[mask], targets[mask], rivals))

    def _distance(self, term: str, states: Tensor, targets: Tensor, rivals: Tensor | None) -> Tensor:
        """Return (rows,) distances of (rows, width) student states, through the term's head, to (rows, e) targets."""
        head = self.heads[self.head_of[term]]
        projected = head(states.to(next(head.parameters()).dtype))
        return embedding_distance(
            projected,
            targets,
            self.config.distance,
            normalise=self.config.normalise_projection,
            temperature=self.config.infonce_temperature,
            rivals=rivals,
        )


def _head(kind: str, width: int, embed_dim: int) -> nn.Module:
    if kind == "linear":
        return nn.Linear(width, embed_dim)
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, embed_dim))

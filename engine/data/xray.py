"""The X-ray: sequences as the trainer gets them, read back from the tensors of the collator that trains."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from engine.data.collators import collator_of
from engine.data.content_cache import content_key
from engine.data.lengths import expected_answers, length_profile
from engine.data.pipeline import PreparedData, prepare
from engine.data.preflight import check_prepared, problems_of
from engine.data.preflight_case import UNCUT_LENGTH
from engine.data.progress import NOBODY, WorkWatch
from engine.data.rendered import Rendered, RenderedRows, RenderedSequences
from engine.data.rendering import Renderer
from engine.data.sequence_length import model_in, packs, row_length, target_length, task_in
from engine.data.token_facts import TokenFacts, token_facts
from engine.data.token_text import TokenTexts
from engine.data.tokenized import tokenize
from engine.data.xray_learnt import learnt_words, whole_words
from engine.data.xray_marks import all_reasons, find_marks
from engine.models.tokenizers import load_tokenizer
from engine.objectives.masking import Masker
from engine.objectives.sequences import IGNORED, Segment, make_segment, pack
from engine.recipe.schema import Recipe

Order = Literal["file", "longest", "cut", "odd"]
MAX_TOKENS = 4_000
"""Tokens of one sequence that are spelled out; `num_tokens` says how many there are."""
MAX_RUNS = 200
_KEPT_VIEWS = 2
_views: "OrderedDict[str, _View]" = OrderedDict()


def xray_page(
    recipe: Recipe,
    folder: str,
    *,
    start: int = 0,
    count: int = 5,
    order: Order = "file",
    cache: Path | None = None,
    watch: WorkWatch = NOBODY,
) -> dict[str, Any]:
    """Return some sequences token by token, and what is true of all of them.

    Args:
        recipe: A checked recipe.
        folder: Local folder of the model whose tokenizer is used.
        start: Place of the first sequence in the order asked for.
        count: Sequences wanted.
        order: As they come, the longest rows first, those that are cut, or those that stand out.
        cache: Cache folder of prepared rows and token ids.
        watch: Told how far the work is; it takes time only when something has changed since the last page.

    Returns:
        The fields of `tui.backend.XrayPage` as JSON values.

    Raises:
        ProblemError: The data, the tokenizer or its chat template cannot be used.
        ReadingStoppedError: A stop was asked for.
    """
    view = _view(recipe, folder, cache, watch)
    numbers = view.orders[order]
    return {
        "sequences": view.shown(numbers[start : start + max(0, count)], recipe.training.micro_batch or max(1, count)),
        "start": start,
        "total": len(numbers),
        **view.facts,
    }


@dataclass(frozen=True)
class _View:
    """All sequences of a run, and the orders they can be looked at in.

    Attributes:
        renderer: What rendered the rows.
        rendered: Rendered rows, cut.
        bins: For each sequence the places of its rows in `rendered`.
        packed: Whether rows share sequences.
        marks: Why rendered rows stand out.
        orders: Numbers of sequences.
        facts: Fields of the page that no sequence changes.
        masker: Hides words, where hidden words are what is learnt.
        alone: Rows have one answer each, marked good or bad.
    """

    renderer: Renderer
    rendered: Sequence[Rendered]
    bins: Sequence[Sequence[int]]
    packed: bool
    marks: dict[int, list[str]]
    orders: dict[str, list[int]]
    facts: dict[str, Any]
    masker: Masker | None = None
    alone: bool = False
    texts: TokenTexts = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", TokenTexts(self.renderer.tokenizer))

    def shown(self, numbers: Sequence[int], micro_batch: int) -> list[dict[str, Any]]:
        """Return sequences as the collator hands them over, padded to the longest of their micro-batch."""
        collate = collator_of(self.renderer, packed=self.packed, masker=self.masker)
        shown: list[dict[str, Any]] = []
        for first in range(0, len(numbers), micro_batch):
            group = numbers[first : first + micro_batch]
            segments = [[self._segment(place) for place in self.bins[number]] for number in group]
            batch = collate([_collated_row(row) for row in segments])
            for at, number in enumerate(group):
                read = _read(batch, at, sum(len(segment.input_ids) for segment in segments[at]))
                shown.append(self._sequence(number, segments[at], read))
        return shown

    def _segment(self, place: int) -> Segment:
        row = self.rendered[place]
        return make_segment(row.id, row.input_ids, row.trained_mask, row.targets)

    def _sequence(self, number: int, segments: Sequence[Segment], read: "_Read") -> dict[str, Any]:
        places = self.bins[number]
        ids = [segment.row_id for segment in segments]
        return {
            "number": number,
            "row_ids": ids,
            "tokens": self._tokens(read),
            "num_tokens": len(read.ids) - read.num_padding,
            "num_trained": sum(read.trained),
            "num_padding": read.num_padding,
            "num_lost": sum(_lost(self.rendered[place]) for place in places),
            "reasons": all_reasons(self.marks, places, ids),
            "learns": self._learns(segments) if self.masker is None else self._hidden(read),
            "trained_runs": runs_of(read.trained)[:MAX_RUNS],
        }

    def _learns(self, segments: Sequence[Segment]) -> str:
        segment = segments[0]
        trained = [token for token, label in zip(segment.input_ids, segment.labels, strict=True) if label != IGNORED]
        return learnt_words(self.renderer.task, segment.targets, self.texts.of(trained), alone=self.alone)

    def _hidden(self, read: "_Read") -> str:
        """Return the words that are to be guessed, in order; the tokens show what stands in their place."""
        return ", ".join(text.strip() for text in self.texts.of(read.labels) if text.strip())

    def _tokens(self, read: "_Read") -> list[dict[str, Any]]:
        ids = read.ids[:MAX_TOKENS]
        # A class, or a score, is learnt from the text, and no token of the text is.
        reads_only = self.renderer.task.signal in ("labels", "rewards")
        real = len(read.ids) - read.num_padding
        return [
            {
                "text": text,
                "trained": read.trained[at] and not reads_only,
                "special": ids[at] in self.texts.special_ids,
                "padding": at >= real,
                "segment": read.segments[at],
            }
            for at, text in enumerate(self.texts.of(ids))
        ]


@dataclass(frozen=True, slots=True)
class _Read:
    """One row of collated tensors, as plain values.

    Attributes:
        ids: Token ids, padding included.
        trained: Whether the loss counts each.
        segments: Number of its packed row.
        num_padding: Tokens that only fill the batch.
        labels: Tokens that are learnt where others stand in their place.
    """

    ids: list[int]
    trained: list[bool]
    segments: list[int]
    num_padding: int
    labels: list[int] = field(default_factory=list)


def _read(batch: dict[str, torch.Tensor], at: int, num_tokens: int) -> _Read:
    """Read a row of a batch back; nothing here knows how the row was rendered."""
    ids: list[int] = batch["input_ids"][at].tolist()
    if "decoder_input_ids" in batch:
        return _read_pair(batch, at)
    trained = [label != IGNORED for label in batch["labels"][at].tolist()]
    if "position_ids" in batch:
        restarts = (batch["position_ids"][at] == 0).cumsum(0) - 1
        return _Read(ids, trained, restarts.tolist(), len(ids) - num_tokens)
    padding = int((batch["attention_mask"][at] == 0).sum())
    labels = [label for label in batch["labels"][at].tolist() if label != IGNORED]
    return _Read(ids, trained, [0] * len(ids), padding, labels)


def _read_pair(batch: dict[str, torch.Tensor], at: int) -> _Read:
    """Read a source and its target back: behind each other, as they are shown, the padding of both at the end."""
    source = batch["input_ids"][at][batch["attention_mask"][at] == 1].tolist()
    target = [label for label in batch["labels"][at].tolist() if label != IGNORED]
    padding = batch["input_ids"].shape[1] - len(source) + batch["labels"].shape[1] - len(target)
    filler = [int(batch["input_ids"][at][-1])] * padding
    trained = [False] * len(source) + [True] * len(target) + [False] * padding
    return _Read([*source, *target, *filler], trained, [0] * len(trained), padding)


def _collated_row(segments: Sequence[Segment]) -> dict[str, list[int]]:
    return {
        "input_ids": [token for segment in segments for token in segment.input_ids],
        "labels": [label for segment in segments for label in segment.labels],
        "seq_lengths": [len(segment.input_ids) for segment in segments],
    }


def _lost(row: Rendered) -> int:
    return row.num_before_cut - len(row.input_ids) if row.cut else 0


def runs_of(trained: Sequence[bool]) -> list[list[int]]:
    """Return where trained tokens stand: `[first, after the last]`, in order."""
    edges = np.flatnonzero(np.diff(np.array([False, *trained, False], dtype=np.int8)))
    return [[int(first), int(after)] for first, after in zip(edges[::2], edges[1::2], strict=True)]


def _view(recipe: Recipe, folder: str, cache: Path | None, watch: WorkWatch) -> _View:
    """Return the view of a recipe's rows: the last one as long as rows, tokenizer and settings are the same."""
    prepared = prepare(recipe, cache=cache, watch=watch)
    key = content_key(recipe.model_dump(mode="json"), prepared.train_sha256, folder, _stamps(Path(folder)))
    if key not in _views:
        _views[key] = _make_view(recipe, folder, prepared, cache, watch)
        while len(_views) > _KEPT_VIEWS:
            _views.popitem(last=False)
    _views.move_to_end(key)
    return _views[key]


def _stamps(folder: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of the small files of a model folder."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".jinja", ".model", ".txt"))
    return [(path.name, (stat := path.stat()).st_size, stat.st_mtime_ns) for path in files]


def _make_view(recipe: Recipe, folder: str, prepared: PreparedData, cache: Path | None, watch: WorkWatch) -> _View:
    tokenizer = load_tokenizer(Path(folder), recipe).tokenizer
    model = model_in(folder, recipe.model.base)
    task = task_in(recipe, model, prepared.profile)
    renderer = Renderer(tokenizer, UNCUT_LENGTH, recipe.data.system_prompt, task)
    rows = prepared.train_rows
    tokens = tokenize(rows, renderer, rows_sha256=prepared.train_sha256, cache=cache, watch=watch)
    # As the plan counts: without sequences that have nothing to learn.
    whole, sources = tokens.cut(UNCUT_LENGTH).sequences, tokens.source_lengths
    lengths = length_profile((whole.lengths if sources is None else sources).tolist())
    max_length, length_from = row_length(recipe, model, lengths, expected_answers(rows, renderer))
    targets = length_profile(whole.num_trained.tolist())
    max_target = None if sources is None else target_length(recipe, model, targets)
    cut = tokens.cut(max_length, max_target)
    packed = packs(recipe, task)
    cut_facts = token_facts(cut.sequences, tokenizer)
    marks = find_marks(rows, cut.sequences, cut_facts, renderer, watch=watch)
    bins = _bins(cut.sequences, max_length, packed=packed)
    orders = _orders(cut_facts, bins, marks)
    checks = check_prepared(
        recipe, prepared, tokens, renderer, model, max_length=max_length, max_target=max_target, watch=watch
    )
    share, masker = recipe.domain_adaptation.masked_share, None
    if task.head == "masked-lm":
        masker = Masker(tokenizer, share, recipe.training.seed)
    alone = bool(len(rows)) and "chosen" not in rows[0]
    facts = {
        "num_sequences": len(bins),
        "num_cut": len(orders["cut"]),
        "num_odd": len(orders["odd"]),
        "num_dropped": cut.dropped.total(),
        "trained_share": _trained_share(cut) * (1.0 if masker is None else share),
        "all_trained": bool(cut_facts.all_trained.all()),
        "num_rows": len(cut_facts),
        "num_ended": int(np.isin(cut_facts.last_trained, renderer.stop_token_ids).sum()),
        "max_length": max_length,
        "length_from": length_from,
        "packed": packed,
        "learnt": whole_words(task, alone=alone),
        "answers": "targets" if recipe.objective == "text-to-text" else "answers",
        "problems": [problem.to_json() for problem in [*cut.problems(), *problems_of(checks)]],
    }
    return _View(renderer, cut.sequences, bins, packed, marks, orders, facts, masker, alone)


def _bins(rendered: RenderedSequences, max_length: int, *, packed: bool) -> list[list[int]]:
    if not packed:
        return [[place] for place in range(len(rendered))]
    order, bounds = pack(rendered.lengths, max_length)
    return [order[first:after].tolist() for first, after in zip(bounds[:-1], bounds[1:], strict=True)]


def _orders(facts: TokenFacts, bins: Sequence[Sequence[int]], marks: dict[int, list[str]]) -> dict[str, list[int]]:
    before = np.array([facts.before_cut[list(places)].sum() for places in bins], dtype=np.int64)
    cut = set(np.flatnonzero(facts.cut).tolist())
    return {
        "file": list(range(len(bins))),
        "longest": np.argsort(-before, kind="stable").tolist(),
        "cut": [number for number, places in enumerate(bins) if not cut.isdisjoint(places)],
        "odd": [number for number, places in enumerate(bins) if any(place in marks for place in places)],
    }


def _trained_share(cut: RenderedRows) -> float:
    # As the collator labels them: the first token of a row is predicted by nothing.
    trained, tokens = int(cut.sequences.num_learnt.sum()), int(cut.sequences.lengths.sum())
    return trained / tokens if tokens else 0.0

"""Training rows as token ids: each row tokenised once, uncut, and kept by what decides its ids.

The wizard, the worker, its ranks and every later attempt read the same entry. A sequence length is applied to it
afterwards, without the tokenizer and without reading the rows again.
"""

import copy
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine.data.content_cache import ContentCache, source_key
from engine.data.cuts import CutRows, cut_rows, length_cut, sensible_lengths, source_lengths
from engine.data.frames import Frame
from engine.data.progress import NOBODY, WorkWatch
from engine.data.rendered import RenderedRows
from engine.data.rendering import Renderer
from engine.data.rows import MAX_ROWS_NAMED, Row, Tally
from engine.data.token_key import rows_hash, token_key
from engine.data.token_store import TokenStore, TokenWriter
from engine.planning.profiles import LengthCut

STAGE = "Counting tokens"
"""What people read while they wait."""
_KIND = "tokens"
_TOKENS_FILE, _FACTS_FILE = "tokens.arrow", "facts.json"
_CODE = (
    "chat_template",
    "encoding",
    "frames",
    "label_names",
    "rendering",
    "row_encoders",
    "rows",
    "spans",
    "token_key",
    "token_store",
    "tokenized",
)


@dataclass(slots=True)
class Left:
    """Rows without a sequence for one reason (a key of `engine.data.rendered.RENDER_REASONS`).

    Attributes:
        count: How many.
        first: Place among the rows (from 0) and `file:line` of the first few.
        detail: What exactly was found, for the first of them.
    """

    count: int = 0
    first: list[tuple[int, str]] = field(default_factory=list)
    detail: str = ""

    def add(self, number: int, row_id: str, detail: str = "") -> None:
        """Count a row."""
        self.count += 1
        self.detail = self.detail or detail
        if len(self.first) < MAX_ROWS_NAMED:
            self.first.append((number, row_id))

    def with_others(self, other: "Left") -> "Left":
        """Return the rows of both."""
        first = sorted([*self.first, *other.first])[:MAX_ROWS_NAMED]
        return Left(self.count + other.count, first, self.detail or other.detail)


class TokenizedRows:
    """Rows as whole sequences of token ids; `cut` makes training rows of them.

    Args:
        store: The sequences.
        left: Rows without a sequence at any length, by reason.
        spelled: Rows whose text spells a special token.
        keeps_rows_whole: A row is of no use without all of its sequences.
        learns_rows: A row teaches whichever of its tokens are there.
        drops_cut_rows: A row that does not fit is left out.
        frame: What stands around the texts.
    """

    def __init__(
        self,
        store: TokenStore,
        left: dict[str, Left],
        spelled: Tally,
        *,
        keeps_rows_whole: bool = False,
        learns_rows: bool = False,
        drops_cut_rows: bool = False,
        frame: Frame | None = None,
    ) -> None:
        self._store = store
        self._frame = Frame() if frame is None else frame
        self._keeps_rows_whole = keeps_rows_whole
        self._learns_rows = learns_rows
        self._drops_cut_rows = drops_cut_rows
        self._left = left
        self._spelled = spelled
        self._whole = CutRows(store, np.arange(len(store)), np.zeros_like(store.lengths), store.lengths, self._frame)

    @property
    def num_sequences(self) -> int:
        """Whole sequences: one of most rows, none of those that the template refuses."""
        return len(self._store)

    @property
    def lengths(self) -> Any:
        """Tokens of each whole sequence, an array."""
        return self._store.lengths

    @property
    def num_trained(self) -> Any:
        """Trained tokens of each whole sequence, an array."""
        return self._whole.num_trained

    @property
    def source_lengths(self) -> Any:
        """Tokens of each pair's source, an array; None where the sequences are no pairs."""
        return source_lengths(self._store) if self._frame.pairs else None

    def cut(self, max_length: int, max_target: int | None = None) -> RenderedRows:
        """Return the sequences of at most `max_length` tokens; those that would train on nothing are left out.

        They are made when they are asked for; what is counted here takes milliseconds.

        Args:
            max_length: Of pairs, the longest source.
            max_target: Longest target of a pair; None cuts none.
        """
        rows = cut_rows(self._store, max_length, self._frame, max_target)
        teaches = self._teaches(rows)
        kept = rows.only(np.flatnonzero(teaches))
        return RenderedRows(
            sequences=kept,
            dropped=self._dropped(rows.only(np.flatnonzero(~teaches))),
            num_cut=int(kept.is_cut.sum()),
            num_targets_cut=kept.num_targets_cut if self._frame.pairs else 0,
            spelled=copy.deepcopy(self._spelled),
        )

    def _teaches(self, rows: CutRows) -> Any:
        """Return which sequences the run keeps, an array."""
        if self._drops_cut_rows:
            return ~rows.is_cut
        teaches = (rows.lengths if self._learns_rows else rows.num_learnt) > 0
        if self._keeps_rows_whole:
            teaches &= ~np.isin(rows.row_numbers, rows.row_numbers[~teaches])
        return teaches

    def _dropped(self, lost: CutRows) -> Tally:
        """Return what is dropped in the order of rows, sequences without anything to learn among it."""
        left = dict(self._left)
        cut_off = "prompt_too_long" if self._drops_cut_rows else "answer_cut_off"
        for reason, which in ((cut_off, ~lost.is_text), ("no_tokens", lost.is_text)):
            numbers, firsts = np.unique(lost.row_numbers[which], return_index=True)
            if len(numbers):
                named = np.flatnonzero(which)[firsts[:MAX_ROWS_NAMED]]
                first = [
                    (int(number), lost.row_id(at)) for number, at in zip(numbers[: len(named)], named, strict=True)
                ]
                left[reason] = left.get(reason, Left()).with_others(Left(len(numbers), first))
        dropped = Tally()
        for reason, rows in sorted(left.items(), key=lambda item: item[1].first[0]):
            dropped.counts[reason] = rows.count
            dropped.places[reason] = [row_id for _, row_id in rows.first]
            if rows.detail:
                dropped.details[reason] = rows.detail
        return dropped

    def cut_at(self, length: int) -> LengthCut:
        """Return what one sequence length would take."""
        found = length_cut(self._store, length, self._frame)
        if not found.num_cut:
            return found.model_copy(update={"num_kept": 0, "num_left_out": 0})
        rows = cut_rows(self._store, length, self._frame)
        kept = rows.only(np.flatnonzero(self._teaches(rows)))
        taught = self._whole.row_numbers[self._teaches(self._whole)]
        counted = {
            "num_kept": int(kept.is_cut.sum()),
            "num_left_out": len(np.setdiff1d(taught, kept.row_numbers)),
        }
        # A class is learnt of whatever is left of its text.
        return found.model_copy(update=counted | ({"num_answers_cut": 0} if self._learns_rows else {}))

    def cuts(self, *others: int) -> list[LengthCut]:
        """Return what a few sequence lengths would take, growing; up to the one that cuts nothing, and `others`."""
        whole = self.lengths if self.source_lengths is None else self.source_lengths
        lengths = {*sensible_lengths(int(whole.max(initial=0))), *others}
        return [self.cut_at(length) for length in sorted(lengths)]


def tokenize(
    rows: Sequence[Row],
    renderer: Renderer,
    *,
    rows_sha256: str | None = None,
    cache: Path | None = None,
    watch: WorkWatch = NOBODY,
) -> TokenizedRows:
    """Return rows as token ids, from the cache where somebody has made them before.

    Args:
        rows: Canonical rows.
        renderer: Of the tokenizer and the recipe; its `max_length` is not looked at.
        rows_sha256: Hash over the rows (`engine.data.token_key.rows_hash`); taken from them where nobody knows it.
        cache: Cache folder of this person; without one the tokens lie in a temporary file that is gone with them.
        watch: Who follows the work.

    Raises:
        ProblemError: The chat template does not work at all.
        ReadingStoppedError: A stop was asked for.
    """
    if cache is None:
        with tempfile.TemporaryDirectory(prefix="ftwizard-tokens-") as folder:
            _write(Path(folder), rows, renderer, watch)
            return _open(Path(folder), renderer)
    rows_sha256 = rows_sha256 or rows_hash(rows)
    kept = find_tokens(rows_sha256, renderer, cache)
    if kept is not None:
        return kept
    with ContentCache(cache, _KIND).making(_key(rows_sha256, renderer)) as entry:
        _write(entry, rows, renderer, watch)
        return _open(entry, renderer)


def find_tokens(rows_sha256: str, renderer: Renderer, cache: Path) -> TokenizedRows | None:
    """Return rows as token ids where somebody has made them before; None where nobody has."""
    found = ContentCache(cache, _KIND).find(_key(rows_sha256, renderer))
    return None if found is None else _open(found, renderer)


def _key(rows_sha256: str, renderer: Renderer) -> str:
    return token_key(renderer, rows_sha256, source_key(*(f"data/{name}.py" for name in _CODE)))


def _write(folder: Path, rows: Sequence[Row], renderer: Renderer, watch: WorkWatch) -> None:
    left: dict[str, Left] = {}
    spelled = Tally()
    with TokenWriter(folder / _TOKENS_FILE) as tokens:
        for uncut in renderer.uncut(watch.each(STAGE, rows)):
            row_id = uncut.row.get("id", "")
            if uncut.refused:
                left.setdefault(uncut.reason, Left()).add(uncut.number, row_id, uncut.refused)
                continue
            for token in renderer.spelled(uncut.row):
                spelled.add(token, row_id)
            if not uncut.sequences:
                left.setdefault("no_tokens", Left()).add(uncut.number, row_id)
            tokens.add(uncut)
    facts: dict[str, Any] = {
        "left": {reason: asdict(each) for reason, each in left.items()},
        "spelled": asdict(spelled),
    }
    facts["keeps_rows_whole"] = renderer.keeps_rows_whole
    facts["drops_cut_rows"] = renderer.drops_cut_rows
    facts["learns_rows"] = renderer.learns_rows
    (folder / _FACTS_FILE).write_text(json.dumps(facts), encoding="utf-8")


def _open(folder: Path, renderer: Renderer) -> TokenizedRows:
    facts = json.loads((folder / _FACTS_FILE).read_text(encoding="utf-8"))
    left = {
        reason: Left(each["count"], [(number, row_id) for number, row_id in each["first"]], each["detail"])
        for reason, each in facts["left"].items()
    }
    store, spelled = TokenStore(folder / _TOKENS_FILE), Tally(**facts["spelled"])
    return TokenizedRows(
        store,
        left,
        spelled,
        keeps_rows_whole=facts["keeps_rows_whole"],
        learns_rows=facts["learns_rows"],
        drops_cut_rows=facts["drops_cut_rows"],
        frame=renderer.frame,
    )

"""What a data profile says, as numbers and words that every front end and the data report share. Light and pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from engine.planning.profiles import DataProfile, LengthProfile

LENGTHS_SHOWN = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
"""Sequence lengths that people choose, for a table of what each would cut."""
MOST_BINS = 16

_REASONS = {
    "missing_column": "without a column that is needed",
    "null_value": "null where text is needed",
    "not_text": "no text where text is needed",
    "empty_answer": "empty answer",
    "empty_prompt": "empty question",
    "empty_text": "empty text",
    "no_messages": "without messages",
    "broken_message": "broken message",
    "unknown_role": "unknown role",
    "broken_tools": "broken tool definition",
    "broken_tool_call": "broken tool call",
    "call_without_result": "tool call without result",
    "result_without_call": "tool result without call",
    "role_order": "turns out of order",
    "no_answer": "without an answer",
    "equal_answers": "chosen equals rejected",
    "prompt_mismatch": "two different prompts",
    "missing_label": "without a label",
    "broken_label": "broken label",
    "broken_reward": "broken reward",
    "duplicate": "equal to an earlier row",
    "in_held_out": "equal to a held-out row",
    "leaked_rows": "nearly equal to a held-out row",
    "near_duplicates": "nearly equal to an earlier row",
    "contradictions": "contradicting another row",
    "repeated_answers": "repeated answer",
    "length_outliers": "far from the usual length",
    "other_languages": "in another language",
    "hidden_characters": "hidden characters",
    "double_encoding": "encoded twice",
    "secrets": "holds a secret",
    "personal_data": "holds personal data",
    "row_limit": "beyond data.max_rows",
    "not_drawn": "not drawn (weight below 1)",
}


def reason_words(reason: str) -> str:
    """Return why rows are not used, in a few words; a reason that nobody put into words is its own name."""
    return _REASONS.get(reason, reason.replace("_", " "))


@dataclass(frozen=True, slots=True)
class Accounting:
    """Where every row went: `read + repeated = train + held_out + test + dropped`.

    Attributes:
        read: Rows read from all files, a held-out file too.
        repeated: Rows that weights above 1 added.
        train: Rows to learn from.
        held_out: Rows to be judged on.
        test: Rows put aside.
        dropped: `{reason: rows}` that are not used.
    """

    read: int
    repeated: int
    train: int
    held_out: int
    test: int
    dropped: Mapping[str, int]

    @property
    def num_dropped(self) -> int:
        """Rows that are not used."""
        return sum(self.dropped.values())

    def sentence(self) -> str:
        """Return the sum as a line: `2,000 read = 1,780 train + 198 held out + 22 dropped`."""
        repeated = f" + {self.repeated:,} repeated" if self.repeated else ""
        parts = [f"{self.train:,} train", f"{self.held_out:,} held out"]
        parts += [f"{self.test:,} test"] if self.test else []
        parts += [f"{self.num_dropped:,} dropped"] if self.dropped else []
        return f"{self.read:,} read{repeated} = {' + '.join(parts)}"


def account(profile: DataProfile) -> Accounting:
    """Return where the rows of a profile went."""
    used = profile.num_train + profile.num_held_out + profile.num_test
    # Weights repeat rows after the split; what is used beyond what was read are those.
    repeated = max(0, used + sum(profile.dropped.values()) - profile.num_rows)
    return Accounting(
        profile.num_rows, repeated, profile.num_train, profile.num_held_out, profile.num_test, dict(profile.dropped)
    )


def measured_words(profile: DataProfile) -> str:
    """Return what each length of a profile is the length of."""
    if profile.source_lengths is not None:
        return "row, source and target together"
    return "answer with its prompt" if profile.compared else "row"


def learnt_word(profile: DataProfile) -> str:
    """Return what the texts are called that are learnt of these rows."""
    return "targets" if profile.format == "source_target" or profile.source_lengths is not None else "answers"


def answers_words(profile: DataProfile) -> str:
    """Return the lengths of the answers alone, with their ends; empty where there are none, or nobody looked."""
    answers = profile.answer_lengths
    if answers is None:
        return ""
    each = "answers of a row together" if profile.format == "messages" else learnt_word(profile)
    about = "about " if answers.estimated else ""
    return f"{each}: median {about}{answers.p50:,}, longest {answers.longest:,}"


@dataclass(frozen=True, slots=True)
class LengthBin:
    """Rows whose length lies above `over` and is at most `up_to` tokens."""

    over: int
    up_to: int
    num_rows: int


def length_bins(lengths: LengthProfile | None) -> list[LengthBin]:
    """Return the histogram of lengths, at most sixteen bars; empty when only quantiles are known."""
    if lengths is None or not lengths.covered:
        return []
    step = -(-len(lengths.covered) // MOST_BINS)
    # Counted from the longest, so that the last bar ends with the longest row.
    edges = list(reversed(lengths.covered[::-1][::step]))
    bins = []
    over, below = 0, 0
    for length, rows in edges:
        bins.append(LengthBin(over, length, rows - below))
        over, below = length, rows
    return bins if bins[0].num_rows or len(bins) == 1 else bins[1:]


@dataclass(frozen=True, slots=True)
class CutRow:
    """What one sequence length would cut; None where only a tokenizer could tell."""

    length: int
    num_cut: int
    share: float
    num_answers_cut: int | None = None
    num_answers_lost: int | None = None
    lost_tokens: int | None = None
    num_left_out: int | None = None
    num_kept: int | None = None

    @property
    def only_left_out(self) -> bool:
        """Whether no row is cut and trained: rows that are too long are left out, as prompts are."""
        return bool(self.num_left_out) and self.num_kept == 0


def cut_heads(profile: DataProfile) -> tuple[str, str, str]:
    """Return what is counted of a length, as heads of a table: cut, cut in an answer, lost."""
    if profile.compared:
        return "answers cut", "ends lost", "rows left out"
    return "rows cut", "answers cut", "answers lost"


def lost_in(profile: DataProfile, cut: CutRow) -> int | None:
    """Return what a length loses, of the kind that `cut_heads` names last."""
    return cut.num_left_out if profile.compared else cut.num_answers_lost


def cut_rows(profile: DataProfile) -> list[CutRow]:
    """Return what sequence lengths would cut: measured where a tokenizer was there, else from the lengths of rows."""
    lengths = profile.cut_lengths
    if lengths is None:
        return []
    if profile.cuts:
        return [
            CutRow(
                cut.length,
                cut.num_cut,
                cut.num_cut / max(1, cut.num_sequences or lengths.count),
                cut.num_answers_cut,
                cut.num_answers_lost,
                cut.lost_tokens,
                cut.num_left_out,
                cut.num_kept,
            )
            for cut in profile.cuts
        ]
    covered = dict(lengths.covered)
    shown = [length for length in LENGTHS_SHOWN if length in covered]
    return [
        CutRow(length, lengths.count - covered[length], 1 - covered[length] / max(1, lengths.count)) for length in shown
    ]

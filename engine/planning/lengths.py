"""What other sequence lengths would cover and cost."""

from engine.planning.case import Case
from engine.planning.plan import LengthChoice
from engine.planning.steps import covered_share
from engine.planning.virtual_prompt import text_context

MAX_CHOICES = 5
LEAST_COVERED = 0.5
"""A length that cuts every other row is no choice."""


def length_choices(case: Case) -> list[LengthChoice]:
    """Return a few sequence lengths around the planned one, the shortest first.

    Empty for plain text, whose long rows become several sequences, and where the lengths are not known. The memory is
    that of the planned setting at another length, so that the difference is the price of the length alone.
    """
    lengths, planned = case.plan.data.cut_lengths, case.setup.max_length
    if lengths is None or not lengths.count or case.space.work.text:
        return []
    context = text_context(case.plan.model, case.plan.recipe.method)
    whole = min(context, -(-lengths.longest // 8) * 8)
    powers = {1 << power for power in range(5, 18) if lengths.p50 // 2 <= 1 << power < whole}
    wanted = sorted({length for length in powers | {whole, planned} if length <= max(context, planned)})
    covered = {length: covered_share(lengths, length) for length in wanted}
    wanted = [length for length in wanted if covered[length] >= LEAST_COVERED or length == planned]
    around = sorted(wanted, key=lambda length: (length not in (planned, whole), abs(length - planned)))[:MAX_CHOICES]
    return [
        LengthChoice(max_length=length, covered_share=covered[length], memory_bytes=_memory(case, length))
        for length in sorted(around)
    ]


def _memory(case: Case, length: int) -> int:
    if length == case.setup.max_length:
        return case.plan.memory.expected_bytes
    return case.space.memory_of(case.setup.changed(max_length=length)).expected_bytes

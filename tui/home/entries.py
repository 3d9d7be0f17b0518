"""The rows of the first screen, as plain data; no widget is touched here."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from textual.content import Content
from textual.widgets.option_list import Option

from engine.text import clean_line
from tui.backend import Machine, PresetRow, RunRow
from tui.widgets.help_line import Explanation
from tui.widgets.labels import age, fit, muted, safe, state_label
from tui.wizard.draft import STEP_TITLES, STEPS, Draft, FoundDraft

EntryAction = Literal["", "new", "draft", "preset", "run"]
NAME_WIDTH = 24
MOST_NAME_WIDTH = 36
"""Of a preset's name; a longer one is cut, so that its title still has room at 80 columns."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row. `action` is empty for headings and hints, which the cursor skips."""

    option_id: str
    content: Content
    explanation: Explanation = Explanation("")
    action: EntryAction = ""
    target: str | RunRow | None = None

    def option(self) -> Option:
        """Return the row for an `OptionList`."""
        return Option(self.content, id=self.option_id, disabled=not self.action)


def machine_content(machine: Machine) -> Content:
    """Return the machine in at most four lines."""
    lines = [Content.assemble(("Machine  ", "bold $accent"), (clean_line(machine.headline), ""))]
    shown = machine.lines[:3]
    lines += [Content.assemble("         ", muted(line)) for line in shown]
    if len(machine.lines) > len(shown):
        lines.append(Content.assemble("         ", muted(f"and {len(machine.lines) - len(shown)} more")))
    return Content("\n").join(lines)


def home_entries(
    runs: list[RunRow],
    presets: list[PresetRow],
    found: FoundDraft,
    *,
    now: float,
    error: str = "",
    reading: bool = False,
) -> list[Entry]:
    """Return every row in order.

    Args:
        runs: Newest first.
        presets: In the order of the catalogue.
        found: The newest draft, if there is one.
        now: Unix seconds, for ages.
        error: Why runs or presets could not be read; empty when they were.
        reading: Runs and presets are still being read.
    """
    entries = [_new_run()]
    if found.draft is not None:
        entries.append(_draft(found.draft, now))
    entries += _section("Runs", "runs", [_run(run, now) for run in runs], _no_runs(reading, error))
    entries += _section("Presets", "presets", _presets(presets), "Reading…" if reading else "None found.")
    return entries


def _no_runs(reading: bool, error: str) -> str:
    if error:
        return f"Cannot be read: {error}"
    return "Reading…" if reading else "None yet. Runs keep going when this terminal is closed, and are listed here."


def _section(title: str, key: str, rows: Iterable[Entry], empty: str) -> list[Entry]:
    listed = list(rows)
    heading = Entry(f"heading-{key}", Content.assemble("\n", (f" {title}", "bold $accent")))
    if listed:
        return [heading, *listed]
    return [heading, Entry(f"empty-{key}", Content.assemble("   ", muted(empty)))]


def _new_run() -> Entry:
    content = Content.assemble((" + ", "bold $success"), (fit("New run", NAME_WIDTH), "bold"), muted("seven steps"))
    text = "Choose what to teach, a base model and data; the wizard recommends the rest and shows it before it starts."
    return Entry("new", content, Explanation("New run", text), "new")


def _draft(draft: Draft, now: float) -> Entry:
    where = f"step {STEPS.index(draft.step) + 1} of {len(STEPS)}, {STEP_TITLES[draft.step].lower()}"
    when = age(max(0.0, now - draft.saved_at))
    content = Content.assemble(
        (" ↻ ", "bold $accent"), (fit("Continue your draft", NAME_WIDTH), "bold"), muted(f"{where} · {when}")
    )
    answers = ", ".join(
        clean_line(draft.value(path)) for path in ("objective", "model.base", "data.source") if draft.value(path)
    )
    return Entry("draft", content, Explanation("Continue your draft", f"{answers}. Delete forgets it."), "draft")


def _presets(presets: Iterable[PresetRow]) -> list[Entry]:
    """Return the presets, their titles below each other and apart from the longest name."""
    listed = list(presets)
    longest = max((len(clean_line(preset.name)) for preset in listed), default=0)
    width = min(MOST_NAME_WIDTH, max(NAME_WIDTH, longest + 1))
    return [_preset(preset, width) for preset in listed]


def _preset(preset: PresetRow, width: int) -> Entry:
    name = safe(fit(clean_line(preset.name), width - 1) + " ")
    content = Content.assemble("   ", name, muted(clean_line(preset.title)))
    why = f" Needs: {preset.needs.rstrip('.')}." if preset.needs else ""
    return Entry(
        f"preset-{preset.name}", content, Explanation(preset.title, preset.summary + why), "preset", preset.name
    )


def _run(run: RunRow, now: float) -> Entry:
    steps = f"step {run.step} of {run.total_steps}" if run.step is not None and run.total_steps else ""
    content = Content.assemble(
        " ",
        state_label(run.state, width=11),
        " ",
        safe(fit(clean_line(run.name), 32)),
        " ",
        muted(fit(steps, 19)),
        muted(age(max(0.0, now - run.changed_at))),
    )
    text = f"{run.run_id}. {_RUN_HELP.get(run.state, 'Enter opens its monitor.')}"
    return Entry(f"run-{run.run_id}", content, Explanation(run.name, text), "run", run)


_RUN_HELP = {
    "finished": "Enter opens its result.",
    "failed": "Enter shows why.",
    "crashed": "The worker is gone; enter shows the last log lines and how to resume.",
    "stopped": "Stopped and saved; enter shows it, `ftwizard resume` continues it.",
}

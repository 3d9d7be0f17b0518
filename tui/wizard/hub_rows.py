"""The rows of a search on the model hub, and what is said while it goes on and after."""

from collections.abc import Sequence

from textual.content import Content

from engine.text import clean_line, human_count
from tui.backend import HubModel
from tui.widgets.help_line import Explanation
from tui.widgets.labels import fit, problem_label
from tui.widgets.pick_list import PickRow
from tui.wizard.facts import HubFacts

SEARCH = "search-hub"
PREFIX = "hub-"
PLACEHOLDER = "Search the model hub: a part of a name, then enter"
HINT = "   Type a part of a name and press enter: the hub is asked then, and not before."
ID_WIDTH = 43
LICENCE_WIDTH = 18


def hub_rows(text: str, facts: HubFacts) -> list[PickRow]:
    """Return the row that searches, where the words are others than those of the last search, and what that found."""
    wanted = text.strip()
    rows: list[PickRow] = []
    if wanted and not (wanted == facts.words and facts.state.progress in ("busy", "done")):
        parts = ((" → Search the hub for ", "bold $success"), (clean_line(wanted, max_chars=60), "bold"))
        rows.append(PickRow(SEARCH, Content.assemble(*parts)))
    rows += [PickRow(f"{PREFIX}{number}", model_row(model)) for number, model in enumerate(facts.answer.models)]
    return rows or [PickRow("none", Content.styled(_nothing(wanted, facts), "$text-muted"), pickable=False)]


def _nothing(wanted: str, facts: HubFacts) -> str:
    if wanted and wanted == facts.words and facts.state.progress == "done":
        return "   The hub names no model for these words that the objective can start from."
    return "" if facts.state.progress == "busy" else HINT


def model_row(model: HubModel) -> Content:
    """Return id, size, licence and downloads of a model of the hub."""
    size = human_count(model.num_params) if model.num_params else ""
    gated = " gated" if model.gated else ""
    licence = clean_line(model.licence or "no licence", max_chars=LICENCE_WIDTH - len(gated) - 1)
    return Content.assemble(
        (" ( ) ", "$text-muted"),
        (fit(clean_line(model.reference), ID_WIDTH), "bold"),
        (f"{size:>7}  ", ""),
        (fit(licence + gated, LICENCE_WIDTH), "$text-muted"),
    )


def hub_words(facts: HubFacts) -> Content:
    """Return how the search goes, in one line."""
    words = clean_line(facts.words, max_chars=48)
    match facts.state.progress:
        case "busy":
            return Content.assemble(
                (f"◌ Searching the hub for {words}…", "bold $primary"), ("  esc cancels", "$text-muted")
            )
        case "failed":
            return Content("\n").join([problem_label(problem) for problem in facts.state.problems[:2]])
        case "done":
            return Content.styled(_summary(facts), "$text-muted")
        case _:
            return Content.styled("esc goes back to the catalogue.", "$text-muted")


def _summary(facts: HubFacts) -> str:
    found, left_out = len(facts.answer.models), facts.answer.left_out
    more = f" {left_out} more do not suit the objective." if left_out else ""
    return f"{found} model{'' if found == 1 else 's'}, most downloaded first.{more} esc goes back to the catalogue."


def hub_model(row_id: str, models: Sequence[HubModel]) -> HubModel | None:
    """Return the model of a row; None for rows that are none."""
    number = row_id.removeprefix(PREFIX)
    return models[int(number)] if row_id.startswith(PREFIX) and int(number) < len(models) else None


def explained(model: HubModel) -> Explanation:
    """Return what a row has no room for."""
    facts = [f"{human_count(model.downloads)} downloads in a month." if model.downloads else ""]
    facts.append(f"Languages: {model.languages}." if model.languages else "")
    facts.append("Its licence must be accepted on the hub first." if model.gated else "")
    facts.append("Enter takes it; its facts are read from the hub, and no weights.")
    return Explanation(model.reference, " ".join(fact for fact in facts if fact))

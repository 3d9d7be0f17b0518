"""Step 2: the base model."""

import os
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from engine.catalog.objectives import OBJECTIVES
from engine.paths import typed_path
from engine.planning.profiles import ModelProfile
from engine.text import clean_line, human_bytes, human_count
from tui.backend import ModelOffer
from tui.widgets.help_line import Explanation
from tui.widgets.labels import fit, problem_label, tail
from tui.widgets.path_input import PathSuggester, looks_like_path
from tui.widgets.pick_list import PickList, PickRow
from tui.wizard import hub_rows
from tui.wizard.facts import model_key, step_problems
from tui.wizard.step_view import Answered, Asked, Explained, HubWanted, StepView

PLACEHOLDER = "Filter, or type a folder or a hub id"
TYPED = "typed"
CHOSEN = "chosen"
WIDE_COLUMNS = 96
TITLE_WIDTH = 24
LICENCE_WIDTH = 15
FULL_COLUMNS = 78
"""From here on a row has room for size and licence."""
CONTEXT_COLUMNS = 112
LANGUAGE_COLUMNS = 136


class ModelStep(StepView):
    """The catalogue, any folder or hub id that is typed, and a search on the hub."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("f5", "search_hub", "Search hub", id="model.search")]
    _searching = False

    def compose(self) -> ComposeResult:
        """Yield the input over the catalogue and what is known of the choice."""
        self._judge_offers()
        yield PickList(
            placeholder=PLACEHOLDER,
            suggester=PathSuggester(folders_only=True),
        )
        yield Static(id="model-facts", classes="facts")

    def _judge_offers(self) -> None:
        self._judged_for = self.facts.machine
        self._offers = self.backend.model_offers(self._judged_for, self.draft.value("objective"))

    def on_mount(self) -> None:
        """Show every offer, the cursor on the answer given."""
        self._list_rows(self._chosen_row())
        self.show()

    def on_resize(self) -> None:
        """Show a column more where there is room."""
        self.show()

    def focus_start(self) -> None:
        """Focus the input."""
        self.query_one(PickList).take_focus()

    def action_search_hub(self) -> None:
        """Search the hub instead of the catalogue; what is typed is kept."""
        self._search(on=not self._searching)

    def _search(self, *, on: bool) -> None:
        self._searching = on
        picker = self.query_one(PickList)
        picker.placeholder = hub_rows.PLACEHOLDER if on else PLACEHOLDER
        self._list_rows(None if on else self._chosen_row())
        self.show()
        picker.take_focus()

    def leave_transient(self) -> bool:
        """Empty the filter, stop waiting for the hub, or leave the search."""
        if self._searching:
            if self.facts.hub.state.progress == "busy":
                self.post_message(Asked("cancel-hub"))
            else:
                self.query_one(PickList).text = ""
                self._search(on=False)
            return True
        picker = self.query_one(PickList)
        had_text = bool(picker.text)
        picker.text = ""
        if not had_text and self._waiting():
            self.post_message(Asked("cancel-model"))
            return True
        return had_text

    def _waiting(self) -> bool:
        state = self.facts.model_state
        return state.progress == "busy" and state.key == model_key(self.draft)

    def show(self) -> None:
        """Move the mark to the answer and show its facts or problems."""
        if self.facts.machine != self._judged_for:
            self._judge_offers()  # The machine was read after the step was opened.
        self._list_rows()
        self.query_one("#model-facts", Static).update(self._facts())

    def _chosen_row(self) -> str | None:
        base = self.draft.value("model.base")
        return next((f"offer-{index}" for index, offer in enumerate(self._offers) if offer.reference == base), None)

    def _list_rows(self, highlight: str | None = None) -> None:
        picker = self.query_one(PickList)
        rows = hub_rows.hub_rows(picker.text, self.facts.hub) if self._searching else self._rows(picker.text)
        picker.set_rows(rows, highlight=highlight)

    def _rows(self, text: str) -> list[PickRow]:
        wanted = text.strip()
        rows: list[PickRow] = []
        if is_folder(wanted) or wanted.count("/") == 1:
            kind = "Use the folder" if is_folder(wanted) else "Use the hub model"
            rows.append(
                PickRow(TYPED, Content.assemble((f" → {kind} ", "bold $success"), (clean_line(wanted), "bold")))
            )
        elif not wanted and self.draft.value("model.base") and self._chosen_row() is None:
            base = clean_line(self.draft.value("model.base"))
            rows.append(PickRow(CHOSEN, Content.assemble((" (●) ", "bold $success"), (base, "bold"))))
        for index, offer in enumerate(self._offers):
            asked = wanted.lower() in f"{offer.title} {offer.reference} {offer.languages}".lower()
            # What the objective does not train is found by its name, with the reason, and else left out.
            if asked if wanted else not offer.unsuited:
                rows.append(PickRow(f"offer-{index}", self._offer_row(offer)))
        if not rows:
            hint = "   Not in the catalogue. F5 searches the hub, or type a folder or a hub id."
            rows.append(PickRow("none", Content.styled(hint, "$text-muted"), pickable=False))
        return rows

    def _offer_row(self, offer: ModelOffer) -> Content:
        chosen = offer.reference == self.draft.value("model.base")
        refused = bool(offer.blocked or offer.unsuited)
        weight = "$text-disabled" if refused else ""
        dim = weight or "$text-muted"
        mark = (" (●) ", "bold $success") if chosen else (" ( ) ", "$text-muted")
        if refused:
            mark = ("  ✗  ", "$error")
        size = human_bytes(offer.weights_bytes) if offer.weights_bytes else ""
        fit_words = "other objective" if offer.unsuited else clean_line(offer.fit)
        return Content.assemble(
            mark,
            (fit(clean_line(offer.title), TITLE_WIDTH), f"bold {weight}".strip()),
            (f"{human_count(offer.num_params) if offer.num_params else '':>7} ", weight),
            (f"{size:>8}  " if self.size.width >= FULL_COLUMNS else " ", dim),
            *((text, dim) for text in self._wide_columns(offer)),
            (self._licence(offer), dim),
            (fit_words, "$error" if refused else "$success"),
        )

    def _wide_columns(self, offer: ModelOffer) -> list[str]:
        width, columns = self.size.width, []
        if width >= WIDE_COLUMNS:
            columns.append(fit(offer.where, 16))
        if width >= CONTEXT_COLUMNS:
            columns.append(f"{human_count(offer.context_length) if offer.context_length else '':>6} tok  ")
        if width >= LANGUAGE_COLUMNS:
            columns.append(fit(clean_line(offer.languages), 24))
        return columns

    def _licence(self, offer: ModelOffer) -> str:
        """Return the licence, with a word about models that ask for an account."""
        if self.size.width < FULL_COLUMNS:
            return ""
        gated = " gated" if offer.gated else ""
        return fit(clean_line(offer.licence, max_chars=LICENCE_WIDTH - len(gated) - 1) + gated, LICENCE_WIDTH)

    def _facts(self) -> Content:
        if self._searching:
            return hub_rows.hub_words(self.facts.hub)
        problems = [problem_label(problem) for problem in step_problems("model", self.draft, self.facts)[:3]]
        known = self._known()
        return Content("\n").join([known, *problems] if known else problems)

    def _known(self) -> Content:
        if self.facts.model_state.progress == "failed":
            return Content("")
        if self._waiting():
            base = tail(str(self.draft.value("model.base")), 48)
            return Content.assemble((f"◌ Reading {base}…", "bold $primary"), ("  esc cancels", "$text-muted"))
        model = self.facts.model
        if model is None:
            return Content.styled("Enter takes the model under the cursor. F5 searches the model hub.", "$text-muted")
        objective = str(self.draft.value("objective") or "")
        where = "on this machine" if model.folder and not model.download_bytes else "to be downloaded"
        return Content.assemble(
            ("✓ ", "bold $success"),
            (tail(model.base, 40), "bold"),
            (f"  {clean_line(model.architecture)} · {human_count(model.num_params)} weights", ""),
            (f" · context {model.context_length:,} tokens{template_words(objective, model)} · {where}", "$text-muted"),
        )

    @on(PickList.TextChanged)
    def _filter(self, _event: PickList.TextChanged) -> None:
        typed = bool(self.query_one(PickList).text)
        self._list_rows(None if typed or self._searching else self._chosen_row())

    @on(PickList.Highlighted)
    def _highlighted(self, event: PickList.Highlighted) -> None:
        self.post_message(Explained(self._explanation(event.row_id)))

    def _explanation(self, row_id: str) -> Explanation:
        found = hub_rows.hub_model(row_id, self.facts.hub.answer.models)
        if found is not None:
            return hub_rows.explained(found)
        if row_id == hub_rows.SEARCH:
            return Explanation("Model hub", "Shows models with safetensors weights that the objective can start from.")
        if not row_id.startswith("offer-"):
            text = "A folder with config.json and safetensors weights, or a model of the hub by its id."
            return Explanation("Base model", text)
        return _explained(self._offers[int(row_id.removeprefix("offer-"))])

    @on(PickList.Picked)
    def _picked(self, event: PickList.Picked) -> None:
        row_id = event.row_id
        if row_id.startswith("offer-"):
            offer = self._offers[int(row_id.removeprefix("offer-"))]
            if reason := offer.unsuited or offer.blocked:
                self.post_message(Explained(Explanation(offer.title, reason)))
                self.app.bell()
                return
            self._choose(offer.reference)
        elif row_id == hub_rows.SEARCH:
            self.post_message(HubWanted(self.query_one(PickList).text.strip()))
        elif (found := hub_rows.hub_model(row_id, self.facts.hub.answer.models)) is not None:
            self.query_one(PickList).text = ""
            self._search(on=False)
            self._choose(found.reference)
        elif row_id == TYPED:
            picker = self.query_one(PickList)
            base = typed_base(picker.text.strip())
            picker.text = ""
            self._choose(base)
        elif row_id == CHOSEN:
            self._read_again()
            self.post_message(Answered({}, advance=True))

    def _read_again(self) -> None:
        """Ask once more for a model that could not be read: the connection may be back."""
        if self.facts.model_state.progress == "failed":
            self.post_message(Asked("inspect-model"))

    def _choose(self, base: str) -> None:
        if base == self.draft.value("model.base"):
            self._read_again()
        known = any(offer.reference == base for offer in self._offers)
        self.post_message(Answered({"model.base": base}, ("model.revision",), advance=known))


def _explained(offer: ModelOffer) -> Explanation:
    """Return what a row has no room for: why not, what it is, how much it reads and in which languages."""
    facts = [f"Reads {offer.context_length:,} tokens."] if offer.context_length else []
    if offer.languages:
        facts.append(f"Languages: {offer.languages}.")
    if offer.gated:
        facts.append("Its licence must be accepted on the hub first.")
    text = " ".join(part for part in (offer.unsuited or offer.blocked, *facts, offer.summary) if part)
    return Explanation(offer.reference, text)


def is_folder(text: str) -> bool:
    """Whether what was typed is a folder: a path, or the name of a folder here that holds a model."""
    return looks_like_path(text) or (
        bool(text) and "/" not in text and os.path.isfile(typed_path(text) / "config.json")
    )


def typed_base(text: str) -> str:
    """Return what a person typed as a base model; folders become absolute, so that a draft can move."""
    if not is_folder(text):
        return text
    folder = typed_path(text)
    return str(folder.resolve()) if os.path.isdir(folder) else str(folder)


def template_words(objective: str, model: ModelProfile) -> str:
    """Return whether there is a chat template, for objectives that write conversations with it; else nothing."""
    goal = next((goal for goal in OBJECTIVES if goal.name == objective), None)
    if goal is not None and "model.chat_template" not in goal.settings_of(model.kind):
        return ""
    return " · brings a chat template" if model.has_chat_template else " · no chat template of its own"

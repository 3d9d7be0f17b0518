"""The wizard as line prompts: for dumb terminals, screen readers and scripts.

The same steps over the same draft as on the screens. Every prompt accepts `?` for an explanation, `b` to go back and
`q` to leave; an empty line takes what stands in brackets. A wrong answer is explained and asked again.
"""

import os
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from engine.paths import typed_path
from engine.recipe.places import absolute_places
from engine.recipe.problems import ProblemError
from engine.recipe.schema_data import source_paths
from engine.text import clean, clean_line, human_bytes
from tui.plain_data import PlainProgress, print_data, print_offers
from tui.plain_model import SEARCH, first_choice, offer_details, offer_summary, search_hub, suited_offers
from tui.plain_plan import HEADERS, PlainOption, plain_options
from tui.plain_xray import PLAIN_LEGEND, page_lines, read_page
from tui.plan_text import WIDTH, length_line
from tui.preparation import Prepared, deepened, model_profile, prepare, worth_rehearsing
from tui.verbs.output import print_problems, print_table
from tui.verbs.recipes import print_plan
from tui.wizard.draft import STEP_TITLES, Draft, StepName, forget_draft, new_draft, newest_draft, save_draft
from tui.wizard.facts import ALLOW_ALL_TRAINED, PREFLIGHT

if TYPE_CHECKING:
    from engine.helper import InspectionHelper
    from engine.planning.plan import Plan
    from engine.planning.profiles import DataProfile
    from tui.backend import ModelOffer

PLAIN_STEPS: tuple[StepName, ...] = ("objective", "model", "data", "xray", "method", "settings", "review")


class _GoBack(Exception):
    """The person typed `b`."""


class _Leave(Exception):
    """The person typed `q`, or the input ended."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One numbered answer."""

    value: str
    title: str
    summary: str
    more: str = ""


def run_plain_wizard(draft: Draft | None, helper: "InspectionHelper", drafts: Path) -> Prepared | None:
    """Ask step by step and return what to launch, or None when the person left.

    Args:
        draft: A preset's draft, opened at its review; None to start from the first step or the last draft.
        helper: Process that reads data and counts tokens.
        drafts: Folder where the draft is saved after each step.
    """
    _say("ftwizard, plain. At every prompt: ? explains, b goes back, q leaves; empty takes [what is in brackets].")
    try:
        current = _opening_draft(drafts) if draft is None else draft
        return _walk(current, helper, drafts)
    except _Leave:
        typer.echo("\nNothing was started. The draft is kept; `ftwizard --plain` offers it again.")
        return None


def _opening_draft(drafts: Path) -> Draft:
    found = newest_draft(drafts).draft
    if found is not None:
        typer.echo(f"There is a draft ({', '.join(f'{p}={v}' for p, v in list(found.you.items())[:4])}).")
        if _ask_yes("Continue it?", default=True):
            return found
    return new_draft()


def _walk(draft: Draft, helper: "InspectionHelper", drafts: Path) -> Prepared | None:
    asks: dict[StepName, Callable[[Draft], Draft]] = {
        "objective": _ask_objective,
        "model": lambda current: _ask_model(current, helper),
        "data": lambda current: _ask_data(current, helper),
        "xray": lambda current: _look_at_sequences(current, helper),
        "method": lambda current: _ask_method(current, helper),
        "settings": _ask_settings,
    }
    while True:
        step = draft.step
        number = PLAIN_STEPS.index(step)
        typer.echo(f"\nStep {number + 1} of {len(PLAIN_STEPS)}: {STEP_TITLES[step]}")
        try:
            if step == "review":
                prepared = _review(draft, helper)
                if prepared is not None:
                    forget_draft(draft, drafts)
                    return prepared
                continue
            draft = asks[step](draft).at_step(PLAIN_STEPS[number + 1])
            save_draft(draft, drafts)
        except _GoBack:
            draft = draft.at_step(PLAIN_STEPS[max(0, number - 1)])


def _ask_objective(draft: Draft) -> Draft:
    from engine.catalog.objectives import OBJECTIVES

    choices = [
        Choice(o.name, o.title, o.summary, f"When: {o.when}\nWhen not: {o.when_not}\nNeeds: {o.needs}")
        for o in OBJECTIVES
    ]
    return draft.with_value("objective", _ask_choice(choices, draft.value("objective", "chat")))


def _ask_model(draft: Draft, helper: "InspectionHelper") -> Draft:
    from engine.planning.model_findings import model_findings

    offers, too_large = suited_offers(draft.value("objective"))
    if too_large:
        _say(f"{too_large} more of the catalogue do not fit this machine.")
    while True:
        choices = [Choice(one.reference, one.title, offer_summary(one), offer_details(one)) for one in offers]
        base = _ask_choice(
            choices,
            draft.value("model.base", first_choice(offers)),
            other="a folder, another hub id, or search and words to ask the hub",
        )
        if base.startswith(SEARCH):
            offers = _searched(base.removeprefix(SEARCH), draft, helper) or offers
            continue
        typer.echo(f"Reading {clean_line(base)} ...")
        try:
            profile = model_profile(base, draft.value("model.revision"), helper)
        except KeyboardInterrupt:
            helper.close()
            typer.echo("\nCancelled.")
            continue
        except ProblemError as error:
            print_problems(error.problems)
            continue
        found = list(model_findings(profile, draft.value("objective", "chat")))
        print_problems(found)
        if not any(finding.severity == "error" for finding in found):
            return draft.with_value("model.base", base)


def _searched(words: str, draft: Draft, helper: "InspectionHelper") -> "list[ModelOffer]":
    """Return what the hub finds for words; nothing when it did not answer, which is said."""
    typer.echo(f"Searching the hub for {clean_line(words)} ...")
    try:
        found = search_hub(words.strip(), draft.value("objective", "chat"), helper)
    except KeyboardInterrupt:
        helper.close()
        typer.echo("\nCancelled.")
        return []
    except ProblemError as error:
        print_problems(error.problems)
        return []
    if not found:
        typer.echo("The hub names no model for these words that the objective can start from.")
    return found


def _ask_data(draft: Draft, helper: "InspectionHelper") -> Draft:
    while True:
        given = _ask(
            "A file, several split by commas, or builtin:commands",
            _as_typed(draft.value("data.source", "builtin:commands")),
            _DATA_HELP,
        )
        source: str | list[str] = given
        if isinstance(given, str) and "," in given and not os.path.exists(typed_path(given)):
            source = [part.strip() for part in given.split(",") if part.strip()]
        answered = draft.with_value("data.source", source)
        if source != draft.value("data.source"):
            answered = answered.without("data.format", "data.mapping")
        try:
            profile = _profile(answered, helper)
        except KeyboardInterrupt:
            typer.echo("\nCancelled.")
            continue
        except ProblemError as error:
            print_problems(error.problems)
            chosen = _ask_shape(answered, error, helper)
            if chosen is None:
                continue
            answered, profile = chosen
        print_data(profile)
        if not any(
            finding.severity == "error" and not finding.code.startswith(PREFLIGHT) for finding in profile.findings
        ):
            return answered


def _ask_shape(draft: Draft, error: ProblemError, helper: "InspectionHelper") -> "tuple[Draft, DataProfile] | None":
    """Let one of the ways to read unclear rows be chosen by its number; None when none was, or it cannot be read."""
    if not any(problem.code == "data.shape_unsure" for problem in error.problems):
        return None
    tree = absolute_places(draft.layered.tree, (Path.cwd(),))
    try:
        offers = helper.call_blocking("shape_offers", recipe=tree)["offers"]
        print_offers(offers)
        answer = _ask("How are the rows to be read? Number, or empty for other data", "", _SHAPE_HELP)
        if not (answer.isascii() and answer.isdigit() and 1 <= int(answer) <= len(offers)):
            return None
        offer = offers[int(answer) - 1]
        chosen = draft.with_values({"data.format": offer["format"], "data.mapping": offer["mapping"]})
        return chosen, _profile(chosen, helper)
    except KeyboardInterrupt:
        typer.echo("\nCancelled.")
        return None
    except ProblemError as again:
        print_problems(again.problems)
        return None


_SHAPE_HELP = (
    "Each number is a way to read a row; below it stands the first row read that way. For another one set\n"
    "data.mapping in a recipe, such as {prompt: question, completion: answer}."
)


def _as_typed(source: Any) -> str:
    return ", ".join(source_paths(source))


_DATA_HELP = (
    "JSONL, JSON, CSV, TSV, Parquet or text. Rows with messages, prompt and completion (or question and answer),\n"
    "instruction, input and output, or one text column are understood."
)


def _profile(draft: Draft, helper: "InspectionHelper") -> "DataProfile":
    from engine.planning.profiles import DataProfile

    tree = absolute_places(draft.layered.tree, (Path.cwd(),))
    folder = model_profile(draft.value("model.base"), draft.value("model.revision"), helper).folder
    typer.echo("Reading the data ... (ctrl+c cancels)")
    tell = PlainProgress()
    return DataProfile.model_validate(helper.call_blocking("profile_data", tell, recipe=tree, folder=folder))


def _look_at_sequences(draft: Draft, helper: "InspectionHelper") -> Draft:
    """Show three sequences with marks, and ask what must be asked; errors lead back to the data."""
    folder = model_profile(draft.value("model.base"), draft.value("model.revision"), helper).folder
    tree = absolute_places(draft.layered.tree, (Path.cwd(),))
    typer.echo("Making the sequences that the trainer will draw ... (ctrl+c cancels)")
    try:
        page = read_page(helper, tree, folder)
    except KeyboardInterrupt:
        typer.echo("\nCancelled.")
        raise _GoBack from None
    except ProblemError as error:
        print_problems(error.problems)
        if any(problem.severity == "error" for problem in error.problems):
            raise _GoBack from None
        _ask("Empty goes on", "", "The run makes these checks itself before its first step.")
        return draft
    for line in page_lines(page):
        typer.echo(line)
    asked = next((problem for problem in page.problems if ALLOW_ALL_TRAINED in problem.fix), None)
    print_problems([problem for problem in page.problems if problem is not asked])
    if any(problem.severity == "error" and problem is not asked for problem in page.problems):
        _ask("Go back with b", "b", "Each problem above names what to change.")
        raise _GoBack
    if asked is None:
        _ask("Empty goes on", "", PLAIN_LEGEND)
        return draft
    typer.echo(clean_line(asked.message))
    if _ask_yes("Train on everything?", default=False):
        return draft.with_value(ALLOW_ALL_TRAINED, True)
    raise _GoBack


def _ask_method(draft: Draft, helper: "InspectionHelper") -> Draft:
    """Print the plan's ranked table and take one of its rows; a way to make it fit prints the table anew."""
    while True:
        plan = _plan(draft, helper)
        options = plain_options(plan)
        numbered = [(f"{number}.", option) for number, option in enumerate(options, 2)]
        rows = [(number, *option.cells) for number, option in numbered if not (option.is_way or option.folded)]
        print_table(HEADERS, [("1.", "Decide for me", "", "", "the best that fits"), *rows])
        for number, option in numbered:
            if option.is_way:
                _say(f"{number}  {option.more}")
        if more := ", ".join(option.name for option in options if option.folded and option.answers is not None):
            _say(f"More methods, by name: {more}.")
        if words := length_line(plan.lengths, plan.recipe.training.max_length):
            _say(f"Sequence length: {words}. The next step changes it (training.max_length=...).")
        typer.echo("~ is a formula. Type ? for settings, quality and why not of each.")
        taken = _ask_option(options, draft)
        if taken is None:
            return draft.without("method.name", *draft.taken)
        if not taken.is_way:
            return draft.taking(taken.answers or {})
        draft = draft.with_values(taken.answers or {})


def _plan(draft: Draft, helper: "InspectionHelper") -> "Plan":
    try:
        return prepare(draft.layered, helper, reference=draft.preset or "draft").plan
    except ProblemError as error:
        print_problems(error.problems)
        raise _GoBack from None


def _ask_option(options: Sequence[PlainOption], draft: Draft) -> PlainOption | None:
    """Return the option taken; None to let the plan decide."""
    explained = "\n".join(option.more for option in options)
    names = {option.name: option for option in reversed(options) if option.name}
    while True:
        answer = _ask("Number", draft.value("method.name") or "1", explained)
        if answer in ("1", "auto"):
            return None
        number = int(answer) - 2 if answer.isascii() and answer.isdigit() else -1
        option = options[number] if 0 <= number < len(options) else names.get(answer)
        if option is None:
            typer.echo(f"{clean_line(answer)} is not in the list; type a number from 1 to {len(options) + 1}.")
        elif option.answers is None:
            typer.echo(f"It cannot run here: {clean_line(option.why_not)}")
        else:
            return option


def _ask_settings(draft: Draft) -> Draft:
    from engine.recipe.fields import recipe_fields
    from engine.recipe.read import set_value
    from engine.recipe.sources import flatten, unflatten

    fields = [
        field
        for field in recipe_fields()
        if field.path.split(".")[0] in ("training", "method", "evaluation", "delivery", "data")
    ]
    _say("The defaults suit most. Type path=value to change one (training.epochs=2), ? for the list, empty to go on.")
    while True:
        line = _ask("Change", "", "\n".join(f"{f.path}: {f.description} Default: {f.why}" for f in fields))
        if not line:
            return draft
        try:
            changed = flatten(set_value(unflatten(draft.you), line))
        except ProblemError as error:
            print_problems(error.problems)
            continue
        for path, value in changed.items():
            if draft.you.get(path) != value:
                draft = draft.with_value(path, value)
                typer.echo(f"{path} = {clean_line(value)}")


def _review(draft: Draft, helper: "InspectionHelper") -> Prepared | None:
    try:
        prepared = prepare(draft.layered, helper, reference=draft.preset or "draft")
    except ProblemError as error:
        print_problems(error.problems)
        _ask("Go back with b", "b", "The draft is not complete or not valid; go back and change it.")
        raise _GoBack from None
    if worth_rehearsing(prepared.plan):
        prepared = replace(prepared, plan=deepened(prepared.plan, typer.echo))
    print_plan(prepared.plan)
    if prepared.plan.blocked:
        _ask("This plan must not be started; go back with b", "b", "Each problem above names what to change.")
        raise _GoBack
    needed = human_bytes(prepared.plan.memory.expected_bytes)
    if _ask_yes(f"Start the run ({prepared.plan.steps.total_steps} steps, about {needed})?", default=True):
        return prepared
    raise _GoBack


def _say(text: str, *, indent: str = "") -> None:
    """Print text broken between words: a terminal breaks them in the middle."""
    typer.echo("\n".join(textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}    ")))


def _ask_choice(choices: Sequence[Choice], default: str, *, other: str = "") -> str:
    for number, choice in enumerate(choices, 1):
        _say(f"{number}. {choice.title}: {choice.summary}", indent="  ")
    explained = "\n".join(f"{choice.title}\n{choice.more}" for choice in choices if choice.more)
    question = f"Number, or {other}" if other else "Number"
    names = {choice.value: choice.value for choice in choices}
    names.update({str(number): choice.value for number, choice in enumerate(choices, 1)})
    while True:
        answer = _ask(question, default, explained)
        if answer in names:
            return names[answer]
        if other and answer:
            return answer
        typer.echo(f"{clean_line(answer)} is not in the list; type a number from 1 to {len(choices)}.")


def _ask_yes(question: str, *, default: bool) -> bool:
    while True:
        answer = _ask(f"{question} y or n", "y" if default else "n", "y for yes, n for no.").lower()
        if answer in ("y", "yes", "n", "no"):
            return answer.startswith("y")
        typer.echo("Type y or n.")


def _ask(question: str, default: Any, explanation: str) -> str:
    shown = f" [{clean_line(default)}]" if default not in ("", None) else ""
    while True:
        typer.echo(f"{question}{shown}: ", nl=False)
        try:
            answer = input().strip()
        except (EOFError, KeyboardInterrupt):
            raise _Leave from None
        match answer.lower():
            case "?":
                typer.echo(clean(explanation))
            case "b":
                raise _GoBack
            case "q":
                raise _Leave
            case "":
                if default == "b":
                    raise _GoBack
                return "" if default is None else str(default)
            case _:
                return answer

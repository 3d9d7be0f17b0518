"""Merge the adapter of an ended run: `python -P -m engine.deployment.merge_later RUN_DIR`.

For a run whose machine had not enough memory to merge; the run directory may have been copied to another one.
"""

import json
import sys
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from engine.data.rendering import renderer_of
from engine.deployment.export import Exported, merge_run, parity_prompts
from engine.evaluation.report import write_report
from engine.models.tokenizers import faithful_tokenizer
from engine.planning.plan import Plan
from engine.recipe.problems import Problem, ProblemError
from engine.runs.directory import RunDirectory
from engine.runs.liveness import is_alive
from engine.text import clean_line, human_bytes

USAGE = "usage: python -P -m engine.deployment.merge_later RUN_DIR\n"
NUM_PROMPTS = 4


def main(argv: list[str] | None = None) -> int:
    """Merge and return the exit code: 0 done, 1 not possible, 2 wrong use."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.stderr.write(USAGE)
        return 2
    run = RunDirectory(Path(arguments[0]).absolute())
    try:
        merged = merge_later(run)
    except ProblemError as error:
        sys.stderr.write(f"{clean_line(error)}\n")
        return 1
    place = clean_line(run.path / merged.folder)
    sys.stdout.write(f"Merged in {merged.elapsed_s:.0f} s: {place} ({human_bytes(merged.bytes)}).\n")
    return 0


def merge_later(run: RunDirectory) -> Exported:
    """Merge the adapter of a run and write its report anew.

    Raises:
        ProblemError: The run is going, it has no adapter, or as `merge_run`.
    """
    plan = run.read_plan()
    if is_alive(run):
        raise ProblemError(
            Problem("run.alive", f"Run {clean_line(run.folder_name)} is still going.", "Wait until it has ended.")
        )
    if not (run.adapter_folder / "adapter_config.json").is_file():
        raise ProblemError(
            Problem(
                "export.no_adapter",
                f"Run {clean_line(run.folder_name)} has no adapter to merge.",
                "Resume the run first.",
            )
        )
    trust = plan.recipe.model.trust_remote_code
    tokenizer = faithful_tokenizer(run.adapter_folder, [], trust=trust)
    merged = merge_run(run, plan, tokenizer, prompts=_prompts(run, plan, tokenizer))
    if run.report_json_file.exists():
        write_report(run)
    return merged


def _prompts(run: RunDirectory, plan: Plan, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    recipe = plan.recipe
    if recipe.row_tokens is None or not run.held_out_file.exists():
        return []
    renderer = renderer_of(plan, tokenizer)
    lines = run.held_out_file.read_text(encoding="utf-8").splitlines()[:NUM_PROMPTS]
    return parity_prompts([json.loads(line) for line in lines], renderer)


if __name__ == "__main__":
    raise SystemExit(main())

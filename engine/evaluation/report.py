"""Write the report of a run: JSON for programs, Markdown for text, one HTML page for people."""

from pathlib import Path

from engine.evaluation.measurement import write_json, write_text
from engine.evaluation.report_data import collect
from engine.evaluation.report_html import html_report
from engine.evaluation.report_markdown import markdown_report
from engine.runs.directory import RunDirectory
from engine.runs.picture import open_picture


def write_report(run: RunDirectory, *, state: str | None = None) -> Path:
    """Write `report.json`, `report.md` and `report.html` from the files of a run; safe to call again.

    Args:
        run: The run, whole or stopped on the way; what is missing is left out of the report.
        state: State that the run is about to have (`finished`); that of its events when None.

    Returns:
        The HTML file.

    Raises:
        ProblemError: The plan cannot be read, or the folder cannot be written.
    """
    picture, _ = open_picture(run)
    content = collect(run, picture, state=state)
    write_text(run.report_markdown_file, markdown_report(content))
    write_text(run.report_html_file, html_report(content, picture.curves))
    # Last, as its presence tells other programs that the report is there.
    write_json(run.report_json_file, content)
    return run.report_html_file

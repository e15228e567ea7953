"""A report as data, and the writers that make HTML, Markdown and a tracker's tables of it.

Nothing here knows what is reported on: an evaluation, a generator's card and a de-identification
study are all headings, tables and plots. Palm pictures are biometric data: a report holds some only
if its maker put a `PairList` in, HTML and Markdown show them, and a tracker gets them only when
asked (`log_to_wandb(..., images=True)`). A `Plot` is taken for a drawing of numbers and always
shown: never put palms into one.

Example:
    >>> from palmforge.report import Heading, Rate, Report, Table, to_markdown
    >>> table = Table("Errors", ["domain", "EER"], [["IF", Rate(0.0351, 0.032, 0.0385)]])
    >>> print(to_markdown(Report("Evaluation", blocks=[Heading("Results"), table])))
    # Evaluation
    <BLANKLINE>
    ## Results
    <BLANKLINE>
    **Errors**
    <BLANKLINE>
    | domain | EER |
    |:---|---:|
    | IF | 3.51 % (3.20–3.85) |
    <BLANKLINE>
"""

from palmforge.report.document import (
    Block,
    Cell,
    Details,
    Heading,
    HeatMap,
    Pair,
    PairList,
    Paragraph,
    Plot,
    Rate,
    Report,
    Table,
)
from palmforge.report.html import to_html
from palmforge.report.markdown import to_markdown
from palmforge.report.tracking import log_to_wandb
from palmforge.report.write import write_report

__all__ = [
    "Block",
    "Cell",
    "Details",
    "Heading",
    "HeatMap",
    "Pair",
    "PairList",
    "Paragraph",
    "Plot",
    "Rate",
    "Report",
    "Table",
    "log_to_wandb",
    "to_html",
    "to_markdown",
    "write_report",
]

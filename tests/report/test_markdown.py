"""The same report as Markdown, and both as files."""

from __future__ import annotations

import math
import stat

from PIL import Image
from reports import CONFIG, PROVENANCE, example_report, palm

from palmforge.report import (
    Details,
    HeatMap,
    Pair,
    PairList,
    Paragraph,
    Rate,
    Report,
    Table,
    to_markdown,
    write_report,
)


def test_tables_show_rates_with_intervals_and_dashes():
    rows = [["a", Rate(0.0351, 0.032, 0.0385), 1000], ["b", Rate(math.nan), None]]
    text = to_markdown(
        Report("Title", "Words.", [Table("Errors", ["run", "EER", "n"], rows, "N.")])
    )
    assert text == (
        "# Title\n\nWords.\n\n**Errors**\n\n| run | EER | n |\n|:---|---:|---:|\n"
        "| a | 3.51 % (3.20–3.85) | 1,000 |\n| b | – | – |\n\nN.\n"
    )


def test_heat_map_details_provenance_and_config():
    blocks = [Details("More", [HeatMap("H", ["a"], ["x", "y"], [[1.0, None]], "corner")])]
    text = to_markdown(Report("T", blocks=blocks, provenance=PROVENANCE, config_yaml=CONFIG))
    assert "<details><summary>More</summary>\n\n**H**\n\n| corner | x | y |\n" in text
    assert "| a | 1.00 | – |\n\n</details>" in text
    assert "- command: `train.py evaluate '--data.root=/data/XJTU UP'`\n" in text
    assert "- gpu: `–`\n- packages / torch: `2.11.0`\n" in text
    assert text.endswith(f"```yaml\n{CONFIG}```\n")


def test_nothing_in_a_name_becomes_markup():
    name = "<script>x</script> a|b *c* [d](e) `f` &amp;"
    table = Table("t", ["name"], [[name]])
    text = to_markdown(
        Report("t", blocks=[table, Paragraph("# no\nheading"), Paragraph("1. none")])
    )
    assert r"| \<script\>x\</script\> a\|b \*c\* \[d\](e) \`f\` \&amp; |" in text
    assert "\\# no heading\n" in text and "\\1. none" in text
    assert "# no" not in text.splitlines()


def test_config_with_a_fence_in_it_stays_inside():
    text = to_markdown(Report("t", provenance={"a": "`b`"}, config_yaml="x: |\n  ```\n  y\n"))
    assert "````yaml\nx: |\n  ```\n  y\n````" in text
    assert "- a: `` `b` ``" in text


def test_files_hold_the_same_report_and_pictures_that_open(tmp_path):
    report = example_report()
    path = write_report(report, tmp_path / "new" / "folder", name="verification")
    assert path == tmp_path / "new/folder/verification.html"
    page = path.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and page.endswith("</html>\n")
    assert page.count("<svg") == 4 and page.count("<img") == 16
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    links = [part.partition(")")[0] for part in text.split("](")[1:]]
    figures = sorted(path.parent.joinpath("figures").iterdir())
    assert sorted(links) == [f"figures/{figure.name}" for figure in figures]
    assert len(links) == 4 + 2 * 2 * 4
    for figure in figures:
        with Image.open(figure) as picture:
            picture.load()
            assert figure.suffix == ".png" or max(picture.size) <= 128
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert not [p for p in path.parent.rglob(".*")]  # nothing half-written


def test_without_a_folder_no_file_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pairs = PairList("Worst", [Pair(palm(0), palm(1), "a and b")], "Note.")
    text = to_markdown(Report("t", blocks=[pairs]))
    assert text == "# t\n\n**Worst**\n\n1. a and b\n\nNote.\n"
    assert not list(tmp_path.iterdir())

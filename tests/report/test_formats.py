"""Every format of one run: nothing empty, kinds apart, hostile names harmless, the same bytes again."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from rich.cells import cell_len
from rich.console import Console

from melody.errors import MelodyError
from melody.report.frames import cells_frame, to_csv
from melody.report.kinds import KINDS, value_of
from melody.report.reproduction import reproduction
from melody.report.terminal import print_document
from melody.report.write import write_report
from melody.reproduce.results import Results

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
HOSTILE = "<script>alert('ö|*$1$')</script>"


class Page(HTMLParser):
    """Checks that tags are balanced, and keeps what the tests look at."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.cells: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data


@pytest.fixture(scope="module")
def written(results: Results, sound_folder: Path) -> dict[str, Path]:
    return {str(path.relative_to(sound_folder)): path for path in write_report(results, sound_folder)}


@pytest.fixture(scope="module")
def page(written: dict[str, Path]) -> Page:
    parser = Page()
    parser.feed(written["report.html"].read_text(encoding="utf-8"))
    parser.close()
    return parser


@pytest.fixture(scope="module")
def markdown(written: dict[str, Path]) -> str:
    return written["REPORT.md"].read_text(encoding="utf-8")


def test_another_process_writes_the_same_bytes_without_torch(
    results: Results, sound_folder: Path, tmp_path: Path
) -> None:
    few = results.model_copy(update={"tables": results.tables[3:4] + results.tables[-1:]})
    digests = []
    for name in ("here", "there"):
        folder = tmp_path / name
        shutil.copytree(sound_folder / "clips", folder / "clips")
        if name == "here":
            write_report(few, folder)
        else:
            _render_elsewhere(few, folder)
        paths = [path for path in folder.rglob("*") if path.suffix in (".md", ".html", ".csv", ".png")]
        digests.append({str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths})
    assert len(digests[0]) == 6
    assert digests[0] == digests[1]


def _render_elsewhere(results: Results, folder: Path) -> None:
    code = """
import sys
from pathlib import Path
from melody.reproduce.results import load_results
from melody.report.reproduction import reproduction
from melody.report.terminal import print_document
from melody.report.write import write_report
folder = Path(sys.argv[1])
results = load_results(folder / "results.json")
write_report(results, folder)
print_document(reproduction(results))
sys.exit("torch" in sys.modules)
"""
    (folder / "results.json").write_text(results.model_dump_json(), encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Table 4: angle schedules" in done.stdout


def test_every_file_is_written_whole(written: dict[str, Path], results: Results) -> None:
    assert {"REPORT.md", "report.html", "tables/table2.csv", "tables/table2-orderings.csv"} <= set(written)
    assert {f"tables/{table.suite}.csv" for table in results.tables} <= set(written)
    plots = {name for name in written if name.startswith("figures/")}
    assert {"figures/table2-quality.png", "figures/table2-speed.png", "figures/claims-passes.png"} <= plots
    assert all(written[name].read_bytes().startswith(b"\x89PNG") for name in plots)
    folder = written["REPORT.md"].parent
    assert not [path for path in folder.rglob(".*") if path.is_file()]


def test_the_page_is_well_formed_and_names_things_once(page: Page) -> None:
    assert page.unbalanced == []
    assert page.open == []
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names))
    targets = {a["popovertarget"] for _, a in page.tags if "popovertarget" in a}
    targets |= {a["href"][1:] for t, a in page.tags if t == "a" and a["href"].startswith("#")}
    assert targets <= set(names)


def test_the_page_fetches_nothing(page: Page, written: dict[str, Path]) -> None:
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    sources = [a[name] for _, a in page.tags for name in ("src", "srcset", "poster", "data") if name in a]
    assert sources
    assert all(source.startswith("data:") for source in sources)
    links = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert {link for link in links if not link.startswith("#")} == {"https://arxiv.org/abs/2305.15719"}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert not re.search(r"@import|url\((?!#)", written["report.html"].read_text(encoding="utf-8"))


def test_no_place_of_the_page_is_empty(page: Page) -> None:
    assert len(page.cells) > 150
    assert all(cell.strip() for cell in page.cells)


def test_hostile_text_stays_text(page: Page, markdown: str) -> None:
    assert HOSTILE in "".join(page.text)
    assert "很慢的钢琴曲" in "".join(page.text)
    markdown = re.sub(r"`[^`]*`", "", markdown)  # code is shown as it is
    assert "<script" not in markdown
    assert "<b>" not in markdown


def test_no_place_of_the_markdown_is_empty_and_rows_are_even(markdown: str) -> None:
    block: list[int] = []
    for line in [*markdown.splitlines(), ""]:
        if not line.startswith("|"):
            assert len(set(block)) <= 1
            block = []
            continue
        cells = re.split(r"(?<!\\)\|", line)[1:-1]
        block.append(len(cells))
        assert all(cell.strip() for cell in cells) or line.startswith("| |"), line


def terminal(results: Results, width: int, *, verbose: bool = False) -> str:
    file = io.StringIO()
    print_document(reproduction(results), Console(width=width, file=file), verbose=verbose)
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("verbose", [False, True])
def test_terminal_lines_fit_their_width_and_nothing_is_cut(results: Results, width: int, verbose: bool) -> None:
    text = terminal(results, width, verbose=verbose)
    assert [line for line in text.splitlines() if cell_len(line) > width] == []
    assert "…" not in text.replace("… and", "")
    words = set(text.split())
    for section in reproduction(results).sections:
        grids = [grid for grid in section.grids if verbose or not grid.folded]
        for cell in (cell for grid in grids for row in grid.rows for cell in row.cells):
            assert cell.number.split()[0] in words or f"{cell.number}!" in words, cell


def test_every_reason_is_told_in_every_format(results: Results, page: Page, markdown: str) -> None:
    told = re.sub(r"\s+", "", terminal(results, 120, verbose=True))
    html = "".join(page.text) + "".join(attributes.get("title", "") for _, attributes in page.tags)
    plain = markdown.replace("\\", "").replace("&lt;", "<").replace("&gt;", ">")
    for table, section in zip(results.tables, reproduction(results).sections, strict=True):
        for text in section.footnotes:
            assert re.sub(r"\s+", "", text) in told
            assert text in plain
        for cell in table.cells:
            assert cell.reason in html or cell.measured is None


def test_kinds_of_number_are_told_apart_by_a_mark_that_is_explained_once(results: Results, page: Page) -> None:
    table = next(section for section in reproduction(results).sections if section.name == "table2")
    fast = table.grids[0].rows[0].cells[1]
    assert (fast.number, fast.below) == ("⊕160", ("~180", "paper 7.5"))
    text = "".join(page.text)
    for words in ("put together from parts", "follows from a formula", "printed by somebody else"):
        assert text.count(words) == 1


def test_each_number_opens_its_provenance(results: Results, page: Page, markdown: str) -> None:
    cells = [cell for section in reproduction(results).sections for grid in section.grids for row in grid.rows
             for cell in row.cells if cell.facts]  # fmt: skip
    opened = [attributes["popovertarget"] for tag, attributes in page.tags if "number" in attributes.get("class", "")
              and tag == "button"]  # fmt: skip
    assert len(opened) == len(set(opened)) == len(cells) > 90
    text = "".join(page.text)
    for expected in ("guidance_scale", "ab" * 32, "02" * 32, "torch 2.11.0", "none was recorded", "recalled"):
        assert expected in text
    assert "Provenance: metric rtf, version 1; preset demo; device cpu (Xeon at 2.5 GHz)" in markdown


def test_recalled_and_derived_values_show_their_grade(results: Results) -> None:
    cells = [cell for section in reproduction(results).sections for grid in section.grids for row in grid.rows
             for cell in row.cells]  # fmt: skip
    below = [line for cell in cells for line in cell.below if line.startswith("paper")]
    assert {"paper 6,250 [D]", "paper 7.5"} <= set(below)
    assert "AC (the paper: yes [M]; yes [M]; no [M]; yes [M])" in reproduction(results).sections[0].grids[0].after[0]


def test_csv_holds_every_field_and_comes_back_from_pandas(results: Results) -> None:
    table = next(table for table in results.tables if table.suite == "table2")
    frame = pd.read_csv(io.StringIO(to_csv(cells_frame(table))), float_precision="round_trip")
    assert len(frame) == len(table.cells)
    assert frame[["suite", "column", "verdict", "reason"]].notna().all().all()
    for row, cell in zip(frame.to_dict("records"), table.cells, strict=True):
        for kind in KINDS:
            value, back = value_of(cell, kind), row[f"{kind}.value"]
            assert pd.isna(back) if value is None else back == value.value
        if cell.provenance is not None:
            assert json.loads(row["provenance.config"]) == cell.provenance.config
            assert json.loads(row["provenance.cells"]) == cell.provenance.cells
        assert row["row.sampler"] == cell.row.get("sampler") or "system" in cell.row


def test_only_sounds_that_are_there_have_players(page: Page) -> None:
    players = [attributes for tag, attributes in page.tags if tag == "audio"]
    assert [player["src"].partition(";")[0] for player in players] == ["data:audio/flac", "data:audio/wav"]
    text = "".join(page.text)
    assert "clips/missing.flac: the file is missing" in text
    assert "../secret.flac: outside the folder of the results" in text
    assert "2 sounds without a player" in text
    boxes = [attributes for tag, attributes in page.tags if attributes.get("class") == "sound-title"]
    assert len(boxes) == len(players), "what cannot be played has no box"


def test_a_folder_that_cannot_be_written_is_one_line(results: Results, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    small = results.model_copy(update={"tables": results.tables[:1]})
    with pytest.raises(MelodyError, match="cannot write .*file"):
        write_report(small, blocked)
    assert blocked.read_text() == "not a folder"


@pytest.mark.parametrize("name", ["REPORT.md", "report.html"])
def test_every_page_says_where_the_time_went(results: Results, sound_folder: Path, name: str) -> None:
    write_report(results, sound_folder)
    page = (sound_folder / name).read_text()
    assert "melody: generation 41 s (3)" in page
    assert "melody: count" not in page, "what took less than a second is not worth a word"


def test_what_the_paper_claims_stands_first_in_every_format(results: Results, written: dict[str, Path]) -> None:
    told = "4 claims of the paper: 1 contradicted, 1 confirmed, 1 undecided, 1 not attempted."
    texts = [
        terminal(results, 120),
        *(written[name].read_text(encoding="utf-8") for name in ("REPORT.md", "report.html")),
    ]
    for text in texts:
        places = [
            text.index(word) for word in (told, "99.6 % fewer passes (abstract)", "More steps", "Table 1: abilities")
        ]
        assert places == sorted(places)
        assert "a demo of under one per cent of the paper's size" in text.replace("&#39;", "'")


def test_what_a_run_cannot_fill_is_a_line_and_no_column(results: Results, page: Page) -> None:
    first = reproduction(results).sections[0]
    assert "training data (1,000 h)" not in first.grids[0].columns
    (told,) = first.grids[0].after
    assert told.startswith("Not filled by this run: training data (the paper: 2.5; 280; 340; 257), AC (the paper: ")
    assert told in "".join(page.text)


def test_notes_stand_below_the_table_and_three_are_seen(results: Results, written: dict[str, Path]) -> None:
    table = results.tables[1].model_copy(update={"notes": [f"Note {n}." for n in range(6)]})
    run = results.model_copy(update={"tables": [table]})
    text = terminal(run, 100)
    assert text.index("FAD[mel-stats]") < text.index("Note 0.") < text.index("Note 2.")
    assert "Note 3." not in text
    assert "… and 3 more, with --verbose" in text
    assert "Note 5." in terminal(run, 100, verbose=True)

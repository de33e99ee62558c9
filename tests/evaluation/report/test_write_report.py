"""The report: one HTML file that holds everything and fetches nothing, CSV with the same numbers, a table for the terminal."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pytest

from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.evaluation.report.clip_gallery import choose_clips, clips_section, mean_ranks
from fantasytalking.evaluation.report.report_page import page
from fantasytalking.evaluation.report.report_plots import mean_curve
from fantasytalking.evaluation.report.write_report import CLIPS_CSV, PAGE, TABLE_CSV, table_text, write_report
from fantasytalking.evaluation.results import (
    ClipResult,
    Column,
    Comparison,
    Curve,
    Method,
    Problem,
    Report,
    Summary,
    load_report,
)
from fantasytalking.media.audio import Audio
from fantasytalking.media.video import write_video
from fantasytalking.reporting.svg import ticks
from tests.media.files import numbered_frames, tone

HOSTILE = '<script>alert("1")</script>&\'.mp4'
VOID = {"meta", "link", "br", "img", "input", "hr"}
COLUMNS = (
    Column(
        "fid",
        "FD-mobilenet",
        "FID",
        True,
        "lower",
        "",
        2,
        "frechet",
        "Distance of <two> Gaussians.",
        {"net": "ab" * 32},
    ),
    Column("csim", "CSIM", "", False, "higher", "", 3, "mean", "Cosine to the portrait."),
    Column("sd", "SD-flow", "SD", True, "neither", "px", 2, "mean", "Mean speed."),
)


class Tree(HTMLParser):
    """Elements with their attributes and texts; fails on a tag that closes nothing."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self._open: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(content)
        self.close()
        assert not self._open, f"never closed: {self._open[-1][0]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"attribute twice in {tag}: {names}"
        element: tuple[str, dict[str, str], list[str]] = (tag, {name: value or "" for name, value in attrs}, [])
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1][0] == tag, f"</{tag}> closes {self._open[-1][0] if self._open else None}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for _, _, texts in self._open:
            texts.append(data)

    def all(self, tag: str, css: str = "") -> list[tuple[dict[str, str], str]]:
        """Attributes and text of the elements of a kind."""
        found = [(a, "".join(t)) for name, a, t in self.elements if name == tag]
        return [(a, t) for a, t in found if not css or css in a.get("class", "").split()]


def clip(csim: float | None, sd: float, generated: str = "", reference: str = "", shift: float = 0.0) -> ClipResult:
    """Made-up values and curves of a clip."""
    time = tuple(float(t) for t in np.arange(0, 2, 0.04))
    curves = {
        "sync": Curve(tuple(float(x) for x in range(-5, 6)), tuple(abs(x - shift) for x in range(-5, 6))),
        "mouth": Curve(time, tuple(abs(float(np.sin(5 * t))) for t in time)),
        "mouth_reference": Curve(time, tuple(abs(float(np.sin(5 * t + 0.3))) for t in time)),
        "motion": Curve(time, tuple(sd + 0.1 * t for t in time)),
    }
    values = {"sd": sd} if csim is None else {"csim": csim, "sd": sd}
    return ClipResult(generated, reference, 50, values, curves)


def method(name: str, kind: str, fid: float | None, clips: Mapping[str, ClipResult], warning: str = "") -> Method:
    summary = {
        "fid": Summary(fid, None if fid is None else fid - 1, None if fid is None else fid + 1, len(clips), 40, warning)
    }
    for key in ("csim", "sd"):
        values = [c.values[key] for c in clips.values() if key in c.values]
        mean = sum(values) / len(values)
        summary[key] = Summary(mean, mean - 0.05, mean + 0.05, len(values), len(values))
    return Method(name, kind, "", clips, summary)  # type: ignore[arg-type]


def sample(folder: Path | None = None) -> Report:
    """Ground truth, a baseline in memory, and two methods on five clips; with a folder, paths of files in it."""
    names = ["a", "b", "c", "d", HOSTILE]

    def path(kind: str, name: str) -> str:
        return str(folder / f"{kind}-{name.replace('/', '_')}") if folder else f"/nowhere/{kind}-{name}"

    truth = {n: clip(1.0, 2.0, path("real", n), path("real", n)) for n in names}
    still = {n: clip(0.9, 0.0, "", path("real", n)) for n in names}
    ours = {n: clip(0.5 + 0.05 * i, 1.0 + i, path("ours", n), path("real", n), 1.0) for i, n in enumerate(names)}
    other = {n: clip(None if n == "c" else 0.4, 1.5, path("other", n), path("real", n)) for n in names}
    few = "40 images are fewer than 2048."
    return Report(
        created="2026-01-02T03:04:05+00:00",
        command="fantasytalking evaluate --generated 'my <clips>'",
        protocol=Protocol(name="small").to_dict(),
        software={"torch": "9.9.9"},
        machine={"processor": "two cores"},
        columns=COLUMNS,
        methods=(
            method("ground truth", "ground truth", 0.0, truth),
            method("still image", "baseline", 30.0, still, few),
            method("ours", "method", 12.5, ours, few),
            method("other & co", "method", None, other),
        ),
        comparisons=(
            Comparison("csim", "ours", "other & co", 0.2, 0.1, 0.3, 0.0004, 4),
            Comparison("sd", "ours", "other & co", 1.5, -0.1, 3.1, 0.21, 5),
            Comparison("fid", "ours", "still image", -17.5, -20.0, -15.0, None, 5),
        ),
        problems=(Problem("ours", HOSTILE, f"/data/{HOSTILE}", "cannot be decoded"),),
        warnings=("Five clips are few.",),
        reference="/data/real",
        minutes=1.25,
    )


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree(page(sample(), media=False))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report whose clips are real files, but for one that is missing and one that is no video."""
    folder = tmp_path_factory.mktemp("report")
    report = sample(folder)
    sound = Audio(tone(8.0), 16000)
    frames = np.repeat(np.repeat(numbered_frames(28), 8, axis=1), 8, axis=2)
    for m in report.methods:
        for name, c in m.clips.items():
            if c.generated and not Path(c.generated).exists() and name != "b":
                target = write_video(
                    folder / "x.mp4", frames[: 28 if m.name == "ours" else 10], 4 if m.name == "ours" else 23, sound
                )
                Path(target or folder / "x.mp4").rename(c.generated)
    Path(report.methods[2].clips["a"].generated).write_bytes(b"not a video")
    write_report(report, folder / "out")
    return folder / "out"


def test_the_page_is_well_formed_and_asks_for_nothing_outside(tree: Tree) -> None:
    for tag, attributes, _ in tree.elements:
        for name in ("src", "href", "poster", "data", "action", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, name, attributes[name][:60])
        assert not [name for name in attributes if name.startswith("on")], "a handler in an attribute"
        assert "style" not in attributes, "the policy forbids style attributes"
    [(policy, _)] = [e for e in tree.all("meta") if e[0].get("http-equiv") == "Content-Security-Policy"]
    assert policy["content"].startswith("default-src 'none';") and "unsafe" not in policy["content"]
    assert not re.search(r"(https?:)?//[a-z0-9.-]+\.[a-z]{2,}", "".join(text for _, text in tree.all("style")))
    assert len(tree.all("script")) == 1


def test_the_policy_allows_exactly_our_script_and_style(tree: Tree) -> None:
    [(policy, _)] = [e for e in tree.all("meta") if e[0].get("http-equiv") == "Content-Security-Policy"]
    for tag in ("script", "style"):
        [(_, code)] = tree.all(tag)
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy["content"]


def test_every_method_clip_problem_and_definition_appears(tree: Tree) -> None:
    [(_, body)] = tree.all("body")
    report = sample()
    for m in report.methods:
        assert m.name in body
    for name in (
        HOSTILE,
        "cannot be decoded",
        "Five clips are few.",
        "40 images are fewer",
        "/data/real",
        report.command,
    ):
        assert name in body
    for column in report.columns:
        assert column.definition in body
    assert "ab" * 32 in body and "9.9.9" in body and "two cores" in body and "min_track" in body
    assert {f"{name}: 2.00" for name in ("a", "b", "c", "d", HOSTILE)} <= {text for _, text in tree.all("title")}


def test_hostile_names_are_text_and_nothing_else() -> None:
    content = page(sample(), media=False)
    assert "<script>alert" not in content and "my <clips>" not in content
    assert "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;&amp;&#39;.mp4" in content


def test_the_best_of_methods_and_baselines_is_bold_and_ground_truth_never(tree: Tree) -> None:
    rows = table_rows(tree)
    assert bold(rows["ours"]["fid"]) and not bold(rows["still image"]["fid"])
    assert bold(rows["still image"]["csim"]) and not bold(rows["ours"]["csim"])
    assert not any(bold(cell) for cell in rows["ground truth"].values())
    assert not any(bold(cells["sd"]) for cells in rows.values())


def table_rows(tree: Tree) -> dict[str, dict[str, str]]:
    """Raw HTML of the cells of the results table: method -> column key -> cell."""
    content = page(sample(), media=False)
    found = content.split('<table class="results">')[1]
    names = re.findall(r'<th scope="col">([^<]*)<span', found.split("</thead>")[0])
    body = found.split("<tbody>")[1].split("</tbody>")[0]
    cells = [re.findall(r"<td>(.*?)</td>", line) for line in body.strip().splitlines()]
    return {
        name: {key: row[place] for key, row in zip(("fid", "csim", "sd"), cells, strict=True)}
        for place, name in enumerate(names)
    }


def bold(cell: str) -> bool:
    return "<strong" in cell


def test_cells_have_value_interval_note_and_a_dash_that_says_why(tree: Tree) -> None:
    rows = table_rows(tree)
    assert "12.50" in rows["ours"]["fid"] and "[11.50, 13.50]" in rows["ours"]["fid"]
    assert 'href="#note-1"' in rows["ours"]["fid"] and "#note" not in rows["ours"]["csim"]
    assert 'title="not measured"' in rows["other &amp; co"]["fid"] and "–" in rows["other &amp; co"]["fid"]
    assert "4 clips" in rows["other &amp; co"]["csim"], "fewer clips than the method has must be told"
    [note] = [text for a, text in tree.all("li") if a.get("id") == "note-1"]
    assert note == "FD-mobilenet of still image, ours: 40 images are fewer than 2048."


def test_proxies_are_marked_with_what_they_stand_for(tree: Tree) -> None:
    headings = [text for a, text in tree.all("th") if a.get("scope") == "row"][:3]
    assert headings == ["FD-mobilenet ↓proxy for FID", "CSIM ↑", "SD-flowpxproxy for SD"]


def test_the_papers_rows_are_apart_and_marked(tree: Tree) -> None:
    [(_, paper)] = tree.all("details", "paper")
    assert "not comparable in absolute terms" in paper and "27.695" in paper and "0.980" in paper and "0.9754" in paper
    assert "Without a proxy, this report measures none of these columns." in paper
    [(_, results)] = [e for e in tree.all("table", "results") if "paper" not in e[0]["class"]]
    assert "27.695" not in results


def test_comparisons_are_put_into_words(tree: Tree) -> None:
    words = [text for _, text in tree.all("td") if "% interval" in text]
    assert words == [
        "higher (better), 95 % interval excludes 0",
        "no clear difference: 95 % interval includes 0",
        "lower (better), 95 % interval excludes 0",
    ]
    cells = [text for _, text in tree.all("td")]
    assert {"+0.200", "[+0.100, +0.300]", "< 0.001", "−17.50"} <= set(cells)


def test_tables_have_captions_and_scoped_headers_and_plots_say_what_they_show(tree: Tree) -> None:
    assert len(tree.all("caption")) == len(tree.all("table")) > 5
    assert all(a.get("scope") in ("row", "col") for a, _ in tree.all("th"))
    plots = [a for a, _ in tree.all("svg") if "aria-hidden" not in a]
    assert len(plots) >= 4 and all(a["role"] == "img" and a["aria-label"] for a in plots)
    assert any("ours: median 0.600, quartiles 0.550 to 0.650, 5 clips" in a["aria-label"] for a in plots)
    assert any("ours: from 0 (at 1)" in a["aria-label"] for a in plots), "the sync curve has its minimum at its offset"


def test_worst_and_best_are_chosen_by_mean_rank() -> None:
    chosen = [(c.method.name, c.clip, c.label) for c in choose_clips(sample())]
    assert [c for c in chosen if c[0] == "ours"] == [
        ("ours", "a", "worst"),
        ("ours", "b", "second worst"),
        ("ours", HOSTILE, "best"),
        ("ours", "d", "second best"),
    ]
    assert list(dict.fromkeys(name for name, _, _ in chosen)) == ["ours", "other & co", "still image"], (
        "no ground truth"
    )
    assert "c" not in mean_ranks(sample().methods[3], COLUMNS), "a clip without a ranked value has no rank"


def test_no_clip_is_both_worst_and_best() -> None:
    report = sample()
    for count in range(1, 5):
        ours = replace(report.methods[2], clips=dict(list(report.methods[2].clips.items())[:count]))
        clips = [c.clip for c in choose_clips(replace(report, methods=(ours,)))]
        assert len(clips) == len(set(clips)) == count


def test_ties_share_a_rank_and_missing_values_give_no_advantage() -> None:
    columns = (COLUMNS[1], replace(COLUMNS[1], key="x", better="lower"))
    values = {"a": {"csim": 0.9, "x": 1.0}, "b": {"csim": 0.5, "x": 1.0}, "c": {"csim": 0.1}}
    clips = {n: ClipResult("", "", 1, v) for n, v in values.items()}
    assert mean_ranks(Method("m", "method", "", clips, {}), columns) == {"a": 1.5, "b": 2.0, "c": 3.0}


def videos(html: Path) -> list[dict[str, str]]:
    return [a for a, _ in Tree(html.read_text("utf-8")).all("video")]


def decoded(uri: str) -> tuple[list[np.ndarray], float, bool]:
    kind, content = uri.split(",", 1)
    assert kind == "data:video/mp4;base64"
    with av.open(io.BytesIO(base64.b64decode(content)), "r") as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate or 0)
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)], rate, bool(container.streams.audio)


def test_embedded_videos_play_small_and_short(written: Path) -> None:
    ours = [v for v in videos(written / PAGE) if v["class"] == "generated" and "ours" in v["aria-label"]]
    assert len(ours) == 2, "a is damaged and b is missing, d and the hostile one are there"
    for video in ours:
        frames, rate, sound = decoded(video["src"])
        assert len(frames) == 24 and rate == 4 and sound, "6 of 7 seconds"
        assert frames[0].shape == (192, 256, 3)
        assert frames[5].mean() == pytest.approx(20 + 8 * 5, abs=3)
        assert video["poster"].startswith("data:image/jpeg;base64,/9j/")
        assert "muted" not in video


def test_ground_truth_is_beside_it_without_sound(written: Path) -> None:
    references = [v for v in videos(written / PAGE) if v["class"] == "reference"]
    assert references and all("muted" in v for v in references)
    frames, rate, _ = decoded(references[-1]["src"])
    assert len(frames) == 10 and rate == pytest.approx(23)


def test_a_missing_and_a_damaged_video_are_named_and_the_rest_comes_out(written: Path) -> None:
    absent = [text for _, text in Tree((written / PAGE).read_text("utf-8")).all("div", "absent")]
    assert any("ours-b" in text for text in absent), "missing"
    assert any("ours-a" in text for text in absent), "no video"
    assert any("in memory only" in text for text in absent)
    assert len([b for b in Tree((written / PAGE).read_text("utf-8")).all("button")]) > 4


def test_the_page_stays_below_its_bound_and_names_what_was_left_out(written: Path) -> None:
    report = load_report(written)
    whole = len((written / PAGE).read_bytes())
    bound = whole - 20_000
    content = page(report, max_bytes=bound)
    assert len(content.encode()) <= bound and content.count("<video") >= 4
    assert "Left out to keep this page small" in content
    assert "Left out to keep this page small" not in page(report)
    nothing = Tree(clips_section(report, budget=0))
    assert not nothing.all("video") and any("Left out" in t and "real-d" in t for _, t in nothing.all("p"))


def test_json_gives_the_same_page_again(written: Path) -> None:
    assert page(load_report(written), media=False) == page(sample(written.parent), media=False)


def test_csv_has_the_same_numbers(written: Path) -> None:
    report = sample(written.parent)
    with (written / TABLE_CSV).open(newline="", encoding="utf-8") as file:
        rows = {(r["method"], r["column"]): r for r in csv.DictReader(file)}
    assert len(rows) == len(report.methods) * len(report.columns)
    for m in report.methods:
        for column in report.columns:
            row, cell = rows[m.name, column.key], m.summary[column.key]
            shown = [None if row[k] == "" else float(row[k]) for k in ("value", "low", "high")]
            assert shown == [cell.value, cell.low, cell.high]
            assert (int(row["clips"]), int(row["samples"]), row["warning"]) == (cell.clips, cell.samples, cell.warning)
            assert (row["label"], row["proxy"], row["definition"]) == (
                column.label,
                "yes" if column.proxy else "no",
                column.definition,
            )
    with (written / CLIPS_CSV).open(newline="", encoding="utf-8") as file:
        clips = list(csv.DictReader(file))
    assert len(clips) == 20
    for r in clips:
        [expected] = [m.clips[r["clip"]] for m in report.methods if m.name == r["method"]]
        labels = {"csim": "CSIM", "sd": "SD-flow, px"}
        assert {k: float(r[label]) for k, label in labels.items() if r[label]} == expected.values
        assert (r["generated"], int(r["frames"])) == (expected.generated, 50)
        assert "FD-mobilenet" not in r and "sd" not in r


def test_names_in_a_table_of_csv_or_text_start_no_formula_and_no_markup(tmp_path: Path) -> None:
    formula, markup = '=HYPERLINK("http://x")', "**a|b** `c`\n<b>"
    methods = tuple(
        replace(m, name=name, clips={formula if n == "a" else n: c for n, c in m.clips.items()})
        for m, name in zip(sample().methods, ("ground truth", "still image", formula, markup), strict=True)
    )
    report = replace(sample(), methods=methods, comparisons=())
    write_report(report, tmp_path, media=False)
    for name in (TABLE_CSV, CLIPS_CSV):
        with (tmp_path / name).open(newline="", encoding="utf-8") as file:
            cells = [cell for line in csv.reader(file) for cell in line]
        assert f"'{formula}" in cells and markup in cells and not any(cell.startswith(("=", "@")) for cell in cells)
    lines = table_text(report).splitlines()
    assert "\\*\\*a\\|b\\*\\* \\`c\\`\\\\n\\<b\\>" in lines[0]
    assert {line.replace("\\|", "").count("|") for line in lines[:5]} == {6}


def test_only_the_four_files_are_left(written: Path) -> None:
    assert sorted(p.name for p in written.iterdir()) == ["clips.csv", "report.csv", "report.html", "report.json"]


def test_a_second_report_replaces_the_first(tmp_path: Path) -> None:
    write_report(sample(), tmp_path, media=False)
    write_report(replace(sample(), warnings=("changed",)), tmp_path, media=False)
    assert "changed" in (tmp_path / PAGE).read_text("utf-8") and load_report(tmp_path).warnings == ("changed",)


def test_names_that_are_no_text_do_not_stop_the_report(tmp_path: Path) -> None:
    name = b"caf\xe9\x1b[31m\n.mp4".decode("utf-8", "surrogateescape")
    report = replace(sample(), problems=(Problem("ours", name, f"/data/{name}", "broken"),))
    html = write_report(report, tmp_path, media=False).read_text("utf-8")
    assert "caf\\udce9\\x1b[31m\\n.mp4" in html
    assert load_report(tmp_path).problems[0].reason == "broken"


def test_values_that_are_no_numbers_are_shown_as_missing(tmp_path: Path) -> None:
    report = sample()
    nan = float("nan")
    broken = ClipResult(
        "", "", 0, {"csim": nan, "sd": nan}, {"sync": Curve((0.0, 1.0), (nan, nan)), "mouth": Curve((), ())}
    )
    empty = Method("broken", "method", "", {"a": broken}, {"csim": Summary(nan)})
    nothing = Method("nothing", "method", "", {}, {})
    content = page(replace(report, methods=(*report.methods, empty, nothing)), media=False)
    assert ">nan<" not in content and '"nan' not in content
    Tree(content)
    Tree(page(replace(report, methods=(), comparisons=(), problems=(), warnings=(), columns=()), media=False))


def test_the_table_as_text_marks_proxies_best_values_and_notes() -> None:
    lines = table_text(sample()).splitlines()
    assert lines[0].split("|")[1:-1] == [
        f" {c:<{len(x) - 2}} "
        for c, x in zip(
            ("metric", "ground truth", "still image", "ours", "other & co"), lines[0].split("|")[1:-1], strict=True
        )
    ]
    assert len({len(line) for line in lines[:5]}) == 1, "columns are aligned"
    assert (
        "FD-mobilenet ↓ (proxy for FID)" in lines[2] and "**12.50** (11.50, 13.50) [1]" in lines[2] and "–" in lines[2]
    )
    assert "SD-flow, px (proxy for SD)" in lines[4] and "**" not in lines[4]
    assert "[1] FD-mobilenet of still image, ours: 40 images are fewer than 2048." in lines
    assert "Warning: Five clips are few." in lines and "\x1b" not in table_text(sample())


def test_the_mean_curve_leaves_out_places_that_few_clips_reach() -> None:
    long, short = Curve((0.0, 1.0, 2.0), (2.0, 4.0, 9.0)), Curve((0.0, 1.0), (4.0, 6.0))
    assert mean_curve([long, short, short], 1.0) == Curve((0.0, 1.0), (10 / 3, 16 / 3))


def test_ticks_are_round_and_within() -> None:
    assert ticks(0.0, 10.0) == [0, 2, 4, 6, 8, 10]
    assert ticks(-0.31, 0.29, 5) == pytest.approx([-0.2, 0.0, 0.2])
    assert ticks(3.0, 3.0) == [3.0]

"""The page of a prepared set: what it shows, and that names from outside stay text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fantasytalking.data.preparation.histograms import MEASURES, histogram, histograms
from fantasytalking.data.preparation.set_report import PAGE, write_report

HOSTILE = '<script>alert("1")</script>&\'.mp4'


def row(number: int, kept: bool = False, **measures: Any) -> dict[str, Any]:
    """A candidate's row."""
    own = {"key": f"{HOSTILE}-{number}", "file": HOSTILE, "identity": HOSTILE, "split": "train", "kept": kept}
    times = {"start": float(number), "end": number + 2.0, "seconds": 2.0}
    return own | times | {"reason": "unreadable", "detail": f"cannot be read: {HOSTILE}"} | measures


def manifest(candidates: int) -> dict[str, Any]:
    return {
        "totals": {
            **{"kept": 0, "dropped": candidates, "candidates": candidates, "videos": 1, "seconds": 0.0, "bytes": 0},
            "splits": {"train": {"clips": 0, "identities": 0, "seconds": 0.0}},
        },
        "shards": [],
        "dropped": {"unreadable": candidates},
        "terms": {HOSTILE: 1},
        "throughput": {"crop": {"clips": 2.0, "seconds": 1.25, "clips_per_second": 1.6}},
        "settings": {"max_side": 256, "nested": {"left": "out"}},
        "model": {"name": HOSTILE},
        "made_with": {"torch": "9.9"},
    }


def test_hostile_names_are_text_and_every_candidate_has_its_place(tmp_path: Path) -> None:
    page = write_report(tmp_path, manifest(3), [row(i) for i in range(3)], {}).read_text("utf-8")
    assert (tmp_path / PAGE).is_file()
    assert "<script" not in page and "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;&amp;&#39;.mp4" in page
    assert page.count('<div class="absent">no picture</div>') == 3
    assert "0 of 3 candidates from 1 videos were kept" in page and "100.0 %" in page
    assert "max_side" in page and "nested" not in page


def test_a_page_without_any_candidate_is_a_page(tmp_path: Path) -> None:
    page = write_report(tmp_path, manifest(0), [], {}).read_text("utf-8")
    assert page.count("<p>None.</p>") == 2 and "<svg" not in page


def test_only_what_was_measured_has_a_histogram_with_all_its_candidates() -> None:
    rows = [row(i, kept=i % 2 == 0, seconds=1.0 + i / 10, sync_offset=i % 3 - 1) for i in range(30)]
    plots = histograms(rows)
    assert len(plots) == 2 < len(MEASURES)
    offsets = histogram(rows, "sync_offset", "Offset <of> lips", 0)
    assert "Offset &lt;of&gt; lips" in offsets and "15 kept, median 0; 15 dropped" in offsets
    assert offsets.count('class="bar kept"') == offsets.count('class="bar dropped"') == 3

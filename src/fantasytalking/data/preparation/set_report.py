"""The report of a prepared set: `report.html` and the pictures that it shows, in `report/`.

It shows pictures of the clips that were prepared; whoever passes it on passes those on too. The page loads nothing from elsewhere.
"""

from __future__ import annotations

import io
import itertools
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fantasytalking.data.preparation.histograms import histograms
from fantasytalking.data.preparation.phase_progress import PhaseCounts, PhaseProgress
from fantasytalking.data.preparation.video_sources import ListedVideo
from fantasytalking.data.shard_reader import ShardReader
from fantasytalking.errors import FantasyTalkingError
from fantasytalking.media.video import read_frames
from fantasytalking.reporting.html import DASH, number, render_page
from fantasytalking.system.files import atomic_path, full_disk_error

__all__ = ["PAGE", "PICTURES", "write_report"]

PAGE = "report.html"
PICTURES = "report"
_MOST_KEPT = 60
_MOST_DROPPED = 8
_MOST_VIDEOS = 500
_SIDE = 192
_FOLDER = Path(__file__).parent
_SECTIONS = (
    ("outcome", "Outcome"),
    ("measures", "Measures"),
    ("kept", "Kept"),
    ("dropped", "Dropped"),
    ("throughput", "Throughput"),
    ("videos", "Videos"),
    ("made-with", "Settings"),
)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class _Picture:
    """A clip that the page shows.

    Attributes:
        row: The candidate's row.
        path: The picture's path relative to the page, or "" where there is none.
    """

    row: Row
    path: str

    @property
    def place(self) -> str:
        """File and time of the clip."""
        return f"{self.row['file']}, {self.row['start']:.1f} to {self.row['end']:.1f} s"

    @property
    def detail(self) -> str:
        """Why it was dropped, or whom it shows for how long."""
        return str(self.row["detail"] or f"{self.row['identity']}, {self.row['seconds']:.1f} s")


def write_report(
    folder: Path,
    manifest: Mapping[str, Any],
    rows: Sequence[Row],
    videos: Mapping[str, ListedVideo],
    progress: PhaseProgress | None = None,
) -> Path:
    """Write the page and its pictures; those of an earlier report are removed.

    Args:
        folder: Folder of the set, which holds its shards and its list of clips.
        manifest: The set's manifest.
        rows: Rows of all candidates.
        videos: Key -> source, for pictures of dropped candidates; a video that cannot be read is shown without one.
        progress: Receives the progress; None shows nothing.

    Returns:
        `report.html`.

    Raises:
        OutputError: The folder cannot be written, or the disk is full.
    """
    pictures = folder / PICTURES
    with full_disk_error(pictures):
        shutil.rmtree(pictures, ignore_errors=True)
        pictures.mkdir(parents=True)
        kept, dropped = _save_pictures(folder, rows, videos, progress or PhaseProgress())
    content = _page(manifest, rows, kept, dropped)
    with full_disk_error(folder / PAGE), atomic_path(folder / PAGE, overwrite=True) as temporary:
        temporary.write_bytes(content.encode("utf-8", "backslashreplace"))
    return folder / PAGE


def _save_pictures(
    folder: Path, rows: Sequence[Row], videos: Mapping[str, ListedVideo], progress: PhaseProgress
) -> tuple[list[_Picture], list[_Picture]]:
    """Pictures of some of the kept clips, evenly chosen, and of some dropped candidates of each reason."""
    kept = _some([row for row in rows if row["kept"]], _MOST_KEPT)
    left_out = [row for row in rows if not row["kept"]]
    by_reason = (
        [row for row in left_out if row["reason"] == reason] for reason in sorted({r["reason"] for r in left_out})
    )
    dropped = [row for own in by_reason for row in _some(own, _MOST_DROPPED)]
    saved: list[_Picture] = []
    with progress.phase("writing", len(kept) + len(dropped), 0) as show:
        for picture in itertools.chain(_kept_pictures(folder, kept), _dropped_pictures(folder, dropped, videos)):
            saved.append(picture)
            show(PhaseCounts(len(saved)))
    return saved[: len(kept)], saved[len(kept) :]


def _kept_pictures(folder: Path, rows: Sequence[Row]) -> Iterator[_Picture]:
    """Reference pictures of kept clips."""
    reader = ShardReader(folder)
    for row in rows:
        picture = np.asarray(Image.open(io.BytesIO(reader.read(row["shard"], row["key"], "jpg"))).convert("RGB"))
        yield _Picture(row, _save(folder, f"kept-{row['key']}.jpg", picture))


def _dropped_pictures(folder: Path, rows: Sequence[Row], videos: Mapping[str, ListedVideo]) -> Iterator[_Picture]:
    """The middle frames of dropped candidates."""
    for row in rows:
        path, video = "", videos.get(row["key"].rpartition("-")[0])
        with suppress(FantasyTalkingError):
            if video is not None and row["reason"] not in ("unreadable", "crashed"):
                frames, _ = read_frames(video.video.path, None, 1, (row["start"] + row["end"]) / 2)
                path = _save(folder, f"dropped-{row['key']}.jpg", frames[0])
        yield _Picture(row, path)


def _some(rows: Sequence[Row], most: int) -> list[Row]:
    """At most so many rows, evenly chosen."""
    return [rows[i] for i in sorted({int(i) for i in np.linspace(0, len(rows) - 1, min(len(rows), most)).round()})]


def _save(folder: Path, name: str, picture: np.ndarray[Any, np.dtype[np.uint8]]) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((_SIDE, _SIDE))
    image.save(folder / PICTURES / name, quality=85)
    return f"{PICTURES}/{name}"


def _page(
    manifest: Mapping[str, Any], rows: Sequence[Row], kept: Sequence[_Picture], dropped: Sequence[_Picture]
) -> str:
    totals = manifest["totals"]
    counts = [("kept", totals["kept"]), *Counter(manifest["dropped"]).most_common()]
    return render_page(
        _FOLDER / "set_report.html",
        _SECTIONS,
        style=(_FOLDER / "set_report.css").read_text("utf-8"),
        sources="img-src 'self' data: file:",
        manifest=manifest,
        totals=totals,
        splits=", ".join(
            f"{split} {entry['clips']} clips of {entry['identities']} people, {entry['seconds'] / 60:.1f} min"
            for split, entry in totals["splits"].items()
        ),
        # widths of bars in steps of 5 %, as the content security policy allows no style of a single element
        outcomes=[
            (
                name,
                count,
                100 * count / max(1, totals["candidates"]),
                5 * round(20 * count / max(1, totals["candidates"])),
            )
            for name, count in counts
        ],
        histograms=histograms(rows),
        sheets=[
            ("kept", "Kept clips", kept, totals["kept"]),
            ("dropped", "Dropped candidates", dropped, totals["dropped"]),
        ],
        throughput=[
            (name, int(e["clips"]), number(e["seconds"], 1), number(e["clips_per_second"], 2))
            for name, e in manifest["throughput"].items()
        ],
        **_videos(rows),
        made_with=_made_with(manifest),
    )


def _videos(rows: Sequence[Row]) -> dict[str, Any]:
    """A row for each video, and the number of videos for which the page has no room."""
    by_video: dict[str, list[Row]] = {}
    for row in rows:
        by_video.setdefault(row["file"], []).append(row)
    lines = []
    for name, own in sorted(by_video.items())[:_MOST_VIDEOS]:
        kept = [row for row in own if row["kept"]]
        reasons = Counter(row["reason"] for row in own if not row["kept"]).most_common()
        left_out = ", ".join(f"{count} {reason}" for reason, count in reasons) or DASH
        seconds = number(sum(row["seconds"] for row in kept), 1)
        lines.append((name, own[0]["identity"], own[0]["split"], len(own), len(kept), seconds, left_out))
    return {"videos": lines, "more_videos": len(by_video) - len(lines)}


def _made_with(manifest: Mapping[str, Any]) -> list[tuple[str, Any]]:
    shown = {k: v for k, v in manifest["settings"].items() if not isinstance(v, dict)}
    shown |= {k: v for k, v in manifest["model"].items() if not isinstance(v, dict)} | dict(manifest["made_with"])
    return list(shown.items())

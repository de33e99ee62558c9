"""The report of a prepared set: `report.html` and the pictures that it shows, in `report/`.

It shows pictures of the clips that were prepared; whoever passes it on passes those on too. The page loads nothing from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fantasytalking.data.preparation.histograms import histograms_section
from fantasytalking.data.preparation.video_sources import ListedVideo
from fantasytalking.data.shard_reader import ShardReader
from fantasytalking.errors import FantasyTalkingError
from fantasytalking.media.video import read_frames
from fantasytalking.reporting.html import DASH, Html, join, number, stylesheet, table, text
from fantasytalking.system.files import atomic_path, full_disk_error

__all__ = ["PAGE", "PICTURES", "write_report"]

PAGE = "report.html"
PICTURES = "report"
_MOST_KEPT = 60
_MOST_DROPPED = 8
_MOST_VIDEOS = 500
_SIDE = 192

Row = Mapping[str, Any]


@dataclass(frozen=True)
class _Picture:
    """A clip that the page shows: its row and, where there is one, the picture's path beside the page."""

    row: Row
    path: str


def write_report(
    folder: Path, manifest: Mapping[str, Any], rows: Sequence[Row], videos: Mapping[str, ListedVideo]
) -> Path:
    """Write the page and its pictures; those of an earlier report go away.

    Args:
        folder: of the set, whose shards and list of clips are there.
        manifest: of the set.
        rows: of all candidates.
        videos: key -> source, for pictures of what was dropped; what cannot be read is shown without.

    Returns:
        `report.html`.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    pictures = folder / PICTURES
    with full_disk_error(pictures):
        shutil.rmtree(pictures, ignore_errors=True)
        pictures.mkdir(parents=True)
        kept = list(_kept_pictures(folder, rows))
        dropped = list(_dropped_pictures(folder, rows, videos))
    content = _page(manifest, rows, kept, dropped)
    with full_disk_error(folder / PAGE), atomic_path(folder / PAGE, overwrite=True) as temporary:
        temporary.write_bytes(content.encode("utf-8", "backslashreplace"))
    return folder / PAGE


def _kept_pictures(folder: Path, rows: Sequence[Row]) -> Iterator[_Picture]:
    """Reference pictures of kept clips, evenly chosen."""
    kept = [row for row in rows if row["kept"]]
    reader = ShardReader(folder)
    for index in _evenly(len(kept), _MOST_KEPT):
        row = kept[index]
        picture = np.asarray(Image.open(io.BytesIO(reader.read(row["shard"], row["key"], "jpg"))).convert("RGB"))
        yield _Picture(row, _save(folder, f"kept-{row['key']}.jpg", picture))


def _dropped_pictures(folder: Path, rows: Sequence[Row], videos: Mapping[str, ListedVideo]) -> Iterator[_Picture]:
    """The middle frames of some dropped candidates of each reason."""
    for reason in sorted({row["reason"] for row in rows if not row["kept"]}):
        own = [row for row in rows if not row["kept"] and row["reason"] == reason]
        for index in _evenly(len(own), _MOST_DROPPED):
            row, path = own[index], ""
            video = videos.get(row["key"].rpartition("-")[0])
            with suppress(FantasyTalkingError):
                if video is not None and reason not in ("unreadable", "crashed"):
                    frames, _ = read_frames(video.video.path, None, 1, (row["start"] + row["end"]) / 2)
                    path = _save(folder, f"dropped-{row['key']}.jpg", frames[0])
            yield _Picture(row, path)


def _evenly(count: int, most: int) -> list[int]:
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, most)).round()})


def _save(folder: Path, name: str, picture: np.ndarray[Any, np.dtype[np.uint8]]) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((_SIDE, _SIDE))
    image.save(folder / PICTURES / name, quality=85)
    return f"{PICTURES}/{name}"


def _page(
    manifest: Mapping[str, Any], rows: Sequence[Row], kept: Sequence[_Picture], dropped: Sequence[_Picture]
) -> str:
    style = stylesheet() + Path(__file__).with_name("set_report.css").read_text("utf-8")
    sections = [
        _head(style),
        _header(manifest),
        '<main id="main">',
        _outcome(manifest),
        histograms_section(rows),
        _sheet("kept", "Kept clips", kept, manifest["totals"]["kept"]),
        _sheet("dropped", "Dropped candidates", dropped, manifest["totals"]["dropped"]),
        _throughput(manifest),
        _videos(rows),
        _made_with(manifest),
        "</main></body></html>",
        "",
    ]
    return join(sections, "\n")


def _head(style: str) -> str:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src 'self' data: file:; style-src 'sha256-{digest}'"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><title>Prepared set</title><style>{style}</style></head><body>'
    )


def _header(manifest: Mapping[str, Any]) -> str:
    totals = manifest["totals"]
    links = ("outcome", "measures", "kept", "dropped", "throughput", "videos", "made-with")
    names = ("Outcome", "Measures", "Kept", "Dropped", "Throughput", "Videos", "Settings")
    nav = "".join(f'<a href="#{link}">{name}</a>' for link, name in zip(links, names, strict=True))
    splits = ", ".join(
        f"{split} {entry['clips']} clips of {entry['identities']} people, {entry['seconds'] / 60:.1f} min"
        for split, entry in totals["splits"].items()
    )
    return (
        '<a class="skip" href="#main">Skip to the outcome</a><header><h1>Prepared set</h1>'
        f"<p>{totals['kept']} of {totals['candidates']} candidates from {totals['videos']} videos were kept: "
        f"{totals['seconds'] / 60:.1f} minutes, {totals['bytes'] / 1e6:.1f} MB in {len(manifest['shards'])} shards ({splits}).</p>"
        f'<nav aria-label="Sections">{nav}</nav></header>'
    )


def _outcome(manifest: Mapping[str, Any]) -> Html:
    total = max(1, manifest["totals"]["candidates"])
    counts = [("kept", manifest["totals"]["kept"]), *Counter(manifest["dropped"]).most_common()]
    rows = []
    for name, count in counts:
        width = 5 * round(20 * count / total)
        bar = (
            f'<span class="share"><span class="part {"kept" if name == "kept" else "dropped"} w{width}"></span></span>'
        )
        rows.append([text(name), Html(str(count)), Html(f"{100 * count / total:.1f} %"), Html(bar)])
    head = [Html(name) for name in ("Outcome", "Candidates", "Share", "")]
    terms = [[text(name), Html(str(count))] for name, count in manifest["terms"].items()]
    return Html(
        '<section id="outcome"><h2>Outcome</h2><div class="columns">'
        + table(
            Html("What became of the candidates; the reasons are explained in docs/data-preparation.md"),
            head,
            rows,
            "numbers",
        )
        + table(
            Html("Terms of the kept clips, as the catalogues state them"),
            [Html("Terms"), Html("Clips")],
            terms,
            "numbers",
        )
        + "</div></section>"
    )


def _sheet(name: str, title: str, pictures: Sequence[_Picture], total: int) -> Html:
    shown = f"{len(pictures)} of {total}" if len(pictures) < total else f"all {total}"
    cards = []
    for picture in pictures:
        row = picture.row
        image = (
            f'<img src="{text(picture.path)}" alt="" loading="lazy">'
            if picture.path
            else '<div class="absent">no picture</div>'
        )
        told = row["detail"] or f"{row['identity']}, {row['seconds']:.1f} s"
        top = row["reason"] or row["key"]
        tip = f"{row['file']}, {row['start']:.1f} to {row['end']:.1f} s"
        cards.append(
            f'<figure title="{text(tip)}">{image}<figcaption><b>{text(top)}</b>{text(told)}</figcaption></figure>'
        )
    sheet = f'<div class="sheet">{join(cards)}</div>' if cards else "<p>None.</p>"
    note = f'<p class="legend">Shown: {shown}.</p>' if cards else ""
    return Html(f'<section id="{name}"><h2>{title}</h2>{note}{sheet}</section>')


def _throughput(manifest: Mapping[str, Any]) -> Html:
    head = [Html(name) for name in ("Stage", "Clips", "Seconds", "Clips per second")]
    stages = manifest["throughput"]
    rows = [
        [text(name), Html(str(int(e["clips"]))), Html(number(e["seconds"], 1)), Html(number(e["clips_per_second"], 2))]
        for name, e in stages.items()
    ]
    caption = Html("Time of one worker in each stage; with n workers up to n times as many clips pass in a second")
    return Html(f'<section id="throughput"><h2>Throughput</h2>{table(caption, head, rows, "numbers")}</section>')


def _videos(rows: Sequence[Row]) -> Html:
    by_video: dict[str, list[Row]] = {}
    for row in rows:
        by_video.setdefault(row["file"], []).append(row)
    lines = []
    for name, own in sorted(by_video.items())[:_MOST_VIDEOS]:
        kept = [row for row in own if row["kept"]]
        reasons = Counter(row["reason"] for row in own if not row["kept"]).most_common()
        told = ", ".join(f"{count} {reason}" for reason, count in reasons) or DASH
        seconds = sum(row["seconds"] for row in kept)
        cells = (
            text(own[0]["identity"]),
            text(own[0]["split"]),
            Html(str(len(own))),
            Html(str(len(kept))),
            Html(number(seconds, 1)),
        )
        lines.append([text(name), *cells, text(told)])
    head = [Html(name) for name in ("Video", "Identity", "Split", "Candidates", "Kept", "Seconds kept", "Left out")]
    left = len(by_video) - len(lines)
    caption = Html(f"One row a video{f'; {left} more are in clips.jsonl' if left else ''}")
    return Html(f'<section id="videos"><h2>Videos</h2>{table(caption, head, lines, "prose")}</section>')


def _made_with(manifest: Mapping[str, Any]) -> Html:
    head = [Html("Setting"), Html("Value")]
    shown = {k: v for k, v in manifest["settings"].items() if not isinstance(v, dict)}
    shown |= {k: v for k, v in manifest["model"].items() if not isinstance(v, dict)} | dict(manifest["made_with"])
    rows = [[text(name), text(value)] for name, value in shown.items()]
    return Html(
        f'<section id="made-with"><h2>Settings</h2>{table(Html("How the set was made"), head, rows, "prose")}</section>'
    )

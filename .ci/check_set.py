"""Checks the set that examples/end_to_end.sh prepares: good clips are kept and in sync, bad ones left out, each for the right reason."""

import json
import sys
from pathlib import Path

from fantasytalking.data.prepared_set import PreparedSet

REASONS = {
    "broken": "unreadable",
    "silent": "silent",
    "no-face": "no-face",
    "two-faces": "several-faces",
    "few-frames": "frame-rate",
}
LAG = 6  # frames by which the face of out-of-step.mp4 lags behind its speech (examples/raw_videos.py)


def check(folder: Path) -> str:
    """Check a prepared set and return a one-line summary.

    Raises:
        AssertionError: Something differs from what is expected; the message says what.
    """
    rows = {row["key"]: row for row in map(json.loads, (folder / "clips.jsonl").read_text().splitlines())}
    kept = sorted(key for key, row in rows.items() if row["kept"])
    assert {"anna-0000", "berta-0000", "clara-0000", "long-0000", "out-of-step-0000"} <= set(kept), (
        f"a good clip is missing; kept were {kept}"
    )
    shift = rows["out-of-step-0000"]["sync_shift"]
    assert abs(shift - LAG) <= 1, f"the clip out of sync was shifted by {shift} frames instead of {LAG}"
    for name, reason in REASONS.items():
        found = {row["reason"] for key, row in rows.items() if key.startswith(f"{name}-")}
        assert found == {reason}, f"{name} was left out for {found} instead of {reason}"
    still = {row["reason"] for key, row in rows.items() if key.startswith("frozen-") and not row["kept"]}
    assert "frozen" in still, f"the end of frozen.mp4, whose picture stands still, was left out for {still}"
    long = [row for key, row in rows.items() if key.startswith("long-")]
    # It shows a talking face at the beginning and an empty card for the rest, every minute of which has its row.
    seconds = sum(row["end"] - row["start"] for row in long)
    assert seconds >= 0.99 * max(row["end"] for row in long) >= 1800, (
        f"the rows of the long recording cover {seconds:.0f} s"
    )
    assert not any(row["kept"] for row in long[1:]), "a clip of the long recording without a face was kept"
    assert "frozen" in {row["reason"] for row in long}, "the card of the long recording was not found to stand still"
    PreparedSet.open(folder).verify()
    assert "<svg" in (folder / "report.html").read_text(), "the report has no histograms"
    return f"{len(kept)} of {len(rows)} clips kept, each of the others left out for the right reason"


if __name__ == "__main__":
    print(check(Path(sys.argv[1])))

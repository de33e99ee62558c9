"""Checks what examples/end_to_end.sh prepared: the good clips are kept and in step, every bad one is left out for its own reason."""

import json
import sys
from pathlib import Path

from fantasytalking.data.prepared_set import PreparedSet

REASONS = {"broken": "unreadable", "silent": "silent", "no-face": "no-face", "two-faces": "several-faces"}
LAG = 6  # of the clip out of step, see examples/raw_videos.py


def check(folder: Path) -> str:
    """Returns one line about the set; an AssertionError says what is not as it should be."""
    rows = {row["key"]: row for row in map(json.loads, (folder / "clips.jsonl").read_text().splitlines())}
    kept = sorted(key for key, row in rows.items() if row["kept"])
    assert {"anna-0000", "berta-0000", "clara-0000", "long-0000", "out-of-step-0000"} <= set(kept), f"kept are {kept}"
    shift = rows["out-of-step-0000"]["sync_shift"]
    assert abs(shift - LAG) <= 1, f"the clip out of step was shifted by {shift} frames, not {LAG}"
    for name, reason in REASONS.items():
        found = {row["reason"] for key, row in rows.items() if key.startswith(f"{name}-")}
        assert found == {reason}, f"{name} was left out as {found}, not {reason}"
    long = [row for key, row in rows.items() if key.startswith("long-")]
    assert len(long) >= 100 and not any(row["kept"] for row in long[1:]), (
        "the long recording was not cut into its pieces"
    )
    PreparedSet.open(folder).verify()
    assert "<svg" in (folder / "report.html").read_text(), "the report has no histograms"
    return f"{len(kept)} of {len(rows)} candidates kept, every other one left out for its reason"


print(check(Path(sys.argv[1])))

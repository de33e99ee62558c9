"""Whether the rows of a table are measured over the same frames, how that was reached, and what else sets them apart from the real clips.

All rows of a clip are cut to the shortest of its videos (`measure.measure_clip`), and a clip counts only where every row has it
(`summary.summarise`). What follows is told with the table: a mean over 4 s of some clips is no match for one over 10 s of others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fantasytalking.evaluation.clip_facts import ClipFacts
from fantasytalking.evaluation.common_frames import CommonFrames
from fantasytalking.evaluation.measure import MeasuredClip
from fantasytalking.evaluation.pairing import GROUND_TRUTH, SHUFFLED
from fantasytalking.evaluation.protocol import Protocol
from fantasytalking.evaluation.results import Method
from fantasytalking.evaluation.same_frames import shared_clips

__all__ = [
    "clip_problems",
    "common_frames",
    "encoding_warnings",
    "footage_warnings",
    "length_warnings",
    "row_encodings",
]

SLACK = 1.5
"""Frames by which the lengths of a clip and its reference may differ without a note."""
_SIZE = 0.1
"""Share by which a video may be smaller or larger than the real clip, at the protocol's size, without a note."""
_SHAPE = 0.03
"""Share by which its aspect ratio may differ without a note."""
_RATE = 0.01
"""Share by which its frame rate may differ without a note: 29.97 is 30."""
_NAMED = 3
"""Number of clips that a warning names."""


@dataclass(frozen=True)
class _Difference:
    """A way in which a generated video may differ from the real clip.

    Attributes:
        differs: Function of video, real clip and protocol.
        clip: Sentence about one clip: `{made}` and `{real}` are its values.
        table: The end of a warning about a row.
        value: Function of facts that gives the value.
    """

    differs: Callable[[ClipFacts, ClipFacts, Protocol], bool]
    clip: str
    table: str
    value: Callable[[ClipFacts], str]


def _other_size(made: ClipFacts, real: ClipFacts, protocol: Protocol) -> bool:
    # Above the protocol's size both are scaled down to it, and nothing is lost by either.
    sides = [min(facts.longest_side, protocol.longest_side) for facts in (made, real)]
    return abs(sides[0] / sides[1] - 1) > _SIZE


def _other_shape(made: ClipFacts, real: ClipFacts, protocol: Protocol) -> bool:
    return abs(made.width / made.height * real.height / real.width - 1) > _SHAPE


def _other_rate(made: ClipFacts, real: ClipFacts, protocol: Protocol) -> bool:
    return abs(made.fps / real.fps - 1) > _RATE


_DIFFERENCES = (
    _Difference(
        _other_size,
        "It is {made} pixels large and the real clip {real}; it was scaled, which blurs and counts as its quality.",
        "another size than the real clip; scaling to the protocol's size blurs what is small, and metrics of quality, of faces and of "
        "distance see that: compare methods at one size",
        lambda facts: f"{facts.width} x {facts.height}",
    ),
    _Difference(
        _other_shape,
        "Its sides are as {made} to 1 and the real clip's as {real} to 1; it was measured as it is, crop one like the other.",
        "another aspect ratio than the real clip, and was measured as it is; crop one like the other",
        lambda facts: f"{facts.width / facts.height:.2f}",
    ),
    _Difference(
        _other_rate,
        "It has {made} frames a second and the real clip {real}; repeated or dropped frames count as its motion.",
        "another frame rate than the real clip; repeated or dropped frames count as its motion: generate at the real clip's rate",
        lambda facts: f"{facts.fps:.4g}",
    ),
)


def clip_problems(measured: MeasuredClip, protocol: Protocol) -> list[str]:
    """Sentences about one clip of one row; none of them keeps it from being measured."""
    if measured.facts is None or measured.task.still:
        return []
    own, real = measured.facts
    found = []
    if own.frozen and measured.task.method != SHUFFLED:
        found.append(
            f"Its picture is frozen for {own.frozen:.1f} of {own.frames / protocol.fps:.1f} s while there is sound; what is measured "
            "there says nothing about lips."
        )
    if measured.task.video == measured.task.reference:
        return found
    if not own.has_sound and real.has_sound:
        found.append("It has no sound of its own; sync was measured with the real clip's.")
    if _other_length(own, real, protocol):
        lengths = [min(facts.seconds, protocol.max_seconds) for facts in (own, real)]
        found.append(
            f"It lasts {lengths[0]:.2f} s and the real clip {lengths[1]:.2f} s; all rows of this clip are measured over their first "
            f"{measured.frames / protocol.fps:.2f} s."
        )
    found += [
        kind.clip.format(made=kind.value(own), real=kind.value(real))
        for kind in _DIFFERENCES
        if kind.differs(own, real, protocol)
    ]
    return found


def _other_length(own: ClipFacts, real: ClipFacts, protocol: Protocol) -> bool:
    return abs(own.frames - real.frames) > SLACK


def footage_warnings(measured: Sequence[MeasuredClip], protocol: Protocol) -> list[str]:
    """Warnings about whole rows: frozen pictures, and another size, shape or frame rate than the real clips'."""
    rows: dict[str, list[tuple[str, ClipFacts, ClipFacts]]] = {}
    for one in measured:
        if one.facts is not None and not one.task.still and one.task.method != SHUFFLED:
            rows.setdefault(one.task.method, []).append((one.task.clip, *one.facts))
    found = []
    for method, clips in rows.items():
        frozen = [f"{name} for {own.frozen:.1f} s" for name, own, _ in clips if own.frozen]
        if frozen:
            found.append(
                f"The picture is frozen while there is sound in {_of(len(frozen), len(clips))} of '{method}' ({_some(frozen)}); metrics "
                "between frames and sync mean little there: leave such clips out."
            )
        for kind in _DIFFERENCES:
            other = [(n, own, real) for n, own, real in clips if own is not real and kind.differs(own, real, protocol)]
            if other:
                name, own, real = other[0]
                example = f"{name}: {kind.value(own)}, real {kind.value(real)}"
                found.append(f"In {_of(len(other), len(clips))} '{method}' has {kind.table} ({example}).")
    return found


def row_encodings(measured: Sequence[MeasuredClip]) -> dict[str, str]:
    """Name of a row -> how its files are encoded, the most frequent way first."""
    rows: dict[str, Counter[str]] = {}
    for one in measured:
        if one.facts is not None and not one.task.still and one.facts[0].encoding:
            rows.setdefault(one.task.method, Counter())[one.facts[0].encoding] += 1
    return {name: _ways(found) for name, found in rows.items()}


def _ways(found: Counter[str]) -> str:
    if len(found) == 1:
        return next(iter(found))
    return _some([f"{way} ({count} clip{'' if count == 1 else 's'})" for way, count in found.most_common()])


def encoding_warnings(rows: Sequence[Method]) -> list[str]:
    """A warning where methods are encoded differently, as encoding alone moves figures."""
    ways = {row.name: row.encoding for row in rows if row.kind == "method" and row.encoding}
    if len(set(ways.values())) < 2:
        return []
    named = "; ".join(f"'{name}': {way}" for name, way in ways.items())
    return [
        f"The methods' files are encoded differently ({named}), and encoding alone moves figures, sync and quality most: encode all alike."
    ]


def common_frames(measured: Sequence[MeasuredClip], rows: Sequence[Method], apart: Sequence[str]) -> CommonFrames:
    """The frames that all rows are measured over.

    Args:
        measured: The clips of all rows.
        rows: The rows.
        apart: Keys of columns in which the rows have no clip in common.
    """
    shared = shared_clips(rows)
    frames = {name: clip.frames for row in rows for name, clip in row.clips.items() if name in shared}
    longest = _real_frames(measured)
    cut = [name for name in frames if longest.get(name, 0) - frames[name] > SLACK]
    return CommonFrames(bool(shared), tuple(shared), sum(frames.values()), tuple(cut), tuple(apart))


def _real_frames(measured: Sequence[MeasuredClip]) -> dict[str, int]:
    return {
        one.task.clip: one.facts[1].frames
        for one in measured
        if one.task.method == GROUND_TRUTH and one.facts is not None
    }


def length_warnings(
    measured: Sequence[MeasuredClip],
    rows: Sequence[Method],
    common: CommonFrames,
    protocol: Protocol,
    lacking: Mapping[str, Sequence[str]],
    real: int,
) -> list[str]:
    """Warnings where rows were made equal by leaving out clips or cutting them, or could not be made equal.

    Args:
        measured: The clips of all rows.
        rows: The rows.
        common: The frames that they are measured over.
        protocol: Protocol of the measurement.
        lacking: Name of a row -> names of the real clips of which it has no usable video.
        real: Number of real clips.
    """
    found = []
    if not common.same:
        found.append(
            "The rows have no clip in common, so each is measured over clips of its own and nothing is called best; give every method "
            "videos of the same clips."
        )
    elif lacking:
        named = "; ".join(f"'{name}' lacks {len(clips)} ({_some(clips)})" for name, clips in lacking.items())
        found.append(
            f"All rows count only the {_of(len(common.clips), real)} that every one has: {named}. Leave a method out, or give its "
            "videos, to count more."
        )
    if common.cut:
        longest = _real_frames(measured)
        whole = sum(longest[name] for name in common.cut) / protocol.fps
        kept = sum(_frames_of(rows, name) for name in common.cut) / protocol.fps
        shortest: dict[str, int] = {}
        for one in measured:
            if one.task.clip in common.cut and one.facts is not None and one.facts[0].frames == one.frames:
                shortest[one.task.method] = shortest.get(one.task.method, 0) + 1
        by = ", ".join(f"'{name}' in {count}" for name, count in shortest.items())
        found.append(
            f"{_of(len(common.cut), len(common.clips))} {'is' if len(common.cut) == 1 else 'are'} cut in every row, real clips and "
            f"baselines included, to the end of the shortest video ({by}): {kept:.1f} s of {whole:.1f} s are measured."
        )
    return found


def _frames_of(rows: Sequence[Method], name: str) -> int:
    return next(row.clips[name].frames for row in rows if name in row.clips)


def _of(count: int, all_clips: int) -> str:
    return f"{count} of {all_clips} clip{'' if all_clips == 1 else 's'}"


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")

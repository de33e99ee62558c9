"""How live speech is followed: how far ahead, how soon, and whether by the clock."""

from __future__ import annotations

from typing import Annotated

from fantasytalking.system.records import field, record

__all__ = ["LiveOptions"]


@record
class LiveOptions:
    """Options of a live session. Delay is theirs to choose: longer pieces and more look-ahead follow the speech better and come later."""

    real_time: Annotated[
        bool,
        field(
            "Keep to the clock: where speech is late, the person rests, in silence, until it comes. Else it is waited for."
        ),
    ] = True
    segment_seconds: Annotated[
        float,
        field(
            "Speech that is animated at once: longer segments cost less computing and come later.",
            minimum=0.16,
            maximum=8,
            unit="seconds",
        ),
    ] = 0.48
    look_ahead: Annotated[
        float,
        field(
            "Speech behind a segment that it waits for: its last frames hear 0.1 s of it, and more tells the encoder what is said.",
            minimum=0.12,
            maximum=2,
            unit="seconds",
        ),
    ] = 0.2
    patience: Annotated[
        float,
        field(
            "How late speech may be, in real time, before the person rests; chunks that are longer get as much as they are long.",
            minimum=0,
            maximum=5,
            unit="seconds",
        ),
    ] = 0.15
    ahead_seconds: Annotated[
        float,
        field(
            "How much earlier than they are due frames are made, in real time, where speech comes faster than it is spoken.",
            minimum=0,
            maximum=60,
            unit="seconds",
        ),
    ] = 1.0
    waiting_seconds: Annotated[
        float,
        field(
            "Speech that may wait to be animated; whoever gives more has to wait.",
            minimum=1,
            maximum=3600,
            unit="seconds",
        ),
    ] = 60.0

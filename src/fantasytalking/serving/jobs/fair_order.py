"""The order in which queued jobs begin: by client in turn, so that nobody waits for another's hundred jobs."""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping

__all__ = ["fair_order"]


def fair_order(
    queued: Iterable[tuple[str, str]], running: Mapping[str, int], last_started: Mapping[str, float]
) -> Iterator[str]:
    """Ids of queued jobs, the next to begin first.

    The next one belongs to the client with the fewest jobs at work, those counted that this order lets begin before; among several, to the
    one whose last job began the longest ago. A client's own jobs begin in the order in which they came.

    Args:
        queued: (id, client) of each queued job, oldest first.
        running: Client -> number of jobs at work.
        last_started: Client -> when a job of theirs began last, seconds since 1970.
    """
    waiting: dict[str, deque[str]] = defaultdict(deque)
    for job, client in queued:
        waiting[client].append(job)
    # The number of the client's oldest job decides between clients that are new; dictionaries keep their order.
    turns = [
        (running.get(client, 0), last_started.get(client, 0.0), number, client) for number, client in enumerate(waiting)
    ]
    heapq.heapify(turns)
    while turns:
        busy, last, number, client = heapq.heappop(turns)
        yield waiting[client].popleft()
        if waiting[client]:
            heapq.heappush(turns, (busy + 1, last, number, client))

"""A service whose jobs wait."""


class NoWorkers:
    """Runs nothing; `alive` may be set."""

    def __init__(self) -> None:
        self.alive = 1

    def start(self) -> None: ...

    def stop(self, seconds: float) -> None: ...

"""The interrupt, and the models in memory."""

from __future__ import annotations

interrupted = False


class InterruptProcessingException(Exception):  # noqa: N818  # ComfyUI's name
    pass


def interrupt_current_processing(value: bool = True) -> None:
    global interrupted
    interrupted = value


def processing_interrupted() -> bool:
    return interrupted


def throw_exception_if_processing_interrupted() -> None:
    if processing_interrupted():
        interrupt_current_processing(False)
        raise InterruptProcessingException


def unload_all_models() -> None:
    pass


def soft_empty_cache(force: bool = False) -> None:
    pass

"""The processes that make one video together: how they find each other, share the passes of a step, and fail together.

Rank is the number of a process. Letters: B samples, C channels, f latent frames, h and w latent rows and columns.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from diffusers import ContextParallelConfig
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

import fantasytalking.errors
from fantasytalking.acceleration.parallel_plan import ParallelPlan
from fantasytalking.errors import FantasyTalkingError, ResourceError, SettingsError

__all__ = ["LeftError", "Ranks", "connect", "together", "told_by"]

Name = TypeVar("Name")
Made = TypeVar("Made")
PATIENCE = timedelta(days=7)
"""How long a process waits for the others where they may decode a long video, or load a model from a slow disk."""


class LeftError(ResourceError):
    """Another process takes no more frames of a video that all of them make."""


class Ranks:
    """The processes of a run; `connect` makes it.

    What they tell each other goes through `agree` alone, whose calls meet in order, whichever part of the code they come from. So an error
    of one reaches the others at the place where each of them waits next.

    Args:
        device: Where this process computes.
    """

    def __init__(self, device: torch.device) -> None:
        self.rank, self.count, self.device = dist.get_rank(), dist.get_world_size(), device
        self.on_this_machine = int(os.environ.get("LOCAL_WORLD_SIZE", self.count))
        # How they share the work; who connects them may choose it before there is a model.
        self.plan: ParallelPlan | None = None
        # On the CPU, whatever the tensors use: what is agreed on are sentences.
        self._world = dist.new_group(backend="gloo", timeout=PATIENCE)
        self._guidance: dist.ProcessGroup | None = None
        self._guidance_rank = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes the file and speaks to the user."""
        return self.rank == 0

    def leave(self) -> None:
        """Part from the others, once all are done."""
        with self.together():
            pass
        dist.destroy_process_group()

    def share(self, plan: ParallelPlan, transformer: Any) -> None:
        """Share the work; the transformer shares its tokens from now on, where the plan says so.

        Args:
            plan: The division.
            transformer: The transformer of this process.

        Raises:
            SettingsError: The plan is for another number of processes, or the transformer cannot be shared.
        """
        if plan.processes != self.count:
            raise SettingsError(f"{plan} is for {plan.processes} processes, but there are {self.count}.")
        shape, names = (plan.guidance, 1, plan.ulysses), ("guidance", "ring", "ulysses")
        mesh = init_device_mesh(self.device.type, shape, mesh_dim_names=names)
        if plan.ulysses > 1:
            tokens = ContextParallelConfig(ulysses_degree=plan.ulysses, mesh=mesh["ring", "ulysses"])
            transformer.enable_parallelism(config=tokens)
        if plan.guidance > 1:
            self._guidance, self._guidance_rank = mesh.get_group("guidance"), mesh.get_local_rank("guidance")
        self.plan = plan

    def own(self, passes: Sequence[Name]) -> tuple[Name, ...]:
        """The guidance passes of this process; none where there are fewer passes than processes that share them."""
        if self._guidance is None or self.plan is None:
            return tuple(passes)
        return tuple(passes[self._guidance_rank :: self.plan.guidance])

    def exchanged(self, passes: Sequence[Name], own: Mapping[Name, Tensor], like: Tensor) -> dict[Name, Tensor]:
        """The velocities of all passes.

        Args:
            passes: All passes of the step.
            own: Velocities [B, C, f, h, w] of this process's passes.
            like: A tensor of the same shape on the same device.
        """
        if self._guidance is None or self.plan is None:
            return dict(own)
        velocities = {}
        for number, one in enumerate(passes):
            value = own[one].float().contiguous() if one in own else torch.empty_like(like, dtype=torch.float32)
            dist.broadcast(value, group=self._guidance, group_src=number % self.plan.guidance)
            velocities[one] = value
        return velocities

    def first(self, values: Tensor) -> Tensor:
        """The values that the first process has."""
        values = values.contiguous()
        dist.broadcast(values, src=0)
        return values

    def of_first(self, make: Callable[[], Made]) -> Made:
        """What the first process makes, in all of them.

        Args:
            make: Called in the first process; tensors in its result have to be on the CPU.
        """
        held: list[Any] = [None]
        with self.together():
            if self.is_first:
                held = [make()]
        dist.broadcast_object_list(held, src=0, group=self._world)
        made: Made = held[0]
        return made

    def any(self, flag: bool) -> bool:
        """Whether any process says yes."""
        return any(self.agree(None, flag))

    @property
    def fails_together(self) -> bool:
        """Whether an error in the middle of a pass can be told to the others: where they share tokens, they wait in the pass itself."""
        return self.plan is not None and self.plan.ulysses == 1

    def agree(self, error: BaseException | None, answer: bool = False) -> list[bool]:
        """Tell the others of an error, or hear of theirs; all processes have to call it.

        Args:
            error: What ended the work of this process, or None.
            answer: To whatever is asked.

        Returns:
            The answers of all.

        Raises:
            FantasyTalkingError: Another process had an error: the same one, with the attribute `told_by`, its rank.
        """
        failure = None if error is None else (type(error).__name__, " ".join(str(error).split()))
        heard: list[tuple[tuple[str, str] | None, bool]] = [(None, False)] * self.count
        dist.all_gather_object(heard, (failure, answer), group=self._world)
        if error is not None:
            error.told_by = self.rank  # type: ignore[attr-defined]
            return []
        for rank, (one, _) in enumerate(heard):
            if one is not None:
                raise _same(*one, rank)
        return [said for _, said in heard]

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """A block at whose end all processes are; if one has raised an error by then, all raise it.

        Where one closes a generator in the middle of the block, the others raise `LeftError`.
        """
        try:
            yield
        except GeneratorExit:
            # Where there is no connection any more, nobody waits either.
            with contextlib.suppress(Exception):
                self.agree(
                    LeftError(f"Process {self.rank} takes no more frames of this video; all have to take them alike.")
                )
            raise
        except Exception as error:
            if told_by(error) is None:
                # Where another process has gone away, what happened here says more than that nobody can be told.
                with contextlib.suppress(RuntimeError):
                    self.agree(error)
            raise
        self.agree(None)


def _same(name: str, message: str, rank: int) -> FantasyTalkingError:
    kind = getattr(fantasytalking.errors, {"OutOfMemoryError": "OutOfMemory"}.get(name, name), None)
    error: FantasyTalkingError = ResourceError(f"Process {rank} of this run failed: {name}: {message}")
    if name == LeftError.__name__:
        error = LeftError(message)
    if isinstance(kind, type) and issubclass(kind, FantasyTalkingError):
        error = kind(message)
    error.told_by = rank  # type: ignore[attr-defined]
    return error


def told_by(error: BaseException) -> int | None:
    """The rank of the process whose error all processes know and raise; None: an error of this process alone."""
    cause = error.__cause__
    return getattr(error, "told_by", None if cause is None else told_by(cause))


def together(ranks: Ranks | None) -> contextlib.AbstractContextManager[None]:
    """`Ranks.together` where there are several processes; else a block like any other."""
    return contextlib.nullcontext() if ranks is None else ranks.together()


def connect(device: torch.device) -> Ranks:
    """Join the processes that torchrun, or a process of ours, has started; those that are joined already are taken as they are.

    Args:
        device: Where this process computes, a different one in each process.

    Raises:
        SettingsError: There are no others, or devices of this kind cannot exchange tensors on this system.
    """
    if not dist.is_available():
        raise SettingsError("This PyTorch was built without torch.distributed, so only one process can make a video.")
    if device.type not in ("cpu", "cuda"):
        raise SettingsError(
            f"Several processes share a video on CUDA devices or CPUs, but the device is {device.type}."
        )
    if device.type == "cuda" and not dist.is_nccl_available():
        raise SettingsError(
            "Several GPUs exchange tensors through NCCL, which PyTorch has on Linux alone; use one GPU for each video."
        )
    if not dist.is_initialized():
        if "RANK" not in os.environ:
            raise SettingsError(
                "Several processes share a video, but this one was started alone; start them with torchrun --nproc-per-node N."
            )
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    return Ranks(device)

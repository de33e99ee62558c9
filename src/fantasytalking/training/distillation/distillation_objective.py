"""Objective of a distillation: the student learns where the guided teacher arrives at the end of each phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fantasytalking.conditioning.conditions import Conditions
from fantasytalking.errors import SettingsError
from fantasytalking.flow import noised
from fantasytalking.training.distillation.distillation_recipes import DistillConfig
from fantasytalking.training.distillation.phased_consistency import (
    GuidedTeacher,
    Phases,
    Starts,
    Velocity,
    call,
    own_way,
    student_loss,
    target_point,
)
from fantasytalking.training.flow_matching import TransformerWork, collate_rows
from fantasytalking.training.trainer.engine import Engine
from fantasytalking.training.trainer.objective import Losses, Workload
from fantasytalking.training.trainer.random_draws import StepDraws, generator_for
from fantasytalking.training.trainer.sources import SampleSource

__all__ = ["Distillation", "StudentBatch"]

_WHERE = 2  # separates these draws from the noise of the samples


@dataclass(frozen=True)
class StudentBatch:
    """Batch of start points.

    Attributes:
        starts: Start points, before any is moved to the student's own trajectory.
        own: Which of them are to be moved, bool [B].
        noise: Noise e [B, C, f, h, w] from which the student's own trajectory begins.
        mask: Lip mask [B, 1, f, h, w], 0..1.
        level: Drawn noise levels [B], on the CPU.
    """

    starts: Starts
    own: Tensor
    noise: Tensor
    mask: Tensor
    level: Tensor

    def to(self, device: torch.device) -> StudentBatch:
        """Copy of the batch on a device; the levels stay on the CPU."""
        return replace(
            self,
            starts=self.starts.to(device),
            own=self.own.to(device),
            noise=self.noise.to(device),
            mask=self.mask.to(device),
        )


class Distillation:
    """Objective of a student that takes one straight step per phase.

    Args:
        config: Configuration of the distillation.
        teacher: Guided teacher; moved to the run's device when the run begins.
        teacher_model: Network of the teacher, if it is not the student's; moved to the device as well.

    Attributes:
        phases: Sampling schedule of the student.
    """

    parts = ("lips", "rest")
    counts_operations = True

    def __init__(self, config: DistillConfig, teacher: GuidedTeacher, teacher_model: nn.Module | None = None) -> None:
        self.config, self.teacher, self._teacher_model = config, teacher, teacher_model
        self.phases = Phases(config.student_steps, config.train.shift)
        self.method = config.method()

    def begin(self, engine: Engine, average: Mapping[str, Tensor]) -> None:
        """Keep a reference to the student's averaged weights and move the teacher to the device.

        Raises:
            SettingsError: Weights are sharded across processes.
        """
        if engine.sharded:
            raise SettingsError(
                "A distillation cannot spread its weights over processes (fsdp), because it also runs the averaged weights; set "
                "train.fsdp to False, and train LoRA if the model is large."
            )
        self._engine, self._average = engine, average
        self._work = TransformerWork(engine, average)
        self.teacher = self.teacher.to(engine.device)
        if self._teacher_model is not None:
            self._teacher_model.to(engine.device)

    def prepare(self, source: SampleSource, step: int, rows: Sequence[int]) -> StudentBatch:
        """Draw start points of some rows of the global batch of a step.

        Noise levels are stratified over the global batch, so that every phase gets its share.
        """
        train = self.config.train
        draws = StepDraws.draw(train.seed, step, len(source.plan(step)), train.shift, train.dropout, rows)
        batch = collate_rows(source, train, step, draws)
        chance = torch.stack([torch.rand(2, generator=generator_for(train.seed, step, i, _WHERE)) for i in draws.rows])
        _, phase = self.phases.of(draws.sigma)
        own = (chance[:, 0] < self.config.on_policy) & (phase > 0)
        u, phase = self.phases.place(draws.sigma, own | (chance[:, 1] < self.config.at_start))
        latents = batch.latents.float()
        noise = draws.noise(latents.shape[1:])
        noisy = noised(latents, noise, self.phases.sigma(u).float())
        starts = Starts(noisy, u, phase, batch.condition.float(), batch.conditions)
        return StudentBatch(starts, own, noise, batch.lip_mask, draws.sigma)

    def losses(self, model: nn.Module, batch: StudentBatch, step: int) -> Losses:
        """Move start points to the student's own trajectory, follow the teacher from there, and compare."""
        config, index = self.config, batch.own.nonzero()[:, 0]
        starts = replace(batch.starts, noisy=batch.starts.noisy.clone())
        with self._engine.accelerator.autocast():
            if len(index):
                starts.noisy[index] = own_way(
                    batch.noise[index], starts.rows(index), self.phases, self.average_velocity
                )
            landing = target_point(
                starts, self.teacher, self.phases, config.solver_steps, config.substeps, self.average_velocity
            )
        velocity = call(
            velocity_of(model), starts.noisy, self.phases.sigma(starts.u), starts.condition, starts.conditions
        )
        found = student_loss(velocity, starts, landing, self.phases, batch.mask, config.lip_weight, config.huber)
        return replace(found, noise=batch.level)

    def workload(self, batch: StudentBatch) -> Workload:
        """Tokens and operations of one sample, without the passes of the teacher and the averaged student."""
        return self._work(batch.starts.noisy, batch.starts.conditions)

    def average_velocity(self, hidden: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        """Velocity of the student with its averaged weights."""
        inputs = (hidden, timestep, conditions)
        return functional_call(self._engine.bare_model, dict(self._average), inputs).sample  # type: ignore[no-any-return]


def velocity_of(model: nn.Module) -> Velocity:
    """Wrap a model as a network that returns only the velocity."""

    def velocity(hidden: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        return model(hidden, timestep, conditions).sample  # type: ignore[no-any-return]

    return velocity

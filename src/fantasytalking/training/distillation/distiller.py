"""The loop of a distillation: the trainer's, with other targets."""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from fantasytalking.conditioning.conditions import Conditions
from fantasytalking.errors import SettingsError
from fantasytalking.system.files import atomic_path
from fantasytalking.training.distillation.distillation_recipes import DistillConfig
from fantasytalking.training.distillation.phased_consistency import (
    GuidedTeacher,
    Phases,
    Starts,
    call,
    own_way,
    student_loss,
    target_point,
)
from fantasytalking.training.trainer.loop import Part, Trainer
from fantasytalking.training.trainer.objective import Losses
from fantasytalking.training.trainer.random_draws import generator_for

METHOD = "distillation.json"
"""File of the run folder that says what the student is taught."""
_WHERE = 2  # tells these draws from the trainer's own


@dataclass(kw_only=True)
class Distiller(Trainer):
    """Trains a student; data, order, logging, checkpoints and validation are the trainer's.

    Args:
        method: what is taught; its `train` is the trainer's `config`.
        teacher: guided.

    Raises:
        SettingsError: the run folder belongs to a distillation by another method, or weights are spread over processes.
        CheckpointError: its newest checkpoint does not fit or is damaged.
    """

    method: DistillConfig
    teacher: GuidedTeacher

    def __post_init__(self) -> None:
        self.phases = Phases(self.method.student_steps, self.config.shift)
        self._check_method()
        super().__post_init__()
        if self.engine.sharded:
            raise SettingsError(
                "A distillation cannot spread its weights over processes (fsdp), because it also runs their average; set fsdp to "
                "False, and train LoRA where the model is large."
            )
        if self.engine.is_main:
            with atomic_path(self.run.path / METHOD, overwrite=True) as temporary:
                temporary.write_text(json.dumps(self.method.method(), indent=1) + "\n")

    def average_velocity(self, hidden: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        """The network with the averaged weights."""
        output = functional_call(self.engine.bare_model, self.ema, (hidden, timestep, conditions))
        return output.sample  # type: ignore[no-any-return]

    def starts(self, part: Part, step: int) -> tuple[Starts, Tensor]:
        """Start points of samples, before any of them is moved to the student's own way, and which of them are to be: [B] bool.

        A pure function of seed, step and each sample's number in the global batch. Noise levels come from the trainer's draws, so
        that every phase gets its share of a batch.
        """
        draws, batch = part.draws, part.batch
        chance = torch.stack(
            [torch.rand(2, generator=generator_for(self.config.seed, step, i, _WHERE)) for i in draws.rows]
        )
        _, phase = self.phases.of(draws.sigma)
        own = (chance[:, 0] < self.method.on_policy) & (phase > 0)
        u, phase = self.phases.place(draws.sigma, own | (chance[:, 1] < self.method.at_start))
        latents = batch.latents.float()
        s = self.phases.sigma(u).float().view(-1, 1, 1, 1, 1)
        noisy = (1 - s) * latents + s * draws.noise(latents.shape[1:])
        return Starts(noisy, u, phase, batch.condition.float(), batch.conditions), own

    def _forward(self, part: Part, step: int) -> Losses:
        method, device = self.method, self.engine.device
        starts, own = self.starts(part, step)
        starts, index = starts.to(device), own.nonzero()[:, 0].to(device)
        with self.engine.accelerator.autocast():
            if len(index):
                noise = part.draws.noise(part.batch.latents.shape[1:]).to(device)
                starts.noisy[index] = own_way(noise[index], starts.rows(index), self.phases, self.average_velocity)
            landing = target_point(
                starts, self.teacher, self.phases, method.solver_steps, method.substeps, self.average_velocity
            )
        velocity = call(self._student, starts.noisy, self.phases.sigma(starts.u), starts.condition, starts.conditions)
        mask = part.batch.lip_mask.to(device)
        return student_loss(velocity, starts, landing, self.phases, mask, method.lip_weight, method.huber)

    def _student(self, hidden: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        return self.engine.model(hidden, timestep, conditions).sample  # type: ignore[no-any-return]

    def _check_method(self) -> None:
        stored = self.run.path / METHOD
        if self.run.latest() is None or not stored.exists():
            return
        before, now = json.loads(stored.read_text()), self.method.method()
        changed = [name for name in now if before.get(name) != now[name]]
        if changed:
            name = changed[0]
            raise SettingsError(
                f"The run in {self.run.path} was begun with {name} = {before.get(name)}, but now it is {now[name]}; give the same "
                "settings to go on, or another output folder."
            )

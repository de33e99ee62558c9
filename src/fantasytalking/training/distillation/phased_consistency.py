"""Few-step distillation: phased consistency with guidance folded in.

The student's sampling schedule of n steps cuts the noise levels (0, 1] into n phases, from sigma_k down to sigma_{k+1}. Within a phase
the student v learns to jump: for every x_s in it, one straight step to the phase's end

    x_s + (sigma_{k+1} - s) v(x_s, s)   shall land where the guided teacher's ODE lands.

The teacher is integrated by Euler steps of the released three-way guidance. Where its steps do not reach the phase's end, the averaged
student jumps from where they stopped (consistency). Afterwards plain Euler sampling in n steps with one pass each does what the teacher
did with many.

Sources: consistency models (Song et al. 2023, arXiv 2303.01469), guidance as part of the target (latent consistency models, Luo
et al. 2023, arXiv 2310.04378), phases (phased consistency models, Wang et al. 2024, arXiv 2405.18407; PeRFlow, Yan et al. 2024,
arXiv 2405.07510). **[ours]**: phases of the shifted flow schedule, start points on the student's own way.

Letters: B batch, C channels, f latent frames, h and w latent rows and columns; u is the noise level before the shift.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fantasytalking.conditioning.conditions import Conditions
from fantasytalking.errors import SettingsError
from fantasytalking.flow import masked_mean, shifted, unshifted
from fantasytalking.guidance import GuidancePlan, Pass, branch
from fantasytalking.pipeline.guidance_passes import Guidance
from fantasytalking.pipeline.noise_schedule import Schedule
from fantasytalking.pipeline.sampling import denoise
from fantasytalking.training.trainer.objective import Losses

Velocity = Callable[[Tensor, Tensor, Conditions], Tensor]
"""A network: hidden states [B, c, f, h, w], timesteps [B] (0 to 1000), conditions -> velocity [B, C, f, h, w]."""

_NEAREST = 0.05  # of a phase: start points inside keep this distance from its end, where the mean velocity is 0 / 0
_ARRIVED = 1e-9


@dataclass(frozen=True)
class Phases:
    """The student's schedule.

    Attributes:
        count: n, phases.
        shift: of the noise levels, as in inference.
    """

    count: int
    shift: float

    def sigma(self, u: Tensor) -> Tensor:
        """Noise levels s of levels u before the shift, same shape and type."""
        return shifted(u, self.shift)

    @property
    def boundaries(self) -> Tensor:
        """sigma_0 = 1 > ... > sigma_n = 0, [n + 1] float64."""
        return self.sigma(torch.linspace(1, 0, self.count + 1, dtype=torch.float64))

    def start(self, phase: Tensor) -> Tensor:
        """Level u at the beginning of phases [B], float64."""
        return 1 - phase.double() / self.count

    def end(self, phase: Tensor) -> Tensor:
        """Level u at the end of phases [B], float64."""
        return 1 - (phase.double() + 1) / self.count

    def of(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Level u [B] float64 and phase [B] int64 of noise levels [B] in (0, 1]."""
        u = unshifted(sigma.double(), self.shift)
        # the level at a boundary belongs to the phase that begins there
        phase = ((1 - u) * self.count + _ARRIVED).floor().long()
        return u, phase.clamp(0, self.count - 1)

    def place(self, sigma: Tensor, at_start: Tensor) -> tuple[Tensor, Tensor]:
        """Level u and phase of start points: drawn noise levels [B], those of `at_start` [B] moved up to their phase's beginning."""
        u, phase = self.of(sigma)
        inside = torch.maximum(u, self.end(phase) + _NEAREST / self.count)
        return torch.where(at_start, self.start(phase), inside), phase


@dataclass(frozen=True)
class Starts:
    """Points at which the student is taught.

    Attributes:
        noisy: x_s [B, C, f, h, w].
        u: noise levels before the shift [B], float64.
        phase: [B] int64, 0 is the noisiest.
        condition: the portrait [B, 4 + C, f, h, w].
        conditions: of all B samples.
    """

    noisy: Tensor
    u: Tensor
    phase: Tensor
    condition: Tensor
    conditions: Conditions

    def rows(self, index: Tensor) -> Starts:
        """Some of them."""
        told = rows(self.conditions, index)
        return Starts(self.noisy[index], self.u[index], self.phase[index], self.condition[index], told)

    def to(self, device: torch.device) -> Starts:
        """The same on a device."""
        told = self.conditions.to(device)
        return Starts(self.noisy.to(device), self.u.to(device), self.phase.to(device), self.condition.to(device), told)


def rows(conditions: Conditions, index: Tensor) -> Conditions:
    """Some samples of a batch of conditions."""

    def pick(value: object) -> object:
        if isinstance(value, Tensor):
            return value[index] if value.ndim else value
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.replace(
                value, **{f.name: pick(getattr(value, f.name)) for f in dataclasses.fields(value)}
            )
        return value

    picked = pick(conditions)
    assert isinstance(picked, Conditions)
    return picked


@dataclass(frozen=True)
class GuidedTeacher:
    """The teacher's velocity under guidance, as the pipeline combines it.

    Attributes:
        network: of the teacher.
        plan: guidance scales; `has_audio` and `has_negative` included.
        channels: [C] factors of (g_audio - 1), see `DistillConfig.guidance_channels`; None: 1 everywhere.
        negative_text: [l, dt] embeddings of the negative prompt; None without prompt guidance.

    Raises:
        SettingsError: the guidance channels cannot act, or prompt guidance has no negative prompt.
    """

    network: Velocity
    plan: GuidancePlan
    channels: Tensor | None = None
    negative_text: Tensor | None = None

    def __post_init__(self) -> None:
        needed = self.plan.passes(0, 1)
        if Pass.NEGATIVE in needed and self.negative_text is None:
            raise SettingsError(
                f"Folding in a prompt guidance of {self.plan.prompt_scale:g} needs the embeddings of the negative prompt, but "
                "there are none; give them, or set the prompt guidance scale to 1."
            )
        uneven = self.channels is not None and bool((self.channels != 1).any())
        if uneven and self.plan.audio_scale > 1 and not {Pass.TEXT, Pass.AUDIO} <= set(needed):
            raise SettingsError(
                "Guidance by channel needs a pass with speech and one without, but with equal prompt and audio scales "
                f"({self.plan.audio_scale:g}) the latter is not run; make the scales differ, or leave the guidance channels out."
            )

    def to(self, device: torch.device) -> GuidedTeacher:
        """The same with channels and negative prompt on a device; the network is the caller's."""
        moved = copy.copy(self)  # checked already, which would wait for the device
        for name in ("channels", "negative_text"):
            value = getattr(self, name)
            object.__setattr__(moved, name, None if value is None else value.to(device))
        return moved

    def velocity(self, starts: Starts) -> Callable[[Tensor, Tensor], Tensor]:
        """(x_s, s [B]) -> guided velocity, float32, for the conditions of `starts`."""
        needed = self.plan.passes(0, 1)
        negative = None if self.negative_text is None else self.negative_text.expand(len(starts.u), -1, -1)
        told = {which: branch(starts.conditions, which, negative) for which in needed}

        def guided(noisy: Tensor, sigma: Tensor) -> Tensor:
            found = {which: call(self.network, noisy, sigma, starts.condition, told[which]) for which in needed}
            return self.plan.combine(found, 0, 1, self.channels)

        return guided


def call(network: Velocity, noisy: Tensor, sigma: Tensor, condition: Tensor, conditions: Conditions) -> Tensor:
    """One pass at noise levels s [B]; the timestep is 1000 s."""
    return network(torch.cat([noisy.to(condition), condition], 1), (1000 * sigma).float(), conditions)


def wide(values: Tensor) -> Tensor:
    """[B] -> float32 [B, 1, 1, 1, 1]."""
    return values.float().view(-1, 1, 1, 1, 1)


@torch.no_grad()
def student_step(network: Velocity, starts: Starts, phases: Phases) -> Tensor:
    """Landing points of one straight step of a student, at each start's phase's end [B, C, f, h, w], float32."""
    now, after = phases.sigma(starts.u), phases.sigma(phases.end(starts.phase))
    velocity = call(network, starts.noisy, now, starts.condition, starts.conditions)
    return starts.noisy.float() + wide(after - now) * velocity.float()


@torch.no_grad()
def target_point(
    starts: Starts, teacher: GuidedTeacher, phases: Phases, solver_steps: int, substeps: int, student: Velocity
) -> Tensor:
    """Points where the student's step shall land, at each start's phase's end.

    Args:
        starts: the start points.
        teacher: makes up to `substeps` Euler steps of 1 / solver_steps of a phase, evenly spaced before the shift.
        phases: the student's schedule.
        solver_steps: steps to a whole phase.
        substeps: most steps of the teacher.
        student: the averaged student; makes one step to the end from where the teacher has not got there.

    Returns:
        [B, C, f, h, w], float32.
    """
    x, u, end = starts.noisy.float().clone(), starts.u.clone(), phases.end(starts.phase)
    for _ in range(substeps):
        moving = (u - end > _ARRIVED).nonzero()[:, 0]
        if not len(moving):
            break
        after = torch.maximum(u[moving] - 1 / (phases.count * solver_steps), end[moving])
        after = torch.where(after - end[moving] < _ARRIVED, end[moving], after)
        now = phases.sigma(u[moving])
        velocity = teacher.velocity(starts.rows(moving))(x[moving], now)
        x[moving] += wide(phases.sigma(after) - now) * velocity
        u[moving] = after
    short = (u - end > _ARRIVED).nonzero()[:, 0]
    if len(short):
        reached = dataclasses.replace(starts, noisy=x, u=u).rows(short)
        x[short] = student_step(student, reached, phases)
    return x


@torch.no_grad()
def own_way(noise: Tensor, starts: Starts, phases: Phases, student: Velocity) -> Tensor:
    """From noise [B, C, f, h, w] along the student's own sampling to the beginning of each start's phase: same shape, float32."""
    x, deepest = noise.float().clone(), int(starts.phase.max()) if len(starts.phase) else 0
    alone = GuidancePlan(prompt_scale=1.0, audio_scale=1.0, has_negative=False)
    for phase in range(deepest):
        moving = (starts.phase > phase).nonzero()[:, 0]
        here = starts.rows(moving)
        step = Schedule.of_sigmas(phases.boundaries[phase : phase + 2])
        x[moving] = denoise(student, step, x[moving], here.condition, Guidance(here.conditions, alone))
    return x


def student_loss(
    velocity: Tensor, starts: Starts, landing: Tensor, phases: Phases, mask: Tensor, lip_weight: float, huber: float
) -> Losses:
    """Compare the student's velocity with the mean velocity of the teacher's way, (landing - x_s) / (sigma_end - s).

    Args:
        velocity: the student's at the start points [B, C, f, h, w].
        starts: the start points.
        landing: from `target_point`.
        phases: the student's schedule.
        mask: lip mask M [B, 1, f, h, w], 0..1.
        lip_weight: as in `DistillConfig`; the weights 1 + lip_weight * M are normalised to mean 1 per sample.
        huber: as in `DistillConfig`.

    Returns:
        What is minimised, and the squared error inside and outside the mask.
    """
    way = phases.sigma(phases.end(starts.phase)) - phases.sigma(starts.u)
    error = (velocity.float() - (landing - starts.noisy.float()) / wide(way)).square()
    axes = (1, 2, 3, 4)
    weight = 1 + lip_weight * mask.float()
    weight = weight / weight.mean(axes, keepdim=True)
    elements = (error + huber**2).sqrt() - huber if huber else error
    lips, rest = (masked_mean(error.detach(), m) for m in (mask.float(), 1 - mask.float()))
    return Losses((elements * weight).mean(axes), {"lips": lips, "rest": rest})

"""Few-step distillation: phased consistency with guidance folded in.

The student's sampling schedule of n steps divides the noise levels (0, 1] into n phases, from sigma_k down to sigma_{k+1}. Within a phase
the student v learns to jump: from every x_s in it, one straight step to the end of the phase,

    x_s + (sigma_{k+1} - s) v(x_s, s),   is trained to arrive where the guided teacher's ODE arrives.

The teacher is integrated by Euler steps with the released three-way guidance. If its steps do not reach the end of the phase, the averaged
student jumps the rest of the way (consistency). After training, plain Euler sampling in n steps with one pass each replaces the many
steps of the teacher.

Sources: consistency models (Song et al. 2023, arXiv 2303.01469), guidance as part of the target (latent consistency models, Luo
et al. 2023, arXiv 2310.04378), phases (phased consistency models, Wang et al. 2024, arXiv 2405.18407; PeRFlow, Yan et al. 2024,
arXiv 2405.07510). **[ours]**: phases of the shifted flow schedule, start points on the student's own trajectory.

Letters: B batch, C channels, f latent frames, h and w latent rows and columns; u is a noise level before the shift.
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
"""Type of a network: hidden states [B, c, f, h, w], timesteps [B] (0 to 1000), conditions -> velocity [B, C, f, h, w]."""

# in phases: inner start points keep this distance from the end, where the mean velocity is 0 / 0
_NEAREST = 0.05
_ARRIVED = 1e-9


@dataclass(frozen=True)
class Phases:
    """Sampling schedule of the student.

    Attributes:
        count: Number of phases n.
        shift: Shift of the noise levels, as at inference.
    """

    count: int
    shift: float

    def sigma(self, u: Tensor) -> Tensor:
        """Noise levels s for levels u before the shift, same shape and type."""
        return shifted(u, self.shift)

    @property
    def boundaries(self) -> Tensor:
        """Noise levels sigma_0 = 1 > ... > sigma_n = 0 between phases, float64 [n + 1]."""
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
        # A level at a boundary belongs to the phase that begins there.
        phase = ((1 - u) * self.count + _ARRIVED).floor().long()
        return u, phase.clamp(0, self.count - 1)

    def place(self, sigma: Tensor, at_start: Tensor) -> tuple[Tensor, Tensor]:
        """Level u and phase of start points at noise levels [B]; where `at_start` [B], they are moved to the beginning of their phase."""
        u, phase = self.of(sigma)
        inside = torch.maximum(u, self.end(phase) + _NEAREST / self.count)
        return torch.where(at_start, self.start(phase), inside), phase


@dataclass(frozen=True)
class Starts:
    """Start points of the student's steps.

    Attributes:
        noisy: Noised latents x_s [B, C, f, h, w].
        u: Noise levels before the shift [B], float64.
        phase: Phases [B], int64; 0 is the noisiest.
        condition: Latents of the portrait [B, 4 + C, f, h, w].
        conditions: Other conditions of all B samples.
    """

    noisy: Tensor
    u: Tensor
    phase: Tensor
    condition: Tensor
    conditions: Conditions

    def rows(self, index: Tensor) -> Starts:
        """Select some of the start points."""
        told = rows(self.conditions, index)
        return Starts(self.noisy[index], self.u[index], self.phase[index], self.condition[index], told)

    def to(self, device: torch.device) -> Starts:
        """Copy of the start points on a device."""
        told = self.conditions.to(device)
        return Starts(self.noisy.to(device), self.u.to(device), self.phase.to(device), self.condition.to(device), told)


def rows(conditions: Conditions, index: Tensor) -> Conditions:
    """Select some samples of a batch of conditions."""

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
    """Teacher whose velocity is guided as in the pipeline.

    Attributes:
        network: Network of the teacher.
        plan: Guidance scales, with `has_audio` and `has_negative`.
        channels: Factors [C] of (g_audio - 1), see `DistillConfig.guidance_channels`; None takes 1 everywhere.
        negative_text: Embeddings of the negative prompt [l, dt]; None without prompt guidance.

    Raises:
        SettingsError: The guidance channels have no effect, or prompt guidance has no negative prompt.
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
                "there are none; give them, or set prompt_guidance_scale to 1."
            )
        uneven = self.channels is not None and bool((self.channels != 1).any())
        if uneven and self.plan.audio_scale > 1 and not {Pass.TEXT, Pass.AUDIO} <= set(needed):
            raise SettingsError(
                "Guidance by channel needs a pass with speech and one without, but with equal prompt and audio scales "
                f"({self.plan.audio_scale:g}) the latter is not run; make prompt_guidance_scale and audio_guidance_scale "
                "differ, or leave guidance_channels out."
            )

    def to(self, device: torch.device) -> GuidedTeacher:
        """Copy of the teacher with channels and negative prompt on a device; moving the network is up to the caller."""
        moved = copy.copy(self)  # Already checked; checking again would wait for the device.
        for name in ("channels", "negative_text"):
            value = getattr(self, name)
            object.__setattr__(moved, name, None if value is None else value.to(device))
        return moved

    def velocity(self, starts: Starts) -> Callable[[Tensor, Tensor], Tensor]:
        """Make the function (x_s, s [B]) -> guided velocity, float32, for the conditions of `starts`."""
        needed = self.plan.passes(0, 1)
        negative = None if self.negative_text is None else self.negative_text.expand(len(starts.u), -1, -1)
        told = {which: branch(starts.conditions, which, negative) for which in needed}

        def guided(noisy: Tensor, sigma: Tensor) -> Tensor:
            found = {which: call(self.network, noisy, sigma, starts.condition, told[which]) for which in needed}
            return self.plan.combine(found, 0, 1, self.channels)

        return guided


def call(network: Velocity, noisy: Tensor, sigma: Tensor, condition: Tensor, conditions: Conditions) -> Tensor:
    """Run one pass of a network at noise levels s [B]; the timestep is 1000 s."""
    return network(torch.cat([noisy.to(condition), condition], 1), (1000 * sigma).float(), conditions)


def wide(values: Tensor) -> Tensor:
    """Reshape values [B] to float32 [B, 1, 1, 1, 1]."""
    return values.float().view(-1, 1, 1, 1, 1)


@torch.no_grad()
def student_step(network: Velocity, starts: Starts, phases: Phases) -> Tensor:
    """Take one straight step of a student from each start to the end of its phase; returns [B, C, f, h, w], float32."""
    now, after = phases.sigma(starts.u), phases.sigma(phases.end(starts.phase))
    velocity = call(network, starts.noisy, now, starts.condition, starts.conditions)
    return starts.noisy.float() + wide(after - now) * velocity.float()


@torch.no_grad()
def target_point(
    starts: Starts, teacher: GuidedTeacher, phases: Phases, solver_steps: int, substeps: int, student: Velocity
) -> Tensor:
    """Compute the target of the student's step from each start, at the end of its phase.

    Args:
        starts: Start points.
        teacher: Guided teacher, which takes up to `substeps` Euler steps, evenly spaced before the shift.
        phases: Sampling schedule of the student.
        solver_steps: Number of Euler steps in a whole phase.
        substeps: Maximum number of Euler steps of the teacher.
        student: Averaged student, which steps from where the teacher stopped to the end of the phase.

    Returns:
        Target points [B, C, f, h, w], float32.
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
    """Sample with the student from noise [B, C, f, h, w] to the beginning of each start's phase; returns the same shape, float32."""
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
    """Compare the student's velocity with the teacher's mean velocity, (landing - x_s) / (sigma_end - s).

    Args:
        velocity: Velocity of the student at the start points [B, C, f, h, w].
        starts: Start points.
        landing: Target points from `target_point`.
        phases: Sampling schedule of the student.
        mask: Lip mask M [B, 1, f, h, w], 0..1.
        lip_weight: See `DistillConfig`; the weights 1 + lip_weight * M are normalised to mean 1 per sample.
        huber: See `DistillConfig`.

    Returns:
        The loss, with the squared error inside (`lips`) and outside (`rest`) the mask as parts.
    """
    way = phases.sigma(phases.end(starts.phase)) - phases.sigma(starts.u)
    error = (velocity.float() - (landing - starts.noisy.float()) / wide(way)).square()
    axes = (1, 2, 3, 4)
    weight = 1 + lip_weight * mask.float()
    weight = weight / weight.mean(axes, keepdim=True)
    elements = (error + huber**2).sqrt() - huber if huber else error
    lips, rest = (masked_mean(error.detach(), m) for m in (mask.float(), 1 - mask.float()))
    return Losses((elements * weight).mean(axes), {"lips": lips, "rest": rest})

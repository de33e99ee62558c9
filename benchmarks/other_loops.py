"""The loops that `speed.py` measures ours against: the released arithmetic, and diffusers' own image-to-video pipeline of Wan.

Both run over the weights of one of our models, in memory once.
"""

from __future__ import annotations

import inspect
import itertools
import statistics
import time
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from PIL import Image
from torch import Tensor

from fantasytalking.conditioning.conditions import Conditions
from fantasytalking.conditioning.conditions import replace as changed
from fantasytalking.guidance import GuidancePlan, Pass
from fantasytalking.pipeline.clip_batches import Clip, Run, joined
from fantasytalking.pipeline.guidance_passes import Guidance
from fantasytalking.pipeline.noise_schedule import make_schedule
from fantasytalking.pipeline.pipeline import FantasyTalkingPipeline
from fantasytalking.pipeline.sampling import Hooks, denoise
from fantasytalking.pipeline.settings import GenerationSettings
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel


class ReleasedLoop(FantasyTalkingPipeline):
    """Our pipeline with the released sampling loop: three passes on every step, one by one, each computing everything anew.

    As in the released code, a pass without speech is one whose audio attention is computed and multiplied by 0, and keys and values of
    prompt, portrait and speech are computed by every pass. Encoding, decoding and the network's code are ours. That computes keys of the
    speech once for each token, where the released code does so for each window, so this loop is a little faster than its model.
    """

    def _sample(self, clips: list[Clip], noise: Tensor, run: Run) -> list[Tensor]:
        (clip,) = clips
        settings = clip.case.settings
        guidance, image_latents = joined(clips, self.autoencoder.audio_channels)
        latents = noise.to(image_latents.device)
        schedule = make_schedule(self.scheduler, settings, latents.device)
        solve, dtype = schedule.solver(), self.transformer.dtype
        told = passes_of(guidance)
        plan = replace(guidance.plan, has_negative=True)
        with run.progress.stage("sampling", len(schedule.timesteps)):
            for step, timestep in enumerate(schedule.timesteps):
                hidden = torch.cat([latents.to(dtype), image_latents.to(dtype)], 1)
                silent, heard, negative = (
                    self.transformer(hidden, timestep[None], told[which], return_dict=False)[0].float()
                    for which in (Pass.TEXT, Pass.AUDIO, Pass.NEGATIVE)
                )
                velocity = combined(plan, negative, silent, heard, guidance.audio_channels)
                latents = solve(velocity, timestep, latents)
                if run.callback is not None:
                    run.callback(self, step, timestep, {"latents": latents})
                if self._interrupt:
                    break
        return [self.autoencoder.enliven(latents, settings.seed, settings.w_face, 0)]


def passes_of(guidance: Guidance) -> dict[Pass, Conditions]:
    """What each of the three passes is told; where there is no negative prompt, its pass is told the prompt, and so changes nothing."""
    heard = guidance.conditions
    assert heard.audio is not None
    # A tensor: the number 0 would leave the attention to speech out.
    silent = changed(heard, audio=replace(heard.audio, scale=torch.zeros(1, device=heard.text.device)))
    negative = silent if guidance.negative_text is None else changed(silent, text=guidance.negative_text)
    return {Pass.TEXT: silent, Pass.AUDIO: heard, Pass.NEGATIVE: negative}


def combined(
    plan: GuidancePlan, negative: Tensor, silent: Tensor, heard: Tensor, audio_channels: Tensor | None
) -> Tensor:
    """Guided velocity v_neg + g_prompt (v_text - v_neg) + g_audio (v_audio - v_text).

    Beyond 1, g_audio acts on the channels alone that `audio_channels` [C] names, if it is given.
    """
    audio: float | Tensor = plan.audio_scale
    if audio_channels is not None and plan.audio_scale > 1:
        audio = 1 + (plan.audio_scale - 1) * audio_channels.view(1, -1, 1, 1, 1)
    return negative + plan.prompt_scale * (silent - negative) + audio * (heard - silent)


def wan_network(ours: FantasyTalkingTransformer3DModel) -> WanTransformer3DModel:
    """Diffusers' network with the weights of ours: the same tensors, without those of parts that Wan does not have."""
    known = inspect.signature(WanTransformer3DModel.__init__).parameters
    with torch.device("meta"):
        theirs = WanTransformer3DModel(**{name: value for name, value in ours.plain_config().items() if name in known})
    own = ours.state_dict()
    theirs.load_state_dict({name: own[name] for name in theirs.state_dict()}, assign=True)
    theirs.rope = ours.rope  # tables, no weights
    return theirs.eval()


@dataclass(frozen=True)
class SilentRun:
    """A run without speech under prompt guidance, two passes a step, for our sampler and for diffusers'.

    Attributes:
        pipeline: Ours; of its parts, network and image encoder are used.
        latent_size: (f, h, w).
        steps: Denoising steps.
        seed: Seed of noise and prompts.
    """

    pipeline: FantasyTalkingPipeline
    latent_size: tuple[int, int, int]
    steps: int
    seed: int = 0

    def ours(self, kept: bool) -> StepClock:
        """Times of each step after the first in our sampler; with `kept` as it is by default, else pass by pass and nothing kept."""
        network, clock = self.pipeline.transformer, StepClock(self.pipeline._execution_device)
        channels = network.config.out_channels
        prompt, negative = self._prompts()
        image = None
        if network.config.image_dim is not None:
            image = self._stock().encode_image(self._picture(), clock.device).to(network.dtype)
        noise = self._random(1, channels, *self.latent_size).float()
        portrait = self._random(1, network.config.in_channels - channels, *self.latent_size)
        choices: Any = {} if kept else {"batching": "off", "reuse": "off"}
        guidance = Guidance(Conditions(prompt, image), GuidancePlan(5.0, 5.0, has_audio=False), negative, **choices)
        schedule = make_schedule(FlowMatchEulerDiscreteScheduler(), GenerationSettings(steps=self.steps), clock.device)
        with torch.no_grad():
            denoise(network, schedule, noise, portrait, guidance, Hooks(after_step=(lambda *_: clock.tick(),)))
        return clock

    def theirs(self) -> StepClock:
        """The same in diffusers' `WanImageToVideoPipeline`."""
        clock, (prompt, negative) = StepClock(self.pipeline._execution_device), self._prompts()
        frames, height, width = self.latent_size
        self._stock()(
            self._picture(),
            prompt_embeds=prompt,
            negative_prompt_embeds=negative,
            height=8 * height,
            width=8 * width,
            num_frames=4 * (frames - 1) + 1,
            num_inference_steps=self.steps,
            output_type="latent",
            callback_on_step_end=lambda *_: clock.tick() or {},
        )
        return clock

    def _stock(self) -> WanImageToVideoPipeline:
        ours = self.pipeline
        # The embedded model's autoencoder is no VAE of Wan's; there a small one encodes a picture that has as many latents.
        small = {"base_dim": 3, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
        vae = ours.vae if isinstance(ours.vae, AutoencoderKLWan) else AutoencoderKLWan(**small)
        stock = WanImageToVideoPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=vae.to(ours._execution_device),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
            image_processor=ours.image_processor,
            image_encoder=ours.image_encoder,
            transformer=wan_network(ours.transformer),
        )
        stock.set_progress_bar_config(disable=True)
        return stock

    def _picture(self) -> Image.Image:
        return Image.new("RGB", (8 * self.latent_size[2], 8 * self.latent_size[1]))

    def _prompts(self) -> tuple[Tensor, Tensor]:
        """Random embeddings of a prompt and a negative one; 512 tokens, as diffusers' processor demands beside an image."""
        config = self.pipeline.transformer.config
        text = self._random(2, 1 if config.image_dim is None else 512, config.text_dim)
        return text[:1], text[1:]

    def _random(self, *shape: int) -> Tensor:
        network = self.pipeline.transformer
        numbers = torch.randn(shape, generator=torch.Generator().manual_seed(self.seed + sum(shape)))
        return numbers.to(network.device, network.dtype)


@dataclass
class StepClock:
    """Notes when steps end; on a device of CUDA it waits for the device.

    Attributes:
        device: Where the steps run.
        ends: When steps ended, in seconds.
        cpu: CPU seconds of all threads by then.
    """

    device: torch.device
    ends: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def tick(self) -> None:
        """Note the time."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.ends.append(time.perf_counter())
        self.cpu.append(time.process_time())

    @property
    def step(self) -> tuple[float, float]:
        """Median seconds of a step but the first, by the clock and by the time of all threads."""
        wall, cpu = (
            statistics.median(after - before for before, after in itertools.pairwise(times))
            for times in (self.ends, self.cpu)
        )
        return wall, cpu

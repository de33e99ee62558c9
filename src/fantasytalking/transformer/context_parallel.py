"""The video tokens of one rank under context parallelism (Ulysses, ring), in which each rank computes a share of the tokens.

Self-attention exchanges between the ranks as it does in diffusers' Wan. The forward pass takes its share and gathers the result itself,
where diffusers' Wan uses hooks: the hooks of step caches on the first block would see all tokens before it and a share of them after it.
Letters: B batch, f latent frames, n video tokens of one latent frame, d width of a token.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from diffusers import ContextParallelConfig
from diffusers.hooks.context_parallel import EquipartitionSharder
from diffusers.models._modeling_parallel import ParallelConfig
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from fantasytalking.errors import InputError, SettingsError

__all__ = ["ContextParallel", "FrameShare", "TokenShare", "agreed", "check_heads"]


@dataclass(frozen=True)
class FrameShare:
    """The latent frames that some consecutive tokens belong to.

    Attributes:
        first: First of these frames.
        end: The frame after the last of them.
        before: Tokens of the first frame that come before these tokens.
        after: Tokens of the last frame that come after them.
    """

    first: int
    end: int
    before: int
    after: int


@dataclass(frozen=True)
class TokenShare:
    """The consecutive tokens of one rank; where the tokens cannot be divided evenly, the first ranks have one more.

    Attributes:
        total: Tokens of a video.
        frame_tokens: n.
        rank: Of this process among those that share the tokens.
        mesh: These processes.
    """

    total: int
    frame_tokens: int
    rank: int
    mesh: DeviceMesh

    @property
    def sizes(self) -> list[int]:
        """Number of tokens of each rank."""
        size, more = divmod(self.total, self.mesh.size())
        return [size + (rank < more) for rank in range(self.mesh.size())]

    @property
    def frames(self) -> FrameShare:
        """The latent frames of this rank's tokens."""
        start = sum(self.sizes[: self.rank])
        end = start + self.sizes[self.rank]
        first, last = start // self.frame_tokens, (end - 1) // self.frame_tokens
        before, after = start - first * self.frame_tokens, (last + 1) * self.frame_tokens - end
        return FrameShare(first, last + 1, before, after)

    def of(self, values: Tensor) -> Tensor:
        """This rank's tokens of [B, tokens, ...]."""
        own: Tensor = values.tensor_split(self.mesh.size(), 1)[self.rank]
        return own.contiguous()

    def gathered(self, values: Tensor) -> Tensor:
        """All tokens [B, tokens, d], of the share that each rank has."""
        sizes = self.sizes
        # Not diffusers' gathering of unequal shares, as gloo takes equal ones only.
        parts: Tensor = EquipartitionSharder.unshard(F.pad(values, (0, 0, 0, sizes[0] - values.shape[1])), 1, self.mesh)
        if sizes[0] == sizes[-1]:
            return parts
        return torch.cat([part[:, :size] for part, size in zip(parts.split(sizes[0], 1), sizes, strict=True)], 1)


class ContextParallel:
    """A transformer whose tokens may be shared by several ranks, by diffusers' `enable_parallelism`."""

    _cp_plan: ClassVar[dict[str, Any]] = {}
    config: Any
    _parallel_config: ParallelConfig | None

    def enable_parallelism(self, *, config: Any, cp_plan: dict[str, Any] | None = None) -> None:
        """Let several ranks share the tokens of each call.

        All ranks call the model with the same latents and conditions, and all get the whole result. Where the tokens cannot be divided
        evenly, some ranks have one more.

        Args:
            config: `diffusers.ContextParallelConfig(ulysses_degree=2)`.
            cp_plan: Must be None, as the model shares its tokens itself.

        Raises:
            SettingsError: The model cannot be shared in this way.
        """
        if cp_plan:
            raise SettingsError("This model shares its tokens by itself; leave cp_plan out.")
        shared = config if isinstance(config, ContextParallelConfig) else config.context_parallel_config
        if shared is not None:
            check_heads(self.config.num_attention_heads, shared.ulysses_degree)
            _check_ring(shared.ring_degree, self)
            # A copy: whether shares are uneven is decided for each call.
            config = ParallelConfig(context_parallel_config=dataclasses.replace(shared))
        super().enable_parallelism(config=config, cp_plan=cp_plan)  # type: ignore[misc]

    def _resolve_parallel_config(self, config: Any) -> ParallelConfig:
        shared = getattr(config, "context_parallel_config", None)
        if shared is None or torch.accelerator.is_available():
            return super()._resolve_parallel_config(config)  # type: ignore[misc]
        # diffusers divides by the number of accelerators, which is 0.
        if not torch.distributed.is_initialized():
            raise SettingsError(
                "Sharing the tokens needs the processes that share them: start them with torchrun and call "
                "torch.distributed.init_process_group first."
            )
        mesh = shared.mesh or init_device_mesh("cpu", shared.mesh_shape, mesh_dim_names=shared.mesh_dim_names)
        config.setup(torch.distributed.get_rank(), torch.distributed.get_world_size(), torch.device("cpu"), mesh=mesh)
        self._parallel_config = config
        return config

    @property
    def token_mesh(self) -> DeviceMesh | None:
        """The ranks that share the tokens of a call; None: each has all of them."""
        config = None if self._parallel_config is None else self._parallel_config.context_parallel_config
        return None if config is None else config._flattened_mesh

    def check_compilable(self, hidden_states: Tensor) -> None:
        """Check that a compiled model can share the tokens of latents [B, C, f, h, w]: diffusers' uneven exchange cannot be compiled.

        Raises:
            SettingsError: It cannot.
        """
        mesh, heads = self.token_mesh, self.config.num_attention_heads
        tokens = hidden_states[0, 0].numel() // math.prod(self.config.patch_size)
        if mesh is not None and (tokens % mesh.size() or heads % mesh.size()):
            raise SettingsError(
                f"{tokens} tokens and {heads} attention heads cannot be shared evenly by {mesh.size()} processes, which compiled blocks "
                "need; use --compile off, or another size or number of processes."
            )

    def token_share(self, grid: tuple[int, int, int]) -> TokenShare | None:
        """The tokens of this rank.

        Args:
            grid: Tokens in (time, height, width).

        Returns:
            None where all tokens are this rank's.

        Raises:
            InputError: There are fewer tokens than ranks.
        """
        mesh = self.token_mesh
        if mesh is None or self._parallel_config is None:
            return None
        shared = self._parallel_config.context_parallel_config
        frame_tokens = grid[1] * grid[2]
        total = grid[0] * frame_tokens
        if total < mesh.size():
            raise InputError(f"{total} tokens cannot be shared by {mesh.size()} processes; use fewer of them.")
        uneven = total % mesh.size() != 0
        if shared.ulysses_degree > 1 and shared.ring_degree > 1 and uneven:
            raise InputError(
                f"{total} tokens cannot be shared evenly by {mesh.size()} processes; use Ulysses or ring attention, not both."
            )
        # The kind of exchange that takes uneven shares tells all sizes first, so that it is slower.
        heads_left = self.config.num_attention_heads % shared.ulysses_degree != 0
        shared.ulysses_anything = shared.ring_degree == 1 and (uneven or heads_left)
        shared.ring_anything = shared.ulysses_degree == 1 and uneven
        return TokenShare(total, frame_tokens, mesh.get_local_rank(), mesh)


def agreed(choice: bool, mesh: DeviceMesh, device: torch.device) -> bool:
    """Whether all processes that share the tokens say yes.

    Args:
        choice: What this process says.
        mesh: The processes.
        device: Where it computes.
    """
    votes = torch.tensor(int(choice), device=device)
    torch.distributed.all_reduce(votes, torch.distributed.ReduceOp.MIN, group=mesh.get_group())
    return bool(votes)


def check_heads(heads: int, degree: int) -> None:
    """Check that Ulysses can give each rank its share of the heads; the last rank may have fewer than the others.

    Raises:
        SettingsError: It cannot.
    """
    share = -(-heads // degree)
    if share * degree - heads >= share:
        fitting = [n for n in range(1, heads + 1) if -(-heads // n) * n - heads < -(-heads // n)]
        raise SettingsError(
            f"Ulysses shares the {heads} attention heads of this model, which {degree} processes cannot do; use one of "
            f"{', '.join(map(str, fitting))}."
        )


def _check_ring(degree: int, model: Any) -> None:
    if degree == 1:
        return
    backend = next((p._attention_backend for p in model.attn_processors.values()), None)
    backend = _AttentionBackendRegistry.get_active_backend()[0] if backend is None else AttentionBackendName(backend)
    if backend == AttentionBackendName.NATIVE:
        raise SettingsError(
            "Ring attention needs what the softmax divides by, which PyTorch's own attention does not return, nor for diffusers' Wan; "
            "use ulysses_degree, or another attention back-end, such as flash."
        )

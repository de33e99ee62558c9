"""Few-step LoRA for a model of the released size, with the frozen model as its own teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fantasytalking.checkpoints.load_models import load_transformer
from fantasytalking.data.prepared_set import PreparedSet
from fantasytalking.errors import SettingsError
from fantasytalking.system.files import atomic_folder
from fantasytalking.system.json import write_json
from fantasytalking.training.adapter.adapter_recipes import AdapterRecipe
from fantasytalking.training.adapter.train_adapter import adapter_source, check_model, dataset_for
from fantasytalking.training.check_folders import check_data, check_output_folder, keep_choices, model_digest
from fantasytalking.training.check_recipe import check_means
from fantasytalking.training.distillation.distillation_recipes import DistillConfig
from fantasytalking.training.distillation.distillation_trainer import check_guidance, make_distiller, student_defaults
from fantasytalking.training.lora import save_lora
from fantasytalking.training.trainer.averaging import exchanged
from fantasytalking.training.trainer.data_check import check_set
from fantasytalking.training.trainer.engine import main_process_first
from fantasytalking.training.trainer.phases import begin_phase
from fantasytalking.training.trainer.random_draws import undrawn
from fantasytalking.training.trainer.resuming import note_finished
from fantasytalking.training.trainer.run_folder import RunFolder, owns_run
from fantasytalking.training.trainer.sources import SampleSource
from fantasytalking.transformer.model import FantasyTalkingTransformer3DModel


@owns_run
def distil_released(config: DistillConfig, teacher: Path, data: Path, output: Path, verify: bool = True) -> Path:
    """Train few-step LoRA weights for a model folder or transformer, on a prepared set with latents.

    Args:
        config: Configuration of the run, with `lora`.
        teacher: Pipeline folder or transformer with the FantasyTalking adapter, in any layout.
        data: Prepared set, made with this model's encoders.
        output: Run folder.
        verify: Whether the set is compared with its checksums, see `check_set`.

    Returns:
        See `distil_adapter`.

    Raises:
        CheckpointError: The teacher cannot be read.
        InputError: There is no set, or it has no latents.
        SettingsError: The configuration has no LoRA, or the run folder belongs to another distillation.
    """
    check_output_folder(output, data, teacher=teacher)
    check_data(data, ("set",))
    check_means(config.train, shards=False)
    prepared = PreparedSet.open(data)
    check_guidance(config, None, config.prompt_guidance_scale != 1)
    check_model(teacher, AdapterRecipe(config.train, lora=config.lora), prepared)
    with main_process_first() as main:
        keep_choices(output, {"teacher": model_digest(teacher), "data": prepared.fingerprint[:32]}, write=main)
        if main:
            note_finished(RunFolder(output / "student"), config.train)
    check_set(prepared, verify)
    dtype = torch.bfloat16 if config.train.mixed_precision == "bf16" else torch.float32
    with undrawn():
        model = load_transformer(teacher, dtype)
    sizes = model.plain_config()
    config = replace(config, train=replace(config.train, model=sizes))
    dataset = dataset_for(prepared, sizes, config.train.continuation)
    return distil_adapter(config, model, adapter_source(AdapterRecipe(config.train), dataset), output)


@owns_run
def distil_adapter(
    config: DistillConfig,
    model: FantasyTalkingTransformer3DModel,
    source: SampleSource,
    output: Path,
    negative_text: Tensor | None = None,
) -> Path:
    """Train LoRA weights with which a model of the released size needs few steps; an interrupted run continues where it stopped.

    Args:
        config: Configuration of the run, with `lora`.
        model: Backbone with the FantasyTalking adapter; LoRA is added to it in place.
        source: Source of samples, as for training the adapter.
        output: Run folder; the weights are written to ``output/lora``, for `load_lora_weights` of the pipeline.
        negative_text: Embeddings of the negative prompt [l, dt]; None takes zeros, as a dropped prompt does in training.

    Returns:
        The folder ``lora``, which also holds ``defaults.json``, the settings to use the weights with.

    Raises:
        SettingsError: The configuration has no LoRA, or the guidance does not fit.
    """
    if config.lora is None:
        raise SettingsError(
            "Distilling the adapter trains LoRA weights, but the configuration has no lora; give it some."
        )
    from peft.utils import get_peft_model_state_dict

    if negative_text is None and config.prompt_guidance_scale != 1:
        negative_text = torch.zeros(1, model.config.text_dim)
    trainer = make_distiller(config, model, source, output / "student", negative_text=negative_text)
    begin_phase(output, "student", first=True)
    trainer.train()
    begin_phase(output, "export")
    target = output / "lora"
    with main_process_first() as main:
        if main:
            student: Any = trainer.engine.bare_model
            with exchanged(trainer.ema, trainer.engine.trainable()), atomic_folder(target) as temporary:
                layers = get_peft_model_state_dict(student, adapter_name="default")
                save_lora(temporary, layers, student.peft_config["default"].to_dict())
                write_json(temporary / "defaults.json", student_defaults(config), indent=1)
    return target

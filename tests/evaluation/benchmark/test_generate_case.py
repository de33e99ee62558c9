"""A video is made from what its key says, kept while that stays, and made again otherwise; a failure is a sentence."""

from __future__ import annotations

import dataclasses
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest

from fantasytalking.errors import CheckpointError, SettingsError
from fantasytalking.evaluation.benchmark.benchmark_manifest import Case
from fantasytalking.evaluation.benchmark.case_inputs import cut_sound
from fantasytalking.evaluation.benchmark.device_workers import choose_places, run_jobs
from fantasytalking.evaluation.benchmark.generate_case import VideoGenerator, VideoJob, find_model, is_made, plan_job
from fantasytalking.media.audio import load_audio
from fantasytalking.media.video import probe_video, read_frames
from fantasytalking.system.json import read_json_object
from tests.evaluation.benchmark.samples import case, method, talking_video
from tests.pipeline.tiny_pipeline import embedded_pipeline


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    embedded_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    talking_video(folder / "a.mp4", 0.6)
    talking_video(folder / "b.mp4", 0.8, 500)
    return folder


@pytest.fixture(scope="module")
def cases(data: Path) -> tuple[Case, Case]:
    return case(data, "a.mp4", 0.4, settings={"seed": 0, "longest_side": 96}), case(data, "b.mp4", 0.8)


def planned(
    model: Path, data: Path, output: Path, one: Case, donor: Case | None = None, **settings: object
) -> VideoJob:
    name = "own" if donor is None else "other"
    spec = method(name, settings=settings, speech=name)
    return plan_job(spec, one, donor, find_model(str(model)), data, output)


def test_a_video_has_the_length_of_the_window_and_the_size_of_the_settings(
    model: Path, data: Path, cases: tuple[Case, Case], tmp_path: Path
) -> None:
    job = planned(model, data, tmp_path, cases[0])
    assert VideoGenerator("cpu").generate(job) is None
    info = probe_video(job.video)
    assert (info.frames, info.width, info.height, info.has_audio) == (10, 96, 96, True)
    record = read_json_object(job.record)
    assert record["key"] == job.key and record["frames"] == 10 and record["machine"]["device"] == "cpu"
    assert record["decides"]["settings"]["steps"] == 2, "the model's own default"
    assert is_made(job)


def test_other_speech_drives_the_lips_and_the_true_sound_is_heard(
    model: Path, data: Path, cases: tuple[Case, Case], tmp_path: Path
) -> None:
    own, other = planned(model, data, tmp_path, cases[0]), planned(model, data, tmp_path, cases[0], cases[1])
    generator = VideoGenerator("cpu")
    assert generator.generate(own) is None and generator.generate(other) is None
    assert other.driving.file == "b.mp4" and other.driving.seconds == 0.4
    assert not np.array_equal(read_frames(own.video)[0], read_frames(other.video)[0])
    true = cut_sound(cases[0].speech, data).samples
    for job in (own, other):
        heard = load_audio(job.video, 48000).samples[: len(true)]
        assert np.corrcoef(heard, true[: len(heard)])[0, 1] > 0.95


def test_the_key_changes_with_everything_that_decides_the_video(
    model: Path, data: Path, cases: tuple[Case, Case], tmp_path: Path
) -> None:
    one = cases[0]
    base = planned(model, data, tmp_path, one)
    later = dataclasses.replace(one, reference=dataclasses.replace(one.reference, start=0.2))
    changed = [
        planned(model, data, tmp_path, one, w_face=1.0),
        planned(model, data, tmp_path, one, audio_level="clip"),
        planned(model, data, tmp_path, one, seed=7),
        planned(model, data, tmp_path, one, cases[1]),
        planned(model, data, tmp_path, later),
        planned(model, data, tmp_path, dataclasses.replace(one, audio=cases[1].reference)),
    ]
    keys = [base.key, *(job.key for job in changed)]
    assert len(set(keys)) == len(keys)
    assert planned(model, data, tmp_path, dataclasses.replace(one, name="renamed")).key == base.key


def test_the_key_changes_with_the_weights(data: Path, cases: tuple[Case, Case], tmp_path: Path) -> None:
    pipeline = embedded_pipeline()
    pipeline.save_pretrained(tmp_path / "model")
    before = planned(tmp_path / "model", data, tmp_path, cases[0]).key
    next(pipeline.transformer.parameters()).data.add_(1)
    pipeline.save_pretrained(tmp_path / "model")
    assert planned(tmp_path / "model", data, tmp_path, cases[0]).key != before


def test_a_damaged_or_foreign_video_is_not_taken_for_the_job(
    model: Path, data: Path, cases: tuple[Case, Case], tmp_path: Path
) -> None:
    job = planned(model, data, tmp_path, cases[0])
    assert not is_made(job)
    VideoGenerator("cpu").generate(job)
    assert not is_made(planned(model, data, tmp_path, cases[0], seed=7))
    whole = job.video.read_bytes()
    job.video.write_bytes(whole[:-100])
    assert not is_made(job)
    job.video.write_bytes(whole)
    assert is_made(job)
    job.record.write_text("{")
    assert not is_made(job)


def test_a_failure_is_a_sentence_and_leaves_no_stale_video(
    model: Path, data: Path, cases: tuple[Case, Case], tmp_path: Path
) -> None:
    good = planned(model, data, tmp_path, cases[0])
    bad = dataclasses.replace(good, driving=dataclasses.replace(good.driving, file="gone.mp4"))
    ticks: list[int] = []
    assert run_jobs([good], ["cpu"], lambda: ticks.append(1)) == [] and good.video.is_file()
    failures = run_jobs([bad, good], ["cpu"], lambda: ticks.append(1))
    assert [f.job for f in failures] == [bad] and "gone.mp4" in failures[0].reason
    assert is_made(good) and len(ticks) == 3
    run_jobs([bad], ["cpu"], lambda: None)
    assert not good.video.exists() and not good.record.exists()


def test_settings_that_do_not_go_together_name_method_and_case(
    model: Path, data: Path, cases: tuple[Case, Case], tmp_path: Path
) -> None:
    late = dataclasses.replace(cases[0], settings={"audio_start_percent": 60})
    with pytest.raises(SettingsError, match="own, a: audio_start_percent must not exceed"):
        planned(model, data, tmp_path, late, audio_end_percent=40)
    with pytest.raises(
        SettingsError, match=r"^settings: audio_start_percent must not exceed|^audio_start_percent must"
    ):
        method("own", settings={"audio_start_percent": 60, "audio_end_percent": 40})


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no model_index.json"):
        find_model(str(tmp_path))


def test_places_are_one_process_each() -> None:
    assert choose_places((), None) == choose_places(("auto",), None)
    assert choose_places(("cpu",), 3) == ("cpu", "cpu", "cpu")
    with pytest.raises(SettingsError, match="no device 'cuda:77'"):
        choose_places(("cuda:77",), None)
    with pytest.raises(SettingsError, match="--workers must be at least 1"):
        choose_places(("cpu",), 0)


@pytest.mark.slow
def test_several_processes_share_the_jobs_and_one_that_dies_takes_one_job_with_it(
    model: Path, data: Path, cases: tuple[Case, Case], tmp_path: Path
) -> None:
    jobs = [
        planned(
            model, data, tmp_path, dataclasses.replace(cases[0], name=f"c{i}", settings={"seed": i, "longest_side": 96})
        )
        for i in range(4)
    ]
    bad = dataclasses.replace(jobs[1], driving=dataclasses.replace(jobs[1].driving, file="gone.mp4"))
    ticks: list[int] = []

    def kill_once() -> None:
        ticks.append(1)
        if len(ticks) == 1:
            active_children()[0].kill()

    failures = {f.job.case.name: f.reason for f in run_jobs([jobs[0], bad, *jobs[2:]], ["cpu", "cpu"], kill_once)}
    assert len(ticks) == 4
    lost = [name for name, reason in failures.items() if "ended from outside" in reason]
    assert len(lost) == 1 and failures.keys() == {"c1", *lost}
    good = [job for job in jobs if job.case.name not in failures]
    assert len(good) >= 2 and all(is_made(job) for job in good)
    alone = planned(model, data, tmp_path / "alone", good[0].case)
    assert VideoGenerator("cpu").generate(alone) is None
    assert np.array_equal(read_frames(alone.video)[0], read_frames(good[0].video)[0])

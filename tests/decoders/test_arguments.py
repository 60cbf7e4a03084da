"""Arguments of diffusers are checked against its signatures before anything is read: every path here is nowhere."""

import inspect
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_pipelines import PIPELINES

from nextgpt_pl.__main__ import main
from nextgpt_pl.decoders import AudioLDMDecoder, DiffusionDecoder, PrecomputedEmbeddings, PromptDecoder
from nextgpt_pl.decoders.arguments import check, declared, sampling_types
from nextgpt_pl.decoders.gallery import GalleryDecoder
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.pipeline import AnyToAny

SD = "StableDiffusionPipeline"


def _decoder(**options):
    return DiffusionDecoder(SD, "nowhere", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling": {"num_inference_stepz": 20}}, "did you mean 'num_inference_steps'"),
        ({"sampling": {"guidance": 3.0}}, r"sampling\.guidance: .* did you mean 'guidance_scale'"),
        ({"sampling": {"prompt": "a dog"}}, r"sampling\.prompt: StableDiffusionPipeline has no such argument"),
        ({"sampling": {"num_images_per_prompt": 2}}, "no such argument"),
        ({"sampling": {"width": "0x10"}}, r"sampling\.width='0x10': want a whole number"),
        ({"sampling": {"height": [1, 2]}}, r"sampling\.height=\[1, 2\]: want a whole number"),
        ({"sampling": {"height": 64.5}}, "want a whole number"),
        ({"sampling": {"height": True}}, "sampling.height=True: want a whole number"),
        ({"sampling": {"height": 63}}, "a multiple of 8"),
        ({"sampling": {"num_inference_steps": 0}}, "num_inference_steps=0: above 0"),
        ({"sampling": {"guidance_scale": float("nan")}}, "guidance_scale=nan: want a number"),
        ({"sampling": {"guidance_scale": {"class_path": "os.system"}}}, "want a number"),
        ({"sampling": {"guidance_interval": [0.5, 0.1]}}, "guidance_interval"),
        ({"loss_size": {"hieght": 64}}, r"loss_size\.hieght: .* did you mean 'height'"),
        ({"loss_size": {"num_frames": 8}}, r"loss_size\.num_frames"),
        ({"loss_size": {"width": "wide"}}, "want a whole number"),
        ({"parts": {"vea": "pocket:image"}}, "has no part vea; did you mean 'vae'"),
        ({"dtype": None}, "dtype=None: one of float32, bfloat16, float16"),
        ({"dtype": "float8"}, "dtype='float8'"),
        ({"fps": 0.0}, r"fps=0\.0: above 0"),
        ({"loss_batch": 0}, "loss_batch=0: at least 1"),
        ({"scheduler": "nope"}, "scheduler='nope': diffusers has no such scheduler"),
        ({"scheduler": "EulerDiscreteSchedular"}, "did you mean 'EulerDiscreteScheduler'"),
        ({"scheduler": SD}, "diffusers has no such scheduler"),
        ({"scheduler_args": {"x": 1}}, "scheduler_args are given, but no scheduler"),
        (
            {"scheduler": "EulerDiscreteScheduler", "scheduler_args": {"timestep_spacin": "trailing"}},
            r"scheduler_args\.timestep_spacin: EulerDiscreteScheduler .* did you mean 'timestep_spacing'",
        ),
        (
            {"scheduler": "EulerDiscreteScheduler", "scheduler_args": {"timestep_spacing": "traling"}},
            r"timestep_spacing='traling': want one of 'linspace', 'leading', 'trailing'",
        ),
        ({"scheduler": "EulerDiscreteScheduler", "scheduler_args": {"beta_end": "high"}}, "want a number"),
    ],
)
def test_mistakes_are_named_before_anything_is_read(options, message):
    with pytest.raises(UserError, match=message):
        _decoder(**options)


@pytest.mark.parametrize("name", ["yes", "NoPipeline", "UNet2DConditionModel", "utils", "DDIMScheduler", ""])
def test_a_pipeline_is_a_pipeline_of_diffusers(name):
    for decoder_class in (DiffusionDecoder, AudioLDMDecoder, PromptDecoder):
        with pytest.raises(UserError, match=f"pipeline='{name}': diffusers has no such pipeline"):
            decoder_class(name, "nowhere")


@pytest.mark.parametrize(
    ("pipeline", "right"),
    [(name, case.decoder) for name, case in PIPELINES.items()]
    + [("AudioLDMPipeline", "AudioLDMDecoder"), ("LatentConsistencyModelPipeline", "PromptDecoder")],
)
def test_a_pipeline_of_another_decoder_is_refused_before_anything_is_read(pipeline, right):
    with pytest.raises(UserError, match=rf"pipeline='{pipeline}': .* is nextgpt_pl\.decoders\.{right}$"):
        DiffusionDecoder(pipeline, "nowhere")


def test_pipelines_of_one_clip_are_taken():
    for name in (SD, "TextToVideoSDPipeline", "StableDiffusionImg2ImgPipeline", "AnimateDiffPipeline"):
        assert DiffusionDecoder(name, "nowhere").pipeline_name == name
    assert AudioLDMDecoder("AudioLDMPipeline", "nowhere").pipeline_name
    with pytest.raises(UserError, match=r"AudioLDMDecoder .* a ClapTextModelWithProjection; .*PromptDecoder"):
        AudioLDMDecoder("FluxPipeline", "nowhere")


def test_calls_are_checked_as_the_yaml_is():
    embedding = torch.zeros(1, 32, 128)
    prompts = PromptDecoder("StableDiffusionXLPipeline", "nowhere")
    gallery = GalleryDecoder(_decoder(), "image", source=None)
    for decoder in (_decoder(), prompts, gallery):
        with pytest.raises(UserError, match=r"num_inference_stepz: .* did you mean 'num_inference_steps'"):
            decoder.check_sampling({"num_inference_stepz": 2})
    gallery.nearest = lambda _: []
    with pytest.raises(UserError, match="guidance_scal: "):
        gallery.generate(embedding, seed=0, guidance_scal=2.0)
    assert gallery.generate(embedding, seed=0, guidance_scale=2.0) == []
    with pytest.raises(UserError, match="PrecomputedEmbeddings takes no sampling arguments"):
        PrecomputedEmbeddings([4]).check_sampling({"height": 64})
    image = DiffusionDecoder(SD, "pocket:image")
    with pytest.raises(UserError, match="num_inference_stepz"):
        image.generate(embedding, seed=0, num_inference_stepz=2)
    assert image._pipeline is None


def test_right_values_pass():
    given = {"num_inference_steps": 20, "guidance_scale": 3, "height": 64, "width": None, "timesteps": [999, 1]}
    assert _decoder(sampling={**given, "guidance_interval": [0, 0.5]}).sampling["guidance_scale"] == 3
    flow = {"use_flow_sigmas": True, "flow_shift": 3, "trained_betas": [0.1, 0.2], "variance_type": None}
    assert _decoder(scheduler="DPMSolverMultistepScheduler", scheduler_args=flow).set_up.scheduler_args == flow
    assert PromptDecoder("StableDiffusionXLPipeline", "nowhere", {"original_size": [64, 64]}).sampling


def test_every_plain_argument_of_every_text_to_media_pipeline_may_be_set_to_its_default():
    """No signature of diffusers that takes prompt embeddings is misread."""
    import diffusers

    names = [n for n in dir(diffusers) if n.endswith("Pipeline") and n.startswith(("Stable", "Text", "Audio", "Flux"))]
    found = 0
    for name in names:
        pipeline = getattr(diffusers, name)
        call = vars(pipeline).get("__call__")
        if call is None or "prompt_embeds" not in inspect.signature(call).parameters:
            continue
        known = sampling_types(pipeline)
        parameters = inspect.signature(call).parameters
        defaults = {n: parameters[n].default for n in known if parameters[n].default is not inspect.Parameter.empty}
        check(defaults, known, "sampling", name)
        assert "image" not in known
        assert ("num_inference_steps" in known) == ("num_inference_steps" in parameters)
        found += 1
    assert found > 10


def test_types_without_annotation_are_those_of_the_defaults():
    def call(steps=3, share=0.5, on=True, name=None, anything=inspect.Parameter.empty): ...

    known = declared(call)
    check({"steps": 4, "share": 1, "on": False, "name": "x", "anything": [1]}, known, "w", "o")
    for name, value in (("steps", 0.5), ("share", "x"), ("on", 1)):
        with pytest.raises(UserError, match=f"w.{name}="):
            check({name: value}, known, "w", "o")


_CALLED = {"class_path": "subprocess.Popen", "init_args": {"args": "touch x", "shell": True}}


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("sampling", {"num_inference_stepz": 20}, "num_inference_stepz"),
        ("sampling", {"width": "0x10"}, "width='0x10'"),
        ("sampling", {"height": [1, 2]}, "height=[1, 2]"),
        ("sampling", {"width": _CALLED}, "sampling"),
        ("scheduler_args", {"x": _CALLED}, "scheduler_args"),
        ("loss_size", {"x": _CALLED}, "loss_size"),
        ("scheduler", "nope", "scheduler='nope'"),
        ("pipeline", "yes", "pipeline='yes'"),
        ("parts", {"unett": "pocket:image"}, "unett"),
        ("dtype", None, "dtype"),
    ],
)
def test_the_command_line_refuses_them_without_a_traceback(key, value, named, capsys, tmp_path, monkeypatch):
    file = Path("experiments/dec_align.yaml").resolve()
    monkeypatch.chdir(tmp_path)
    text = value if isinstance(value, str) else json.dumps(value)
    assert main(["summary", "-c", str(file), f"--model.network.decoders.image.{key}={text}"]) == 2
    error = capsys.readouterr().err
    assert "error: " in error
    assert named in error
    assert not list(tmp_path.iterdir())


def test_the_pipelines_options_are_checked_before_it_writes():
    chat = object.__new__(AnyToAny)
    chat.network = SimpleNamespace(decoders={Modality.IMAGE: _decoder()})
    for options, message in (
        ({"image": {"num_inference_stepz": 2}}, "did you mean 'num_inference_steps'"),
        ({"image": 5}, "image=5: expected a dictionary"),
        ({"video": {"num_frames": 8}}, "video: sampling arguments for a modality without decoder"),
    ):
        with pytest.raises(UserError, match=message):
            chat.batch([[{"role": "user", "content": "Draw."}]], **options)


def test_a_size_that_is_null_is_not_given():
    sizes = {"sampling": {"height": None, "width": 64}, "loss_size": {"width": None}}
    decoder = DiffusionDecoder("StableDiffusionPipeline", "pocket:image", **sizes)
    usual = DiffusionDecoder("StableDiffusionPipeline", "pocket:image").picture_size()
    assert decoder.picture_size() == (usual[0], 64, usual[2])
    sound = AudioLDMDecoder("AudioLDMPipeline", "pocket:audio", {"audio_length_in_s": None})
    assert sound.seconds() == 5.0

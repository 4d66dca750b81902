"""``save_pretrained`` and ``from_pretrained`` of every part and of the pipeline: folders, a hub without a network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from torch import Tensor, nn

import melody
from melody import registry
from melody.artifacts import hub
from melody.conditioning.rvq import ResidualVectorQuantizer
from melody.config import ROLES, Preset, load_preset, preset_for
from melody.diffusion.dual_path import DualPathDenoiser
from melody.errors import MelodyError
from melody.pipeline import PARTS, MelodyPipeline
from melody.protocols import Codec, Denoiser
from melody.vae.fourier import FourierVae
from melody.vae.hifi import HifiVae

COMMIT = "0" * 40
SMALL_HIFI = {
    "use": "hifi-vae",
    "latent_dim": 4,
    "encoder_widths": [2, 2, 2, 2],
    "encoder_units": 1,
    "decoder_widths": [2, 2, 2, 2],
    "decoder_input_width": 2,
}


@pytest.fixture(scope="module")
def saved(tiny_preset: Preset, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny pipeline in a folder."""
    folder = tmp_path_factory.mktemp("saved") / "tiny"
    MelodyPipeline.from_preset(tiny_preset, weights=tiny_weights).save_pretrained(folder)
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "copied"))


@pytest.fixture
def cache(saved: Path, tmp_path: Path) -> Path:
    """A cache of the hub's client that holds ``someone/tiny``, main and the tag v1."""
    storage = tmp_path / "hub" / "models--someone--tiny"
    shutil.copytree(saved, storage / "snapshots" / COMMIT)
    (storage / "refs").mkdir()
    for reference in ("main", "v1"):
        (storage / "refs" / reference).write_text(COMMIT)
    return tmp_path / "hub"


def _edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def _same(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return set(ours) == set(theirs) and all(
        torch.equal(tensor.half(), theirs[name].half()) for name, tensor in ours.items()
    )


def test_a_pipeline_comes_back_from_its_folder_alone(saved: Path, tiny_preset: Preset, tiny_weights: Path) -> None:
    pipeline = MelodyPipeline.from_pretrained(saved)
    assert pipeline.preset == tiny_preset
    before = MelodyPipeline.from_preset(tiny_preset, weights=tiny_weights)
    options = {"duration_s": 0.5, "num_steps": 2}
    assert torch.equal(pipeline("a waltz", **options).waveform, before("a waltz", **options).waveform)  # type: ignore[arg-type]


def test_the_folder_holds_config_weights_and_a_model_card_and_nothing_else(saved: Path) -> None:
    assert {path.name for path in saved.iterdir()} == {"config.json", "README.md", *(f"{p}.safetensors" for p in PARTS)}
    config = json.loads((saved / "config.json").read_text())
    assert config["format_version"] == "1"
    assert config["codec"]["use"] == "fourier-vae"


def test_the_model_card_says_what_the_hub_asks_for(saved: Path, tiny_pipeline: MelodyPipeline, tmp_path: Path) -> None:
    """Read by the hub's own client; its validation is a request, so only the fields are looked at."""
    tiny_pipeline.codec.save_pretrained(tmp_path)
    for folder in (saved, tmp_path):
        data = ModelCard.load(folder / "README.md").data
        assert (data.license, data.pipeline_tag, data.library_name) == (
            "apache-2.0",
            "text-to-audio",
            "melody-toolkit",
        )
        assert "music" in data.tags


@pytest.mark.parametrize("part", PARTS)
def test_every_part_saves_and_loads_by_itself(tiny_pipeline: MelodyPipeline, part: str, tmp_path: Path) -> None:
    module = getattr(tiny_pipeline, part)
    module.save_pretrained(tmp_path / part, dtype="float32")
    loaded = type(module).from_pretrained(tmp_path / part)
    assert not loaded.training
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("part", PARTS)
def test_every_part_loads_from_a_pipelines_folder(saved: Path, tiny_pipeline: MelodyPipeline, part: str) -> None:
    assert _same(type(getattr(tiny_pipeline, part)).from_pretrained(saved), getattr(tiny_pipeline, part))


def test_a_kind_loads_whichever_component_is_there_and_a_component_only_itself(saved: Path) -> None:
    assert type(Codec.from_pretrained(saved)) is FourierVae
    with pytest.raises(MelodyError, match="has the codec 'fourier-vae', which is FourierVae, not HifiVae"):
        HifiVae.from_pretrained(saved)


def test_arguments_given_by_position_and_by_name_come_back(tmp_path: Path) -> None:
    codec = FourierVae(24_000, 240, latent_dim=3, hidden_dim=8, encoder_layers=0, decoder_layers=1)
    codec.save_pretrained(tmp_path)
    loaded = Codec.from_pretrained(tmp_path)
    assert (loaded.hop_length, loaded.latent_dim, len(loaded.decoder_blocks)) == (240, 3, 1)  # type: ignore[attr-defined]


def test_a_pipeline_whose_codec_has_folded_norms_comes_back(tiny_path: Path, tmp_path: Path) -> None:
    """The pipeline folds weight norms when it loads; its files must serve generation and further training alike."""
    small = {**SMALL_HIFI, "encoder_rates": [4, 5, 4, 6], "encoder_kernels": [5, 5, 5, 7]}
    small |= {"decoder_rates": [6, 4, 5, 4], "decoder_kernels": [7, 5, 5, 5]}
    preset = Preset.of({**load_preset(tiny_path).tables(), "codec": small}, "here")
    before = MelodyPipeline.random(preset)
    before.save_pretrained(tmp_path, dtype="float32")
    latents = torch.rand(1, 9, 4)
    for codec in (MelodyPipeline.from_pretrained(tmp_path).codec, HifiVae.from_pretrained(tmp_path)):
        torch.testing.assert_close(codec.decode(latents), before.codec.decode(latents), rtol=1e-4, atol=1e-5)


def test_loading_does_not_move_the_callers_random_stream(saved: Path) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    DualPathDenoiser.from_pretrained(saved)
    assert torch.equal(torch.rand(1), expected)


class Doubling(nn.Module, Denoiser):
    """A denoiser of somebody else."""

    def __init__(self, latent_dim: int = 2, gain: float = 2.0) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.gain = nn.Parameter(torch.ones(latent_dim) * gain)

    def prepare(self, semantic_tokens: Tensor) -> None:
        return None

    def forward(self, latents: Tensor, angle: Tensor, condition: Any, unconditional: Tensor | None = None) -> Tensor:
        return latents * self.gain

    def repeat(self, condition: Any, times: int) -> None:
        return None


def test_a_third_partys_component_has_both_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MelodyError, match="Doubling is not registered as a denoiser"):
        Doubling().save_pretrained(tmp_path)
    monkeypatch.setitem(registry.denoisers._components, "doubling", Doubling)
    Doubling(3, gain=4).save_pretrained(tmp_path)
    loaded = Denoiser.from_pretrained(tmp_path)
    assert isinstance(loaded, Doubling)
    assert loaded.gain.tolist() == [4.0, 4.0, 4.0]


def test_the_demo_keeps_its_card_with_the_hashes_of_the_new_files(tmp_path: Path) -> None:
    MelodyPipeline.from_preset("demo").save_pretrained(tmp_path / "all")
    card = json.loads((tmp_path / "all" / "card.json").read_text())
    assert set(card) == set(PARTS)
    for part, entry in card.items():
        assert entry["sha256"] == melody.artifacts.files.file_hash(tmp_path / "all" / f"{part}.safetensors")  # type: ignore[attr-defined]
    assert "## Card of the weights" in (tmp_path / "all" / "README.md").read_text()
    assert (tmp_path / "all" / "CARD.md").is_file()
    ResidualVectorQuantizer.from_pretrained(tmp_path / "all").save_pretrained(tmp_path / "rvq")
    assert set(json.loads((tmp_path / "rvq" / "card.json").read_text())) == {"rvq"}


def test_a_card_does_not_stay_beside_weights_that_have_none(saved: Path, copied: Path) -> None:
    for name in ("card.json", "CARD.md"):
        (copied / name).write_text("{}")
    MelodyPipeline.from_pretrained(saved).save_pretrained(copied)
    assert not (copied / "card.json").exists()
    assert not (copied / "CARD.md").exists()


def test_values_that_are_not_finite_leave_the_old_files_whole(saved: Path, copied: Path) -> None:
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    pipeline = MelodyPipeline.from_pretrained(saved)
    nn.init.constant_(next(pipeline.denoiser.parameters()), float("nan"))  # type: ignore[attr-defined]
    with pytest.raises(MelodyError, match="not finite in float16; nothing was written"):
        pipeline.save_pretrained(copied)
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before
    with pytest.raises(MelodyError, match="not finite"):
        pipeline.save_pretrained(copied.parent / "new")
    assert not (copied.parent / "new").exists()


def test_other_model_files_are_not_overwritten_but_the_same_kind_is(saved: Path, copied: Path) -> None:
    codec = FourierVae.from_pretrained(saved)
    with pytest.raises(MelodyError, match="holds other model files already .*choose another folder"):
        codec.save_pretrained(copied)
    (copied / "README.md").write_text("mine")
    with pytest.warns(UserWarning, match=r"README\.md was edited, so it stays"):
        MelodyPipeline.from_pretrained(saved).save_pretrained(copied)
    assert (copied / "README.md").read_text() == "mine"


def test_a_model_card_of_the_weights_before_is_written_anew_unless_edited(saved: Path, copied: Path) -> None:
    codec, folder, card = FourierVae.from_pretrained(saved), copied.parent / "codec", "README.md"
    codec._card_text = "# Card of the weights\n\nthe old ones"
    codec.save_pretrained(folder)
    assert "the old ones" in (folder / card).read_text()
    codec._card_text = "# Card of the weights\n\nthe new ones"
    codec.save_pretrained(folder)
    assert "the new ones" in (folder / card).read_text()
    assert "the old ones" not in (folder / card).read_text()
    (folder / card).write_text("By me.\n" + (folder / card).read_text())
    codec._card_text = None
    with pytest.warns(UserWarning, match="was edited"):
        codec.save_pretrained(folder)
    assert (folder / card).read_text().startswith("By me.")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": "9"}, r"config\.json has format version '9', expected '1'"),
        ({"codec": None}, r"holds no whole pipeline: its config\.json lacks codec"),
        ({"codec": {"use": "fourier-va"}}, r"unknown codec 'fourier-va'; did you mean 'fourier-vae'"),
        ({"codec": SMALL_HIFI}, "holds weights of 'fourier-vae' .*but preset 'tiny' wants 'hifi-vae'"),
        ({"rvq": {"num_levels": 4, "codebook_size": 5}}, "of 'rvq' with num_levels = 3.*'tiny' wants num_levels = 4"),
    ],
)
def test_a_config_that_does_not_fit_is_one_line(copied: Path, changes: dict[str, Any], message: str) -> None:
    _edit(copied / "config.json", **changes)
    with pytest.raises(MelodyError, match=message) as caught:
        MelodyPipeline.from_pretrained(copied)
    assert "\n" not in str(caught.value)


def test_weights_of_a_shipped_preset_name_that_preset(tiny_path: Path, tmp_path: Path) -> None:
    shutil.copytree(Path(melody.__file__).parent / "presets" / "weights" / "demo", tmp_path / "demo")
    message = "'mulan' with audio_heads = 4.* but preset 'tiny' wants .*; they fit preset 'demo' or 'demo-hifi'"
    with pytest.raises(MelodyError, match=message):
        MelodyPipeline.from_preset(tiny_path, weights=tmp_path / "demo")


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_part_that_the_folder_lacks_is_named(tmp_path: Path, role: str) -> None:
    (tmp_path / "config.json").write_text('{"format_version": "1", "vocoder": {"use": "x"}}')
    with pytest.raises(MelodyError, match=rf"config\.json has no {role.replace('_', ' ')}; it has: vocoder"):
        getattr(melody.protocols, "".join(map(str.title, role.split("_")))).from_pretrained(tmp_path)  # type: ignore[attr-defined]


def test_a_folder_without_config_or_with_a_broken_one_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MelodyError, match=r"there is no config\.json in"):
        MelodyPipeline.from_pretrained(tmp_path)
    for content in ("{", "[]"):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(MelodyError, match=r"cannot read .*config\.json"):
            Codec.from_pretrained(tmp_path)


def test_the_preset_of_the_weights_is_taken_where_none_is_named(saved: Path, tmp_path: Path) -> None:
    assert preset_for(None, saved).name == "tiny"
    assert preset_for("paper", saved).name == "paper"
    assert preset_for(None, tmp_path) == preset_for(None, None) == load_preset("demo")


def test_a_hub_id_loads_from_the_cache_without_a_network(cache: Path) -> None:
    options: dict[str, Any] = {"cache_dir": cache, "local_files_only": True}
    pipeline = MelodyPipeline.from_pretrained("someone/tiny", **options)
    assert pipeline.preset.name == "tiny"
    assert _same(DualPathDenoiser.from_pretrained("someone/tiny", revision="v1", **options), pipeline.denoiser)  # type: ignore[arg-type]
    assert hub.local_folder("someone/tiny@v1", **options) == hub.local_folder("someone/tiny", **options)


def test_options_of_the_hub_are_passed_on_and_a_part_fetches_its_own_files(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []

    def download(repository: str, **options: Any) -> str:
        calls.append({"repository": repository, **options})
        return str(saved)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    FourierVae.from_pretrained("a/b", revision="v2", token="t", cache_dir="/c", force_download=True)
    MelodyPipeline.from_preset(preset_for(None, saved), weights="a/b@v3")
    given, inline = calls
    assert (given["repository"], given["revision"], given["token"]) == ("a/b", "v2", "t")
    assert (given["cache_dir"], given["force_download"], given["local_files_only"]) == ("/c", True, False)
    assert given["allow_patterns"] == ["codec.safetensors", "config.json", "card.json"]
    assert (inline["repository"], inline["revision"]) == ("a/b", "v3")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("absent", "there is no folder absent; expected a folder with model files, or a hub id OWNER/NAME"),
        ("runs/demo/weights", "there is no folder runs/demo/weights"),
        ("someone/absent", "no folder 'someone/absent' is here.*not in the local cache, and local_files_only forbids"),
        ("someone/tiny@v9", "not in the local cache, and local_files_only forbids the network"),
    ],
)
def test_what_is_neither_here_nor_in_the_cache_is_one_line(cache: Path, source: str, message: str) -> None:
    with pytest.raises(MelodyError, match=message) as caught:
        MelodyPipeline.from_pretrained(source, cache_dir=cache, local_files_only=True)
    assert "\n" not in str(caught.value)


def test_a_file_is_no_folder(saved: Path) -> None:
    with pytest.raises(MelodyError, match=r"config\.json is a file, expected a folder .*melody export"):
        MelodyPipeline.from_pretrained(saved / "config.json")


def _hub_error(name: str) -> Exception:
    """As the hub's client raises them; their constructors want a response of its transport."""
    from huggingface_hub import errors

    made: Exception = getattr(errors, name).__new__(getattr(errors, name))
    made.args = ("several\nlines",)
    return made


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("RepositoryNotFoundError", "there is no such model, or it is private"),
        ("GatedRepoError", "its owner must grant you access"),
        ("RevisionNotFoundError", "it has no revision 'v1'"),
        ("LocalEntryNotFoundError", "the hub cannot be reached"),
        ("CorruptedCacheException", "CorruptedCacheException: several$"),
    ],
)
def test_what_the_hub_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch, error: str, message: str) -> None:
    def refuse(repository: str, **options: Any) -> str:
        raise _hub_error(error)

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(MelodyError, match=message):
        MelodyPipeline.from_pretrained("a/b@v1")


def test_hf_hub_offline_is_named_as_the_cause(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MelodyError, match="HF_HUB_OFFLINE forbids the network"):
        MelodyPipeline.from_pretrained("a/b", cache_dir=tmp_path)


def test_push_to_hub_uploads_exactly_the_saved_files(
    tiny_pipeline: MelodyPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from huggingface_hub import HfApi

    uploaded: set[str] = set()

    def upload(self: HfApi, *, folder_path: Path, **options: Any) -> str:
        uploaded.update(path.name for path in folder_path.iterdir())
        return "done"

    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **options: SimpleNamespace(repo_id=repo_id))
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    assert tiny_pipeline.codec.push_to_hub("someone/codec") == "done"
    assert uploaded == {"codec.safetensors", "config.json", "README.md"}


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:4096"])
def test_a_device_that_is_not_there_is_one_line(saved: Path, device: str) -> None:
    with pytest.raises(MelodyError, match=f"device {device!r}"):
        Codec.from_pretrained(saved, device=device)
    with pytest.raises(MelodyError, match=f"device {device!r}"):
        MelodyPipeline.from_pretrained(saved, device=device)

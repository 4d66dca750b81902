"""Run by ``test_laion_clap.py`` in a process of its own, with ``HF_HOME`` at an empty folder: laion-clap for real.

Fills the hub's local cache with a tiny ``roberta-base`` (one layer of the width that the package needs), saves random
weights of the package's own model, and prints what the embedders make of them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

REVISION = "0" * 40


def tiny_roberta(hub: Path) -> None:
    """A snapshot of ``roberta-base`` as huggingface_hub lays it out."""
    from transformers import RobertaConfig, RobertaModel

    repository = hub / "models--roberta-base"
    folder = repository / "snapshots" / REVISION
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    words = ["<s>", "<pad>", "</s>", "<unk>", *[chr(code) for code in range(33, 127)], "Ġ", "<mask>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    config = RobertaConfig(
        vocab_size=len(words),
        hidden_size=768,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=80,
    )
    RobertaModel(config).save_pretrained(folder)


def main(scratch: Path) -> dict[str, object]:
    import torch
    from huggingface_hub import constants
    from safetensors.torch import save_file

    tiny_roberta(Path(constants.HF_HUB_CACHE))
    import laion_clap

    from melody.conditioning.clap import ClapEmbedder
    from melody.registry import audio_embedders

    torch.manual_seed(0)
    package = laion_clap.CLAP_Module(enable_fusion=False, device="cpu", amodel="HTSAT-tiny")
    path = scratch / "630k-audioset-best.safetensors"
    state = {f"module.{name}": tensor.contiguous().clone() for name, tensor in package.model.state_dict().items()}
    save_file(state, path)
    clip = 0.1 * torch.randn(48_000 * 12, generator=torch.Generator().manual_seed(1))
    ours = audio_embedders.create("laion-clap", {"weights": str(scratch)})
    vectors = ours.embed(clip)
    with torch.inference_mode():
        windows = torch.stack([clip[:480_000], clip[-480_000:]])
        expected = package.get_audio_embedding_from_data(x=windows, use_tensor=True)
    fadtk = audio_embedders.get("clap-fadtk").__new__(audio_embedders.get("clap-fadtk"))
    fadtk.__dict__.update(ours.__dict__)
    padded = torch.zeros(1, 480_000)
    padded[0, :24_000] = torch.trunc(clip[48_000:72_000] * 32_767) / 32_767
    second = fadtk.embed(clip[:72_000])
    with torch.inference_mode():
        of_the_last = package.get_audio_embedding_from_data(x=padded, use_tensor=True)
        texts = ClapEmbedder.embed_text(ours.clap, ["slow piano", "drums"])
    return {
        "shape": list(vectors.shape),
        "norms": vectors.norm(dim=1).tolist(),
        "difference": float((vectors - expected).abs().max()),
        "fadtk_shape": list(second.shape),
        "fadtk_difference": float((second[-1:] - of_the_last).abs().max()),
        "facts": ours.identity(),
        "fadtk_facts": fadtk.identity(),
        "texts": list(texts.shape),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))

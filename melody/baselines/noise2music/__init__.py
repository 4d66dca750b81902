"""Noise2Music-style cascade: spectrogram generator, cascader (vocoder) and super-resolution, three diffusion networks.

After Huang et al. 2023 (arXiv 2302.03917), which published neither code nor weights. The steps, 1000 + 800 + 800, are
Table 3's; everything else is ours, or recalled and marked so. Its text encoder is replaced by the joint embedder and
the quantiser of our own system, so that conditioning is the same for every system that is compared.
"""

from melody.baselines.noise2music.frames import Frames
from melody.baselines.noise2music.network import StageNetwork
from melody.baselines.noise2music.preset import PARTS, Noise2MusicPreset
from melody.baselines.noise2music.system import Noise2MusicSystem

__all__ = ["PARTS", "Frames", "Noise2MusicPreset", "Noise2MusicSystem", "StageNetwork"]

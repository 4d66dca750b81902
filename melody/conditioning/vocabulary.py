"""The text tower's vocabulary: byte-level BPE learnt on captions, or a public model's, kept in the weights as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from melody.errors import MelodyError

PAD, CLS, SEP = "[PAD]", "[CLS]", "[SEP]"
SPECIAL = (PAD, CLS, SEP)
MIN_SIZE = 256 + len(SPECIAL)
"""Every byte and the special tokens: with them no text is out of vocabulary."""


class TextVocabulary(nn.Module):
    """Texts to token ids, ``[CLS]`` … ``[SEP]``, padded to the longest of the batch.

    Byte-level BPE (Sennrich et al. 2016, arXiv 1508.07909) over NFKC-normalised lower-case text: an unseen word falls
    back to pieces, at worst to bytes. Unfitted it is bytes alone. A text with more than ``max_tokens`` keeps its
    beginning. The state is one uint8 buffer of JSON, whose length follows the weights that are loaded.
    """

    state: Tensor

    def __init__(self, size: int, max_tokens: int) -> None:
        super().__init__()
        if size < MIN_SIZE:
            raise MelodyError(
                f"vocabulary_size is {size}: expected at least {MIN_SIZE}, every byte and the special tokens"
            )
        if max_tokens < 3:
            raise MelodyError(f"max_text_tokens is {max_tokens}: expected at least 3, [CLS], a piece and [SEP]")
        self.size = size
        self.max_tokens = max_tokens
        self.register_buffer("state", torch.zeros(0, dtype=torch.uint8))
        self._tokenizer: Any = None

    def fit(self, texts: Iterable[str]) -> None:
        """Learn the merges from captions; the order of the texts does not matter.

        Raises:
            MelodyError: no text was given.
        """
        corpus = sorted(texts)
        if not corpus:
            raise MelodyError("the vocabulary cannot be learnt: no captions were given")
        self._store(_train(corpus, self.size))

    def adopt(self, path: Path, setting: str) -> None:
        """Take over a public model's vocabulary (WordPiece, as BERT's) from its ``tokenizer.json``.

        Raises:
            MelodyError: no such file, another kind of file, more entries than rows, or another padding token.
        """
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises bare Exception for JSON that is not a tokenizer
            reason = "no such file" if not path.is_file() else str(error).splitlines()[0]
            raise MelodyError(f"{setting}: cannot read the vocabulary {path}: {reason}") from None
        if tokenizer.token_to_id(PAD) != SPECIAL.index(PAD) or tokenizer.get_vocab_size() > self.size:
            raise MelodyError(
                f"{setting}: the vocabulary {path} has {tokenizer.get_vocab_size()} entries, {PAD} at "
                f"{tokenizer.token_to_id(PAD)}: expected at most {self.size}, {PAD} at {SPECIAL.index(PAD)}"
            )
        self._store(tokenizer)

    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """``B`` texts -> token ids and attention mask, both ``(B, longest)``, int64."""
        encoded = self._ready().encode_batch(list(texts))
        ids = torch.tensor([e.ids for e in encoded], dtype=torch.int64, device=self.state.device)
        mask = torch.tensor([e.attention_mask for e in encoded], dtype=torch.int64, device=self.state.device)
        return ids, mask

    def pieces(self, text: str) -> list[str]:
        """The pieces of one text, for inspection; ``Ġ`` stands for a space before a word."""
        return list(self._ready().encode(text).tokens)

    def _ready(self) -> Any:
        tokenizer = self._tokenizer
        if tokenizer is None:
            if self.state.numel() == 0:
                self._store(_train([], MIN_SIZE))
            self._tokenizer = tokenizer = self._parse(self.state)
        return tokenizer

    def _store(self, tokenizer: Any) -> None:
        content = tokenizer.to_str().encode()
        self.state = torch.frombuffer(bytearray(content), dtype=torch.uint8).to(self.state.device)
        self._tokenizer = None

    def _parse(self, state: Tensor) -> Any:
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_str(bytes(state.cpu().tolist()).decode())
        except Exception as error:  # the library raises bare Exception for JSON that is not a tokenizer
            raise MelodyError(f"the vocabulary in the weights is damaged: {str(error).splitlines()[0]}") from None
        if tokenizer.get_vocab_size() > self.size:
            raise MelodyError(
                f"the vocabulary in the weights has {tokenizer.get_vocab_size()} entries, expected at most {self.size}"
            )
        tokenizer.enable_truncation(self.max_tokens)
        tokenizer.enable_padding(pad_id=SPECIAL.index(PAD), pad_token=PAD)
        return tokenizer

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        stored = state_dict.get(prefix + "state")
        if stored is not None and stored.dtype == torch.uint8 and stored.ndim == 1:
            self.state = torch.empty(stored.shape, dtype=torch.uint8, device=self.state.device)
        self._tokenizer = None
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_tokenizer": None}  # rebuilt from the buffer where it is needed


def _train(corpus: Sequence[str], size: int) -> Any:
    """A tokenizer with at most ``size`` entries; ties of merges go by id, so the result is deterministic."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()])
    # A space before every word, the first too, so that a word has the same pieces wherever it stands.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}", special_tokens=[(CLS, SPECIAL.index(CLS)), (SEP, SPECIAL.index(SEP))]
    )
    return tokenizer

"""Code that must not run, and folders of models that bring it."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path
from typing import Any

import pytest

from maxsight.errors import EncoderError
from maxsight.models.encoder import load


class Trap:
    """Code that leaves a file behind when it runs."""

    def __init__(self, root: Path) -> None:
        self.marker = root / "it-ran"

    @property
    def source(self) -> str:
        return textwrap.dedent(f"""
            open({str(self.marker)!r}, "w").close()
            import torch
            class Evil(torch.nn.Module):
                @classmethod
                def from_pretrained(cls, *args, **kwargs):
                    return cls()
                load = from_pretrained
                register_for_auto_class = from_pretrained
        """)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def edit(file: Path, **fields: Any) -> None:
    """Set fields of a JSON object, which is made if it is not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(content | fields))


def refused(uri: str, trap: Trap, *words: str) -> None:
    """The encoder is refused by one message with these words, and nothing ran."""
    with pytest.raises(EncoderError) as caught:
        load(uri, device="cpu")
    assert not trap.marker.exists()
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


AUTO_TOKENIZER = {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}

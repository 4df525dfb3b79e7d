"""An open library: where it is, what encodes for it, and what is held until it is closed."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Self

from maxsight import settings
from maxsight.arguments import one_place
from maxsight.errors import EncoderMismatch, LibraryNotFound, UsageError

if TYPE_CHECKING:
    from maxsight.index.store import Store
    from maxsight.models.encoder import Encoder
    from maxsight.pipelines.decoding.lone import LoneDecoder
    from maxsight.pipelines.query.encoder import QueryEncoder
    from maxsight.pipelines.query.text_cache import TextCache

_DEFAULT_ENCODER = "builtin"


class Handle:
    """What reading and writing a library have in common; see :class:`maxsight.Library`.

    Args:
        path, encoder, device, trust_encoder: as :func:`maxsight.open` takes them.

    Attributes:
        path: its folder, absolute.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        encoder: str | None = None,
        device: str = "auto",
        trust_encoder: bool = False,
    ) -> None:
        given = one_place(path, what="the library")
        try:
            self.path = given.absolute()
        except FileNotFoundError:
            raise UsageError(
                f"{given} is relative, and the current folder is gone; give the whole path"
            ) from None
        self._requested = encoder
        self._is_asked_for = trust_encoder or encoder is not None
        self._device = device
        self._encoder: Encoder | None = None
        self._reader: Store | None = None
        self._cache: TextCache | None = None
        self._decoder: LoneDecoder | None = None
        # What is opened when it is first needed is opened once, whichever thread needs it, and a
        # search whose texts are known does not wait for the encoder to be loaded.
        self._guard = threading.Lock()
        self._encoder_guard = threading.Lock()
        # A thread that writes from its own ``progress`` is refused by the lock of the store.
        self._turn = threading.RLock()
        if self.exists():
            self._check_request()

    def exists(self) -> bool:
        """Whether there is a library at ``path`` yet."""
        return (self.path / "library.json").exists()

    @property
    def encoder(self) -> Encoder:
        """The library's encoder, loaded on first use.

        Raises:
            UntrustedEncoder: only the library names it, and it was not used on this machine.
            EncoderMismatch: the weights on this machine are not those it was made with.
        """
        with self._encoder_guard:
            if self._encoder is None:
                from maxsight.models.encoder import load

                if self.exists():
                    self._encoder = self._recorded_encoder()
                else:
                    self._encoder = load(self._requested or _DEFAULT_ENCODER, device=self._device)
            return self._encoder

    def _recorded_encoder(self) -> Encoder:
        from maxsight.library import known_encoders
        from maxsight.models.encoder import load

        manifest = self._store().manifest
        if not self._is_asked_for:
            known_encoders.require_known(manifest, self.path)
        encoder = load(manifest.encoder_uri, device=self._device)
        names = (encoder.fingerprint, *encoder.former_fingerprints)
        if manifest.fingerprint not in names or manifest.dim != encoder.dim:
            raise EncoderMismatch(
                f"{self.path} was made with other weights of {encoder.uri}: its vectors and "
                "new ones would not compare. Install the version it was made with, or index "
                "the files into a new library"
            )
        if self._is_asked_for:
            known_encoders.remember(manifest)
        return encoder

    def close(self) -> None:
        """Let go of files and memory. The library can be used again afterwards.

        Searches that run in other threads end as if it were open: what they hold is let go of
        when the last of them ends. Pictures that they wait for are waited for here, too.
        """
        with self._guard:
            decoder = self._decoder
            self._reader = self._cache = self._decoder = None
        if decoder is not None:
            decoder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _store(self) -> Store:
        with self._guard:
            if self._reader is None:
                from maxsight.index.store import Store

                if not self.path.exists():
                    raise LibraryNotFound(
                        f"there is no library at {self.path}; make one with: "
                        f"maxsight index {self.path.name} FOLDER"
                    )
                self._reader = Store.open(self.path)
            return self._reader

    def _check_request(self) -> None:
        from maxsight.index.tables.manifest import Manifest

        made_with = Manifest.read(self.path).encoder_uri
        if self._requested is not None and not _is_same(self._requested, made_with):
            raise EncoderMismatch(
                f"{self.path} was made with the encoder {made_with}, not {self._requested}: leave "
                "the encoder out, or index the files into a new library"
            )

    def _query_encoder(self) -> QueryEncoder:
        from maxsight.pipelines.decoding.lone import LoneDecoder
        from maxsight.pipelines.query.encoder import QueryEncoder
        from maxsight.pipelines.query.text_cache import TextCache

        fingerprint = self._store().manifest.fingerprint
        with self._guard:
            self._cache = self._cache or TextCache(settings.cache_directory() / "texts.sqlite")
            self._decoder = self._decoder or LoneDecoder()
            return QueryEncoder(fingerprint, lambda: self.encoder, self._cache, self._decoder)


def _is_same(requested: str, made_with: str) -> bool:
    from maxsight.models.encoder import absolute
    from maxsight.models.options import parse

    # Libraries of earlier releases may name a folder by where their maker stood.
    return str(parse(requested)) == made_with or absolute(requested) == made_with

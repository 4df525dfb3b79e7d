"""What determines an encoding: an index stores it, and both sides must agree on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

SCHEME = 1  # of randomness.py and of the cells' order; another one makes other encodings
MOST_PLANES = 30


@dataclass(frozen=True, kw_only=True)
class Config:
    """A fixed-dimensional encoding.

    Recommended by MUVERA (section 3): 20 repetitions, ``k_sim`` 3 to 5, ``projection_dim`` 8 or 16;
    or 40 repetitions, ``k_sim`` 6, no inner projection and ``final_dim`` 4,096 to 10,240. Quality
    follows the total dimension; repetitions help more than planes.

    Attributes:
        token_dim: d, of each token.
        repetitions: independent encodings, one behind the other. Those of a smaller number are the
            first ones of a larger, so an encoding without ``final_dim`` may be cut.
        k_sim: hyperplanes of a repetition, 0 to 30: they cut the token space into 2^k_sim cells.
        projection_dim: dimensions of a cell, by a count-sketch; None: the d of the tokens.
        final_dim: dimensions of the whole, by a count-sketch; None: no such sketch.
        fill_empty: give a document's empty cells the token that is nearest to them. Needs k_sim.
        seed: of all that is random, 0 to 2^63 - 1.

    Raises:
        ValueError: a value outside its range.
    """

    token_dim: int
    repetitions: int = 20
    k_sim: int = 4
    projection_dim: int | None = 16
    final_dim: int | None = None
    fill_empty: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("token_dim", "repetitions", "projection_dim", "final_dim"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= self.k_sim <= MOST_PLANES:
            raise ValueError(f"k_sim must be 0 to {MOST_PLANES}, got {self.k_sim}")
        if self.fill_empty and not self.k_sim:
            raise ValueError("k_sim=0 makes one cell, never empty; give fill_empty=False with it")
        if not 0 <= self.seed < 1 << 63:
            raise ValueError(f"seed must be 0 to 2^63 - 1, got {self.seed}")

    @property
    def cells(self) -> int:
        """Of a repetition: 2^k_sim."""
        return 1 << self.k_sim

    @property
    def cell_dim(self) -> int:
        """Dimensions of a cell."""
        return self.projection_dim or self.token_dim

    @property
    def inner_dim(self) -> int:
        """Dimensions before the final projection: repetitions x cells x cell_dim."""
        return self.repetitions * self.cells * self.cell_dim

    @property
    def dim(self) -> int:
        """Dimensions of an encoding."""
        return self.final_dim or self.inner_dim

    def to_dict(self) -> dict[str, int | bool | None]:
        """Itself for JSON, with the scheme of the random numbers."""
        return {"scheme": SCHEME, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, int | bool | None]) -> Config:
        """What ``to_dict`` gave.

        Raises:
            ValueError: another scheme, a value missing or unknown.

        Example:
            >>> config = Config(token_dim=128)
            >>> Config.from_dict(config.to_dict()) == config
            True
        """
        given = dict(values)
        scheme = given.pop("scheme", None)
        if scheme != SCHEME:
            raise ValueError(
                f"encodings of scheme {SCHEME} are made here, this index was built with {scheme}; "
                "build it anew or use the release that wrote it"
            )
        names = {field.name for field in fields(cls)}
        if given.keys() != names:
            raise ValueError(f"needed: {sorted(names)}, got {sorted(given)}")
        return cls(**given)  # type: ignore[arg-type]

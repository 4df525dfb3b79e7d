"""Makes ``maxsight/demo/pictures/`` and its list of sources, for whoever changes the selection.

    python -m maxsight.demo.collect DATA        (DATA: where the picture packages are unpacked)

Photographs come from scikit-image's and matplotlib's wheels, drawings from Noto Emoji and
Openclipart; all may be redistributed, and ``pictures/SOURCES.md`` says from where each is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from maxsight.models.builtin.training import corpus

_PICTURES = Path(__file__).parent / "pictures"
_SIDE = 512  # pixels

# file in the wheel -> (name in the demo, licence and author)
_PHOTOGRAPHS = {
    "skimage/data/astronaut.png": ("astronaut", "public domain, NASA"),
    "skimage/data/camera.png": ("photographer", "CC0, Lav Varshney"),
    "skimage/data/chelsea.png": ("chelsea", "CC0, Stéfan van der Walt"),
    "skimage/data/coffee.png": ("coffee", "CC0, Rachel Michetti, courtesy of Pikolo Espresso Bar"),
    "skimage/data/coins.png": ("coins", "no known copyright restrictions, Brooklyn Museum"),
    "skimage/data/hubble_deep_field.jpg": ("hubble", "public domain, NASA/ESA"),
    "skimage/data/moon.png": ("moon", "public domain, NASA"),
    "skimage/data/rocket.jpg": ("rocket", "CC0, SpaceX"),
    "matplotlib/mpl-data/sample_data/grace_hopper.jpg": (
        "grace-hopper",
        "public domain, James S. Davis, U.S. Navy",
    ),
}
_NOTO = """
automobile; taxi; police car; bus; fire engine; bicycle; sailboat; airplane; helicopter; locomotive
dog face; cat face; tiger face; horse; elephant; rabbit; penguin; owl; butterfly; octopus; crocodile
red apple; green apple; banana; grapes; strawberry; pizza; hamburger; birthday cake; teapot
red heart; blue heart; green heart; yellow heart; red circle; blue circle; green circle
grinning cat; crying cat; cat with tears of joy; kissing cat
man firefighter; woman firefighter; man astronaut; woman astronaut; man cook; woman cook
man: red hair; woman: red hair; man: bald; man: beard; woman: curly hair
guitar; violin; trumpet; soccer ball; basketball; tennis; umbrella; umbrella with rain drops
sun; full moon; cloud with rain; snowman; Christmas tree; palm tree; cactus; sunflower; tulip
mountain; volcano; desert; beach with umbrella; house; castle; tent; bridge at night
sunrise; sunset; night with stars; cityscape; cityscape at dusk; laptop; camera; telescope
alarm clock
"""
_CLIPART = (
    "buildings/lighthouse_matthew_gates_.svg",
    "recreation/music/violin_ganson.svg",
    "recreation/music/guitar_ganson.svg",
    "food/beverages/teapot_ganson.svg",
    "plants/trees/palmtree_b_r_kessels_.svg",
    "plants/trees/fall_coloured_tree_geral_01.svg",
)


def main(data: Path) -> None:
    _PICTURES.mkdir(exist_ok=True)
    for old in _PICTURES.iterdir():
        old.unlink()
    rows = []
    for name, suffix, image, source in (*_photographs(), *_drawings(data)):
        image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        path = _PICTURES / f"{name}{suffix}"
        image.save(path, quality=85, optimize=True)
        rows.append(f"| {path.name} | {source} |")
    header = "# Where the demo's pictures come from\n\n| file | source and licence |\n|---|---|\n"
    (_PICTURES / "SOURCES.md").write_text(header + "\n".join(sorted(rows)) + "\n")
    total = sum(path.stat().st_size for path in _PICTURES.iterdir())
    print(f"{len(rows)} pictures, {total / 1e6:.1f} MB")


def _photographs() -> Iterator[tuple[str, str, Image.Image, str]]:
    site = next(Path(p) for p in sys.path if (Path(p) / "skimage").is_dir())
    for file, (name, licence) in _PHOTOGRAPHS.items():
        package = {"skimage": "scikit-image"}.get(file.split("/")[0], file.split("/")[0])
        image = Image.open(site / file)
        grey = image.mode == "L"
        yield name, ".jpg", image if grey else image.convert("RGB"), f"{licence} ({package})"


def _drawings(data: Path) -> Iterator[tuple[str, str, Image.Image, str]]:
    wanted = {name.strip().lower() for name in _NOTO.replace("\n", ";").split(";")} - {""}
    for picture in corpus.emoji(data, "noto", tones=False):
        if picture.caption in wanted:
            image = corpus.render(picture, _SIDE)
            yield _slug(picture.caption), ".webp", image, "Apache-2.0, Noto Emoji, Google"
            wanted.discard(picture.caption)
    for picture in corpus.clipart(data):
        if picture.key in _CLIPART:
            name = Path(picture.key).stem.split("_")[0]
            image = corpus.render(picture, _SIDE)
            yield f"clipart-{name}", ".png", image, "public domain, Openclipart"
    if wanted:
        raise ValueError(f"not among the Noto emoji: {sorted(wanted)}")


def _slug(text: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


if __name__ == "__main__":
    main(Path(sys.argv[1]))

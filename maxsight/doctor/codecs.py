"""Which pictures and films can be read here."""

from __future__ import annotations

from collections.abc import Iterator

from maxsight.doctor.finding import Finding
from maxsight.doctor.packages import installed, try_import

# What libavcodec calls the decoders that need no special hardware.
_FILM_DECODERS = {
    "H.264": ("h264",),
    "HEVC": ("hevc",),
    "AV1": ("libdav1d", "libaom-av1"),
    "VP9": ("vp9", "libvpx-vp9"),
}
_DECORDS = ("decord", "decord2", "eva-decord")


def pictures() -> Iterator[Finding]:
    """Pillow's codecs, and HEIC's."""
    features = try_import("PIL.features")
    if isinstance(features, str):
        yield Finding(
            "pictures",
            "problem",
            f"Pillow does not load: {features}",
            "pip install --force-reinstall pillow",
        )
        return
    formats = {"JPEG": "jpg", "PNG": "zlib", "WebP": "webp", "AVIF": "avif", "TIFF": "libtiff"}
    there = [name for name, feature in formats.items() if features.check(feature)]
    missing = [name for name in formats if name not in there]
    there += ["GIF", "BMP"]  # Pillow reads these by itself
    heif = try_import("pillow_heif")
    if not isinstance(heif, str):
        there.append(f"HEIC (libheif {heif.libheif_version()})")
    turbo = bool(features.check("libjpeg_turbo"))
    speed = f"; libjpeg-turbo {features.version('libjpeg_turbo')}" if turbo else ""
    yield Finding("pictures", "ok", f"Pillow {installed('pillow')} reads {', '.join(there)}{speed}")
    wheel = "pip install --force-reinstall --only-binary :all: pillow"
    if missing:
        basic = {"JPEG", "PNG"} & set(missing)
        yield Finding(
            "pictures",
            "problem" if basic else "warning",
            f"this Pillow cannot read {', '.join(missing)}",
            wheel,
        )
    if isinstance(heif, str):
        version = installed("pillow-heif")
        what = (
            f"pillow-heif {version} does not load: {heif}" if version else "pillow-heif is absent"
        )
        yield Finding(
            "pictures",
            "warning",
            f"HEIC pictures cannot be read ({what})",
            "pip install --force-reinstall pillow-heif"
            if version
            else "pip install 'maxsight[heif]'",
        )
    if not turbo and "JPEG" in there:
        yield Finding("pictures", "warning", "JPEG decodes slowly, without libjpeg-turbo", wheel)


def films() -> Iterator[Finding]:
    """PyAV's decoders, and decord."""
    av = try_import("av")
    if isinstance(av, str):
        version = installed("av")
        what = f"PyAV {version} does not load: {av}" if version else "PyAV is not installed"
        yield Finding(
            "films",
            "problem" if version else "warning",
            f"films cannot be read: {what}",
            "pip install --force-reinstall av" if version else "pip install 'maxsight[video]'",
        )
    else:
        there = [name for name, codecs in _FILM_DECODERS.items() if _has_decoder(av, codecs)]
        missing = [name for name in _FILM_DECODERS if name not in there]
        library = ".".join(str(part) for part in av.library_versions["libavcodec"])
        yield Finding(
            "films", "ok", f"PyAV {av.__version__} (libavcodec {library}) reads {', '.join(there)}"
        )
        if missing:
            yield Finding(
                "films",
                "warning",
                f"this PyAV cannot read {', '.join(missing)}",
                "pip install --force-reinstall --only-binary :all: av",
            )
    yield from _decord()


def _decord() -> Iterator[Finding]:
    found = [name for name in _DECORDS if installed(name)]
    if len(found) > 1:
        yield Finding(
            "films",
            "problem",
            f"{' and '.join(found)} are both installed and overwrite each other's files",
            f"pip uninstall -y {' '.join(found)} && pip install 'maxsight[video]'",
        )
    elif not found:
        yield Finding("films", "ok", "decord is not installed; PyAV reads everything")
    elif isinstance(decord := try_import("decord"), str):
        yield Finding(
            "films",
            "warning",
            f"{found[0]} {installed(found[0])} does not load ({decord}); PyAV reads everything",
            f"pip install --force-reinstall {found[0]}",
        )
    else:
        yield Finding("films", "ok", f"{found[0]} {installed(found[0])}")


def _has_decoder(av: object, names: tuple[str, ...]) -> bool:
    codecs_available: frozenset[str] = av.codecs_available  # type: ignore[attr-defined]
    return any(name in codecs_available for name in names)

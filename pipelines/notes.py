"""What a picture's file says about the picture: which way is up, when it was taken."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from PIL import ExifTags, Image

_ADOBE_RGB, _UNCALIBRATED = 2, 65535


@dataclass(frozen=True)
class Notes:
    """What is read here.

    Attributes:
        orientation: EXIF's, 1 to 8; 1 is upright.
        captured_at: when the camera says it was taken, by its own clock.
        adobe_rgb: EXIF says that the numbers are those of Adobe RGB.
    """

    orientation: int = 1
    captured_at: datetime | None = None
    adobe_rgb: bool = False


def read(image: Image.Image) -> Notes:
    """The notes of a loaded picture. Damaged ones count as absent."""
    try:
        exif = image.getexif()
        camera = exif.get_ifd(ExifTags.IFD.Exif)
        orientation = exif.get(ExifTags.Base.Orientation, 1)
        when = camera.get(ExifTags.Base.DateTimeOriginal) or camera.get(
            ExifTags.Base.DateTimeDigitized
        )
        adobe_rgb = _is_adobe_rgb(exif, camera.get(ExifTags.Base.ColorSpace))
    except Exception:  # a picture is not worse for damaged notes about it
        return Notes()
    upright = orientation not in range(1, 9)
    return Notes(1 if upright else orientation, _exif_time(when), adobe_rgb)


def _is_adobe_rgb(exif: Image.Exif, space: object) -> bool:
    if space == _ADOBE_RGB:
        return True
    return space == _UNCALIBRATED and exif.get_ifd(ExifTags.IFD.Interop).get(1) == "R03"


def _exif_time(text: object) -> datetime | None:
    try:
        return datetime.strptime(str(text).strip("\x00 ")[:19], "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None

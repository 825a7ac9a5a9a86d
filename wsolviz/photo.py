"""Reading photos: whatever a user hands in becomes upright 8-bit sRGB, or a sentence that helps."""

from __future__ import annotations

import hashlib
import io
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from wsolviz.errors import with_public_text

PhotoSource: TypeAlias = "str | Path | Image.Image | NDArray[np.uint8] | Photo"

MAX_MEGAPIXELS = 50
# What PIL's decoders raise on damaged files, each format its own.
BROKEN = (OSError, SyntaxError, ValueError, RuntimeError, EOFError, TypeError, struct.error)
# How PNG, JPEG and GIF files begin: one that cannot be read is damaged, and of no other format.
SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"})

# Full scale of a 16-bit sample over full scale of an 8-bit one.
SIXTEEN_TO_EIGHT_BITS = 65535 / 255


@dataclass(frozen=True)
class Photo:
    """An upright 8-bit RGB photo.

    Attributes:
        image: mode "RGB".
        name: the file's name, or "photo".
        notes: sentences on what was changed to read it (first frame of an animation …).
    """

    image: Image.Image
    name: str = "photo"
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, after the EXIF rotation."""
        return self.image.size

    @cached_property
    def digest(self) -> str:
        """sha256 of the pixels: the photo's name in caches."""
        header = f"{self.size}".encode()
        return hashlib.sha256(header + self.image.tobytes()).hexdigest()


def read_photo(source: PhotoSource) -> Photo:
    """Read a photo and make it upright 8-bit sRGB.

    EXIF rotation is applied, an embedded colour profile converted (CMYK too), transparency laid on
    white, 16-bit grey scaled, and of an animation the first frame taken; `Photo.notes` tells of
    whatever changes what is seen.

    Args:
        source: a file's path, a PIL image, or an array (H,W) or (H,W,3|4) uint8.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no photo that can be read, is broken, or has more than 50
            megapixels; the message says what to do.

    >>> read_photo(Image.new("CMYK", (4, 2))).image.mode
    'RGB'
    """
    if isinstance(source, Photo):
        return source
    if isinstance(source, np.ndarray):
        return read_photo(_from_array(source))
    if isinstance(source, Image.Image):
        return _to_photo(source, "photo")
    if source is None:
        raise ValueError("There is no photo; give a file, a PIL image or an array.")
    path = Path(source)
    if not path.is_file():
        missing = FileNotFoundError(f"There is no photo {path}; give the path of an image file.")
        raise with_public_text(
            missing, f"The photo {path.name} is no longer on the server; upload it again."
        )
    with _open(path, path.name) as opened:
        return _to_photo(opened, path.name)


def read_encoded(content: bytes, name: str) -> Photo:
    """Read a photo from the bytes of its file, as out of an archive; see `read_photo`.

    Raises:
        ValueError: as of `read_photo`.
    """
    with _open(io.BytesIO(content), name) as opened:
        return _to_photo(opened, name)


def _open(file: Path | io.BytesIO, name: str) -> Image.Image:
    try:
        return Image.open(file)
    except PermissionError:
        raise
    except Image.DecompressionBombError as error:
        limit = Image.MAX_IMAGE_PIXELS
        assert limit is not None, "it was exceeded, and twice: Pillow only warns before"
        raise _too_large(name, f"more than {2 * limit // 1_000_000} megapixels") from error
    except UnidentifiedImageError as error:
        if _beginning(file).startswith(SIGNATURES):
            raise _broken(name) from error
        raise ValueError(
            f"{name} is not an image that can be read here (HEIC, RAW, SVG and PDF are not); "
            "save it as JPEG or PNG and try again."
        ) from error
    except BROKEN as error:
        raise _broken(name) from error


def _beginning(file: Path | io.BytesIO) -> bytes:
    if isinstance(file, io.BytesIO):
        return file.getvalue()[:8]
    with file.open("rb") as opened:
        return opened.read(8)


def _broken(name: str) -> ValueError:
    return ValueError(
        f"{name} is broken or cut off: not all of it can be read. Save or download it again."
    )


def _from_array(pixels: NDArray[np.uint8]) -> Image.Image:
    grey = pixels.ndim == 2
    if pixels.dtype != np.uint8 or not (grey or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        raise ValueError(
            f"A photo as an array is (H,W) or (H,W,3) of uint8, not {pixels.shape} of "
            f"{pixels.dtype}; values in [0,1] become uint8 with (255 * pixels).astype('uint8')."
        )
    return Image.fromarray(pixels)


def _too_large(name: str, size: str) -> ValueError:
    return ValueError(
        f"{name} is too large ({size}); the limit is {MAX_MEGAPIXELS} megapixels. Scale it down "
        "and try again: the networks look at a few hundred pixels a side."
    )


def _to_photo(opened: Image.Image, name: str) -> Photo:
    width, height = opened.size
    if width * height > MAX_MEGAPIXELS * 1_000_000:
        raise _too_large(name, f"{width}×{height}, {width * height / 1e6:.0f} megapixels")
    notes = []
    try:
        # An MPO holds a stereo pair or a gain map beside the photo: no animation.
        if getattr(opened, "is_animated", False) and opened.format != "MPO":
            notes.append("Animated: the first frame is shown.")
            opened.seek(0)
        opened.load()
    except BROKEN as error:
        raise _broken(name) from error
    try:
        upright = ImageOps.exif_transpose(opened)
    except BROKEN:
        notes.append("Its EXIF data are broken: it may lie on its side.")
        upright = opened
    return Photo(_to_rgb(upright, name, notes), name, tuple(notes))


def _to_rgb(image: Image.Image, name: str, notes: list[str]) -> Image.Image:
    if image.mode.startswith("I"):
        notes.append("16 bits: scaled to 8.")
        pixels = np.asarray(image, dtype=np.float64) / SIXTEEN_TO_EIGHT_BITS
        return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError(
            f"{name} holds floating-point values, which have no agreed brightness; save it as an "
            "8-bit PNG or JPEG."
        )
    if image.has_transparency_data:
        return _to_srgb(_on_white(image, notes), notes)
    return _to_srgb(image, notes)


def _on_white(image: Image.Image, notes: list[str]) -> Image.Image:
    rgba = image.convert("RGBA")
    lowest, _ = rgba.getchannel("A").getextrema()
    if isinstance(lowest, (int, float)) and lowest < 255:
        notes.append("Transparent: laid on white.")
    laid = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    # A grey profile says nothing about what is RGB now.
    profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA", "P") else None
    laid.info["icc_profile"] = profile
    return laid


def _to_srgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """Through the embedded colour profile where there is one: CMYK and wide gamuts need it."""
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "CMYK"):
        try:
            converted = ImageCms.profileToProfile(
                image,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
        except (ImageCms.PyCMSError, OSError):
            notes.append("Its colour profile cannot be read: colours may be off.")
        else:
            assert converted is not None, "profileToProfile returns an image unless in place"
            return converted
    elif image.mode == "CMYK":
        notes.append("CMYK without a colour profile: colours are approximate.")
    return image.convert("RGB")

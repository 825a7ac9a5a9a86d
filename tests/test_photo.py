"""Every kind of file that a visitor may bring."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from wsolviz.photo import read_encoded, read_photo

RED, BLUE = (200, 30, 10), (10, 30, 200)


def two_halves(mode="RGB"):
    """40×20, left red and right blue."""
    image = Image.new("RGB", (40, 20), RED)
    image.paste(BLUE, (20, 0, 40, 20))
    return image.convert(mode)


def saved(image, path, **options):
    image.save(path, **options)
    return read_photo(path)


def colours(photo):
    """The middle of the left and of the right half."""
    width, height = photo.size
    return [photo.image.getpixel((x, height // 2)) for x in (width // 4, 3 * width // 4)]


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "tiff", "ppm"])
def test_common_formats(tmp_path, suffix):
    photo = saved(two_halves(), tmp_path / f"a.{suffix}", lossless=True)
    assert photo.size == (40, 20)
    assert colours(photo) == [RED, BLUE]
    assert photo.notes == ()
    assert photo.name == f"a.{suffix}"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = saved(two_halves(), tmp_path / "a.png", exif=exif)
    turned = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: np.rot90,
    }[orientation](np.asarray(two_halves()))
    np.testing.assert_array_equal(np.asarray(photo.image), turned)


def test_transparency_lies_on_white(tmp_path):
    image = two_halves("RGBA")
    image.putalpha(Image.new("L", image.size, 127))
    photo = saved(image, tmp_path / "a.png")
    expected = [round(c * 127 / 255 + 255 * 128 / 255) for c in RED]
    np.testing.assert_allclose(colours(photo)[0], expected, atol=1)
    assert "white" in photo.notes[0]


def test_a_transparent_palette_lies_on_white(tmp_path):
    image = two_halves().quantize(2)
    transparent = image.getpixel((0, 0))
    photo = saved(image, tmp_path / "a.png", transparency=transparent)
    assert colours(photo)[0] == (255, 255, 255)
    np.testing.assert_allclose(colours(photo)[1], BLUE, atol=1)


def test_sixteen_bits_are_scaled_not_cut(tmp_path):
    ramp = np.linspace(0, 65535, 40, dtype=np.uint16)[None].repeat(20, axis=0)
    photo = saved(Image.fromarray(ramp), tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(photo.image)[0, :, 0], np.round(ramp[0] / 257))
    assert "16 bits" in photo.notes[0]


def test_cmyk_comes_out_in_its_colours(tmp_path):
    photo = saved(two_halves("CMYK"), tmp_path / "a.jpg", quality=95)
    np.testing.assert_allclose(colours(photo), [RED, BLUE], atol=12)
    assert "CMYK" in photo.notes[0]


def test_an_embedded_profile_is_converted(tmp_path):
    """A profile with red and blue primaries exchanged: what is stored as red means blue."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exchanged = srgb.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")
    photo = saved(two_halves(), tmp_path / "a.png", icc_profile=exchanged)
    np.testing.assert_allclose(colours(photo), [RED[::-1], BLUE[::-1]], atol=2)
    assert photo.notes == ()


def test_a_broken_profile_costs_no_more_than_a_note(tmp_path):
    photo = saved(two_halves(), tmp_path / "a.png", icc_profile=b"nonsense")
    assert colours(photo) == [RED, BLUE]
    assert "profile" in photo.notes[0]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame_is_shown(tmp_path, suffix):
    second = Image.new("RGB", (40, 20), "green")
    photo = saved(
        two_halves(), tmp_path / f"a.{suffix}", save_all=True, append_images=[second], lossless=True
    )
    np.testing.assert_allclose(colours(photo), [RED, BLUE], atol=2)
    assert "first frame" in photo.notes[0]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "YCbCr"])
def test_other_modes_become_rgb(mode):
    photo = read_photo(two_halves(mode))
    assert photo.image.mode == "RGB"
    assert photo.size == (40, 20)


def test_more_than_fifty_megapixels_are_refused_before_they_are_decoded(tmp_path):
    path = tmp_path / "large.png"
    Image.new("1", (10_000, 5_001)).save(path)
    with pytest.raises(ValueError, match=r"large\.png is too large.*50 megapixels. Scale it down"):
        read_photo(path)


def test_a_decompression_bomb_is_refused_likewise(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 10_000)).save(path)
    with pytest.raises(ValueError, match="too large") as raised:
        read_photo(path)
    told = "bomb.png is too large (more than 178 megapixels); the limit is 50 megapixels. Scale it"
    assert str(raised.value).startswith(told)


BROKEN = "{} is broken or cut off: not all of it can be read. Save or download it again."


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp"])
def test_a_photo_that_is_cut_off_is_told_in_our_own_words(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ValueError, match="cut") as raised:
        read_photo(path)
    assert str(raised.value) == BROKEN.format(path.name)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif"])
@pytest.mark.parametrize("start", [12, 37, 60])
def test_a_photo_whose_bytes_became_zeros_is_broken_and_no_other_format(tmp_path, suffix, start):
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, {"jpg": "JPEG"}.get(suffix, suffix.upper()))
    content = whole.getvalue()
    zeroed = content[:start] + bytes(len(content) - start)
    with pytest.raises(ValueError, match="broken") as raised:
        read_encoded(zeroed, f"a.{suffix}")
    assert str(raised.value) == BROKEN.format(f"a.{suffix}")
    (tmp_path / f"a.{suffix}").write_bytes(zeroed)
    with pytest.raises(ValueError, match="broken") as raised:
        read_photo(tmp_path / f"a.{suffix}")
    assert str(raised.value) == BROKEN.format(f"a.{suffix}")


def test_broken_files_say_what_to_do(tmp_path):
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.jpg is not an image.*save it as JPEG or PNG"):
        read_photo(tmp_path / "text.jpg")
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, "PNG")
    (tmp_path / "cut.png").write_bytes(whole.getvalue()[:-1500])
    with pytest.raises(ValueError, match=r"cut\.png is broken or cut off"):
        read_photo(tmp_path / "cut.png")
    with pytest.raises(FileNotFoundError, match="There is no photo"):
        read_photo(tmp_path / "absent.png")


def test_arrays_are_photos_if_they_are_uint8():
    pixels = np.asarray(two_halves())
    assert colours(read_photo(pixels)) == [RED, BLUE]
    with pytest.raises(ValueError, match="uint8"):
        read_photo(pixels / 255)


def test_the_digest_names_the_pixels_not_the_file(tmp_path):
    first = saved(two_halves(), tmp_path / "a.png")
    second = saved(two_halves(), tmp_path / "b.bmp")
    assert first.digest == second.digest != read_photo(two_halves().rotate(180)).digest


def test_opaque_rgba_is_no_transparency(tmp_path):
    photo = saved(two_halves("RGBA"), tmp_path / "a.png")
    assert colours(photo) == [RED, BLUE]
    assert photo.notes == ()


def test_the_profile_of_an_rgba_photo_is_converted_too(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exchanged = srgb.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")
    photo = saved(two_halves("RGBA"), tmp_path / "a.png", icc_profile=exchanged)
    np.testing.assert_allclose(colours(photo), [RED[::-1], BLUE[::-1]], atol=2)


@pytest.mark.parametrize("suffix", ["avif", "webp", "png", "jpg", "gif", "tiff"])
def test_damaged_bytes_give_a_photo_or_a_sentence(tmp_path, suffix):
    """Whatever a decoder raises on them, it comes out as a ValueError."""
    whole = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {} if suffix == "gif" else {"exif": exif}
    two_halves().save(whole, {"jpg": "JPEG"}.get(suffix, suffix.upper()), **options)
    rng = np.random.default_rng(0)
    path = tmp_path / f"a.{suffix}"
    for _ in range(150):
        damaged = bytearray(whole.getvalue())
        for place in rng.integers(0, len(damaged), 4):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            assert read_photo(path).image.mode == "RGB"
        except ValueError as error:
            assert f"a.{suffix}" in str(error)


def test_no_photo_at_all_is_said():
    with pytest.raises(ValueError, match="There is no photo"):
        read_photo(None)
    with pytest.raises(ValueError, match="uint8"):
        read_photo(np.zeros((4, 4, 1), np.uint8))

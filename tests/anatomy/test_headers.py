"""What a header says is read as nibabel reads it; what contradicts itself is named or refused."""

from __future__ import annotations

import gzip
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from fsl.data.image import Image as FslImage
from nibabel.affines import apply_affine, from_matvec
from nibabel.eulerangles import euler2mat
from numpy.testing import assert_allclose, assert_array_equal

from colapipe.anatomy.images import check_header, image_like, load_scan, read_image, save_image
from colapipe.anatomy.maps import load_map, load_mask
from colapipe.errors import InputFileError

ZOOMS = np.diag([0.9, 0.9, 3.0])
OBLIQUE = from_matvec(euler2mat(0.2, -0.1, 0.3) @ ZOOMS, [-40, -30, -20])
SHAPE = (120, 90, 40)

# Where the fields of a NIfTI-1 header are.
DATATYPE, PIXDIM, VOX_OFFSET, SLOPE, INTERCEPT = 70, 76, 108, 112, 116
UNITS, QFORM_CODE, SFORM_CODE = 123, 252, 254


def _volume(shape: tuple[int, ...] = (12, 9, 7)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 900, shape).astype(np.int16)


def _image(
    sform: np.ndarray | None = OBLIQUE,
    qform: np.ndarray | None = OBLIQUE,
    shape: tuple[int, ...] = (12, 9, 7),
) -> nib.Nifti1Image:
    image = nib.Nifti1Image(_volume(shape), None)
    image.header.set_zooms(np.diag(ZOOMS))
    for affine, name in ((qform, "qform"), (sform, "sform")):
        if affine is not None:
            getattr(image, f"set_{name}")(affine, 1)
    return image


def _write(path: Path, image: nib.Nifti1Image, *patches: tuple[int, str, object]) -> Path:
    """Write an image after overwriting bytes of its header: (position, struct format, value)."""
    raw = bytearray(image.to_bytes())
    for position, layout, value in patches:
        struct.pack_into(layout, raw, position, value)
    path.write_bytes(gzip.compress(bytes(raw)) if path.suffix == ".gz" else bytes(raw))
    return path


def _turned(degrees: tuple[float, float, float], flip: bool = False) -> np.ndarray:
    turn = euler2mat(*np.deg2rad(degrees))
    return from_matvec(turn @ np.diag([-1.0 if flip else 1.0, 1, 1]) @ ZOOMS, [55, -47, 20])


def _sheared(degrees: float) -> np.ndarray:
    shear = np.eye(3)
    shear[0, 2] = np.tan(np.deg2rad(degrees))
    return from_matvec(euler2mat(0.2, -0.1, 0.3) @ shear @ ZOOMS, [-40, -30, -20])


def _corners(path: Path, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return where each program sees the corner that is farthest from the first voxel, RAS+ mm."""
    corner = np.array(shape) - 1.0
    itk = sitk.ReadImage(str(path)).TransformContinuousIndexToPhysicalPoint(corner.tolist())
    return {
        "nibabel": apply_affine(nib.load(path).affine, corner),
        "ITK": np.array(itk) * [-1, -1, 1],
        "FSL": apply_affine(FslImage(str(path)).getAffine("voxel", "world"), corner),
    }


@pytest.mark.parametrize(
    "affine",
    [
        np.eye(4),
        OBLIQUE,
        _turned((0, 0, 180)),
        _turned((0, 0, 179.97)),
        _turned((0.03, 0, 180)),
        _turned((180, 0.02, 0.02)),
        _turned((0.01, 179.99, 30), flip=True),
        _turned((12, -8, 179.96), flip=True),
        OBLIQUE[:, [2, 0, 1, 3]],
        _sheared(0.002),
        _sheared(0.03),
    ],
    ids=lambda _: "",
)
def test_what_is_written_lies_at_one_place_for_nibabel_itk_and_fsl(
    tmp_path: Path, affine: np.ndarray
) -> None:
    # Only the sform: a quaternion in float32 cannot hold all of these.
    scan = load_scan(_write(tmp_path / "in.nii", _image(affine, None, SHAPE)))
    for number, image in enumerate((scan, image_like(np.asarray(scan.dataobj), scan))):
        save_image(image, tmp_path / f"{number}.nii.gz")
        corners = _corners(tmp_path / f"{number}.nii.gz", SHAPE)
        for seen in corners.values():
            assert np.linalg.norm(seen - corners["nibabel"]) < 0.01, corners
        true = apply_affine(affine, np.array(SHAPE) - 1.0)
        assert np.linalg.norm(corners["nibabel"] - true) < 0.1
        written = nib.load(tmp_path / f"{number}.nii.gz")
        qform, code = written.get_qform(coded=True)
        assert code == 0 or np.abs(apply_affine(qform, np.array(SHAPE) - 1.0) - seen).max() < 0.01


@pytest.mark.parametrize("degrees", [1, 5, -20])
def test_a_sheared_affine_is_refused(tmp_path: Path, degrees: float) -> None:
    path = _write(tmp_path / "a.nii.gz", _image(_sheared(degrees), OBLIQUE, SHAPE))
    for read in (check_header, load_scan, load_map):
        with pytest.raises(InputFileError, match=r"sheared.*set sform_code to 0") as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_a_shear_of_less_than_half_a_millimetre_is_mended_and_said(tmp_path: Path) -> None:
    affine = _sheared(0.15)
    path = _write(tmp_path / "a.nii.gz", _image(affine, None, SHAPE))
    (remark,) = check_header(path).remarks
    assert "not at right angles: corners are 0.1 mm off" in remark
    mended = load_scan(path).affine
    unit = mended[:3, :3] / np.linalg.norm(mended[:3, :3], axis=0)
    assert_allclose(unit.T @ unit, np.eye(3), atol=1e-6)
    for corner in np.ndindex(2, 2, 2):
        voxel = np.array(corner) * (np.array(SHAPE) - 1)
        gone = apply_affine(mended, voxel) - apply_affine(affine, voxel)
        assert np.linalg.norm(gone) < 0.2


@pytest.mark.parametrize("flip", [False, True])
def test_a_header_without_contradiction_has_no_remark(tmp_path: Path, flip: bool) -> None:
    affine = _turned((10, 20, 30), flip)
    path = _write(tmp_path / "a.nii.gz", _image(affine, affine, SHAPE))
    assert check_header(path).remarks == ()
    assert (np.linalg.det(load_scan(path).affine[:3, :3]) < 0) == flip
    assert_allclose(load_scan(path).affine, affine, atol=1e-4)
    # A qform alone, and an sform alone.
    assert check_header(_write(tmp_path / "q.nii", _image(None, affine))).remarks == ()
    assert check_header(_write(tmp_path / "s.nii", _image(affine, None))).remarks == ()


def test_sform_and_qform_that_differ_are_named_and_the_sform_is_used(tmp_path: Path) -> None:
    qform = OBLIQUE.copy()
    qform[:3, 3] += [3, 0, 4]
    path = _write(tmp_path / "a.nii.gz", _image(OBLIQUE, qform))
    header = check_header(path)
    assert len(header.remarks) == 1
    assert "5.0 mm apart" in header.remarks[0] and "sform is used" in header.remarks[0]
    assert_allclose(header.affine, nib.load(path).affine, atol=1e-6)
    assert_allclose(load_scan(path).get_qform(), OBLIQUE, atol=1e-4)


Patch = tuple[int, str, object]


@pytest.mark.parametrize(
    ("image", "patches", "words"),
    [
        (_image(OBLIQUE, None), [(PIXDIM + 4, "<3f", (2, 2, 2))], "pixdim gives voxels of 2 x 2 x"),
        (_image(OBLIQUE, None), [(PIXDIM + 4, "<3f", (0, 0, 0))], "pixdim gives voxels of 0 x 0 x"),
        (_image(None, OBLIQUE), [(PIXDIM + 4, "<f", -0.9)], "signs are not used"),
        (_image(), [(PIXDIM + 12, "<f", np.nan)], "qform cannot be used"),
        (_image(), [(SFORM_CODE, "<h", 9)], "sform_code is 9"),
        (_image(), [(QFORM_CODE, "<h", -1)], "qform_code is -1"),
        (_image(), [(SFORM_CODE, "<h", 0), (QFORM_CODE, "<h", 0)], "which side is left"),
        (_image(), [(UNITS, "<B", 1)], "unit is metres.*taken as millimetres"),
        (_image(), [(UNITS, "<B", 3)], "unit is micrometres.*taken as millimetres"),
    ],
)
def test_what_contradicts_itself_is_named(
    tmp_path: Path, image: nib.Nifti1Image, patches: list[Patch], words: str
) -> None:
    flat = [
        (position + 4 * k, layout[0] + layout[-1], value)
        for position, layout, values in patches
        for k, value in enumerate(values if isinstance(values, tuple) else (values,))
    ]
    path = _write(tmp_path / "a.nii.gz", image, *flat)
    (remark, *others) = check_header(path).remarks
    assert not others or "pixdim" in others[0]
    assert pytest.importorskip("re").search(words, " ".join((remark, *others)))
    # Whatever is said, the scan lies where nibabel sees it.
    assert_allclose(load_scan(path).affine, nib.load(path).affine, atol=1e-5)


@pytest.mark.parametrize(("unit", "scale"), [(1, 0.001), (3, 1000.0)])
def test_metres_and_micrometres_become_millimetres(tmp_path: Path, unit: int, scale: float) -> None:
    affine = OBLIQUE.copy()
    affine[:3] *= scale
    path = _write(tmp_path / "a.nii.gz", _image(affine, affine), (UNITS, "<B", unit))
    assert_allclose(load_scan(path).affine, OBLIQUE, atol=1e-4)
    (remark,) = check_header(path).remarks
    assert "converted to millimetres" in remark


@pytest.mark.parametrize(
    ("patches", "words"),
    [
        ([(VOX_OFFSET, "<f", 100.0)], "vox_offset is 100"),
        ([(VOX_OFFSET, "<f", -16.0)], "vox_offset is -16"),
        ([(VOX_OFFSET, "<f", np.nan)], "vox_offset is nan"),
        ([(VOX_OFFSET, "<f", np.inf)], "vox_offset is inf"),
        ([(VOX_OFFSET, "<f", 4096.0)], "truncated.*from byte 4096"),
        ([(VOX_OFFSET, "<f", 3e38)], "truncated"),
        ([(SLOPE, "<f", 2.0), (INTERCEPT, "<f", np.nan)], "scl_slope 2.0, scl_inter nan"),
        ([(SLOPE, "<f", 3e36), (INTERCEPT, "<f", 0.0)], "values from 0 to 2.69"),
        ([(SFORM_CODE, "<h", 0), (PIXDIM + 4, "<f", 0.0)], "qform that cannot be used"),
        (
            [(SFORM_CODE, "<h", 0), (QFORM_CODE, "<h", 0), (PIXDIM + 4, "<f", 0.0)],
            "neither sform nor qform, and pixdim is 0 x",
        ),
        ([(280, "<f", 0.0), (296, "<f", 0.0), (312, "<f", 0.0)], "singular"),
        ([(292, "<f", 1e9)], "its first voxel at 1e"),
        ([(40, "<h", 9)], "a series|impossible dimensions|an image of shape"),
        ([(DATATYPE, "<h", 0)], "unknown voxel type"),
        ([(DATATYPE, "<h", 1)], "unknown voxel type|bits"),
    ],
)
def test_what_cannot_be_read_is_said_in_words(
    tmp_path: Path, patches: list[Patch], words: str
) -> None:
    for name in ("a.nii", "a.nii.gz"):
        path = _write(tmp_path / name, _image(), *patches)
        with pytest.raises(InputFileError, match=words) as caught:
            load_scan(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_vox_offset_0_starts_where_the_standard_says(
    tmp_path: Path, kind: type[nib.Nifti1Image], suffix: str
) -> None:
    image = kind(_volume(), OBLIQUE)
    patch = (VOX_OFFSET, "<f", 0.0) if kind is nib.Nifti1Image else (168, "<q", 0)
    path = _write(tmp_path / f"a{suffix}", image, patch)
    assert_array_equal(np.asarray(load_scan(path).dataobj), _volume())
    assert_array_equal(np.asarray(load_map(path).dataobj), _volume())
    (remark,) = check_header(path).remarks
    assert "vox_offset is 0" in remark


@pytest.mark.parametrize("offset", [352, 353, 368, 700])
def test_voxels_are_read_from_where_the_header_says(tmp_path: Path, offset: int) -> None:
    raw = bytearray(_image().to_bytes())
    struct.pack_into("<f", raw, VOX_OFFSET, offset)
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(bytes(raw[:352]) + b"\x5a" * (offset - 352) + bytes(raw[352:])))
    assert_array_equal(np.asarray(load_scan(path).dataobj), _volume())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.linspace(0, 1e39, 756), "values from 0 to 1e\\+39"),
        (np.linspace(-4e38, 0, 756), "values from -4e\\+38 to 0"),
        (np.linspace(0, 1e30, 756).astype(np.float32), "values from 0 to 1e\\+30"),
        (np.linspace(0, 1e-60, 756), "values from 0 to 1e-60"),
        (np.arange(756, dtype=np.int64) + 2**38, "too close together"),
        (np.arange(756, dtype=np.uint64) + 2**63, r"values from 9.22337e\+18"),
        (np.linspace(1e10, 1e10 + 900, 756), "too close together"),
    ],
)
def test_a_range_that_float32_cannot_hold_is_named(
    tmp_path: Path, values: np.ndarray, words: str
) -> None:
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(values.reshape(12, 9, 7), OBLIQUE, dtype=values.dtype), path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputFileError, match=words):
            load_scan(path)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.uint32, np.float64])
@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.5, -1.5e9)])
def test_wide_numbers_are_scaled_in_double_precision(
    tmp_path: Path, dtype: type, slope: float, intercept: float
) -> None:
    values = _volume().astype(dtype) * dtype(1000) + dtype(3_000_000_000)
    path = _write(
        tmp_path / "a.nii",
        nib.Nifti1Image(values, OBLIQUE, dtype=dtype),
        (SLOPE, "<f", slope),
        (INTERCEPT, "<f", intercept),
    )
    expected = values.astype(np.float64) * slope + intercept
    assert_allclose(np.asarray(load_scan(path).dataobj), expected, rtol=6e-8)


def _spoilt(rng: np.random.Generator, kinds: list[bytes]) -> tuple[str, bytes]:
    """Return a file with a few bytes of its header at random."""
    raw = bytearray(kinds[rng.integers(len(kinds))])
    for _ in range(rng.integers(1, 4)):
        position, width = int(rng.integers(0, 560)), int(rng.integers(1, 5))
        raw[position : position + width] = rng.integers(0, 256, width, dtype=np.uint8).tobytes()
    if rng.random() < 0.1:
        raw = raw[: rng.integers(len(raw))]
    if rng.random() < 0.7:
        return "a.nii", bytes(raw)
    packed = bytearray(gzip.compress(bytes(raw), 1))
    if rng.random() < 0.3:
        packed[rng.integers(len(packed))] ^= 16
    return "a.nii.gz", bytes(packed)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.filterwarnings("error")
def test_no_header_ends_in_anything_but_words_or_what_nibabel_reads(
    tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    kinds = [
        kind(_volume().astype(dtype), OBLIQUE).to_bytes()
        for kind in (nib.Nifti1Image, nib.Nifti2Image)
        for dtype in (np.uint8, np.int16, np.float32, np.float64)
    ]
    kinds.append(nib.Nifti1Image(_volume(), OBLIQUE, nib.Nifti1Header(endianness=">")).to_bytes())
    readers: list[Callable[[Path], object]] = [check_header, load_scan, load_map, load_mask]
    refused = compared = 0
    for _ in range(150):
        name, content = _spoilt(rng, kinds)
        path = tmp_path / name
        path.write_bytes(content)
        for read in readers:
            try:
                read(path)
            except InputFileError as error:
                assert str(path) in str(error)
                refused += 1
        try:
            image, remarks = read_image(path)
        except InputFileError:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                theirs = nib.squeeze_image(nib.load(path))
                voxels = np.asarray(theirs.dataobj, dtype=np.float64)
            except Exception:
                continue
        if any("vox_offset is 0" in remark for remark in remarks):
            continue
        assert_allclose(np.asarray(image.dataobj), voxels, rtol=1e-6, atol=1e-37)
        if not remarks:
            assert_allclose(image.affine, theirs.affine, atol=0.1)
        compared += 1
    assert refused > 50 and compared > 50

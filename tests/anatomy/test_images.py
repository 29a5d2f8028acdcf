"""A scan that can be read is read exactly; one that cannot says what is wrong with it."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from colapipe.anatomy.images import check_header, image_like, load_scan, same_grid, save_image
from colapipe.errors import InputFileError, ReadWriteError

OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.2, -0.1, 0.3) @ np.diag([0.9, 0.9, 3.0]), [-40, -30, -20]
)


def _write(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
    return path


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 900, (12, 9, 7)).astype(np.int16)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", ["LPS", "PSR", "RAS", "LAS"])
def test_voxels_and_orientation_are_kept(
    tmp_path: Path, volume: np.ndarray, suffix: str, order: str
) -> None:
    affine = OBLIQUE @ nib.orientations.inv_ornt_aff(
        nib.orientations.axcodes2ornt(order), volume.shape
    )
    image = load_scan(_write(tmp_path / f"a{suffix}", volume, affine))
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(image.dataobj), volume)
    np.testing.assert_allclose(image.affine, affine, atol=1e-5)
    np.testing.assert_allclose(image.get_qform(), affine, atol=1e-4)


def test_slope_and_intercept_are_applied(tmp_path: Path, volume: np.ndarray) -> None:
    image = nib.Nifti1Image(volume, np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    raw = bytearray(image.to_bytes())
    raw[112:120] = np.array([0.5, -3], dtype="<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(raw)
    expected = volume * 0.5 - 3
    np.testing.assert_allclose(np.asarray(load_scan(tmp_path / "a.nii").dataobj), expected)


def test_nifti2_and_big_endian_are_read(tmp_path: Path, volume: np.ndarray) -> None:
    nib.save(nib.Nifti2Image(volume, OBLIQUE), tmp_path / "two.nii.gz")
    nib.save(
        nib.Nifti1Image(volume, OBLIQUE, nib.Nifti1Header(endianness=">")), tmp_path / "big.nii"
    )
    for name in ("two.nii.gz", "big.nii"):
        np.testing.assert_array_equal(np.asarray(load_scan(tmp_path / name).dataobj), volume)


def test_a_fourth_axis_of_one_volume_is_dropped(tmp_path: Path, volume: np.ndarray) -> None:
    assert load_scan(_write(tmp_path / "a.nii", volume[..., None])).shape == volume.shape


def _truncated_gz(path: Path, volume: np.ndarray) -> None:
    _write(path, volume)
    path.write_bytes(path.read_bytes()[:700])


def _corrupt_gz(path: Path, volume: np.ndarray) -> None:
    _write(path, volume)
    raw = bytearray(path.read_bytes())
    raw[400:440] = bytes(40)
    path.write_bytes(raw)


def _too_few_voxels(path: Path, volume: np.ndarray) -> None:
    whole = nib.Nifti1Image(volume, np.eye(4)).to_bytes()
    path.write_bytes(gzip.compress(whole[:-50]))


def _with_nan(path: Path, volume: np.ndarray) -> None:
    data = volume.astype(np.float32)
    data[0, 0, :2] = np.nan, np.inf
    _write(path, data)


def _singular(path: Path, volume: np.ndarray) -> None:
    affine = np.eye(4)
    affine[:3, 1] = affine[:3, 0]
    _write_sform(path, volume, affine)


def _nan_affine(path: Path, volume: np.ndarray) -> None:
    _write_sform(path, volume, np.full((4, 4), np.nan))


def _write_sform(path: Path, volume: np.ndarray, affine: np.ndarray) -> None:
    image = nib.Nifti1Image(volume, np.eye(4))
    raw = bytearray(image.to_bytes())
    raw[280:328] = affine[:3].astype("<f4").tobytes()
    path.write_bytes(gzip.compress(bytes(raw)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_truncated_gz, "truncated"),
        (_corrupt_gz, "corrupt"),
        (_too_few_voxels, "truncated"),
        (_with_nan, "2 of 756 voxels are NaN or infinite"),
        (lambda p, v: _write(p, v * 0), "every voxel is zero"),
        (lambda p, v: _write(p, v * 0 + 7), "same value, 7"),
        (lambda p, v: _write(p, np.stack([v] * 30, -1)), "series of 30 volumes"),
        (lambda p, v: _write(p, v[..., 0]), "shape 12 x 9"),
        (lambda p, v: _write(p, v.astype(np.complex64)), "complex"),
        (lambda p, v: _write(p, np.zeros(v.shape, dtype=[(c, "u1") for c in "RGB"])), "RGB"),
        (_singular, "singular"),
        (_nan_affine, "NaN"),
        (lambda p, v: _write(p, v, np.diag([100, 1, 1, 1])), "100 x 1 x 1 mm"),
        (lambda p, v: p.write_bytes(b""), "empty"),
        (lambda p, v: p.write_bytes(b"hello" * 200), "not a gzip file"),
        (lambda p, v: p.write_bytes(gzip.compress(b"hello" * 200)), "not a NIfTI file"),
        (lambda p, v: p.write_bytes(gzip.compress(b"hello")), "only 5 bytes"),
        (lambda p, v: p.mkdir(), "not a regular file"),
        (lambda p, v: p.symlink_to("gone.nii.gz"), "datalad get"),
        (lambda p, v: None, "no such file"),
    ],
)
def test_a_bad_scan_says_what_is_wrong(
    tmp_path: Path, volume: np.ndarray, make: object, words: str
) -> None:
    path = tmp_path / "sub-01_T1w.nii.gz"
    make(path, volume)  # type: ignore[operator]
    with pytest.raises(InputFileError) as caught:
        load_scan(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_truncated_plain_file_is_found_by_its_header_alone(
    tmp_path: Path, volume: np.ndarray
) -> None:
    path = _write(tmp_path / "a.nii", volume)
    path.write_bytes(path.read_bytes()[:-100])
    for read in (check_header, load_scan):
        with pytest.raises(InputFileError, match="truncated"):
            read(path)


def test_a_pointer_of_git_lfs_is_called_so(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(InputFileError, match="git-lfs"):
        check_header(path)


def test_a_scan_without_permission_says_so(
    tmp_path: Path, volume: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path / "a.nii.gz", volume)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Not by chmod: root may read everything.
    monkeypatch.setattr(gzip, "open", refuse)
    with pytest.raises(InputFileError, match="no permission"):
        load_scan(path)


def test_the_header_tells_the_grid_without_the_voxels(tmp_path: Path, volume: np.ndarray) -> None:
    header = check_header(_write(tmp_path / "a.nii.gz", volume, OBLIQUE))
    assert header.shape == volume.shape
    assert header.dtype == np.int16
    np.testing.assert_allclose(header.zooms, [0.9, 0.9, 3], atol=1e-5)
    np.testing.assert_allclose(header.affine, OBLIQUE, atol=1e-5)


def test_same_grid_looks_at_shape_and_place(volume: np.ndarray) -> None:
    image = nib.Nifti1Image(volume, OBLIQUE)
    moved = OBLIQUE.copy()
    moved[0, 3] += 0.5
    assert same_grid(image, (volume.shape, OBLIQUE.astype(np.float32)))
    assert not same_grid(image, (volume.shape, moved))
    assert not same_grid(image, ((12, 9, 8), OBLIQUE))
    assert not same_grid(image, (volume.shape, OBLIQUE[:, [1, 0, 2, 3]]))


def test_saving_twice_gives_the_same_bytes_and_nothing_else(
    tmp_path: Path, volume: np.ndarray
) -> None:
    image = image_like(volume.astype(np.float32), nib.Nifti1Image(volume, OBLIQUE))
    for name in ("a.nii.gz", "b.nii.gz"):
        save_image(image, tmp_path / name)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz"]
    back = load_scan(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(np.asarray(back.dataobj), volume)
    assert same_grid(back, image)


def test_a_failed_write_leaves_the_old_file_and_no_rest(
    tmp_path: Path, volume: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = nib.Nifti1Image(volume, OBLIQUE)
    save_image(image, tmp_path / "a.nii.gz")
    before = (tmp_path / "a.nii.gz").read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gzip.GzipFile, "write", full_disk)
    with pytest.raises(ReadWriteError, match="No space left"):
        save_image(image, tmp_path / "a.nii.gz")
    monkeypatch.undo()
    assert (tmp_path / "a.nii.gz").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]


def test_writing_where_there_is_no_folder_says_so(tmp_path: Path, volume: np.ndarray) -> None:
    with pytest.raises(ReadWriteError, match="cannot be written"):
        save_image(nib.Nifti1Image(volume, OBLIQUE), tmp_path / "gone" / "a.nii.gz")

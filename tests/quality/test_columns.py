"""The dictionaries of columns say what the code does."""

from __future__ import annotations

from colapipe import export
from colapipe.quality.columns import (
    BOOLEAN_COLUMNS,
    COLUMNS,
    COUNT_COLUMNS,
    REGIONS,
    TEXT_COLUMNS,
)
from colapipe.quality.scores import SCORE_COLUMNS
from colapipe.quality.selfcheck import SLICES
from colapipe.quality.selfcheck_table import SELFCHECK_COLUMNS
from colapipe.slices.intensity import PERCENTILES


def test_every_column_is_described() -> None:
    for columns in (COLUMNS, SCORE_COLUMNS, SELFCHECK_COLUMNS, export.COLUMNS):
        for name, about in columns.items():
            assert about["Description"].endswith("."), name
    assert {*TEXT_COLUMNS, *BOOLEAN_COLUMNS, *COUNT_COLUMNS} <= set(COLUMNS)


def test_the_texts_name_the_numbers_of_the_code() -> None:
    ends = f"percentiles {PERCENTILES[0]:g} and {PERCENTILES[1]:g}"
    for name in ("clipped_low", "clipped_high"):
        assert ends in COLUMNS[name]["Description"]
    assert f"on {SLICES} axial slices" in SELFCHECK_COLUMNS["contrast"]["Description"]
    shape = " x ".join(map(str, export.SHAPE))
    for name in ("brats_file", "nnunet_file"):
        assert shape in export.COLUMNS[name]["Description"]


def test_regions_have_their_columns() -> None:
    for region, words in REGIONS.items():
        assert words in COLUMNS[f"interval_{region}"]["LongName"]
        assert f"sd_{region}" in COLUMNS

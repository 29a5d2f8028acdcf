"""Tables: the right means in the right cells, differences, and the paper's figures kept apart."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from colapipe.evaluation import paper
from colapipe.evaluation.bootstrap import bootstrap_difference, bootstrap_mean
from colapipe.evaluation.cases import Task
from colapipe.evaluation.tables import (
    METRICS,
    Scores,
    Table,
    cost_table,
    difference_tables,
    differences,
    for_metadata,
    long_tsv,
    metric_tables,
    paper_sources_table,
    paper_tables,
    region_tables,
    summary,
)

T2W = Task("T2w", ("T1w", "T1ce", "FLAIR"))
T1W = Task("T1w", ("T2w", "T1ce", "FLAIR"))
BASE = {"a": 18.0, "b": 20.0, "c": 25.0}


def row(model: str, task: Task, participant: str, psnr: float, **more: Any) -> dict[str, Any]:
    figures = {name + kind: 0.5 for name in METRICS for kind in ("", "_fitted")}
    return {
        "participant_id": f"sub-{participant}",
        "session_id": "n/a",
        "model": model,
        "target": task.target,
        "sources": task.joined,
        "region": "brain",
        "slices": 10,
        **figures,
        "psnr": psnr,
        "psnr_fitted": psnr + 2,
        "psnr_paper": psnr + 5,
        "ssim_paper": 0.9,
        "psnr_paper_sd": 1.0,
        "ssim_paper_sd": 0.01,
        "seconds_per_80": 12.0,
        "cpu_seconds_per_80": 20.0,
        "peak_memory": 10**9,
        **more,
    }


@pytest.fixture
def scores() -> Scores:
    """Return two models on three participants: ``new`` is better by 1 dB, on T2w alone."""
    rows = [row("old", task, name, psnr) for task in (T2W, T1W) for name, psnr in BASE.items()]
    rows += [row("new", T2W, name, psnr + 1) for name, psnr in BASE.items()]
    return Scores(rows, first=["new", "absent"])


def cells(table: Table) -> dict[str, dict[str, str]]:
    """Return a table as model to heading to cell."""
    return {line[0]: dict(zip(table.header[1:], line[1:], strict=True)) for line in table.rows}


def test_a_cell_holds_own_and_fitted_with_their_intervals(scores: Scores) -> None:
    (table,) = metric_tables(scores, "psnr")
    found = cells(table)
    assert list(found) == ["new", "old"]
    own = bootstrap_mean([19.0, 21.0, 26.0])
    heading = "T2w from T1w+T1ce+FLAIR (n=3)"
    expected = f"22.00 [{own.low:.2f}, {own.high:.2f}] / 24.00 [{own.low + 2:.2f}, "
    assert found["new"][heading].startswith(expected)
    assert found["new"]["T1w from T2w+T1ce+FLAIR (n=3)"] == "-"


def test_sessions_of_a_participant_are_averaged_first() -> None:
    rows = [
        row("m", T2W, "a", 10.0, session_id="ses-1"),
        row("m", T2W, "a", 20.0, session_id="ses-2"),
        row("m", T2W, "b", 30.0),
        row("m", T2W, "c", math.nan),
    ]
    found = Scores(rows)
    assert found.values("m", T2W, "psnr") == {"sub-a": 15.0, "sub-b": 30.0}
    assert found.interval("m", T2W, "psnr").mean == 22.5


def test_a_model_that_was_scored_on_fewer_people_says_so(scores: Scores) -> None:
    rows = [row("new", T2W, "a", 19.0), *(row("old", T2W, n, p) for n, p in BASE.items())]
    (table,) = metric_tables(Scores(rows), "psnr")
    (cell,) = cells(table)["new"].values()
    assert cell == "19.00 / 21.00 (n=1)"


def test_differences_are_paired(scores: Scores) -> None:
    (table,) = difference_tables(scores, "old")
    (line,) = table.rows
    expected = bootstrap_difference({n: p + 1 for n, p in BASE.items()}, BASE)
    assert expected.low == pytest.approx(1) and expected.high == pytest.approx(1)
    one = "+1.00 [+1.00, +1.00], p=0.25"
    assert line == ("new", f"{one} / {one}", "-")
    (found,) = (
        entry
        for entry in differences(scores, "old")
        if entry["metric"] == "psnr" and entry["target"] == "T2w"
    )
    assert found["mean"] == pytest.approx(1) and found["p_wilcoxon"] == 0.25
    assert difference_tables(scores, "nobody") == []


def test_images_without_error_are_inf_in_every_table() -> None:
    perfect = {"psnr": math.inf, "psnr_fitted": math.inf, "psnr_paper": math.inf}
    tasks = [T2W, Task("T2w", ("T1w",)), Task("T2w", ("T1w", "T1ce"))]
    rows = [row("old", task, name, psnr) for task in tasks for name, psnr in BASE.items()]
    rows += [
        # As a file of scores has it: slices without error have no spread.
        row("same", task, name, **{**perfect, "ssim_paper": 1.0, "psnr_paper_sd": math.nan})
        for task in tasks
        for name in BASE
    ]
    scores = Scores(rows)
    of_metric, of_task = cells(metric_tables(scores, "psnr")[0]), cells(region_tables(scores)[0])
    assert set(of_metric["same"].values()) == {"inf / inf"}
    assert of_task["same"] == {"brain (n=3)": "inf / inf"}
    (table,) = difference_tables(scores, "old")
    assert set(cells(table)["same"].values()) == {"+inf / +inf"}
    (table,) = difference_tables(scores, "same")
    assert set(cells(table)["old"].values()) == {"-inf / -inf"}
    assert cells(paper_tables(scores)[0])["same (here)"]["T2w PSNR"] == "inf"
    more = paper_sources_table(scores)
    assert more is not None and (more.rows[-1][2], more.rows[-1][4]) == ("inf", "inf / inf")
    long = long_tsv(summary(scores)) + long_tsv(differences(scores, "old"))
    lines = [line.split("\t") for line in long.splitlines() if line.startswith("same")]
    assert {tuple(line[5:8]) for line in lines if line[4] == "psnr"} == {("inf", "n/a", "n/a")}
    text = json.dumps(for_metadata(scores, "same"), allow_nan=False)
    assert json.loads(text)[0]["psnr"] == [None, None, None]
    everything = [of_metric, of_task, table, more, long]
    assert "nan" not in str(everything)


def test_tasks_that_share_their_contrasts_stand_side_by_side() -> None:
    tasks = [
        T2W,
        T1W,
        Task("T2w", ("T1w",)),
        Task("T2w", ("T1w", "T1ce")),
        Task("PDw", ("T1w", "T2w")),
        Task("T1w", ("PDw", "T2w")),
    ]
    found = Scores([row("m", task, "a", 20.0) for task in tasks]).groups()
    assert found == [[T2W, T1W], tasks[4:], tasks[2:4]]


def test_regions_have_their_own_participants(scores: Scores) -> None:
    rows = [row("m", T2W, name, psnr) for name, psnr in BASE.items()]
    rows.append(row("m", T2W, "a", 12.5, region="lesion"))
    (table,) = region_tables(Scores(rows))
    assert table.header == ("Model", "brain (n=3)", "lesion (n=1)")
    assert table.rows == [("m", "21.00 / 23.00", "12.50 / 14.50")]


def test_cost_is_the_median_time_and_the_largest_memory() -> None:
    seconds = {"a": 1.0, "b": 2.0, "c": 90.0}
    rows = [
        row("m", T2W, name, 20.0, seconds_per_80=value, peak_memory=int(value * 1e8))
        for name, value in seconds.items()
    ]
    assert cost_table(Scores(rows)).rows == [("m", "2.0", "20.0", "9.00")]


def test_our_rows_stand_below_those_of_table_1_with_a_warning(scores: Scores) -> None:
    (table,) = paper_tables(scores)
    assert table.header == ("Model", "T1w PSNR", "T1w SSIM %", "T2w PSNR", "T2w SSIM %")
    found = cells(table)
    assert found["CoLa-Diff (paper)"]["T2w PSNR"] == "28.33 ± 2.27"
    assert found["MM-GAN (paper)"]["T2w SSIM %"] == "90.58 ± 1.39"
    means = np.array([24.0, 26.0, 31.0])
    over_slices = math.sqrt(1 + means.var())
    expected = f"27.00 ± {means.std(ddof=1):.2f} ({over_slices:.2f})"
    assert found["new (here)"]["T2w PSNR"] == expected
    assert found["new (here)"]["T2w SSIM %"] == "90.00 ± 0.00 (1.00)"
    assert found["new (here)"]["T1w PSNR"] == "-"
    text = table.markdown()
    assert "not comparable" in text and "pp. 398-408" in text
    assert "others of T1w, T2w, T1ce, FLAIR" in text


def test_the_tasks_of_ixi_are_a_table_of_their_own(scores: Scores) -> None:
    rows = [row("m", task, "a", 20.0) for task in (T2W, Task("PDw", ("T1w", "T2w")))]
    brats, ixi = paper_tables(Scores(rows))
    assert cells(ixi)["LDM (paper)"] == {"PDw PSNR": "27.36 ± 2.48", "PDw SSIM %": "91.52 ± 2.39"}
    assert "IXI" in ixi.title and "BraTS" in brats.title
    assert paper_tables(Scores([row("m", Task("T2w", ("T1w",)), "a", 20.0)])) == []


def test_more_sources_stand_below_table_2() -> None:
    tasks = [Task("T2w", sources) for sources in (("T1w",), ("T1w", "T1ce"))]
    rows = [row("m", task, n, p) for task in tasks for n, p in BASE.items()]
    table = paper_sources_table(Scores(rows))
    assert table is not None
    assert [line[:2] for line in table.rows[-2:]] == [
        ("m (here)", "T2w from T1w"),
        ("m (here)", "T2w from T1w+T1ce"),
    ]
    assert table.rows[2][2:4] == ("28.31", "93.70")
    assert "not comparable" in table.note
    assert paper_sources_table(Scores(rows[:3])) is None


def test_the_paper_is_quoted_whole() -> None:
    assert len(paper.TABLE_1) == 5 * (4 + 3)
    best = [cell for cell in paper.TABLE_1 if cell.model == "CoLa-Diff"]
    for cell in best:
        rivals = [
            other
            for other in paper.TABLE_1
            if (other.dataset, other.target) == (cell.dataset, cell.target) and other != cell
        ]
        assert len(rivals) == 4
        assert all(cell.psnr > other.psnr and cell.ssim > other.ssim for other in rivals)
    drops = [28.3346 - cell.psnr for cell in paper.TABLE_2_ABLATION]
    assert drops == pytest.approx([1.2272, 0.5804, 1.9450, 0.3593], abs=1e-4)


def test_long_tables_hold_every_figure(scores: Scores) -> None:
    rows = summary(scores)
    assert len(rows) == 3 * len(METRICS) * 2
    lines = [line.split("\t") for line in long_tsv(rows).splitlines()]
    assert lines[0][:5] == ["model", "target", "sources", "region", "metric"]
    assert lines[1][:5] == ["new", "T2w", "T1w+T1ce+FLAIR", "brain", "psnr"]
    assert float(lines[1][5]) == 22.0 and lines[1][-1] == "3"
    assert long_tsv([]) == ""


def test_a_checkpoint_can_carry_its_scores(scores: Scores) -> None:
    (entry,) = for_metadata(scores, "new")
    assert json.loads(json.dumps(entry)) == entry
    assert (entry["target"], entry["sources"]) == ("T2w", ["T1w", "T1ce", "FLAIR"])
    assert entry["participants"] == 3 and entry["psnr"][0] == 22.0
    single = Scores([row("m", T2W, "a", 20.0)])
    assert for_metadata(single, "m")[0]["psnr"] == [20.0, None, None]


def test_markdown_and_tsv_have_the_same_cells() -> None:
    table = Table("Title", ("a", "b"), [("1", "2 | 3")], "note")
    assert table.markdown() == "## Title\n\n| a | b |\n|---|---|\n| 1 | 2 \\| 3 |\n\nnote\n"
    assert table.tsv() == "a\tb\n1\t2 | 3\n"

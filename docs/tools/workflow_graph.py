"""The figure of the workflow, drawn from the graph that Nipype would run.

mkdocs calls :func:`on_page_markdown` for each page (``hooks`` in ``mkdocs.yml``), so that
the figure is always that of the code. To look at it alone:

    python docs/tools/workflow_graph.py > graph.svg
"""

from __future__ import annotations

import re
import tempfile
from html import escape
from pathlib import Path
from typing import Any

import networkx as nx

MARKER = "<!-- the workflow -->"
CONTRASTS, TARGET = ("T1w", "T2w", "FLAIR"), "T2w"
STAGES = (
    # Pattern of a node's name, title of the box it is in. The first that fits counts.
    (rf"slices_\w+_wf\.crop_{TARGET}$", f"Slices of the real {TARGET}"),
    (r"scan_(\w+)_wf\.", r"Scan \1"),
    (r"align_(\w+)_to_(\w+)_wf\.", r"\1 to \2"),
    (r"(?:tissue|label)_(\w+)_in_(\w+)$", r"Tissue from \1"),
    (r"slices_\w+_wf\.", "Slices for the model"),
    (r"synth_(\w+)_wf\.(?:sources|synthesise)$", r"Synthesis of \1"),
    (r"synth_\w+_wf\.paste_back$", "Back to the grid"),
    (r"(?:synth_\w+_wf\.score|scores_in_\w+)$", "Scores"),
    (r"(?:save_)?selfcheck_\w+$", "Self-check"),
    (r"(?:files_in_\w+|written_in_\w+|save_quality_in_\w+)$", "Quality numbers"),
    (r"save_\w+$", "Files"),
    (r"sub_1_(?:outputs|report)$", "Report"),
)
WORDS = {
    "load_scan": "read and check",
    "brain_mask_builtin": "brain mask",
    "choose_brain_mask": "choose the mask",
    "correct_bias": "bias field",
    "tissue_builtin": "tissue classes",
    "register_builtin": "rigid registration",
    "check_transform": "check of the transform",
    "to_reference": "resampling",
    "tissue": "to the reference grid",
    "label": "labels",
    "plan_slices": "1 mm grid, crop, slices",
    "crop": "resample, crop, normalise",
    "synthesise": "CoLa-Diff, a process of its own",
    "paste_back": "resampling, pasting",
    "score": "PSNR, SSIM, MAE, NMSE",
    "selfcheck_sources": "each source from the others",
    "selfcheck_judge": "comparison, light",
    "save_quality": "fit, volumes, uncertainty, warnings",
    "report": "figures, page",
    "save_tissue": "NIfTI, JSON, TSV",
}
"""What a step does, in words, by the start of its name; steps without words are not listed."""

COLUMNS = (
    # Of three, the column in which a box whose title begins so is drawn; else below its arrows.
    (("Scan T1w", "Tissue from T1w", "Slices for", "Synthesis", "Back"), 0),
    (("Scan T2w", "T2w to", "Slices of", "Scores", "Files", "Quality", "Report"), 1),
    (("Scan FLAIR", "FLAIR to", "Tissue from FLAIR", "Self-check"), 2),
)
WIDTH, BOX, LINE, ROW_GAP = 760, 196, 17, 44


def on_page_markdown(markdown: str, **ignored: Any) -> str:
    """Put the figure where a page has the marker."""
    return (
        markdown.replace(MARKER, draw(contracted(full_graph()))) if MARKER in markdown else markdown
    )


def full_graph() -> nx.DiGraph:
    """Return the names of all nodes of a session with T1w, T2w and FLAIR that evaluates T2w."""
    from colapipe.bids.derivatives import Found
    from colapipe.bids.reader import Scan
    from colapipe.config import Settings
    from colapipe.plan.sessions import SessionPlan
    from colapipe.plan.targets import Request, choose_targets, plan_spaces
    from colapipe.run.model import ModelInfo
    from colapipe.workflows.base import init_colapipe_wf
    from colapipe.workflows.cache import prepare_graph
    from colapipe.workflows.engines import load_engine
    from colapipe.workflows.session import Run

    with tempfile.TemporaryDirectory() as name:
        folder, scans = Path(name), {}
        for contrast in CONTRASTS:
            path = folder / f"{contrast}.nii.gz"
            path.touch()
            scans[contrast] = Scan(path, path.name, contrast, "1", None)
        targets, *_ = choose_targets(CONTRASTS, (), Request(evaluate=True, targets=(TARGET,)))
        spaces = plan_spaces(CONTRASTS, targets)
        plan = SessionPlan("1", None, scans, spaces, derivatives=Found())
        run = Run(
            settings=Settings(folder, folder / "out", evaluate=True),
            engine=load_engine("builtin"),
            engine_version="1",
            model=ModelInfo(folder / "m", "m", "0" * 64, CONTRASTS, 1, 4, 1, "", {}),
            threads=1,
            use_gpu=False,
            described={"1": {}},
        )
        graph = prepare_graph(init_colapipe_wf([plan], run, folder))
    short = re.compile(r"^colapipe\.(?:sub_1_wf\.)?")
    return nx.relabel_nodes(graph, {node: short.sub("", node.fullname) for node in graph})


def stage_of(name: str) -> str:
    """Return the title of the box that a node is in; its own name if there is no box for it."""
    for pattern, title in STAGES:
        if match := re.match(pattern, name):
            return match.expand(title)
    return name


def contracted(graph: nx.DiGraph) -> nx.DiGraph:
    """Put nodes into boxes; leave out arrows that others imply. Boxes know their ``steps``."""
    boxes = nx.DiGraph()
    for name in nx.lexicographical_topological_sort(graph):
        box = stage_of(name)
        boxes.add_node(box)
        steps = boxes.nodes[box].setdefault("steps", [])
        last = name.rpartition(".")[2].removeprefix("sub_1_")
        words = next((WORDS[start] for start in WORDS if last.startswith(start)), None)
        if words and words not in steps:
            steps.append(words)
    for start, end in graph.edges:
        if stage_of(start) != stage_of(end):
            boxes.add_edge(stage_of(start), stage_of(end))
    reduced = nx.transitive_reduction(boxes)
    reduced.add_nodes_from(boxes.nodes(data=True))
    return reduced


def draw(boxes: nx.DiGraph) -> str:
    """Return the boxes as one SVG element, a row for each generation, from top to bottom."""
    place: dict[str, tuple[float, float, float]] = {}
    top = 4.0
    for generation in nx.topological_generations(boxes):
        row = sorted(generation)
        tall = max(len(boxes.nodes[box]["steps"]) for box in row) * LINE + 30
        free = {0, 1, 2}
        for box in row:
            column = min(free, key=lambda one: (abs(one - _column(box)), one), default=1)
            free.discard(column)
            height = len(boxes.nodes[box]["steps"]) * LINE + 30
            place[box] = (WIDTH / 3 * (column + 0.5), top, height)
        top += tall + ROW_GAP
    height = top - ROW_GAP + 4
    parts = [
        '<div class="wide"><svg xmlns="http://www.w3.org/2000/svg" role="img" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" font-family="Lato, sans-serif" font-size="13">',
        f"<title>{escape(_in_words(boxes))}</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#5a6b7b"/></marker></defs>',
    ]
    for start, end in sorted(boxes.edges):
        (x0, y0, tall), (x1, y1, _) = place[start], place[end]
        y0 += tall
        # Down its own column first, so that no arrow crosses a box.
        turn = max(y0, y1 - ROW_GAP)
        middle = (turn + y1) / 2
        path = f"M{x0:.0f} {y0:.0f}V{turn:.0f}C{x0:.0f} {middle:.0f}"
        path += f" {x1:.0f} {middle:.0f} {x1:.0f} {y1 - 2:.0f}"
        parts.append(f'<path d="{path}" fill="none" stroke="#5a6b7b" marker-end="url(#tip)"/>')
    for box, (x, y, tall) in place.items():
        left = x - BOX / 2
        truth = "real" in box or box == f"Scan {TARGET}" or box.startswith(f"{TARGET} to")
        colour = "#fdf3e3" if truth else "#e8f4f0" if "ynthesis" in box else "#f3f5f7"
        parts.append(
            f'<rect x="{left:.0f}" y="{y:.0f}" width="{BOX}" height="{tall:.0f}" rx="5" '
            f'fill="{colour}" stroke="#9aa8b5"/>'
        )
        parts.append(
            f'<text x="{x:.0f}" y="{y + 19:.0f}" text-anchor="middle" font-weight="bold" '
            f'fill="#1d2a36">{escape(box)}</text>'
        )
        for number, words in enumerate(boxes.nodes[box]["steps"]):
            parts.append(
                f'<text x="{x:.0f}" y="{y + 36 + LINE * number:.0f}" text-anchor="middle" '
                f'font-size="11.5" fill="#3d4c5a">{escape(words)}</text>'
            )
    return "".join([*parts, "</svg></div>"])


def _column(box: str) -> int:
    """Return the column that a box belongs in."""
    return next((column for starts, column in COLUMNS if box.startswith(starts)), 1)


def _in_words(boxes: nx.DiGraph) -> str:
    return "Workflow: " + "; ".join(f"{start} leads to {end}" for start, end in boxes.edges)


if __name__ == "__main__":
    print(draw(contracted(full_graph())))

"""The scripts of a dry run, submitted by hand as the guide says (manual: docs/cluster.md)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).resolve().parents[2]


def test_the_lines_of_the_guide_submit_all_stages(app, simulated, quick, cluster, tmp_path):
    guide = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```bash\n(cd /data/.*?sbatch .*?)```", guide, re.DOTALL)
    yaml, out = tmp_path / "cluster.yaml", tmp_path / "out"
    where = f"partition: {cluster.partition}\n" if cluster.partition else ""
    yaml.write_text(f"{where}cpus: 2\nmem: 4G\ntime: 15\nsynth: {{gres: null}}\ngroup: true\n")
    who = ("--participant-label", "02")
    result = app(
        simulated, out, *quick, *who, "-w", tmp_path / "work", "--slurm", yaml, "--slurm-dry-run"
    )
    assert result.code == 0, result.text
    (folder,) = (out / "logs" / "slurm").iterdir()
    lines = re.sub(r"^cd .*", f"cd {folder}", block)
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", lines], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    cluster.wait()
    logs = "\n".join(path.read_text() for path in sorted(folder.glob("logs/*")))
    assert (folder / "exit" / "synth_02").read_text().strip() == "0", logs
    assert list(out.glob("sub-02/anat/*_desc-synth_T2w.nii.gz")), logs

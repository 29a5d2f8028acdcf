#!/usr/bin/env bash
# Run the simulated dataset through the image with Apptainer, by the lines of the manual: docs/containers.md.
# Needs Docker with the image colapipe:VERSION, and Apptainer; it is not one of the tests, since
# neither pip nor Debian has Apptainer.
set -euo pipefail

for program in docker apptainer; do
    command -v "$program" >/dev/null || { echo "apptainer.sh: there is no $program here." >&2; exit 2; }
done
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch"/data/derivatives/colapipe "$scratch"/work
docker run --rm --user "$(id -u):$(id -g)" -v "$scratch/data:/here" --entrypoint colapipe-demo \
    colapipe:0.1.0 /here/bids

# The blocks of the section "Apptainer", one after the other, in folders of ours. They end with
# colapipe.sif being run; the lines that let SLURM's variables through come last in the manual and
# first here.
blocks=$(python3 - "$repository/docs/containers.md" "$scratch" <<'PYTHON'
import re, sys
page, scratch = sys.argv[1:]
section = open(page, encoding="utf-8").read().split("\n## Apptainer\n")[1].split("\n## ")[0]
blocks = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
blocks.sort(key=lambda block: not block.startswith("for name"))
text = "".join(blocks).replace("apptainer build", "apptainer build --force")
print(text.replace("/data/", f"{scratch}/data/").replace("/scratch/work", f"{scratch}/work"))
PYTHON
)
cd "$scratch"
bash -euo pipefail -c "$blocks"
ls "$scratch"/data/derivatives/colapipe/sub-*.html

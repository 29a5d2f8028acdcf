#!/usr/bin/env bash
# Build the container image, and run the simulated dataset through it as a cluster would: not root,
# nothing writable but the folders for output and work, no network. With a registry and a daemon
# these are the `docker build` and `docker run` of the manual: docs/containers.md.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: tests/container/build_and_run.sh [--bootstrap] [--fsl DIR] [--scratch DIR] [--keep]
                                        [-- BUILD_OPTION...]

  --bootstrap     make a stand-in for python:3.11-slim with debootstrap instead of taking it from a
                  registry (root and Podman only)
  --fsl DIR       build with this FSL; you have read its licence, which allows non-commercial use
  --scratch DIR   where the simulated dataset and the outputs go (default: a temporary folder)
  --keep          keep the images, and the layers for the next build
  BUILD_OPTION    for `docker build` or `podman build`, such as --build-arg TORCH=cu130

environment: CONTAINER is docker or podman (default: the one that is there and answers);
PIP_FIND_LINKS a folder of wheels for the build, PIP_CERT the certificate of a proxy (Podman only).
TEXT
}

die() {
    echo "build_and_run.sh: $*" >&2
    exit 2
}

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bootstrap="" fsl="" scratch="" keep=""
while (($#)); do
    case $1 in
    --bootstrap) bootstrap=yes ;;
    --fsl) fsl=${2:?--fsl wants a folder} && shift ;;
    --scratch) scratch=${2:?--scratch wants a folder} && shift ;;
    --keep) keep=kept ;;
    --help) usage && exit ;;
    --) shift && break ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift
done
build=("$@")

container=${CONTAINER:-}
for candidate in docker podman; do
    if [[ -z $container ]] && "$candidate" info >/dev/null 2>&1; then
        container=$candidate
    fi
done
[[ -n $container ]] || die "neither Docker nor Podman answers; install one, or start its daemon."

image=localhost/colapipe-test:${keep:-$$}
base=localhost/colapipe-test-base:${keep:-$$}
name=colapipe-test-$$
if [[ -z $scratch ]]; then
    scratch=$(mktemp -d)
    temporary=$scratch
fi
mkdir -p "$scratch"
scratch=$(cd "$scratch" && pwd)

clean_up() {
    "$container" rm --force "$name" >/dev/null 2>&1 || true
    if [[ -z $keep ]]; then
        "$container" rmi --force "$image" "$base" >/dev/null 2>&1 || true
    fi
    rm -rf "${temporary:-}" "$scratch/rootfs"
}
trap clean_up EXIT

step() {
    printf '\n== %s (after %d s)\n' "$*" "$SECONDS"
}

if [[ -n $bootstrap ]]; then
    [[ $container == podman && $(id -u) -eq 0 ]] || die "--bootstrap needs Podman and root."
    step "Making a stand-in for the base image"
    if ! podman image exists "$base"; then
        rm -rf "$scratch/rootfs"
        debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm \
            "$scratch/rootfs" >"$scratch/debootstrap.log" ||
            die "debootstrap failed; see $scratch/debootstrap.log"
        ln -s /usr/bin/python3 "$scratch/rootfs/usr/local/bin/python"
        tar -C "$scratch/rootfs" --exclude='./var/lib/apt/lists/*' \
            --exclude='./var/cache/apt/archives/*.deb' -c . |
            podman import --quiet --change 'CMD ["python3"]' \
                --change 'ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin' - "$base"
        rm -rf "$scratch/rootfs"
    fi
    build+=(--build-arg "BASE=$base")
fi

# What is mounted for the build leaves its empty mount points in a stage that is thrown away.
step "Building the image with $container"
if [[ $container == podman ]]; then
    # These work inside another container, too. The health check is not of the OCI's format.
    build+=(--isolation chroot --network host --format docker)
    if [[ -n $keep ]]; then build+=(--layers); else build+=(--layers=false); fi
    if [[ -n ${PIP_FIND_LINKS:-} ]]; then
        build+=(-v "$PIP_FIND_LINKS:/tmp/wheels:ro" --build-arg PIP_FIND_LINKS=/tmp/wheels)
        # torch is there: its index need not be asked, for which pip takes minutes without a network.
        if compgen -G "$PIP_FIND_LINKS/torch-*.whl" >/dev/null; then
            build+=(--build-arg TORCH_INDEX=)
        fi
    fi
    if [[ -n ${PIP_CERT:-} ]]; then
        build+=(-v "$PIP_CERT:/tmp/certificate.pem:ro" --build-arg PIP_CERT=/tmp/certificate.pem)
    fi
fi
if [[ -n $fsl ]]; then
    build+=(--build-context "fsl=$fsl" --build-arg FSL=non-commercial)
fi
if ! "$container" build "${build[@]}" -t "$image" "$repository" >"$scratch/build.log" 2>&1; then
    tail -n 30 "$scratch/build.log" >&2
    die "the image could not be built; the whole log: $scratch/build.log"
fi
built=$SECONDS
inspect() {
    "$container" image inspect --format "$1" "$image"
}
bytes=$(inspect '{{.Size}}')
echo "image: $((bytes / 1000000)) MB"

step "Looking at the image"
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$repository/colapipe/__init__.py")
[[ $(inspect '{{.Config.User}}') == 1000:1000 ]] || die "the image's user is not 1000:1000."
[[ $(inspect '{{index .Config.Labels "org.opencontainers.image.version"}}') == "$version" ]] ||
    die "the image's version label is not $version."
# Docker and Podman keep the health check in different places.
described=$("$container" image inspect "$image" | tr -d ' \n')
[[ $described == *'"Healthcheck":{"Test":["CMD","colapipe","--version"]'* ]] ||
    die "there is no health check."

# Options that let a container run here at all. In a container without the right to raise limits,
# and with old cgroups, only runc starts, and only with limits that are there already.
run=("$container" run --name "$name" --no-healthcheck)
if ! "${run[@]}" "$image" --version >"$scratch/version.txt" 2>&1; then
    "$container" rm --force "$name" >/dev/null 2>&1 || true
    [[ $container == podman ]] || die "no container runs: $(cat "$scratch/version.txt")"
    run=(podman --runtime "$(PATH=$PATH:/usr/sbin command -v runc)" run --name "$name"
        --no-healthcheck --ulimit nofile=1024:1024 --ulimit nproc=4096:4096)
    "${run[@]}" "$image" --version >"$scratch/version.txt" 2>&1 ||
        die "no container runs: $(cat "$scratch/version.txt")"
fi
"$container" rm "$name" >/dev/null
cat "$scratch/version.txt"
grep -q "^colapipe $version (weights" "$scratch/version.txt" || die "--version says something else."

# A user without a name in the image, as clusters have them; nothing may be written but what is
# mounted. Podman would mount a tmpfs on /tmp, which Docker does not.
user=1234:1234
strict=(--network none --read-only --user "$user")
[[ $container == docker ]] || strict+=(--read-only-tmpfs=false)
data=$scratch/data
rm -rf "$data"
mkdir -p "$data"/{demo,out,work}
chmod 0777 "$data"/*

contain() {
    # Run a command in a fresh container: contain PROGRAM OPTION... -- ARGUMENT...
    local program=$1 options=()
    shift
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    "$container" rm --force "$name" >/dev/null 2>&1 || true
    "${run[@]}" --entrypoint "$program" "${options[@]}" "$image" "$@"
}

step "Simulating the dataset"
contain colapipe-demo "${strict[@]}" -v "$data/demo:/demo" -- /demo/bids
bids=$data/demo/bids
before=$(cd "$bids" && find . -type f -exec sha256sum {} + | sort | sha256sum)

participant() {
    # Run the app on the dataset: participant OPTION... -- ARGUMENT...
    local options=()
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    contain colapipe "${options[@]}" -v "$bids:/bids:ro" -v "$data/out:/out" -v "$data/work:/work" \
        -- /bids /out participant --work-dir /work "$@"
}

step "Running it: read-only, without network, as $user"
started=$SECONDS
code=0
participant "${strict[@]}" -- || code=$?
took=$((SECONDS - started))
((code == 0)) || die "the run ended with exit code $code; output in $data/out"

step "Looking at what it wrote"
shopt -s nullglob globstar
synthesised=("$data"/out/sub-*/**/*_desc-synth_*.nii.gz)
reports=("$data"/out/sub-*.html)
# One participant of the simulated dataset lacks T2w, one FLAIR, and one nothing.
((${#synthesised[@]} == 2)) || die "${#synthesised[@]} synthesised scans in $data/out, not 2"
((${#reports[@]} >= 2)) || die "${#reports[@]} reports in $data/out, not 2"
for scan in "${synthesised[@]}"; do
    grep -q '"Synthetic": true' "${scan%.nii.gz}.json" || die "$scan: not marked as synthetic"
done
if [[ -n $fsl ]]; then
    grep -q "FSL" "$data/out/dataset_description.json" || die "the run did not use FSL."
fi
[[ $(cd "$bids" && find . -type f -exec sha256sum {} + | sort | sha256sum) == "$before" ]] ||
    die "the run changed the dataset."
strangers=$(find "$data" ! -uid "${user%:*}" -newer "$scratch/version.txt" -type f)
[[ -z $strangers ]] || die "files of another user: $strangers"
echo "${#synthesised[@]} scans synthesised, ${#reports[@]} reports; in the work directory:"
ls -A "$data/work"

step "Running it again: everything is cached"
started=$SECONDS
participant "${strict[@]}" -- || die "the second run ended with exit code $?"
again=$((SECONDS - started))

step "Running it with a root that it may write to, to see that it does not"
rm -rf "$data"/{out,work}
mkdir "$data"/{out,work}
chmod 0777 "$data"/{out,work}
participant --network none --user "$user" -- --participant-label 02 --sloppy >"$scratch/sloppy.log" 2>&1 ||
    die "the run ended with exit code $?; see $scratch/sloppy.log"
# Mount points and names of users are made by what runs the container; /tmp may have been used, and
# must be as it was.
theirs='[AC] /(bids|out|work|run|proc|sys|dev)(/.*)?'
theirs+='|[AC] /etc(/(group|passwd|hosts|hostname|resolv\.conf|mtab))?|C /(tmp)?'
elsewhere=$("$container" diff "$name" | grep -vxE "$theirs" || true)
[[ -z $elsewhere ]] || die "written outside the mounted folders: $elsewhere"

step "Done"
printf '%-28s%s\n' \
    "image" "$((bytes / 1000000)) MB" \
    "build, base included" "$built s" \
    "run of the demo dataset" "$took s, exit code $code" \
    "the same run again" "$again s" \
    "user, network, root" "$user, none, read-only without a tmpfs"

# colapipe as a container image. docs/containers.md explains building and running it, with Docker,
# Podman and Apptainer.
#
#   docker build -t colapipe .                             runs on CPUs
#   docker build -t colapipe --build-arg TORCH=cu130 .     runs on NVIDIA GPUs, too
#
# FSL is not in it unless you give your own, for non-commercial use: see the stage fsl.
ARG BASE=python:3.11-slim

# Everything that colapipe needs, in a virtual environment; setuptools is there to build it.
FROM ${BASE} AS requirements
# Which build of torch: a tag of PyTorch's index, such as cpu, cu126 or cu130. Empty takes what
# pip's own index gives; an empty TORCH_INDEX looks for the build there, too.
ARG TORCH=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl
# Extras of setup.cfg: colapipe-demo, and the validator that checks a dataset before a run.
ARG EXTRAS="demo validate"
# For a build behind a mirror or without a network: another index, a folder of wheels, a certificate.
ARG PIP_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_CERT
ENV PATH=/opt/colapipe/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY setup.cfg constraints.txt ./
RUN python -m venv /opt/colapipe \
    && python -c "import configparser, sys; c = configparser.ConfigParser(); c.read('setup.cfg'); \
        print(c['options']['install_requires'], *map(c['options.extras_require'].get, sys.argv[1:]))" \
        ${EXTRAS} > requirements.txt \
    && version="$(sed -n 's/^torch==//p' constraints.txt)" \
    && pip install --no-compile -c constraints.txt -r requirements.txt setuptools \
        "torch==${version}${TORCH:++$TORCH}" \
        ${TORCH:+${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX/$TORCH"}}

# The same without what no run needs: torch's headers and test programs, the tests of all packages
# (nilearn takes tools from its own), pip, and triton, which serves torch.compile alone. What is
# left is compiled now, since the user who runs it may not write there; py312_intrinsics is a file
# of torch that Python 3.11 cannot read.
FROM requirements AS slim
RUN pip uninstall --yes --quiet triton setuptools pip \
    && site="$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && rm -rf "$site"/torch/include "$site"/torch/test \
    && find "$site"/torch/bin -type f -not -name torch_shm_manager -delete \
    && find "$site" -type d -name tests -not -path "$site/nilearn/*" -prune -exec rm -rf {} + \
    && find "$site" -type d -name __pycache__ -prune -exec rm -rf {} + \
    && python -m compileall -q --invalidation-mode unchecked-hash -x py312_intrinsics "$site"

# colapipe itself lies in a folder of its own, so that a change of code is a layer of some MB.
FROM requirements AS package
ARG VERSION=0.1.0
COPY . .
RUN pip install --no-compile --no-deps --no-build-isolation --prefix /package . \
    && python -m compileall -q --invalidation-mode unchecked-hash /package \
    && found="$(sed -n 's/^__version__ = "\(.*\)"/\1/p' colapipe/__init__.py)" \
    && if [ "$found" != "$VERSION" ]; then \
        echo "VERSION=$VERSION, but colapipe/__init__.py says $found; they must agree." >&2; exit 1; \
    fi

# An FSL of yours: --build-context fsl=/usr/local/fsl takes the place of this empty stage, and
# --build-arg FSL=non-commercial says that you have read FSL's licence (https://fsl.fmrib.ox.ac.uk).
# It allows non-commercial use only, and you may not hand on an image that holds FSL.
FROM scratch AS fsl

# What the image has beside Python: FSL's folder, empty without it, and a folder to work in.
FROM ${BASE} AS folders
ARG FSL
COPY --from=fsl / /image/opt/fsl/
RUN install -d -m 1777 /image/work; \
    if [ -z "$FSL" ] && [ -z "$(ls -A /image/opt/fsl)" ]; then exit 0; fi; \
    if [ "$FSL" != non-commercial ]; then \
        echo "FSL's licence allows non-commercial use only. Read it, then build with" \
            "--build-arg FSL=non-commercial, or leave FSL out." >&2; exit 1; \
    fi; \
    for program in flirt fast bet; do \
        if [ ! -x "/image/opt/fsl/bin/$program" ]; then \
            echo "FSL=non-commercial: there is no bin/$program in the build context fsl." \
                "Name FSL's folder: --build-context fsl=/usr/local/fsl" >&2; exit 1; \
        fi; \
    done; \
    printf '%s\n' "This image holds a copy of FSL, in /opt/fsl, which is not part of colapipe." \
        "FSL's licence allows non-commercial use only: https://fsl.fmrib.ox.ac.uk" \
        "Whoever built this image agreed to it. Do not hand this image on." \
        > /image/opt/fsl/NOTICE

FROM ${BASE}
COPY --from=slim /opt/colapipe /opt/colapipe
COPY --from=folders /image /
COPY --from=package /package /opt/colapipe
# The user may be anybody (docker run --user), who then has neither name nor home: HOME is the
# work directory, where a container with a read-only root has its one writable folder.
ENV PATH=/opt/colapipe/bin:$PATH \
    HOME=/work \
    FSLDIR=/opt/fsl \
    NIPYPE_NO_ET=1 \
    PYTHONNOUSERSITE=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /work
# By number, so that a cluster can tell that it is not root.
USER 1000:1000
HEALTHCHECK --interval=10m --timeout=1m CMD ["colapipe", "--version"]
ENTRYPOINT ["colapipe"]
CMD ["--help"]
# Last, since another commit is no reason to copy everything again.
ARG VERSION=0.1.0
ARG REVISION
ARG SOURCE
ARG FSL
LABEL org.opencontainers.image.title="colapipe" \
      org.opencontainers.image.description="BIDS-App that synthesises missing MRI contrasts. For research only." \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.licenses="Apache-2.0 AND LicenseRef-colapipe-weights${FSL:+ AND LicenseRef-FSL}" \
      colapipe.run.fsl="${FSL:+FSL is in this image: non-commercial use only, do not hand it on. /opt/fsl/NOTICE}"

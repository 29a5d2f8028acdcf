# colapipe as a container, without FSL (its licence does not allow to hand it on with this image;
# mount an FSL and set FSLDIR to use that engine).
#
#   docker build -t colapipe .                                  CPU build of torch
#   docker build -t colapipe --build-arg TORCH=torch==2.13.0 .  the build on PyPI, with CUDA
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
ARG TORCH=torch==2.13.0+cpu
# Where pip finds that build, and wheels on a machine without network.
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
ARG PIP_FIND_LINKS
ARG PIP_CERT
RUN python -m venv /opt/colapipe
ENV PATH=/opt/colapipe/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
# The requirements change less often than the code: installed first, they stay in their own layer.
COPY setup.cfg pyproject.toml constraints.txt README.md LICENSE ./
COPY colapipe/__init__.py colapipe/
RUN python -c "import configparser; c = configparser.ConfigParser(); c.read('setup.cfg'); \
        print(c['options']['install_requires'], c['options.extras_require']['demo'], \
              c['options.extras_require']['validate'])" > requirements.txt \
    && pip install -c constraints.txt "$TORCH" -r requirements.txt
COPY . .
RUN pip install --no-deps . && python -m compileall -q /opt/colapipe/lib

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="colapipe" \
      org.opencontainers.image.description="BIDS-App that synthesises missing MRI contrasts" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/colapipe /opt/colapipe
RUN useradd --create-home --uid 1000 colapipe
ENV PATH=/opt/colapipe/bin:$PATH NIPYPE_NO_ET=1 PYTHONUNBUFFERED=1
# By number, so that a cluster can tell that it is not root.
USER 1000
WORKDIR /home/colapipe
ENTRYPOINT ["colapipe"]
CMD ["--help"]

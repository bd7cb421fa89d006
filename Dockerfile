# The environment of the study, for Apptainer or Docker: docker build -t tgmm .
# With CUDA: docker build -t tgmm-cuda --build-arg TORCH_INDEX=https://pypi.org/simple .
FROM python:3.11-slim-bookworm

# Where torch comes from: its builds for processors alone, a tenth of those with CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# Versions of programs follow the image's release; those of Python packages stand in requirements.lock.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends git make \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/tgmm
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN grep '^torch==' requirements.lock > torch.txt \
 && pip install --no-cache-dir --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple -r torch.txt \
 && pip install --no-cache-dir --no-deps -r requirements.lock
COPY src src
RUN pip install --no-cache-dir --no-deps --no-build-isolation . && tgmm --version

# The study itself is mounted: docker run -v "$PWD:/study" tgmm snakemake --cores all --resources gpu=1
# Its own code counts where it is mounted.
ENV PYTHONPATH=/study/src
WORKDIR /study
CMD ["snakemake", "--cores", "all", "--resources", "gpu=1"]

# Everything that tools/install.sh sets up, in an image.
#
#   docker build --target cpu -t mmrefine .
#   docker run --rm -v "$PWD:/work" mmrefine mim run mmrefine predict photo.jpg --config CFG --checkpoint W --out out
#
#   docker build --target cuda -t mmrefine:cuda .        for the GPUs of TORCH_CUDA_ARCH_LIST
#   docker run --rm --gpus all -v "$PWD:/work" mmrefine:cuda mim run mmrefine predict ... --device cuda:0

FROM python:3.12-slim AS cpu
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
COPY . /mmrefine
RUN MMREFINE_CACHE=/var/cache/mmrefine bash /mmrefine/tools/install.sh && rm -rf /var/cache/mmrefine
ENV PATH=/mmrefine/.venv/bin:$PATH
WORKDIR /work
CMD ["bash"]

FROM nvidia/cuda:13.0.2-devel-ubuntu24.04 AS cuda
ARG TORCH_CUDA_ARCH_LIST="8.0;8.6;8.9;9.0+PTX"
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY . /mmrefine
RUN MMREFINE_CACHE=/var/cache/mmrefine TORCH_CUDA_ARCH_LIST="$TORCH_CUDA_ARCH_LIST" bash /mmrefine/tools/install.sh \
    && rm -rf /var/cache/mmrefine
ENV PATH=/mmrefine/.venv/bin:$PATH
WORKDIR /work
CMD ["bash"]

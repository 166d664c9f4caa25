# A neuron on NVIDIA's CUDA and cuDNN images. The base images are arguments, so that another release of them, or plain
# Debian or Ubuntu on a host without a GPU, is one option:
#
#   docker build -t neuron .
#   docker build -t neuron --build-arg BUILD_BASE=debian:12 --build-arg BASE=debian:12 .
#   docker run --gpus all -p 8091:8091 -v "$PWD/data:/data" neuron
#
# Both images must be of the same system: the program is linked with the libraries of the first.
ARG BUILD_BASE=nvidia/cuda:13.0.0-cudnn-devel-ubuntu24.04
ARG BASE=nvidia/cuda:13.0.0-cudnn-runtime-ubuntu24.04

FROM ${BUILD_BASE} AS build
WORKDIR /src
COPY scripts/setup.sh scripts/
RUN scripts/setup.sh
COPY CMakeLists.txt CMakePresets.json ./
COPY proto proto
COPY models models
COPY src src
RUN cmake --preset release -DBUILD_TESTING=OFF && cmake --build --preset release --target neuron
# The packages of the libraries that the program loads, by the names that this system gives them. The loader may say /lib
# where dpkg knows /usr/lib, or the other way round, so dpkg is asked with a pattern.
RUN ldd build/release/neuron | awk '$2 == "=>" {print $3}' | sed 's|^/usr||; s|^|*|' | xargs dpkg-query --search \
    | cut -d : -f 1 | sort -u > build/packages

FROM ${BASE}
COPY --from=build /src/scripts/setup.sh /src/build/packages /setup/
RUN xargs /setup/setup.sh < /setup/packages && rm -rf /setup /var/lib/apt/lists/*
COPY --from=build /src/build/release/neuron /usr/local/bin/neuron
RUN useradd --system --create-home neuron && install -d -o neuron -g neuron /data /runs
USER neuron
WORKDIR /runs
ENV NEURON_DATA=/data
EXPOSE 8091
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8091"]
ENTRYPOINT ["neuron"]
CMD ["run", "--soma", "mnist", "--listen", "0.0.0.0:8091"]

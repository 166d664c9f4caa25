# A neuron on NVIDIA's CUDA and cuDNN images. The base images are arguments, so that another release of them, or plain
# Debian or Ubuntu, is one option. The CUDA plug-in is built with the toolkit of the first image; where that has none,
# scripts/setup.sh --cuda brings one, and the libraries that it needs while it runs go into the second (1.2 GB). CUDA=0
# leaves it out, for a host without a GPU:
#
#   docker build -t neuron .
#   docker build -t neuron --build-arg BUILD_BASE=debian:12 --build-arg BASE=debian:12 .
#   docker build -t neuron --build-arg BUILD_BASE=debian:12 --build-arg BASE=debian:12 --build-arg CUDA=0 .
#   docker run --gpus all -p 8091:8091 -v "$PWD/data:/data" neuron
#
# Both images must be of the same system: the program is linked with the libraries of the first.
ARG BUILD_BASE=nvidia/cuda:13.0.0-cudnn-devel-ubuntu24.04
ARG BASE=nvidia/cuda:13.0.0-cudnn-runtime-ubuntu24.04

FROM ${BUILD_BASE} AS build
ARG CUDA=1
WORKDIR /src
COPY scripts/setup.sh scripts/
RUN scripts/setup.sh
RUN if [ "$CUDA" = 1 ]; then scripts/setup.sh --cuda; fi
COPY CMakeLists.txt CMakePresets.json ./
COPY proto proto
COPY models models
COPY kernels kernels
COPY tests/cuda_sim tests/cuda_sim
COPY src src
RUN cmake --preset release -DBUILD_TESTING=OFF $([ "$CUDA" = 1 ] || echo -DNEURON_CUDA=OFF) \
    && cmake --build --preset release --target neuron cuda
# The packages of the libraries that the program loads, by the names that this system gives them. The loader may say /lib
# where dpkg knows /usr/lib, or the other way round, so dpkg is asked with a pattern.
RUN ldd build/release/neuron | awk '$2 == "=>" {print $3}' | sed 's|^/usr||; s|^|*|' | xargs dpkg-query --search \
    | cut -d : -f 1 | sort -u > build/packages
# The program with its plug-in, and what the plug-in loads of a toolkit that is no part of the base images. cuDNN opens all
# of its parts but one (adv) and nvrtc when it needs them.
RUN mkdir -p build/bin build/cuda-libraries \
    && cp build/release/neuron $(ls build/release/neuron-cuda.so 2>/dev/null) build/bin/ \
    && if [ -d build/cuda/lib ]; then cd build/cuda/lib \
        && cp --dereference libcudart.so.* libcublasLt.so.* libcudnn.so.* libcudnn_cnn.so.* libcudnn_ops.so.* \
            libcudnn_graph.so.* libcudnn_heuristic.so.* libcudnn_engines_*.so.* libnccl.so.* libnvrtc.so.* \
            libnvrtc-builtins.so.* /src/build/cuda-libraries/; fi

FROM ${BASE}
COPY --from=build /src/scripts/setup.sh /src/build/packages /setup/
RUN xargs /setup/setup.sh < /setup/packages && rm -rf /setup /var/lib/apt/lists/*
COPY --from=build /src/build/cuda-libraries /usr/local/lib/neuron/
RUN echo /usr/local/lib/neuron > /etc/ld.so.conf.d/neuron.conf && ldconfig
COPY --from=build /src/build/bin/ /usr/local/bin/
RUN useradd --system --create-home neuron && install -d -o neuron -g neuron /data /runs
USER neuron
WORKDIR /runs
ENV NEURON_DATA=/data
EXPOSE 8091
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8091"]
ENTRYPOINT ["neuron"]
CMD ["run", "--soma", "mnist", "--listen", "0.0.0.0:8091"]

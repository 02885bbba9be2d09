# The dashboard in a container. It runs on the CPU, and on a GPU where the container is given one.
# The torch of the package index holds CUDA libraries of several GB. For the small CPU build, or the build for another
# driver, pass the index that PyTorch's own site names for it:
#   docker build --build-arg TORCH_ARGS="--index-url ..." -t uws .
FROM python:3.11-slim

ARG TORCH_ARGS=""
RUN pip install --no-cache-dir $TORCH_ARGS "torch==2.13.0"

# Chromium draws PDF, SVG and PNG exports; without it the app offers HTML and data only.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends chromium \
    && rm -rf /var/lib/apt/lists/*

COPY . /src
RUN pip install --no-cache-dir "/src[export,cluster]" && rm -rf /src

RUN useradd --create-home uws && mkdir /models /cache && chown uws /cache
USER uws
WORKDIR /models
# Results, and what is read from the Hub, outlive the container.
ENV UWS_ROOTS=/models UWS_CACHE=/cache/results HF_HOME=/cache/huggingface
VOLUME ["/models", "/cache"]
EXPOSE 8501
HEALTHCHECK --start-period=30s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=5)"]

# On this address `uws app` refuses to start without UWS_PASSWORD or --behind-proxy.
ENTRYPOINT ["uws", "app", "--address", "0.0.0.0", "--port", "8501", "--allowed-host", "*"]

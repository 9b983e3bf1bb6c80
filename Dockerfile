# Rivulet in a container: not root, and nothing is written but below /data and /tmp.
FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/rivulet
ENV PATH=/opt/rivulet/bin:$PATH
WORKDIR /build
COPY requirements.txt .
# An index with PyTorch's build without CUDA, which is some gigabytes smaller: pytorch.org names it.
ARG TORCH_INDEX=
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep -o '^torch==[0-9.]*' requirements.txt)"
RUN pip install -r requirements.txt

FROM python:3.11-slim
COPY --from=build /opt/rivulet /opt/rivulet
WORKDIR /app
COPY app.py ./
COPY data/samples data/samples
COPY rag rag
# Before it is read-only: a volume takes over whose it is.
RUN useradd --uid 10001 --no-create-home --home-dir /data rivulet && install -d -o 10001 -g 10001 -m 700 /data
ENV PATH=/opt/rivulet/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/data HF_HOME=/data/huggingface RAG_DATA_DIR=/data
USER 10001:10001
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ.get('PORT', '7860')}/health\", timeout=8)"]
CMD ["python", "app.py", "--host", "0.0.0.0", "--no-browser"]

"""Rivulet: ask your documents in the browser and watch the answer arrive.

The composition root: settings -> parts -> page -> launch. Nothing imports it.
"""

import argparse
import dataclasses
import importlib
import ipaddress
import logging
import os
import secrets
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import NoReturn

from rag import logs
from rag.config import Config, as_argument, parse_auth, parse_port
from rag.errors import ConfigurationError
from rag.space import borrow_gpus
from rag.upkeep.folder import held

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
WEEK = 7 * 24
"""Hours."""


def main() -> NoReturn:
    """Run the app until Ctrl-C; exit status 1 with one line where it cannot start."""
    try:
        run()
    except ConfigurationError as error:
        sys.exit(str(error))


def run() -> NoReturn:
    """Put the settings together and serve."""
    config = Config.from_env()
    options = _options(config)
    auth = tuple(pair for pairs in options.auth or () for pair in pairs) or config.auth
    auth_file = options.auth_file or config.auth_file
    if ":" in options.host:
        raise ConfigurationError(f"Gradio cannot listen on {options.host}: IPv6 is not possible.")
    reachable = options.share or not _is_loopback(options.host)
    if reachable and not (auth or auth_file or options.open):
        auth = (("rivulet", secrets.token_urlsafe(15)),)
        print(f"Log in as {auth[0][0]} with the password {auth[0][1]}", flush=True)
    # Where a login is set, others come too: by a proxy on this computer.
    strangers = bool(reachable or auth or auth_file)
    forget_after = config.forget_after
    if forget_after is None:
        forget_after = WEEK if strangers else 0
    config = dataclasses.replace(
        config,
        data_dir=options.data_dir.expanduser().resolve(),
        port=options.port,
        auth=auth,
        auth_file=auth_file.expanduser() if auth_file else None,
        strangers=strangers,
        forget_after=forget_after,
    )
    logs.set_up(config)
    if reachable and not config.wants_login:
        paid = ", and what your OPENAI_API_KEY pays for" if config.openai_api_key else ""
        logger.warning("There is no login: whoever can reach the page can use it%s.", paid)
    serve(config, options.host, share=options.share, open_browser=options.browser)


def _is_loopback(host: str) -> bool:
    """Whether only this computer can reach this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(config: Config, host: str, *, share: bool, open_browser: bool) -> NoReturn:
    """Launch the page, then prepare the models behind it; ends the process on Ctrl-C."""
    ours = held(config.data_dir)
    ours.__enter__()  # until the process ends
    # Read when gradio is loaded: nothing is reported.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if config.zero_gpu:
        borrow_gpus()
    _load_gradio()
    from gradio import tunneling

    from rag.ui.backend import Backend
    from rag.ui.health import Health
    from rag.ui.page import build, launch, uploads_dir
    from rag.ui.programs import Programs

    stopped = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stopped.set())
    backend = Backend(config)
    programs, health = Programs(backend), Health(backend)
    page = build(programs)
    launch(
        page,
        config,
        host,
        share=share,
        open_browser=open_browser,
        health=health,
        programs=programs,
    )
    logs.adopt_servers()
    if config.metrics_port:
        line = programs.chat.limits.line
        backend.metrics.serve(host, config.metrics_port, lambda: line.waiting)
    backend.start()
    threading.Thread(target=backend.settle, name="settle", daemon=True).start()
    stopped.wait()
    print("Stopping.")
    backend.close()
    for tunnel in tunneling.CURRENT_TUNNELS:
        tunnel.kill()  # type: ignore[no-untyped-call]
    shutil.rmtree(uploads_dir(config), ignore_errors=True)
    sys.stdout.flush()
    # The web server would wait for every page that is still open, or end with their tracebacks.
    # All that is to be kept has been written.
    os._exit(0)


def _load_gradio() -> None:
    """Gradio loads the package `mcp` where it finds it, for a server of its own that is not started
    here, which takes a fifth of the time. It does not find it, and the page is there sooner."""
    hidden = "mcp" not in sys.modules
    if hidden:
        sys.modules["mcp"] = None  # type: ignore[assignment] # Python's word for: there is none
    try:
        importlib.import_module("gradio")
    finally:
        if hidden:
            del sys.modules["mcp"]


def _options(config: Config) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    host = "0.0.0.0" if config.on_space else LOOPBACK  # noqa: S104 - it is what a Space needs
    parser.add_argument("--host", default=host, help="address to listen on")
    parser.add_argument(
        "--port", type=as_argument(parse_port), default=config.port, help="port (PORT)"
    )
    parser.add_argument(
        "--data-dir", type=Path, default=config.data_dir, help="folder of all data (RAG_DATA_DIR)"
    )
    parser.add_argument("--share", action="store_true", help="make a public link, with a login")
    parser.add_argument(
        "--auth",
        action="append",
        type=as_argument(parse_auth),
        help="user:password who may log in; can be given several times (RAG_AUTH)",
    )
    parser.add_argument(
        "--auth-file",
        type=Path,
        help="file of who may log in, made by python -m rag password (RAG_AUTH_FILE)",
    )
    parser.add_argument(
        "--open",
        action="store_true",
        default=config.open,
        help="no login, although others can reach the page (RAG_OPEN)",
    )
    parser.add_argument(
        "--no-browser", dest="browser", action="store_false", help="do not open a browser"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""`./assay serve`: the model over HTTP until Ctrl-C.

Belongs here: the socket, the address that is printed, the end. Does not belong here: what is answered (ml/serve).
"""

import logging
import socket

from rich.console import Console

from foundation.errors import AssayError
from foundation.settings import Settings


def serve(settings: Settings, console: Console, host: str, port: int) -> None:
    """Answers until it is stopped.

    Args:
        port: 0 takes any free one.

    Raises:
        AssayError: the port is taken.
    """
    # Bound before the models' libraries are loaded, which takes 10 s: a taken port is said at once.
    listening = _bind(host, port)
    console.print("loading the model's libraries …")
    import uvicorn

    from ml.serve.app import create_app

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if not self.should_exit:
                address = f"http://{host}:{listening.getsockname()[1]}"
                console.print(f"Serving on {address}: POST /predict, GET /health, /metrics; try it at {address}/docs")
                console.print("Ctrl-C ends it.")

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("ml.serve").setLevel(logging.INFO)
    server = Server(
        uvicorn.Config(create_app(settings), log_config=None, access_log=False, timeout_graceful_shutdown=10)
    )
    with listening:
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:  # uvicorn raises it again once the last answer is out: here it is the usual end
            console.print("stopped")


def _bind(host: str, port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise AssayError(
            f"{host}:{port} cannot be listened on: {error.strerror}",
            "name another: ./assay serve --port 0 takes a free one",
        ) from None
    return listening

"""A replica to measure with: `python replica.py --port N --work-ms MS [--slots N] [--witness FILE] [--host HOST]`.

Answers POST /score after `work-ms` (or after the milliseconds that the body's "work_ms" says), with the id of the
request and the number of requests that ran at the same time. With --witness it appends one line (start, end, pid,
request id, running) for each request: the only judge of whether slots were exact.
"""

import argparse
import asyncio
import json
import os
import time

OVERLAP_STATUS = 500


class Replica:
    """Counts what runs at the same time."""

    def __init__(self, work_s: float, slots: int, witness: str) -> None:
        self._work_s = work_s
        self._slots = slots
        self._running = 0
        self._witness = open(witness, "a", buffering=1) if witness else None  # noqa: SIM115 - closed with the process

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: requests with a Content-Length, one after the other."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                body = await reader.readexactly(int(fields.get("content-length", "0")))
                status, answer = await self._answer(head, body, fields.get("x-ms-request-id", ""))
                lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json", f"Content-Length: {len(answer)}"]
                writer.write("\r\n".join([*lines, "", ""]).encode() + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, head: str, body: bytes, request_id: str) -> tuple[int, bytes]:
        if not head.startswith("POST /score"):
            return 200, b"{}"
        work_s = self._work_s
        if b"work_ms" in body:
            work_s = json.loads(body)["work_ms"] / 1000
        self._running += 1
        running, began = self._running, time.monotonic()
        await asyncio.sleep(work_s)
        self._running -= 1
        if self._witness is not None:
            self._witness.write(f"{began:.6f} {time.monotonic():.6f} {os.getpid()} {request_id} {running}\n")
        status = 200 if running <= self._slots else OVERLAP_STATUS
        return status, json.dumps({"pid": os.getpid(), "running": running, "id": request_id}).encode()


async def main() -> None:
    """Listen until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--work-ms", type=float, default=100.0)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--start-ms", type=float, default=0.0)
    parser.add_argument("--witness", default="")
    arguments = parser.parse_args()
    await asyncio.sleep(arguments.start_ms / 1000)
    replica = Replica(arguments.work_ms / 1000, arguments.slots, arguments.witness)
    server = await asyncio.start_server(replica.serve, arguments.host, arguments.port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

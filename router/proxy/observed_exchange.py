"""The part of an exchange that observers and recorders of its version are told. Off the path of other versions."""

from zlib import crc32

from router.core.dispatcher import Ticket
from router.core.router_errors import ModelError
from router.proxy.request_head import RequestHead
from router.proxy.request_observer import PieceObserver, Trace, VersionObserver
from router.proxy.request_plan import VersionPlan
from router.proxy.response_head import ResponseHead

MAX_CRC = 0xFFFF_FFFF


class ObservedExchange(Ticket):
    """The facts of a request and its response."""

    __slots__ = (
        *("_answer", "_answer_body", "_answer_bytes", "_streamed_bytes", "_trace"),
        *("body", "head", "observer", "pieces", "replica_id", "request_id", "status", "trace_lines", "wait_s"),
    )

    def __init__(self, request_id: bytes, head: RequestHead) -> None:
        """`request_id`: in the response. `head`: of the request."""
        super().__init__()
        self.request_id = request_id
        self.head = head
        self.observer: VersionObserver | None = None
        """Observer of its version, if the request is in the sample."""
        self.pieces: PieceObserver | None = None
        """Observer of the request once a body of it came in pieces."""
        self.trace_lines = b""
        """Lines of trace context for the replica, each after a line end; empty: the client's are passed on."""
        self.body: bytes | bytearray = b""
        """The part of the body received and not sent, or all of it while it may be sent again."""
        self.status = 0
        """Status of the response; 0 before its head was sent."""
        self.replica_id = ""
        """The last replica that was tried."""
        self.wait_s = 0.0
        self._answer: ResponseHead | None = None
        self._answer_body = b""
        """Body of an observed answer, unless it came in pieces."""
        self._answer_bytes = 0
        """Bytes of the body of the answer so far."""
        self._streamed_bytes = 0
        """Bytes of the request body that were sent while it came."""
        self._trace: Trace | None = None
        """Trace context of a request that is recorded."""

    def _observe(self, version: VersionPlan) -> None:
        """Choose the request for the observer, and begin its record. `version`: with one of the two."""
        observer, recorder = version.observer, version.recorder
        if observer is not None:
            if observer.sampled_below > MAX_CRC or crc32(self.request_id) < observer.sampled_below:
                self.observer = observer
            else:
                observer.sampled_out[0] += 1
        if recorder is not None:
            trace = recorder.begin(self.head)
            self.trace_lines = trace[0]
            if trace[5]:
                self._trace = trace

    def _report(self, version: VersionPlan, duration_s: float, served_s: float, code: str) -> None:
        """Report the end of the request to observer and recorder.

        version: with one of the two. duration_s: total time. served_s: time of the replica. code: error code.
        """
        answer = self._answer
        if self.pieces is not None:
            self.pieces.request_ended(self.status, answer, duration_s)
        elif (observer := self.observer) is not None:
            observer.request_ended(
                self.request_id, self.head, self.body, answer, self._answer_body, self.status, duration_s
            )
        if version.recorder is not None and self._trace is not None:
            version.recorder.request_ended(
                self._trace,
                self.request_id,
                self.head,
                self._streamed_bytes + len(self.body),
                self._answer_bytes,
                self.status,
                answer.status if answer is not None else 0,
                self.replica_id,
                duration_s,
                self.wait_s,
                served_s,
                self._code(code),
            )

    def _observe_pieces(self) -> PieceObserver:
        """Begin to observe the request piece by piece."""
        assert self.observer is not None
        pieces = self.pieces
        if pieces is None:
            pieces = self.pieces = self.observer.begin(self.request_id, self.head)
            if self.body:
                pieces.request_body(bytes(self.body))
            if self._answer_body:
                pieces.response_body(self._answer_body)
                self._answer_body = b""
        return pieces

    def _observe_answer(self, data: bytes) -> None:
        """A part of the answer has come; most answers have only one."""
        if self.pieces is None and not self._answer_body:
            self._answer_body = data
        else:
            self._observe_pieces().response_body(data)

    def _code(self, code: str) -> str:
        """The error code of the response. `code`: of the router's own error, "" if there is none."""
        model_failed = self._answer is not None and self._answer.status == 500
        return ModelError.code if model_failed and not code else code

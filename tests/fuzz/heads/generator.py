"""Request heads and response heads as clients and replicas send them, and changed in ways that may decide.

`chance` is a seeded `random.Random`, or that of `hypothesis.strategies.randoms`.
"""

from random import Random
from typing import NamedTuple

from tests.fuzz.heads.worker import KEY, OTHER_KEY

Line = tuple[bytes, bytes, bytes]
"""Name, separator, value."""


class Message(NamedTuple):
    """A head and the bytes behind it."""

    head: bytes
    body: bytes


def _lines(*fields: str) -> list[Line]:
    return [(name.encode(), b": ", value.encode()) for name, _, value in (field.partition(": ") for field in fields)]


IRIS, OPEN, PAIR = (b"/api/v1/service/%b/score" % name for name in (b"iris", b"open", b"pair"))
KEYED = f"Authorization: Bearer {KEY}"
REQUESTS: list[tuple[bytes, list[Line]]] = [
    (b"POST %b HTTP/1.1" % IRIS, _lines("Host: front", KEYED, "traceparent: 00-1", "Content-Length: 5")),
    (
        b"POST %b?a=1 HTTP/1.1" % IRIS,
        _lines("Host: front", KEYED, "x-ms-client-request-id: me", "X-Forwarded-For: 10.9.9.9", "Content-Length: 5"),
    ),
    (
        b"POST %b HTTP/1.1" % OPEN,
        _lines("host: front", "User-Agent: a", "Origin: https://a.test", "Cookie: c=d", "content-length: 12"),
    ),
    (b"GET %b?q=2 HTTP/1.1" % OPEN, _lines("Host: front", "Accept: */*", "X-Forwarded-Proto: https", "X-A: 1")),
    (b"POST %b HTTP/1.1" % PAIR, _lines("Host: front", "Transfer-Encoding: chunked", "X-A: 1", "X-B: 2")),
    (b"POST %b HTTP/1.1" % PAIR, _lines("Host: front", "Expect: 100-continue", "Content-Length: 5", "tracestate: t")),
    (b"POST %b HTTP/1.0" % OPEN, _lines("Host: front", "Connection: keep-alive", "Content-Length: 5", "X-A: 1")),
    (b"HEAD %b HTTP/1.1" % OPEN, _lines("Host: front", "X-A: 1", "azureml-model-deployment: blue")),
    (b"GET %b HTTP/1.1" % OPEN, _lines("Host: front", "Connection: Upgrade", "Upgrade: websocket", "X-A: 1")),
]
RESPONSES: list[tuple[bytes, list[Line]]] = [
    (b"HTTP/1.1 200 OK", _lines("Server: m", "Date: Sun, 22 Nov 2026 18:00:00 GMT", "Content-Length: 5", "X-Id: 1")),
    (b"HTTP/1.1 200 OK", _lines("content-type: application/json", "content-length: 12", "x-exec-ms: 3", 'ETag: "e"')),
    (b"HTTP/1.1 200 OK", _lines("Transfer-Encoding: chunked", "X-Id: 1", "Connection: keep-alive")),
    (b"HTTP/1.1 200 OK", _lines("X-Id: 1", "Server: m")),
    (b"HTTP/1.0 200 OK", _lines("X-Id: 1", "Content-Length: 5")),
    (b"HTTP/1.1 302 Found", _lines("Location: /there", "Content-Length: 5", "X-Id: 1")),
    (b"HTTP/1.1 500 Oops", _lines("Content-Length: 5", "Set-Cookie: a=b", "Set-Cookie: c=d")),
    (b"HTTP/1.1 204 No Content", _lines("X-Id: 1", "Server: m")),
    (b"HTTP/1.1 304 Not Modified", _lines("Content-Length: 5", "X-Id: 1")),
    (b"HTTP/1.1 200 OK", _lines("Access-Control-Allow-Origin: *", "Vary: x", "Content-Length: 5")),
]
LENGTHS = [b"0", b"5", b"12", b"3", b"05", b"00", b"+5", b"-1", b"5, 5", b"5 5", b"0x5", b"100001", b"9" * 19, b"1e1"]
CONNECTIONS = [b"close", b"keep-alive", b"Upgrade", b"X-A", b"x-id, close", b"x-b", b"host", b"content-length", b","]
VALUES: dict[bytes, list[bytes]] = {
    b"host": [b"front", b"other", b"front:80", b"a b", b"[::1]", b"a/b"],
    b"authorization": [b"Bearer " + key.encode() for key in (KEY, OTHER_KEY, "x" * 43)] + [b"Basic " + KEY.encode()],
    b"content-length": LENGTHS,
    b"transfer-encoding": [b"chunked", b"Chunked", b"gzip", b"gzip, chunked", b"xchunked", b"identity"],
    b"connection": CONNECTIONS,
    b"expect": [b"100-continue", b"100-Continue", b"other"],
    b"azureml-model-deployment": [b"blue", b"green", b"grey"],
    b"origin": [b"https://a.test", b"https://x.b.test", b"https://evil.test", b"null"],
    b"upgrade": [b"websocket", b"WebSocket", b"h2c"],
    b"te": [b"trailers", b"gzip"],
    b"keep-alive": [b"timeout=5, max=9", b"timeout=5, max=8"],
    b"x-forwarded-for": [b"10.9.9.9", b"10.9.9.8", b"1.1.1.1, 2.2.2.2"],
    b"x-forwarded-proto": [b"https", b"http", b"HTTPS", b"ftp", b"https, http"],
    b"x-forwarded-host": [b"named", b"named:8", b"a b", b"one, two"],
    b"x-forwarded-prefix": [b"/outer", b"/", b"outer", b"/a/b/"],
    b"forwarded": [b"for=1.1.1.1"],
    b"x-ms-client-request-id": [b"me", b"you", b'a/b"c', b"!!"],
    b"x-ms-request-id": [b"mine"],
    b"content-type": [b"text/plain", b"application/json"],
    b"x-http-method-override": [b"DELETE"],
    b"location": [b"/there", b"/here", b"http://front/x", b"http://127.0.0.1:80/y"],
    b"date": [b"Sun, 22 Nov 2026 18:00:01 GMT", b"x"],
    b"access-control-allow-origin": [b"*"],
    b"access-control-expose-headers": [b"X-Id"],
    b"x_forwarded_for": [b"3.3.3.3"],
    b"content_length": [b"7"],
}
NAMES = [
    *VALUES,
    b"x-a",
    b"x-b",
    b"x-id",
    b"traceparent",
    b"via",
    b"server",
    b"trailer",
    b"proxy-connection",
    b"x:y",
    b"x y",
]
PLAIN = [b"1", b"22", b"a: b", b"caf\xe9", b"a  b", b"x" * 60, b"%b", b"{0}", b"a:b", b":", b"\xff"]
ODD = [
    b"",
    b" ",
    b"\t",
    b"\t1",
    b"1\t",
    b" 1",
    b"1 ",
    b"a\tb",
    b"\x001",
    b"a\rb",
    b"a\nb",
    b"a\r\n b",
    b"a\x7fb",
    b"1\r\nX-C: 2",
]
SEPARATORS = [b":", b":  ", b" : ", b":\t", b" ", b"", b": \t", b" :", b"\r\n: "]
OCTETS = [bytes([octet]) for octet in (*range(0, 33), 58, 63, 35, 127, 128, 255)] + [
    b"\r\n",
    b"\r\n\r\n",
    b": ",
    b"\r\n ",
]
METHODS = [b"GET", b"HEAD", b"POST", b"OPTIONS", b"PUT", b"CONNECT", b"get"]
TARGETS = [
    *(IRIS, OPEN, PAIR, IRIS + b"/", b"/", b"/healthz", b"*", b"/api/v1/service/pair/versions/green/score"),
    *(b"http://front" + IRIS, b"http://other" + OPEN, b"/api/v1/service/open/a/b", b"/api/v1/service/none/score"),
]
QUERIES = [b"", b"?", b"?a=1", b"?a=2&b=3", b"?a?b", b"?a#b", b"?\xe9", b"? b", b"?a\tb", b"?%20", b"?" + b"q" * 9000]
STATUSES = [
    b"200 OK",
    b"201 Created",
    b"204 No",
    b"304 Not",
    b"500 Oops",
    b"302 Found",
    b"100 Go",
    b"103 Hint",
    b"200",
    b"99 x",
]
BODIES = [b"hello", b"", b"hello hello!", b"5\r\nhello\r\n0\r\n\r\n", b"hel", b"0\r\n\r\n"]
NEXT = b"GET /api/v1/service/open/next HTTP/1.1\r\nHost: front\r\n\r\n"
"""A request that a wrong end of the body before it would bring to light, or hide."""


def request(chance: Random) -> Message:
    """A request: two in five differ from a usual one in plain values only."""
    line, fields = chance.choice(REQUESTS)
    for _ in range(chance.choice((0, 0, 0, 1, 2))):
        line = _request_line(chance, line)
    return Message(_head(chance, line, fields), _body(chance, fields) + chance.choice((b"", b"", b"", NEXT)))


def response(chance: Random) -> Message:
    """An answer of a replica, changed likewise."""
    line, fields = chance.choice(RESPONSES)
    if chance.random() < 0.2:
        line = chance.choice((b"HTTP/1.1 ", b"HTTP/1.1 ", b"HTTP/1.0 ", b"HTTP/2.0 ")) + chance.choice(STATUSES)
    return Message(_head(chance, line, fields), _body(chance, fields) + chance.choice((b"", b"", b"", b"x")))


def _request_line(chance: Random, line: bytes) -> bytes:
    method, target, version = line.split(b" ", 2)
    path, mark, query = target.partition(b"?")
    match chance.randrange(5):
        case 0:
            method = chance.choice(METHODS)
        case 1:
            path = chance.choice(TARGETS)
        case 2:
            version = chance.choice((b"HTTP/1.0", b"HTTP/1.1", b"HTTP/1.2", b"http/1.1", b"HTTP/1.1 "))
        case _:
            return b"%b %b%b %b" % (method, path, chance.choice(QUERIES), version)
    return b"%b %b%b%b %b" % (method, path, mark, query, version)


def _head(chance: Random, line: bytes, fields: list[Line]) -> bytes:
    lines = list(fields)
    for index, (name, separator, _) in enumerate(lines):
        if name.lower() not in VALUES and chance.random() < 0.5:
            lines[index] = (name, separator, chance.choice(PLAIN))
    for _ in range(chance.choice((0, 0, 1, 1, 2, 3))):
        _change(chance, lines)
    raw = b"".join([line, b"\r\n", *(b"%b%b%b\r\n" % each for each in lines), b"\r\n"])
    if chance.random() < 0.15:
        at = chance.randrange(len(raw) - 3)
        raw = raw[:at] + chance.choice(OCTETS) + raw[at + chance.randrange(3) :]
    return raw


def _change(chance: Random, lines: list[Line]) -> None:
    """One change of a field, which may be harmless."""
    if not lines:
        return
    at = chance.randrange(len(lines))
    name, separator, value = lines[at]
    match chance.randrange(12):
        case 0 | 1 | 2:
            lines[at] = (name, separator, chance.choice(VALUES.get(name.lower(), PLAIN)))
        case 3:
            lines[at] = (name, separator, chance.choice(ODD))
        case 4:
            lines[at] = (name, separator, value + chance.choice((b" ", b"\t", b",", b"; q")))
        case 5:
            lines[at] = (name, chance.choice(SEPARATORS), value)
        case 6:
            renamed = (
                name.upper(),
                name.replace(b"-", b"_"),
                name + b" ",
                name + b":x",
                name[1:],
                chance.choice(NAMES),
            )
            lines[at] = (chance.choice(renamed), separator, value)
        case 7:
            del lines[at]
        case 8:
            lines.insert(
                chance.randrange(len(lines) + 1), (name, separator, chance.choice((value, *VALUES.get(name, PLAIN))))
            )
        case 9:
            other = chance.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        case _:
            added = chance.choice(NAMES)
            lines.insert(at, (added, b": ", chance.choice(VALUES.get(added, PLAIN))))


def _body(chance: Random, fields: list[Line]) -> bytes:
    """Mostly the body that the unchanged fields announce."""
    if chance.random() < 0.3:
        return chance.choice(BODIES)
    if any(name.lower() == b"transfer-encoding" for name, _, _ in fields):
        return BODIES[3]
    length = next((int(value) for name, _, value in fields if name.lower() == b"content-length"), 0)
    return (b"hello hello!")[:length]


def cut(chance: Random, message: Message) -> list[bytes]:
    """The message, usually in one piece."""
    data = message.head + message.body
    if chance.random() < 0.85:
        return [data]
    at = chance.choice((len(message.head), chance.randrange(len(data) + 1)))
    return [piece for piece in (data[:at], data[at:]) if piece]

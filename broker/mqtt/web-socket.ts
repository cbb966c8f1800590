// web-socket: MQTT over WebSocket (MQTT 3.1.1 clause 6): the HTTP upgrade, and a WebSocket as the
// stream of bytes that MQTT wants.
// Path: listeners → [web-socket] → session. Touches: the socket that it is given.

import { createServer } from "node:http";
import { Duplex } from "node:stream";
import { type RawData, type WebSocket, WebSocketServer } from "ws";
import { reasonOf } from "#contract/errors";
import { printable } from "#runtime/printable";

export interface WebSocketLimits {
  readonly packet_bytes_max: number;
  readonly packet_before_connect_bytes_max: number;
}

/** What becomes of one connection: a stream, or the reason why not. */
export interface Upgrade {
  readonly opened: (stream: Duplex) => void;
  readonly refused: (reason: "origin" | "websocket", why: string) => void;
}

/** Room in a message for WebSocket's framing and for small packets beside the largest one. */
const MESSAGE_SLACK_BYTES = 65_536;

/** A message may come in any number of pieces, but not in so many that they weigh more than it. */
const PIECES_MIN = 1_024;
const PIECE_BYTES_MIN = 512;

/** How long a client may take to answer a close frame before its socket is destroyed. */
const CLOSE_MS_MAX = 5_000;

/** With more than this waiting to be written, pings go unanswered. */
const PONG_BACKLOG_BYTES_MAX = 65_536;

/** The subprotocols that MQTT clients name, the best first; the second is MQTT 3.1's. */
const SUBPROTOCOLS = ["mqtt", "mqttv3.1"] as const;

// RFC 6455 §7.4.1
const CLOSE_NORMAL = 1000;
const CLOSE_UNSUPPORTED_DATA = 1003;

/** Takes sockets, secured or not, and upgrades each to a WebSocket; listens on nothing itself. */
export class WebSocketDoor {
  readonly #limits: WebSocketLimits;
  readonly #http = createServer();
  readonly #server: WebSocketServer;
  readonly #upgrades = new WeakMap<Duplex, Upgrade>();

  /** `origins`: whose pages may connect besides those of the very host that they connect to. */
  constructor(limits: WebSocketLimits, origins: readonly string[] = []) {
    this.#limits = limits;
    this.#server = createWebSocketServer(limits);
    this.#http.on("request", (request, response) => {
      const body = "This address speaks MQTT over WebSocket.\n";
      const headers = { connection: "close", upgrade: "websocket", "content-type": "text/plain" };
      response.writeHead(426, headers).end(body);
      this.#refuse(request.socket, "websocket", "a request without an upgrade");
    });
    this.#http.on("clientError", (error, socket) => {
      answer(socket, "400 Bad Request", "");
      this.#refuse(socket, "websocket", reasonOf(error));
    });
    this.#http.on("upgrade", (request, socket, head) => {
      const stranger = strangeOrigin(request.headers, origins);
      if (stranger !== undefined) {
        answer(socket, "403 Forbidden", "this page's origin is not among the listener's origins");
        this.#refuse(socket, "origin", `${stranger} is not among the listener's origins`);
        return;
      }
      let stream: Duplex | undefined;
      // Done or refused when the call returns: nothing in it waits.
      this.#server.handleUpgrade(request, socket, head, (webSocket) => {
        stream = new WebSocketStream(webSocket, socket, this.#limits);
      });
      if (stream === undefined) this.#refuse(socket, "websocket", "an upgrade not to MQTT");
      else this.#upgrades.get(socket)?.opened(stream);
    });
  }

  /** Reads the client's HTTP request from `socket`; nobody else may read there any more. */
  upgrade(socket: Duplex, upgrade: Upgrade): void {
    this.#upgrades.set(socket, upgrade);
    this.#http.emit("connection", socket);
  }

  #refuse(socket: Duplex, reason: "origin" | "websocket", why: string): void {
    this.#upgrades.get(socket)?.refused(reason, why);
  }
}

/** The last that is said on this socket, in HTTP. */
function answer(socket: Duplex, status: string, body: string): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const head = `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Type: text/plain`;
  const length = `Content-Length: ${Buffer.byteLength(body)}`;
  socket.end(`${head}\r\n${length}\r\n\r\n${body}`, () => socket.destroy());
}

/** How much of an origin, which may be anything, a log line shows. */
const ORIGIN_SHOWN_MAX = 100;

/**
 * Any page that a browser shows may ask it to connect, to a broker in its own network too, and the
 * browser says only whose page it is (RFC 6455 §10.2). Undefined where that is allowed: the page is
 * this very host's, or of a listed origin, or there is no browser. Otherwise the origin, for a log.
 */
function strangeOrigin(
  { origin, host, "sec-websocket-origin": olderOrigin }: NodeJS.Dict<string | string[]>,
  origins: readonly string[],
): string | undefined {
  const named = origin ?? olderOrigin;
  if (named === undefined || origins.includes("*")) return undefined;
  const text = String(named);
  if (origins.includes(text) || isSameHost(text, String(host))) return undefined;
  return printable(text.slice(0, ORIGIN_SHOWN_MAX));
}

function isSameHost(origin: string, host: string): boolean {
  if (!URL.canParse(origin)) return false;
  const page = new URL(origin);
  // Read by the page's scheme: that says which port goes without saying.
  const here = `${page.protocol}//${host}`;
  return page.host !== "" && URL.canParse(here) && new URL(here).host === page.host;
}

function createWebSocketServer(limits: WebSocketLimits): WebSocketServer {
  const maxPayload = limits.packet_bytes_max + MESSAGE_SLACK_BYTES;
  const pieces = PIECES_MIN + Math.ceil(maxPayload / PIECE_BYTES_MIN);
  const options = {
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    // ws would answer however much waits to be written; see WebSocketStream.
    autoPong: false,
    maxPayload,
    maxFragments: pieces,
    maxBufferedChunks: pieces,
    closeTimeout: CLOSE_MS_MAX,
    verifyClient: ({ req }: { req: { headers: NodeJS.Dict<string | string[]> } }, tell: Tell) =>
      tell(
        subprotocolOf(offered(req.headers)) !== undefined,
        400,
        "the WebSocket's subprotocol must be mqtt",
      ),
    handleProtocols: (protocols: Set<string>) => subprotocolOf(protocols) ?? false,
  } as const;
  return new WebSocketServer(options);
}

type Tell = (ok: boolean, code?: number, message?: string) => void;

/** The client names `mqtt` among its subprotocols [MQTT-6.0.0-3], the server answers with it
 * [MQTT-6.0.0-4]. */
function subprotocolOf(names: ReadonlySet<string>): string | undefined {
  return SUBPROTOCOLS.find((name) => names.has(name));
}

function offered(headers: NodeJS.Dict<string | string[]>): Set<string> {
  const names = String(headers["sec-websocket-protocol"] ?? "").split(",");
  return new Set(names.map((name) => name.trim()));
}

/**
 * A WebSocket as a stream of bytes. Messages and MQTT packets need not coincide [MQTT-6.0.0-2]: what
 * waits to be written goes out as one message.
 */
export class WebSocketStream extends Duplex {
  readonly #webSocket: WebSocket;
  /** The client broke the rules; ws tells it so and brings the socket down by itself. */
  #broken = false;
  #answered = false;

  constructor(webSocket: WebSocket, socket: Duplex, limits: WebSocketLimits) {
    super({ allowHalfOpen: false });
    this.#webSocket = webSocket;
    webSocket.on("message", (data, isBinary) => this.#receive(data, isBinary));
    // A client that reads nothing is owed no pong: it would wait here, with all others before it.
    webSocket.on("ping", (data) => {
      if (webSocket.bufferedAmount < PONG_BACKLOG_BYTES_MAX) webSocket.pong(data);
    });
    webSocket.on("close", () => {
      if (this.destroyed) return;
      this.push(null);
      // Ended by us: nobody need read what is left.
      if (this.writableEnded) this.destroy();
    });
    webSocket.on("error", (error) => {
      this.#broken = true;
      this.destroy(error);
    });
    this.#limitUntilAnswered(socket, limits.packet_before_connect_bytes_max);
  }

  #receive(data: RawData, isBinary: boolean): void {
    if (this.destroyed) return;
    if (!isBinary) {
      // MQTT goes in binary frames; any other closes the connection [MQTT-6.0.0-1].
      this.#broken = true;
      this.#webSocket.close(CLOSE_UNSUPPORTED_DATA, "MQTT goes in binary frames");
      this.destroy(new Error("a WebSocket message that is text"));
    } else if (Buffer.isBuffer(data) && !this.push(data)) {
      this.#webSocket.pause();
    }
  }

  /**
   * ws holds a message until it is whole. Until the broker has said its first word, its CONNACK, a
   * stranger gets no more of that than of a packet.
   */
  #limitUntilAnswered(socket: Duplex, packetBytesMax: number): void {
    const bytesMax = packetBytesMax + MESSAGE_SLACK_BYTES;
    let unfinishedBytes = 0;
    const onMessage = () => {
      unfinishedBytes = 0;
    };
    const onData = (chunk: Buffer) => {
      if (this.#answered) {
        socket.removeListener("data", onData);
        this.#webSocket.removeListener("message", onMessage);
      } else if (unfinishedBytes > bytesMax) {
        this.destroy(new Error(`a WebSocket message over ${bytesMax} bytes before CONNACK`));
      } else {
        unfinishedBytes += chunk.length;
      }
    };
    this.#webSocket.on("message", onMessage);
    // In front of ws, which may find the message whole in these very bytes.
    socket.prependListener("data", onData);
  }

  override _read(): void {
    if (this.#webSocket.isPaused) this.#webSocket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error) => void): void {
    this.#answered = true;
    this.#webSocket.send(chunk, done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error) => void): void {
    this._write(Buffer.concat(chunks.map(({ chunk }) => chunk)), "binary", done);
  }

  override _final(done: () => void): void {
    this.#webSocket.close(CLOSE_NORMAL);
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (!this.#broken) this.#webSocket.terminate();
    done(error);
  }
}

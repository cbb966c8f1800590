// ready: is a part there for those who need it?
// Path: part → [ready]. Touches: loopback sockets.

import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const PROBE_MS_MAX = 2_000;
const BETWEEN_MS = 50;

/** Does something accept connections on 127.0.0.1:port? */
export function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1", timeout: PROBE_MS_MAX });
    const end = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once("connect", () => end(true));
    socket.once("error", () => end(false));
    socket.once("timeout", () => end(false));
  });
}

/** Does a Redis let `user` in, and answer PING? One that still loads its file does not. */
export function redisAnswers(port: number, user: string, password: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1", timeout: PROBE_MS_MAX });
    let answer = "";
    const end = () => {
      socket.destroy();
      resolve(answer === "+OK\r\n+PONG\r\n");
    };
    socket.once("connect", () => socket.write(`AUTH ${user} ${password}\r\nPING\r\n`));
    socket.on("data", (chunk) => {
      answer += chunk.toString("latin1");
      if (answer.split("\r\n").length > 2) end();
    });
    socket.once("error", end);
    socket.once("timeout", end);
    socket.once("close", end);
  });
}

/** Does `http://127.0.0.1:port/path` answer 200? */
export async function answersOk(port: number, path: string): Promise<boolean> {
  try {
    const signal = AbortSignal.timeout(PROBE_MS_MAX);
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { signal });
    await response.arrayBuffer();
    return response.ok;
  } catch {
    return false;
  }
}

/** Asks `check` until it says true; false when that takes longer than `msMax`. */
export async function becomes(check: () => Promise<boolean>, msMax: number): Promise<boolean> {
  const endAt = performance.now() + msMax;
  while (!(await check())) {
    if (performance.now() > endAt) return false;
    await sleep(BETWEEN_MS);
  }
  return true;
}

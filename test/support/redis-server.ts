// redis-server: a real Redis for one test.
// Path: tests. Touches: a temporary folder, a loopback port.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import type { TestContext } from "node:test";
import { Redis } from "ioredis";
import { temporaryFolder } from "./temporary-folder.ts";
import { waitFor } from "./wait-for.ts";

export interface RedisServer {
  readonly port: number;
  readonly url: string;
  readonly client: Redis;
  /** Ends it as a power cut of the process would: SIGKILL. */
  kill(): Promise<void>;
  start(): Promise<void>;
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return typeof address === "object" && address ? address.port : 0;
}

/** Starts redis-server with append-only file, ended with the test. */
export async function startRedis(t: TestContext, ...options: string[]): Promise<RedisServer> {
  const folder = temporaryFolder(t);
  const port = await freePort();
  const password = options[options.indexOf("--requirepass") + 1];
  const login = options.includes("--requirepass") && password ? { password } : {};
  const client = new Redis(port, "127.0.0.1", { maxRetriesPerRequest: null, ...login });
  client.on("error", () => {});
  let child: ChildProcess | undefined;
  const start = async () => {
    const common = ["--port", String(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""];
    child = spawn("redis-server", [...common, "--appendonly", "yes", ...options], {
      stdio: "ignore",
    });
    await waitFor("redis to answer", () => client.ping(), 10_000);
  };
  const kill = async () => {
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  };
  t.after(async () => {
    client.disconnect();
    await kill();
  });
  await start();
  return { port, url: `redis://127.0.0.1:${port}`, client, kill, start };
}

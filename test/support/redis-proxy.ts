// redis-proxy: a road to a Redis on which answers get lost, and on which all stands still.
// Path: tests. Touches: a loopback port.

import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import type { TestContext } from "node:test";

export interface RedisProxy {
  readonly url: string;
  /** Commands arrive, then the connection breaks: from the next answer on, and no new ones. */
  loseAnswers(): void;
  serveAgain(): Promise<void>;
  /** Nothing arrives any more on the connections that there are, and nothing ends. */
  freeze(): void;
}

export async function startRedisProxy(t: TestContext, redisPort: number): Promise<RedisProxy> {
  const open = new Set<Socket>();
  let isLosing = false;
  const server = createServer((client) => {
    const redis = connect(redisPort, "127.0.0.1");
    for (const socket of [client, redis]) {
      open.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        open.delete(socket);
        client.destroy();
        redis.destroy();
      });
    }
    client.pipe(redis);
    redis.on("data", (answer) => (isLosing ? client.destroy() : client.write(answer)));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" && address ? address.port : 0;
  t.after(() => {
    server.close();
    for (const socket of open) socket.destroy();
  });
  return {
    url: `redis://127.0.0.1:${port}`,
    loseAnswers() {
      isLosing = true;
      server.close();
    },
    async serveAgain() {
      isLosing = false;
      server.listen(port, "127.0.0.1");
      await once(server, "listening");
    },
    freeze() {
      for (const socket of open) socket.unpipe().pause();
    },
  };
}

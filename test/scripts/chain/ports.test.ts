// ports.test: who holds a port is found and named.
// Path: main → [ports] → chain. Touches: loopback sockets, /proc.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { test } from "node:test";
import {
  DEFAULT_PORTS,
  freePorts,
  gatewayPorts,
  holderOf,
  isFree,
  PORT_NAMES,
  portsFrom,
  takenPorts,
} from "../../../scripts/chain/ports.ts";

test("no two parts of a chain want the same port", () => {
  for (const ports of [DEFAULT_PORTS, portsFrom(20_000)]) {
    const third = Object.values(gatewayPorts(ports, 3));
    const all = [...Object.values(ports), ...Object.values(gatewayPorts(ports, 2)), ...third];
    // The second gateway has the first of the ports that are kept for further ones.
    assert.equal(new Set(all).size, PORT_NAMES.length + 5);
  }
});

test("free ports are free, and out of the way of outgoing connections", async () => {
  const ports = Object.values(await freePorts());
  assert.ok(ports.every((port) => port >= 10_000 && port < 32_768));
  assert.ok((await Promise.all(ports.map(isFree))).every(Boolean));
});

for (const host of ["127.0.0.1", "0.0.0.0", "::"]) {
  test(`a port that is held on ${host} is named with its use and its holder`, async () => {
    const ports = await freePorts();
    const server = createServer().listen(ports.wss, host);
    await once(server, "listening");
    const taken = await takenPorts(ports, PORT_NAMES);
    server.close();
    assert.equal(taken.length, 1);
    assert.match(
      taken[0] ?? "",
      /^\d+ \(HAProxy, WSS of the cluster\) is held by node .*ports\.test/,
    );
    assert.match(taken[0] ?? "", new RegExp(`^${ports.wss} .*\\(pid ${process.pid}\\)$`));
  });
}

test("a port that nobody holds has no holder that can be named", async () => {
  const { gateway } = await freePorts();
  assert.equal(holderOf(gateway), "a process of another user");
});

// status.test: what the status server answers, and to whom it listens.
// Path: test. Touches: loopback.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { request } from "node:http";
import { connect, createServer } from "node:net";
import { type TestContext, test } from "node:test";
import type { StatusDocument } from "#contract/status";
import { createLog } from "#runtime/log";
import { Metrics } from "#runtime/metrics";
import { startStatus } from "../../../broker/status/status.ts";
import { cloudDocument, gatewayDocument } from "./documents.ts";

const log = createLog({ level: "error", process: "test" });
const ready = gatewayDocument(Date.now());

async function start(t: TestContext, document: () => StatusDocument = () => ready) {
  const metrics = new Metrics();
  const status = await startStatus({ address: "127.0.0.1:0", metrics, log, document });
  t.after(() => status.close());
  return { ...status, metrics };
}

async function ask(address: string, path: string, method = "GET") {
  const asked = request(`http://${address}${path}`, { method, agent: false });
  asked.end();
  const [response] = await once(asked, "response");
  const chunks: Buffer[] = await response.toArray();
  const { statusCode: code, headers } = response;
  return { code, headers, body: Buffer.concat(chunks).toString() };
}

test("says where it listens", async (t) => {
  assert.match((await start(t)).address, /^127\.0\.0\.1:[1-9]\d*$/);
});

test("gives the document as it is at each look", async (t) => {
  let connections = 1;
  const { address } = await start(t, () => ({ ...ready, connections }));
  const first = await ask(address, "/status.json");
  assert.equal(first.headers["content-type"], "application/json");
  assert.deepEqual(JSON.parse(first.body), { ...ready, connections: 1 });
  connections = 2;
  assert.equal(JSON.parse((await ask(address, "/status.json")).body).connections, 2);
});

test("gives the metrics in Prometheus' text format", async (t) => {
  const { address, metrics } = await start(t);
  metrics.counter("sluice_x_total", "x")();
  const { code, headers, body } = await ask(address, "/metrics");
  assert.equal(code, 200);
  assert.match(headers["content-type"], /^text\/plain; version=0\.0\.4/);
  assert.match(body, /^sluice_x_total 1$/m);
  assert.match(body, /^sluice_process_resident_bytes \d+$/m);
});

test("answers /healthz as long as the loop runs, ready or not", async (t) => {
  const { address } = await start(t, () => assert.fail("asked for the document"));
  const { code, body } = await ask(address, "/healthz");
  assert.deepEqual([code, body], [200, "ok\n"]);
});

test("answers /readyz with 200, or with 503 and each reason on its line", async (t) => {
  let document: StatusDocument = { ...ready, reasons: ["a remark"] };
  const { address } = await start(t, () => document);
  let { code, body } = await ask(address, "/readyz");
  assert.deepEqual([code, body], [200, "ready\n"]);
  document = { ...ready, ready: false, reasons: ["no\ncloud", "outbox is full"] };
  ({ code, body } = await ask(address, "/readyz"));
  assert.deepEqual([code, body], [503, "no cloud\noutbox is full\n"]);
  document = { ...ready, ready: false, reasons: [] };
  ({ code, body } = await ask(address, "/readyz"));
  assert.deepEqual([code, body], [503, "not ready\n"]);
});

test("answers HEAD as GET, without the body", async (t) => {
  const { address } = await start(t);
  for (const path of ["/", "/status.json", "/metrics", "/healthz", "/readyz"]) {
    const [got, head] = [await ask(address, path), await ask(address, path, "HEAD")];
    assert.equal(head.code, got.code);
    assert.equal(head.body, "");
    const length = Number(head.headers["content-length"]);
    // The metrics of the process itself have other digits a moment later.
    if (path === "/metrics") assert.ok(length > 0);
    else assert.equal(length, Buffer.byteLength(got.body));
    assert.equal(head.headers["content-type"], got.headers["content-type"]);
  }
});

test("refuses other methods with 405 and other paths with 404", async (t) => {
  const { address } = await start(t);
  for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) {
    const { code, headers } = await ask(address, "/readyz", method);
    assert.deepEqual([code, headers.allow], [405, "GET, HEAD"]);
  }
  for (const path of ["/no", "/status.json/", "//", "/../etc/passwd", "/Metrics", "/index.html"]) {
    assert.equal((await ask(address, path)).code, 404, path);
  }
  assert.equal((await ask(address, "/healthz?x=1")).code, 200);
});

test("tells browsers to keep, guess, frame and load nothing", async (t) => {
  const { address } = await start(t);
  for (const path of ["/", "/status.json", "/no"]) {
    const { headers } = await ask(address, path);
    assert.equal(headers["cache-control"], "no-store");
    assert.equal(headers["x-content-type-options"], "nosniff");
    assert.match(headers["content-security-policy"], /default-src 'none'.*frame-ancestors 'none'/);
    assert.equal(headers["access-control-allow-origin"], undefined);
  }
});

test("serves a page whose script and style the policy knows by hash, and nothing else", async (t) => {
  const { headers, body } = await ask((await start(t)).address, "/");
  assert.match(headers["content-type"], /^text\/html/);
  for (const tag of ["script", "style"]) {
    const blocks = [...body.matchAll(RegExp(`<${tag}>(.*?)</${tag}>`, "gs"))];
    assert.equal(blocks.length, 1);
    const hash = createHash("sha256")
      .update(blocks[0]?.[1] ?? "")
      .digest("base64");
    assert.ok(headers["content-security-policy"].includes(`${tag}-src 'sha256-${hash}'`));
  }
  assert.doesNotMatch(body, /innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|https?:/);
  assert.doesNotMatch(body, /\s(style|on\w+)=/);
});

test("answers 500 when its broker cannot say how it is, and goes on", async (t) => {
  const { address } = await start(t, () => {
    throw new Error("secret detail");
  });
  const { code, body } = await ask(address, "/status.json");
  assert.equal(code, 500);
  assert.doesNotMatch(body, /secret/);
  assert.equal((await ask(address, "/healthz")).code, 200);
});

test("names the address and the reason when the port is taken, in one line", async (t) => {
  const other = createServer().listen(0, "127.0.0.1");
  await once(other, "listening");
  t.after(() => other.close());
  const { port } = other.address() as { port: number };
  const address = `127.0.0.1:${port}`;
  const options = { address, metrics: new Metrics(), log, document: () => ready };
  await assert.rejects(startStatus(options), {
    name: "SluiceError",
    code: "LISTEN_FAILED",
    message: `[status] address ${address} cannot be listened on: another process listens there`,
  });
});

test("closes at once, though connections are open", async () => {
  const options = { metrics: new Metrics(), log, document: () => ready };
  const status = await startStatus({ ...options, address: "127.0.0.1:0" });
  const socket = connect(Number(status.address.split(":")[1]), "127.0.0.1");
  await once(socket, "connect");
  const ended = once(socket, "close");
  socket.on("error", () => {});
  await status.close();
  await ended;
});

test("ends what never becomes a request", { timeout: 30_000 }, async (t) => {
  const { address } = await start(t);
  const socket = connect(Number(address.split(":")[1]), "127.0.0.1");
  socket.write("GET / HTTP/1.1\r\n");
  const [said] = await once(socket, "data");
  assert.match(String(said), /^HTTP\/1\.1 408 /);
  socket.destroy();
});

test("refuses headers over its limit", async (t) => {
  const { address } = await start(t);
  const asked = request(`http://${address}/`, { headers: { x: "x".repeat(9_000) }, agent: false });
  asked.end();
  const [response] = await once(asked, "response");
  assert.equal(response.statusCode, 431);
  response.resume();
});

test("tells a cloud broker's gateways", async (t) => {
  const document = cloudDocument(Date.now());
  const { address } = await start(t, () => document);
  assert.deepEqual(JSON.parse((await ask(address, "/status.json")).body), document);
});

// readme.test: the driver that the page on writing drivers shows is a driver, and works.
// Path: test → firmware-bridge/drivers/README.md. Touches: nothing.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import * as v from "valibot";
import { fakeHost, fakeLink } from "../fake-host.ts";
import { scale } from "./scale.ts";

const read = (path: string) => readFileSync(new URL(path, import.meta.url), "utf8");

const settings = v.parse(scale.settings, {});

test("shows the example that is tested here, with its imports as in a driver's folder", () => {
  const page = read("../../../firmware-bridge/drivers/README.md");
  const example = read("./scale.ts")
    .replaceAll("../../../firmware-bridge/drivers/", "../")
    .replaceAll("../../../firmware-bridge/", "../../");
  const blocks = [...page.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, block]) => block);
  // Its imports get shorter there, and may fit on one line.
  const lineless = (text: string) => text.replace(/\s+/g, " ");
  assert.ok(blocks.some((block) => block && lineless(block) === lineless(example)));
});

test("shows what the example makes of a line", async () => {
  const host = fakeHost();
  const driver = scale.create(settings, host);
  await driver.run(fakeLink(["ST,GS,+0012", ".34kg\r\n"]).link);
  assert.deepEqual(host.known("box").published, ["weight=12.34", "stable=true"]);
});

test("shows an example that counts what it does not know, and takes one command", async () => {
  const host = fakeHost();
  const { link, written } = fakeLink(["hello\r\n", `${"x".repeat(70)}\r\n`, "US,NT,- 1.50kg\r\n"]);
  await scale.create(settings, host).run(link);
  const box = host.known("box");
  assert.deepEqual(host.faults, ["a line is no weight", "a line is too long"]);
  assert.deepEqual(box.published, ["weight=-1.5", "stable=false"]);
  assert.deepEqual(await box.command("", "tare"), { state: "done" });
  const reason = "a scale takes no command but tare";
  assert.deepEqual(await box.command("1", "led"), { state: "failed", reason });
  assert.equal(String(written), "T\r\n");
  assert.deepEqual(
    box.about.channels?.map(({ name }) => name),
    ["weight", "stable", "tare"],
  );
});

test("names every driver there is", () => {
  const table = read("../../../firmware-bridge/drivers/drivers.ts");
  const [, names = ""] = /DRIVERS: [^=]+ = \{([^}]+)\}/.exec(table) ?? [];
  const page = read("../../../firmware-bridge/drivers/README.md");
  const drivers = [...names.matchAll(/^ {2}"?([a-z-]+)"?[,:]/gm)].map(([, name]) => name);
  assert.ok(drivers.length > 0);
  for (const name of drivers) assert.ok(page.includes(`| [\`${name}\`](`), name);
});

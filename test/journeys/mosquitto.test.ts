import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { promisify } from "node:util";
import type { Chain } from "../../scripts/chain/chain.ts";
import { NODE, programOf } from "../../scripts/chain/plans.ts";
import { startChain } from "./support/journey.ts";

const run = promisify(execFile);

const USER = "meter";
const PASSWORD = "correct horse";

/** What mosquitto_pub says on stderr when it is refused; the test fails when it is not. */
async function refusal(args: string[]): Promise<string> {
  const result = await run("mosquitto_pub", args).then(
    () => undefined,
    (fault: { stderr: string }) => fault.stderr,
  );
  assert.notEqual(result, undefined, `mosquitto_pub ${args.join(" ")} was not refused`);
  return result ?? "";
}

/** Publishes with one mosquitto client and receives with another, both by `address`. */
async function exchange(address: string[], payload: string): Promise<string> {
  const options = [...address, "-t", "journey/5", "-q", "1"];
  // To a pipe it would write nothing before its end.
  const lineByLine = ["-oL", "mosquitto_sub"];
  const subscriber = spawn("stdbuf", [...lineByLine, ...options, "-d", "-C", "1", "-W", "20"]);
  let output = "";
  subscriber.stdout.on("data", (chunk) => {
    output += chunk;
  });
  const exited = once(subscriber, "exit");
  while (!output.includes("SUBACK")) await once(subscriber.stdout, "data");
  await run("mosquitto_pub", [...options, "-m", payload]);
  const [code] = await exited;
  assert.equal(code, 0, output);
  return (
    output
      .trim()
      .split("\n")
      .find((line) => line === payload) ?? output
  );
}

async function addUser(chain: Chain): Promise<void> {
  const settings = chain.folder.settingsOf("gateway.toml");
  const sluice = programOf("sources", "sluice");
  const child = spawn(NODE, [sluice, "user", "add", USER, "--config", settings], {
    stdio: ["pipe", "ignore", "inherit"],
  });
  child.stdin.end(`${PASSWORD}\n`);
  const [code] = await once(child, "exit");
  assert.equal(code, 0);
}

test("mosquitto's clients work against the gateway by TCP, by TLS and with a password", async (t) => {
  const anonymousNever = { access: { anonymous: "never" } };
  const chain = await startChain(t, { gatewaySettings: anonymousNever });
  const tcp = ["-h", "127.0.0.1", "-p", String(chain.ports.gateway)];
  const tls = [
    ...["-h", "localhost", "-p", String(chain.ports.gatewayTls)],
    ...["--cafile", chain.certificates.ca],
  ];
  const login = ["-u", USER, "-P", PASSWORD];
  await addUser(chain);

  assert.equal(await exchange([...tcp, ...login], "by tcp"), "by tcp");
  assert.equal(await exchange([...tls, ...login], "by tls"), "by tls");

  const publish = ["-t", "journey/5", "-m", "x"];
  const wrong = ["-u", USER, "-P", "wrong"];
  assert.match(await refusal([...tcp, ...wrong, ...publish]), /bad user name or password/);
  assert.match(await refusal([...tls, ...wrong, ...publish]), /bad user name or password/);
  assert.match(await refusal([...tcp, "-u", "nobody", "-P", "x", ...publish]), /bad user name/);
  assert.match(await refusal([...tcp, ...publish]), /not authori[sz]ed/);
});

// brokers: how each of the brokers that are compared is started.
// Path: broker-process → [brokers]. Touches: nothing.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "smol-toml";
import { merged } from "../chain/settings-files.ts";
import type { Setup } from "./scenario.ts";

export const BROKER_NAMES = ["mosquitto", "aedes", "sluice"] as const;
export type BrokerName = (typeof BROKER_NAMES)[number];

export interface BrokerOptions {
  /** Its own, and empty. */
  readonly folder: string;
  /** On 127.0.0.1; the one after it is its own, too. */
  readonly port: number;
  /** Beside its defaults. */
  readonly setup: Setup;
}

export interface BrokerPlan {
  readonly command: string;
  readonly args: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** Its settings, if it reads any. */
  readonly file?: { readonly path: string; readonly text: string };
}

const ROOT = join(import.meta.dirname, "../..");
const BUNDLE = join(ROOT, "dist/broker.cjs");
/** As the unit of systemd has them. */
const NODE_FLAGS = ["--max-old-space-size=128", "--min-semi-space-size=8"];

export function planOf(name: BrokerName, options: BrokerOptions): BrokerPlan {
  return PLANS[name](options);
}

/** Why it cannot be run here; undefined when it can. */
export function whyMissing(name: BrokerName): string | undefined {
  if (name === "sluice" && !existsSync(BUNDLE)) return "dist/broker.cjs is missing: npm run build";
  if (name === "mosquitto" && !mosquitto()) return "mosquitto is missing: scripts/setup bench";
  return undefined;
}

const PLANS: Readonly<Record<BrokerName, (options: BrokerOptions) => BrokerPlan>> = {
  mosquitto: ({ folder, port, setup }) => {
    const path = join(folder, "mosquitto.conf");
    const text = [
      `listener ${port} 127.0.0.1`,
      "allow_anonymous true",
      // Another user would no longer be killed with us.
      "user root",
      "log_dest stderr",
      // By default it drops what 1,000 wait in front of; the others would not.
      "max_queued_messages 0",
      ...(setup.mosquitto ?? []),
      "",
    ].join("\n");
    return { command: mosquitto() ?? "mosquitto", args: ["-c", path], file: { path, text } };
  },
  aedes: ({ port }) => ({
    command: process.execPath,
    args: [...NODE_FLAGS, join(import.meta.dirname, "aedes.mjs"), String(port)],
  }),
  sluice: ({ folder, port, setup }) => {
    const path = join(folder, "sluice.toml");
    const settings = {
      role: "gateway",
      name: "gw-bench",
      data: join(folder, "data"),
      listeners: [{ protocol: "mqtt", address: `127.0.0.1:${port}` }],
      status: { address: `127.0.0.1:${port + 1}` },
    };
    const text = stringify(merged(settings, setup.sluice ?? {}));
    const args = [...NODE_FLAGS, BUNDLE, "--config", path];
    const { environment = {} } = setup;
    return { command: process.execPath, args, environment, file: { path, text } };
  },
};

/** Debian keeps it where an ordinary user's PATH does not lead. */
function mosquitto(): string | undefined {
  const folders = [...(process.env.PATH ?? "").split(":"), "/usr/sbin", "/usr/local/sbin"];
  return folders.map((folder) => join(folder, "mosquitto")).find(existsSync);
}

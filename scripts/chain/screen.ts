// screen: what scripts/start says: where the parts are, and what to try.
// Path: main → [screen]. Touches: PATH, which it searches.

import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Chain } from "./chain.ts";
import { DEVICE, GATEWAY, ROOT, shellWord } from "./folder.ts";
import type { Part } from "./part.ts";
import { NODE, programOf } from "./plans.ts";

const NAME_WIDTH = 16;

/** A part that is ready, with its address and log. */
export function partLine(part: Part): string {
  return `${part.name.padEnd(NAME_WIDTH)}${part.address}\n${" ".repeat(NAME_WIDTH)}log ${part.logFile}`;
}

/** How a part is, for the status. */
export function partState(part: Part): string {
  const restarts = part.restartCount > 0 ? `, restarts: ${part.restartCount}` : "";
  const state = part.pid === undefined ? "down" : `pid ${part.pid}`;
  return `${part.name.padEnd(NAME_WIDTH)}${state}${restarts}`;
}

/** Commands to paste into another terminal. */
export function commandsToTry(chain: Chain, program: "bundles" | "sources"): string {
  const sluice = `${shellWord(NODE)} ${shellWord(programOf(program, "sluice"))}`;
  const config = `--config ${shellWord(chain.folder.settingsOf("gateway.toml"))}`;
  const start = chain.folder.startCommand;
  const local = [
    `Certificates, settings, data and logs are in ${chain.folder.path}.`,
    "In another terminal:",
    ...entry("what the gateway's own clients receive", `${sluice} tail '#' ${config}`),
    ...entry("how the gateway is", `${sluice} status ${config}`),
    ...entry("how its serial links are", `${sluice} links ${config}`),
  ];
  if (!chain.hasCloud) return [...local, ...entry("stop", `${start} stop`), ""].join("\n");
  const cloud = `localhost:${chain.ports.mqtts}`;
  const ca = shellWord(chain.certificates.ca);
  return [
    ...local,
    ...entry("what waits for the cloud", `${sluice} outbox ${config}`),
    ...entry("receive in the cloud", `${sluice} tail 'from/#' --address ${cloud} --tls --ca ${ca}`),
    ...entry("switch the device's lamp on, from the cloud", switchLamp(chain)),
    ...entry("pull the network out for 30 seconds", `${start} network off 30`),
    ...entry("stop", `${start} stop`),
    "Here: n pulls the network out and puts it back, s says how the chain is, q stops.",
    "",
  ].join("\n");
}

/** By whatever MQTT client there is: mosquitto's, or that in node_modules. */
function switchLamp({ ports, certificates }: Chain): string {
  const to = `-h localhost -p ${ports.mqtts} -q 1`;
  const what = `-t to/${GATEWAY}/serial/${DEVICE}/set/led -m on`;
  const ca = shellWord(certificates.ca);
  if (isInstalled("mosquitto_pub")) return `mosquitto_pub ${to} --cafile ${ca} ${what}`;
  const mqtt = shellWord(join(ROOT, "node_modules/mqtt/build/bin/mqtt.js"));
  return `${shellWord(NODE)} ${mqtt} pub -C mqtts ${to} --ca ${ca} ${what}`;
}

function isInstalled(command: string): boolean {
  return (process.env.PATH ?? "").split(":").some((folder) => existsSync(join(folder, command)));
}

function entry(what: string, command: string): string[] {
  return [`  ${what}:`, `    ${command}`];
}

// bridged: what a message costs the edge from its intake until the upstream has it.
// Path: custody-scenarios → [bridged] → bridge, load-process. Touches: what those touch.

import { type Bridge, type Cast, MosquittoBridge, SluiceBridge } from "./bridge.ts";
import { cpuUs } from "./cost.ts";
import type { BrokerJob, Figures } from "./job.ts";
import { runLoad } from "./load-process.ts";
import { isShort, type Jobless, type Site } from "./scenario.ts";

const CAST: Cast = "apart";
const PAYLOAD_BYTES = 100;

/** Messages at line rate, those that go before to warm the code, and those at an even pace. */
export function bridgedOf(seconds: number): { warm: number; messages: number; paced: number } {
  return isShort(seconds)
    ? { warm: 2_000, messages: 10_000, paced: 1_000 }
    : { warm: 20_000, messages: 100_000, paced: 10_000 };
}

export async function runBridged(site: Site): Promise<Figures> {
  const bridge = await startBridge(site);
  try {
    const { warm, messages, paced } = bridgedOf(site.seconds);
    await bridgedUs(site, bridge, fill(warm));
    const atLineRate = await bridgedUs(site, bridge, fill(messages));
    const atAPace = await bridgedUs(site, bridge, {
      ...{ kind: "paced", messages: paced },
      ...{ messagesPerSecond: 1_000, payloadBytes: PAYLOAD_BYTES },
    });
    return {
      cpuUsPerBridged: atLineRate.cpuUs,
      pacedCpuUsPerBridged: atAPace.cpuUs,
      messagesPerSecond: atLineRate.perSecond,
    };
  } finally {
    await bridge.stop();
  }
}

async function startBridge(site: Site): Promise<Bridge> {
  return site.broker === "sluice"
    ? SluiceBridge.start(site, CAST)
    : MosquittoBridge.start(site, CAST);
}

function fill(messages: number): Jobless<BrokerJob> & { messages: number } {
  return { kind: "fill", publishers: 100, window: 10, payloadBytes: PAYLOAD_BYTES, messages };
}

async function bridgedUs(
  { signal }: Site,
  bridge: Bridge,
  job: Jobless<BrokerJob> & { messages: number },
): Promise<{ cpuUs: number; perSecond: number }> {
  const { port, pid } = bridge.edge;
  const isOver = await bridge.expect(job.messages);
  const beforeUs = cpuUs(pid);
  const startMs = performance.now();
  await runLoad({ ...job, port, pid } as BrokerJob, signal);
  await isOver();
  const tookMs = performance.now() - startMs;
  return {
    cpuUs: (cpuUs(pid) - beforeUs) / job.messages,
    perSecond: (job.messages / tookMs) * 1_000,
  };
}

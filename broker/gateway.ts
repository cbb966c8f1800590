// gateway: the wiring of role gateway.
// Path: main → [gateway] → mqtt, store, outbox, uplink, status. Touches: what those touch.

import type { StatusDocument } from "#contract/status";
import { isGatewayTopic } from "#contract/topics";
import { readSecret, readTlsFiles } from "#runtime/files";
import type { Log } from "#runtime/log";
import { Metrics } from "#runtime/metrics";
import { openNotify } from "#runtime/notify";
import type { Service } from "#runtime/process";
import type { Settings, UplinkSettings } from "#runtime/settings-schema";
import { VERSION } from "#runtime/version";
import { gatewayCustody } from "./gateway-custody.ts";
import { Mqtt } from "./mqtt/mqtt.ts";
import { Outbox } from "./outbox/outbox.ts";
import { queueLimits } from "./queue-limits.ts";
import { startStatus } from "./status/status.ts";
import { Store } from "./store/store.ts";
import type { Uplink } from "./uplink/uplink.ts";

/** A write that takes longer than this makes no progress; systemd's watchdog may then restart us. */
const WRITE_MS_MAX = 20_000;

export async function startGateway(settings: Settings, log: Log): Promise<Service> {
  const metrics = new Metrics();
  const startedAtMs = Date.now();
  if (settings.uplink) assertSecrets(settings.uplink);

  const { durability } = settings.store;
  const store = await Store.open(settings.data, { durability, log, metrics });
  const sessions = await store.sessions(queueLimits(settings, metrics));
  const outbox = await Outbox.open({
    store,
    settings: settings.outbox,
    forwards: settings.uplink?.forward ?? [],
    folder: settings.data,
  });
  store.onReopened(async () => {
    await sessions.recover();
    await outbox.recover();
  });
  registerOutboxMetrics(metrics, outbox);
  metrics.gauge("sluice_store_writable", "1 while what arrives can be stored.", () =>
    Number(store.fault === undefined),
  );

  const lastCommand = store.cursor("downlink-cursor");
  const custody = gatewayCustody({ store, sessions, outbox, lastCommand, metrics });
  const mqtt = await Mqtt.start({
    settings,
    brokerId: settings.name,
    store: sessions,
    custody,
    refusal,
    unavailable: () => undefined,
    log,
    metrics,
  });
  mqtt.publishStatistics(() => sysValues(mqtt, metrics, startedAtMs));

  // What speaks to Redis is a fifth of the process: a gateway that stands alone does without it.
  const uplink =
    settings.uplink &&
    (await import("./uplink/uplink.ts")).startUplink({
      settings: settings.uplink,
      gateway: settings.name,
      lanes: outbox.lanes,
      commands: {
        cursor: lastCommand.read,
        deliver: (message, id) => mqtt.publish(message, id),
        answer: (message, id) => custody.answer(message, id),
      },
      log,
      metrics,
    });

  const document = () => statusOf(settings, startedAtMs, mqtt, store, outbox, uplink);
  const status = await startStatus({ address: settings.status.address, metrics, log, document });
  const notify = await openNotify(() => store.busyMs < WRITE_MS_MAX);
  notify.ready();
  log.info({ name: settings.name, listeners: mqtt.addresses, status: status.address }, "ready");

  return {
    reload: (applied) => mqtt.reload(applied),
    async stop() {
      notify.stopping();
      await mqtt.close();
      await uplink?.stop();
      await outbox.close();
      await store.close();
      await status.close();
      notify.close();
    },
  };
}

/** The cloud takes what is said on these topics for the gateway's own word. */
function refusal(use: "publish" | "subscribe", topic: string): string | undefined {
  if (use === "subscribe" || !isGatewayTopic(topic)) return undefined;
  return `${topic} is the gateway's own`;
}

/** Files that cannot be used end the start; later they are read anew at each connect. */
function assertSecrets(uplink: UplinkSettings): void {
  readTlsFiles(uplink);
  if (uplink.password_file) readSecret(uplink.password_file);
}

function statusOf(
  settings: Settings,
  startedAtMs: number,
  mqtt: Mqtt,
  store: Store,
  outbox: Outbox,
  uplink: Uplink | undefined,
): StatusDocument {
  const uplinkStatus = uplink?.status();
  const lanes = outbox.status();
  const reasons = store.fault === undefined ? [] : [`nothing is acknowledged: ${store.fault}`];
  for (const { trouble } of lanes) if (trouble !== null) reasons.push(trouble);
  if (uplinkStatus && uplinkStatus.state !== "online") {
    reasons.push(`uplink ${uplinkStatus.state}: ${uplinkStatus.why || "no answer yet"}`);
  }
  return {
    role: "gateway",
    name: settings.name,
    version: VERSION,
    startedAtMs,
    ready: store.fault === undefined,
    reasons,
    connections: mqtt.connections,
    outbox: lanes,
    ...(uplinkStatus ? { uplink: uplinkStatus } : {}),
  };
}

function registerOutboxMetrics(metrics: Metrics, outbox: Outbox): void {
  const lanes = () => outbox.status();
  const gauge = (name: string, help: string, read: (lane: ReturnType<typeof lanes>[0]) => number) =>
    metrics.gauges(name, help, () => lanes().map((it) => [{ lane: it.lane }, read(it)] as const));
  gauge("sluice_outbox_waiting_messages", "What waits for the cloud.", (it) => it.waitingMessages);
  gauge("sluice_outbox_waiting_bytes", "What waits for the cloud.", (it) => it.waitingBytes);
  gauge("sluice_outbox_limit_bytes", "The lane's limit.", (it) => it.bytesMax);
  gauge("sluice_outbox_tail_bytes", "What the cloud took and is kept.", (it) => it.tailBytes);
  gauge("sluice_outbox_last_sequence", "Last sequence taken.", (it) => it.lastSeq);
  gauge("sluice_outbox_position", "Last sequence that the cloud holds.", (it) => it.position);
  metrics.gauges("sluice_outbox_dropped_messages", "What gap records stand for, and why.", () =>
    lanes().flatMap(({ lane, dropped }) =>
      Object.entries(dropped).map(([reason, count]) => [{ lane, reason }, count] as const),
    ),
  );
  gauge("sluice_outbox_oldest_waiting_seconds", "Age of the oldest that waits.", (it) =>
    it.oldestWaitingAtMs === null ? 0 : Math.max(0, Date.now() - it.oldestWaitingAtMs) / 1_000,
  );
}

/** Names and units are mosquitto's (mosquitto(8), broker status). */
function sysValues(mqtt: Mqtt, metrics: Metrics, startedAtMs: number) {
  return {
    version: `sluice version ${VERSION}`,
    uptime: `${Math.floor((Date.now() - startedAtMs) / 1_000)} seconds`,
    "clients/connected": mqtt.connections,
    "publish/messages/received": metrics.total("sluice_messages_received_total"),
    "publish/messages/sent": metrics.total("sluice_messages_delivered_total"),
    "publish/messages/dropped": metrics.total("sluice_messages_dropped_total"),
  };
}

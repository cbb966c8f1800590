// sys-topics: the broker's own statistics on $SYS/broker/…, with mosquitto's names.
// Path: metrics → [sys topics] → routing. Touches: the clock.

import type { Message } from "#contract/message";

const PERIOD_MS = 10_000;

export interface SysTopicsOptions {
  /** The values by topic below $SYS/broker/, in mosquitto's units. */
  readonly read: () => Readonly<Record<string, string | number>>;
  readonly publish: (message: Message) => Promise<void>;
}

/** Publishes what has changed every 10 s, retained, QoS 0; returns the function that ends it. */
export function startSysTopics(options: SysTopicsOptions): () => void {
  const published = new Map<string, string>();
  const encoder = new TextEncoder();
  const publishAll = () => {
    for (const [name, value] of Object.entries(options.read())) {
      const text = String(value);
      if (published.get(name) === text) continue;
      published.set(name, text);
      const topic = `$SYS/broker/${name}`;
      const message = { topic, payload: encoder.encode(text), qos: 0, retain: true } as const;
      // Statistics that cannot be stored are of no account; the store's own metric tells.
      options.publish({ ...message, takenAtMs: Date.now() }).catch(() => published.delete(name));
    }
  };
  publishAll();
  const timer = setInterval(publishAll, PERIOD_MS);
  return () => clearInterval(timer);
}

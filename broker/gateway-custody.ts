// gateway-custody: what a gateway must have written before it acknowledges: outbox and sessions, at once.
// Path: routing → [gateway custody] → outbox, sessions → store. Touches: what those touch.

import { SluiceError } from "#contract/errors";
import type { Custody, Taken, Taking } from "#contract/session";
import type { Metrics } from "#runtime/metrics";
import type { Outbox } from "./outbox/outbox.ts";
import type { Sessions } from "./store/sessions.ts";
import type { Store } from "./store/store.ts";

/** One batch for the lane's record, the queues, the retained message and the QoS 2 id. */
export function gatewayCustody(
  store: Store,
  sessions: Sessions,
  outbox: Outbox,
  metrics: Metrics,
): Custody {
  const missed = metrics.counter(
    "sluice_custody_missed_total",
    "Messages of QoS 0 that went on without being kept for the cloud, by the reason.",
  );
  /** Nothing was promised of QoS 0: it goes on where the disk, or a lane, takes nothing more. */
  const goesOn = (fault: unknown): Taken => {
    if (!(fault instanceof SluiceError)) throw fault;
    missed({ reason: fault.code });
    return "taken";
  };
  const commit = (taking: Taking): Promise<Taken> | undefined =>
    store.take(sessions.write(taking), outbox.write(taking.message))?.then(() => "taken");
  const take = (taking: Taking): Promise<Taken> | undefined => {
    const room = outbox.makeRoom(taking.message);
    return room ? room.then(() => commit(taking) ?? "taken") : commit(taking);
  };
  return {
    take(taking) {
      if (taking.message.qos > 0) return take(taking);
      try {
        return take(taking)?.catch(goesOn);
      } catch (fault) {
        goesOn(fault);
        return undefined;
      }
    },
    queue: (message, queues) =>
      store.take(sessions.write({ message: { ...message, retain: false }, queues }), undefined),
  };
}

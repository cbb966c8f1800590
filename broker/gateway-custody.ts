// gateway-custody: what a gateway must have written before it acknowledges: outbox and sessions, at once.
// Path: routing → [gateway custody] → outbox, sessions → store. Touches: what those touch.

import { SluiceError } from "#contract/errors";
import { encodeMessage, type Message } from "#contract/message";
import type { Custody, Taken, Taking } from "#contract/session";
import type { Metrics } from "#runtime/metrics";
import type { Outbox } from "./outbox/outbox.ts";
import type { Cursor } from "./store/cursor.ts";
import type { Sessions } from "./store/sessions.ts";
import type { Store } from "./store/store.ts";

export interface GatewayCustodyOptions {
  readonly store: Store;
  readonly sessions: Sessions;
  readonly outbox: Outbox;
  /** The id of the cloud's last command that was done with. */
  readonly lastCommand: Cursor;
  readonly metrics: Metrics;
}

export interface GatewayCustody extends Custody {
  /** An answer for the cloud, in one batch with the id of the command that it is about. */
  answer(message: Message, command: string): Promise<void>;
}

/**
 * One batch for the lane's record, the queues, the retained message and the QoS 2 id; or, of a
 * command of the cloud, for its id in the record's place: it does not go back up.
 */
export function gatewayCustody(options: GatewayCustodyOptions): GatewayCustody {
  const { store, sessions, outbox, lastCommand, metrics } = options;
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
  const forCloud = ({ message, command }: Taking) =>
    command === undefined ? outbox.write(message) : lastCommand.write(command);
  const commit = (taking: Taking): Promise<Taken> | undefined =>
    store.take(sessions.write(taking), forCloud(taking))?.then(() => "taken");
  const take = (taking: Taking): Promise<Taken> | undefined => {
    const room = taking.command === undefined ? outbox.makeRoom(taking.message) : undefined;
    return room ? room.then(() => commit(taking) ?? "taken") : commit(taking);
  };
  return {
    take(taking) {
      // A command whose id is not stored would be carried out again.
      if (taking.message.qos > 0 || taking.command !== undefined) return take(taking);
      try {
        return take(taking)?.catch(goesOn);
      } catch (fault) {
        goesOn(fault);
        return undefined;
      }
    },
    queue: (message, queues) =>
      store.take(sessions.write({ message: { ...message, retain: false }, queues }), undefined),
    async answer(message, command) {
      await outbox.makeRoom(message);
      // Whoever asked is answered, though no rule forwards the topic.
      const write = outbox.write(message) ?? outbox.lanes[0]?.write(encodeMessage(message), true);
      await store.take(write, lastCommand.write(command));
    },
  };
}

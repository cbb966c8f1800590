// job: what a load process is asked to do, and what it answers.
// Path: scenarios → [job] → load/main. Touches: nothing.

/** Who publishes to whom; load/shapes.ts has the topics and filters. */
export type Shape = "pairs" | "fan-in" | "fan-out" | "wild";

interface Target {
  readonly port: number;
  /** The broker's process, whose costs are read. */
  readonly pid: number;
}

/** Publishes in a closed loop: a message is done when it is acknowledged and all have it. */
export interface LiveJob extends Target {
  readonly kind: "live";
  readonly shape: Shape;
  readonly qos: 0 | 1;
  readonly payloadBytes: number;
  /** Messages that one publisher may have under way. */
  readonly window: number;
  readonly warmSeconds: number;
  readonly seconds: number;
}

/** Stores retained messages, and looks what a SUBSCRIBE costs before and after. */
export interface RetainJob extends Target {
  readonly kind: "retain";
  readonly topics: number;
}

/** Opens connections, and lets them be. */
export interface ConnectionsJob extends Target {
  readonly kind: "connections";
  readonly count: number;
}

/** A pair that nothing but the broker has in common with anybody: how late are its messages? */
export interface PairJob extends Target {
  readonly kind: "pair";
  readonly warmSeconds: number;
  readonly seconds: number;
}

/** Publishes as fast as the broker reads, until it is killed; says RUNNING when it has begun. */
export interface FloodJob extends Target {
  readonly kind: "flood";
  readonly publishers: number;
  readonly payloadBytes: number;
  /** Is there a subscriber to all of it that never reads? */
  readonly frozenSubscriber: boolean;
}

/** Messages of QoS 1 to nobody in a closed loop: what does an acknowledgement cost? */
interface Intake extends Target {
  readonly publishers: number;
  readonly payloadBytes: number;
  /** Messages that one publisher may have under way. */
  readonly window: number;
}

/** For a time. */
export interface IntakeJob extends Intake {
  readonly kind: "intake";
  readonly warmSeconds: number;
  readonly seconds: number;
}

/** So many, and no more. */
export interface FillJob extends Intake {
  readonly kind: "fill";
  readonly messages: number;
}

/**
 * Numbered messages of QoS 1 at an even pace, whether they are acknowledged or not; says RUNNING
 * before the first. It connects again when it is cut off, and sends again what was not acknowledged,
 * as a device does.
 */
export interface PacedJob extends Target {
  readonly kind: "paced";
  readonly messages: number;
  readonly messagesPerSecond: number;
  readonly payloadBytes: number;
}

/** Fills the queue of a session whose client is away, and looks what its return costs. */
export interface QueueJob extends Target {
  readonly kind: "queue";
  readonly messages: number;
  readonly payloadBytes: number;
}

/** Subscribes with a session that is kept, says RUNNING, and takes the messages of a paced job or of a fill job. */
export interface CollectJob {
  readonly kind: "collect";
  readonly port: number;
  /** The certificate of who signed the server's, where it speaks TLS. */
  readonly caFile?: string;
  readonly filter: string;
  /** Are they a paced job's, whose numbers tell one from another? */
  readonly numbered: boolean;
  /** It ends with the last of them, when none has come for so long, or when no more come. */
  readonly messages: number;
  readonly silentSecondsMax: number;
}

/** Subscribes, says RUNNING, and takes lines that say their number and when they were said. */
export interface StampedJob {
  readonly kind: "stamped";
  readonly port: number;
  readonly filter: string;
  /** It ends with the last of them, or when none has come for so long. */
  readonly messages: number;
  readonly silentSecondsMax: number;
}

/** One whose load meets one broker alone. */
export type BrokerJob =
  | LiveJob
  | RetainJob
  | ConnectionsJob
  | PairJob
  | FloodJob
  | IntakeJob
  | FillJob
  | PacedJob
  | QueueJob;

export type Job = BrokerJob | CollectJob | StampedJob;

/** Named numbers, with their units in the names. */
export type Figures = Readonly<Record<string, number>>;

/** The line by which a load says that what it is there for has begun. */
export const RUNNING = "running";

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

/** Publishes as fast as the broker reads, until it is killed; says `flooding` when it has begun. */
export interface FloodJob extends Target {
  readonly kind: "flood";
  readonly publishers: number;
  readonly payloadBytes: number;
  /** Is there a subscriber to all of it that never reads? */
  readonly frozenSubscriber: boolean;
}

export type Job = LiveJob | RetainJob | ConnectionsJob | PairJob | FloodJob;

/** Named numbers, with their units in the names. */
export type Figures = Readonly<Record<string, number>>;

/** The line by which a flood says that it runs. */
export const FLOODING = "flooding";

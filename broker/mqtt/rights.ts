// rights: what each client may publish, retain, subscribe to and receive, by the settings.
// Path: session → [rights] → custody, delivery. Touches: nothing.

import { filterCovers } from "#contract/topics";
import type { Settings } from "#runtime/settings-schema";
import { FilterSet } from "./filter-set.ts";

type Right = Settings["access"]["rights"][number];

/** Who a client has proved to be. */
export interface Identity {
  readonly clientId: string;
  readonly user: string | undefined;
  readonly certificateName: string | undefined;
}

/** The rights of one client by the settings of one moment. */
export interface ClientRights {
  mayPublish(topic: string, retain: boolean): boolean;
  /**
   * May it subscribe to the filter, all that it selects? Of a shared subscription ask for the
   * filter behind `$share/<group>/`: with the prefix the answer is no.
   */
  maySubscribe(filter: string): boolean;
  /**
   * May it receive a message on the topic? A filter that it may subscribe to selects no topic that
   * it may not receive: who asks for each subscription again when rights change (a session that is
   * restored, a reload), need not ask for each message.
   */
  mayReceive(topic: string): boolean;
}

const SHARE = "$share/";

const ALL: ClientRights = {
  mayPublish: () => true,
  maySubscribe: (filter) => !filter.startsWith(SHARE),
  mayReceive: () => true,
};

/** Filters of one table: as they are, and those that have a client's names in them. */
interface Grant {
  readonly fixed: readonly FilterSet[];
  readonly marked: readonly string[];
}

interface Table {
  readonly right: Right;
  readonly publish: Grant;
  readonly retain: Grant;
  readonly subscribe: Grant;
}

/** All [[access.rights]], prepared once: clients share what does not depend on their names. */
export class Rights {
  readonly #tables: readonly Table[];

  constructor(rights: readonly Right[]) {
    this.#tables = rights.map((right) => ({
      right,
      publish: grantOf(right.publish),
      retain: grantOf(right.retain ?? right.publish),
      subscribe: grantOf(right.subscribe),
    }));
  }

  /** The rights of a client; everything, where the settings grant nothing to anybody. */
  of(identity: Identity): ClientRights {
    if (this.#tables.length === 0) return ALL;
    const named = { ...identity, user: identity.user ?? identity.certificateName };
    const own = this.#tables.filter(({ right }) => isMeant(right, named));
    return new OwnRights(
      filtersOf(own, "publish", named),
      filtersOf(own, "retain", named),
      filtersOf(own, "subscribe", named),
    );
  }
}

class OwnRights implements ClientRights {
  readonly #publish: readonly FilterSet[];
  readonly #retain: readonly FilterSet[];
  readonly #subscribe: readonly FilterSet[];

  constructor(
    publish: readonly FilterSet[],
    retain: readonly FilterSet[],
    subscribe: readonly FilterSet[],
  ) {
    this.#publish = publish;
    this.#retain = retain;
    this.#subscribe = subscribe;
  }

  mayPublish(topic: string, retain: boolean): boolean {
    return selects(this.#publish, topic) && (!retain || selects(this.#retain, topic));
  }

  maySubscribe(filter: string): boolean {
    if (filter.startsWith(SHARE)) return false;
    return this.#subscribe.some(({ filters }) => filters.some((it) => filterCovers(it, filter)));
  }

  mayReceive(topic: string): boolean {
    return selects(this.#subscribe, topic);
  }
}

function selects(sets: readonly FilterSet[], topic: string): boolean {
  for (const set of sets) if (set.selects(topic)) return true;
  return false;
}

function grantOf(filters: readonly string[]): Grant {
  const fixed = filters.filter((filter) => !isMarked(filter));
  return {
    fixed: fixed.length > 0 ? [new FilterSet(fixed)] : [],
    marked: filters.filter(isMarked),
  };
}

function isMarked(filter: string): boolean {
  return /%[uc]/.test(filter);
}

function isMeant({ user, client_id, certificate }: Right, identity: Identity): boolean {
  return (
    (user === undefined || user === identity.user) &&
    (client_id === undefined || client_id === identity.clientId) &&
    (certificate === undefined || certificate === identity.certificateName)
  );
}

function filtersOf(
  own: readonly Table[],
  use: "publish" | "retain" | "subscribe",
  identity: Identity,
): FilterSet[] {
  const fixed = own.flatMap((table) => table[use].fixed);
  const filled = own.flatMap((table) => table[use].marked).flatMap((it) => filledIn(it, identity));
  return filled.length > 0 ? [...fixed, new FilterSet(filled)] : fixed;
}

/** The filter with the client's names in it; none where a name would widen it or is not known. */
function filledIn(filter: string, { user, clientId }: Identity): string[] {
  const names: Readonly<Record<string, string | undefined>> = { "%u": user, "%c": clientId };
  const used = filter.match(/%[uc]/g) ?? [];
  if (used.some((mark) => !names[mark] || /[/+#]/.test(names[mark]))) return [];
  // In one go: a name that holds a mark is no mark.
  const filled = filter.replace(/%[uc]/g, (mark) => names[mark] ?? "");
  // Only a filter that begins with $ in the settings speaks of the broker's own topics.
  return filled.startsWith("$") && !filter.startsWith("$") ? [] : [filled];
}

// rights: what each client may publish, retain, subscribe to and receive, by the settings.
// Path: session → [rights] → custody, delivery. Touches: nothing.

import { filterCovers, filterMatches } from "#contract/topics";
import type { Settings } from "#runtime/settings-schema";

type Right = Settings["access"]["rights"][number];

/** Who a client has proved to be. */
export interface Identity {
  readonly clientId: string;
  readonly user: string | undefined;
  readonly certificateName: string | undefined;
}

/** The rights of one client. */
export interface ClientRights {
  mayPublish(topic: string, retain: boolean): boolean;
  /** May it subscribe to the filter, all that it selects? */
  maySubscribe(filter: string): boolean;
  /** May it receive a message on the topic? Asked again for each: sessions outlive settings. */
  mayReceive(topic: string): boolean;
}

const ALL: ClientRights = {
  mayPublish: () => true,
  maySubscribe: () => true,
  mayReceive: () => true,
};

/** The rights of a client; everything, where the settings grant nothing to anybody. */
export function rightsOf(rights: readonly Right[], identity: Identity): ClientRights {
  if (rights.length === 0) return ALL;
  const own = rights.filter((right) => isMeant(right, identity));
  const filters = (of: (right: Right) => readonly string[]) =>
    own.flatMap(of).flatMap((filter) => filledIn(filter, identity));
  const publish = filters((right) => right.publish);
  const retain = filters((right) => right.retain ?? right.publish);
  const subscribe = filters((right) => right.subscribe);
  return {
    mayPublish: (topic, isRetained) =>
      selects(publish, topic) && (!isRetained || selects(retain, topic)),
    maySubscribe: (filter) => subscribe.some((wide) => filterCovers(wide, filter)),
    mayReceive: (topic) => selects(subscribe, topic),
  };
}

function isMeant({ user, client_id, certificate }: Right, identity: Identity): boolean {
  return (
    (user === undefined || user === identity.user) &&
    (client_id === undefined || client_id === identity.clientId) &&
    (certificate === undefined || certificate === identity.certificateName)
  );
}

function selects(filters: readonly string[], topic: string): boolean {
  return filters.some((filter) => filterMatches(filter, topic));
}

/** The filter with the client's names in it; none where a name would widen it or is not known. */
function filledIn(filter: string, { user, clientId }: Identity): string[] {
  const names = { "%u": user, "%c": clientId };
  let filled = filter;
  for (const [mark, name] of Object.entries(names)) {
    if (!filter.includes(mark)) continue;
    if (!name || /[/+#]/.test(name)) return [];
    filled = filled.replaceAll(mark, () => name);
  }
  return [filled];
}

// version: the version of this Sluice, as its package.json has it.
// Path: status, cli. Touches: nothing; bundles hold a copy of package.json.

import sluice from "#package" with { type: "json" };

export const VERSION: string = sluice.version;

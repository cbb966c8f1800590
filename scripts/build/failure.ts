// failure: the class for what can end a build and is nobody's bug: told in one line.
// Path: everywhere in scripts/build → scripts/build.ts. Touches: nothing.

/** Thrown with a message that names the thing and the mend; ends the build with exit code 1. */
export class BuildFailure extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "BuildFailure";
  }
}

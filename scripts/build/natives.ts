// natives: which native add-ons the bundles load, from where, and the plugin that makes them so.
// Path: bundle → [natives] → packages. Touches: nothing.
//
// A native add-on cannot be bundled, and its package looks for it beside its own sources. In a
// bundle there are none, so each loader is replaced by a plain load of
// `../native/<file>.<platform>-<architecture>.node`, seen from the bundle. It runs where the
// loader ran: an add-on behind a dynamic import stays unloaded until that import.

import type { OnLoadResult, Plugin } from "esbuild";
import { BuildFailure } from "./failure.ts";
import { packageOf } from "./packages.ts";

/** One dist serves every machine that Sluice runs on; Linux with glibc, all of them. */
export const ARCHITECTURES = ["x64", "arm64"] as const;
export type Architecture = (typeof ARCHITECTURES)[number];

export interface Native {
  /** Its name in dist/native, before `.linux-<architecture>.node`. */
  readonly file: string;
  /** Where the add-on for each architecture is: a package, and the path inside it. */
  readonly from: Readonly<
    Record<Architecture, { readonly package: string; readonly path: string }>
  >;
  /** Packages whose code was compiled into it, and whose licence it therefore carries. */
  readonly compiledFrom: readonly string[];
}

/** By the name of the package that loads the add-on. */
export const NATIVES: Readonly<Record<string, Native>> = {
  "classic-level": {
    file: "classic-level",
    from: {
      x64: { package: "classic-level", path: "prebuilds/linux-x64/classic-level.node" },
      arm64: { package: "classic-level", path: "prebuilds/linux-arm64/classic-level.armv8.node" },
    },
    compiledFrom: ["napi-macros"],
  },
  "@serialport/bindings-cpp": {
    file: "serialport",
    from: {
      x64: {
        package: "@serialport/bindings-cpp",
        path: "prebuilds/linux-x64/@serialport+bindings-cpp.glibc.node",
      },
      arm64: {
        package: "@serialport/bindings-cpp",
        path: "prebuilds/linux-arm64/@serialport+bindings-cpp.armv8.glibc.node",
      },
    },
    compiledFrom: ["node-addon-api"],
  },
  koffi: {
    file: "koffi",
    from: {
      x64: { package: "@koromix/koffi-linux-x64", path: "linux_x64/koffi.node" },
      arm64: { package: "@koromix/koffi-linux-arm64", path: "linux_arm64/koffi.node" },
    },
    compiledFrom: [],
  },
};

/** Replaces the loaders; the packages that it met are added to `met`. */
export function nativesPlugin(met: Set<string>): Plugin {
  return {
    name: "natives",
    setup(build) {
      // classic-level and bindings-cpp: require("node-gyp-build")(a folder)
      build.onResolve({ filter: /^node-gyp-build$/ }, ({ importer }) => ({
        path: packageOf(importer) ?? importer,
        namespace: "native-loader",
      }));
      build.onLoad({ filter: /.*/, namespace: "native-loader" }, ({ path }) =>
        loader(path, met, (load) => `module.exports = () => ${load};`),
      );
      // koffi: a file with one require for each platform there is; of its two forms the CommonJS
      // one, since the other asks import.meta where it is.
      build.onResolve({ filter: /^koffi$/ }, ({ kind, path, importer, resolveDir }) =>
        kind === "require-call"
          ? undefined
          : build.resolve(path, { kind: "require-call", importer, resolveDir }),
      );
      build.onLoad({ filter: /\/node_modules\/koffi\/src\/koffi\/src\/static\.cjs$/ }, () =>
        loader("koffi", met, (load) => `exports.loadStatic = () => ${load};`),
      );
    },
  };
}

function loader(name: string, met: Set<string>, moduleOf: (load: string) => string): OnLoadResult {
  const native = NATIVES[name];
  if (!native) {
    throw new BuildFailure(`${name} loads a native add-on: add it to NATIVES in natives.ts`);
  }
  met.add(name);
  // createRequire, since esbuild would follow a plain require and look for the file now.
  const load =
    'require("node:module").createRequire(__filename)' +
    `(\`../native/${native.file}.\${process.platform}-\${process.arch}.node\`)`;
  return { contents: moduleOf(load), loader: "js" };
}

// The command line that both clients have.

import { readFileSync } from "node:fs";

export interface Arguments {
  /** HOST:PORT. */
  address: string;
  /** The certificate (PEM) that the server's is signed by; absent = no TLS. */
  ca?: Buffer;
  /** The API key; it goes over TLS alone. */
  key?: string;
}

/** Reads the command line; a wrong one ends the program. */
export function readArguments(): Arguments {
  let address, ca, key: string | undefined;
  const rest = process.argv.slice(2);
  for (let argument = rest.shift(); argument !== undefined; argument = rest.shift()) {
    if (argument === "--tls" && rest.length > 0) ca = rest.shift();
    else if (argument === "--key" && rest.length > 0) key = rest.shift();
    else if (address === undefined && !argument.startsWith("--")) address = argument;
    else usage();
  }
  // Whoever reads a key on the way can use it.
  if (address === undefined || (key !== undefined && ca === undefined)) usage();
  return { address, ca: ca === undefined ? undefined : readFileSync(ca), key };
}

function usage(): never {
  console.error("usage: ADDRESS [--tls CA] [--key KEY]; --key needs --tls");
  process.exit(64);
}

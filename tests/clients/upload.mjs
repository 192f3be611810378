// Send one file by tus-js-client: node upload.mjs MODULES ENDPOINT TOKEN FILE STREAMS
import { createReadStream } from "node:fs";
import { createRequire } from "node:module";
import { basename } from "node:path";

const [modules, endpoint, token, file, streams] = process.argv.slice(2);
const tus = createRequire(`${modules}/`)("tus-js-client");

new tus.Upload(createReadStream(file), {
  endpoint,
  headers: { Authorization: `Bearer ${token}` },
  metadata: { filename: basename(file) },
  parallelUploads: Number(streams),
  chunkSize: Infinity,
  retryDelays: Array(600).fill(100),
  onError: (error) => {
    console.error(String(error));
    process.exitCode = 1;
  },
}).start();

// A client of Quintet in TypeScript with Connect: streams text, draws letters, scores rows, runs an evaluation, reads what an
// error says.
//
//     node dist/connect.js 127.0.0.1:50051 [--tls CA] [--key KEY]

import { writeFileSync } from "node:fs";
import { type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Client, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { readArguments, type Arguments } from "./arguments.js";
import { BadRequestSchema, ErrorInfoSchema } from "./gen/connect/google/rpc/error_details_pb.js";
import { AnomalyService, ScoreStreamRequestSchema } from "./gen/connect/quintet/anomaly/v1/anomaly_pb.js";
import { EvaluationService, EvaluationState } from "./gen/connect/quintet/evaluation/v1/evaluation_pb.js";
import { ImageService } from "./gen/connect/quintet/image/v1/image_pb.js";
import { TextService } from "./gen/connect/quintet/text/v1/text_pb.js";

// Milliseconds that a call may take. The server sets no limit of its own: clients should.
const timeoutMs = 30_000;

/** A transport that is plain, or over TLS with the key in the headers of each call. */
function connect({ address, ca, key }: Arguments) {
  if (ca === undefined) return createGrpcTransport({ baseUrl: `http://${address}`, defaultTimeoutMs: timeoutMs });
  const withKey: Interceptor = (next) => (request) => {
    if (key !== undefined) request.header.set("authorization", `Bearer ${key}`);
    return next(request);
  };
  return createGrpcTransport({
    baseUrl: `https://${address}`,
    nodeOptions: { ca },
    interceptors: [withKey],
    defaultTimeoutMs: timeoutMs,
  });
}

async function streamText(text: Client<typeof TextService>): Promise<string> {
  const request = { prompt: "And the king said", sampling: { seed: 3n }, stopping: { maxNewTokens: 32 } };
  process.stdout.write(request.prompt);
  let tokens = 0;
  for await (const piece of text.generateStream({ request })) {
    process.stdout.write(piece.text);
    tokens = piece.usage?.completionTokens ?? 0;
  }
  console.log();
  return `${tokens} tokens streamed`;
}

async function cancelText(text: Client<typeof TextService>): Promise<string> {
  const request = { prompt: "And", stopping: { maxNewTokens: 200, ignoreEos: true } };
  const abort = new AbortController();
  let pieces = 0;
  try {
    for await (const _ of text.generateStream({ request }, { signal: abort.signal })) {
      if (++pieces === 8) abort.abort();
    }
  } catch (fault) {
    if (ConnectError.from(fault).code !== Code.Canceled) throw fault;
    console.log("cancelled a stream after 8 pieces");
    return "1 stream cancelled";
  }
  throw new Error("a cancelled stream went on to its end");
}

async function drawLetters(images: Client<typeof ImageService>): Promise<string> {
  const answer = await images.generate({ count: 8, classes: { names: ["A", "B"] }, seed: 1n, grid: { columns: 4 } });
  const [picture] = answer.images;
  if (picture === undefined) throw new Error("no picture came");
  writeFileSync("letters.png", picture.data);
  console.log(`wrote letters.png, ${picture.width} x ${picture.height} pixels`);
  return `letters.png of ${picture.data.length} bytes`;
}

async function scoreRows(anomaly: Client<typeof AnomalyService>): Promise<string> {
  const model = "vae-breast-cancer";
  const { samples } = await anomaly.sample({ model, count: 4, seed: 1n });
  const rows = samples.map((row) => row.values);
  rows.push((rows[0] ?? []).map((value) => 10 * value));

  async function* messages(): AsyncIterable<MessageInitShape<typeof ScoreStreamRequestSchema>> {
    for (const [index, values] of rows.entries()) {
      // The first message settles the model for all.
      yield { model: index === 0 ? model : "", sample: { data: { case: "values", value: { values } } } };
    }
  }

  let [scored, over] = [0, 0];
  for await (const { index, score } of anomaly.scoreStream(messages())) {
    if (score === undefined) throw new Error("an answer without a score came");
    const verdict = score.isAnomaly ? ", an anomaly" : "";
    console.log(`row ${index}: score ${score.score.toFixed(4)}, threshold ${score.threshold.toFixed(4)}${verdict}`);
    scored += 1;
    over += score.isAnomaly ? 1 : 0;
  }
  return `${scored} rows scored, ${over} over the threshold`;
}

async function evaluate(evaluations: Client<typeof EvaluationService>): Promise<string> {
  let { evaluation: job } = await evaluations.createEvaluation({
    evaluation: { case: "anomaly", value: { model: "vae-digits" } },
    bootstrapResamples: 100,
  });
  for await (const { evaluation } of evaluations.watchEvaluation({ id: job?.id })) {
    job = evaluation;
    if (job !== undefined) console.log(`${EvaluationState[job.state]} ${job.stage} ${job.progressDone}/${job.progressTotal}`);
  }
  const metric = job?.metrics[0];
  if (job?.state !== EvaluationState.SUCCEEDED || metric === undefined) {
    throw new Error(`the evaluation did not succeed: ${job?.error}`);
  }
  const { lower = NaN, upper = NaN } = metric.interval ?? {};
  console.log(`${metric.name} ${metric.value.toFixed(4)} [${lower.toFixed(4)}, ${upper.toFixed(4)}], n = ${metric.sampleSize}`);
  return `${metric.name} ${metric.value.toFixed(4)}`;
}

async function readRefusal(images: Client<typeof ImageService>): Promise<string> {
  try {
    await images.generate({ count: 5000, truncationPsi: 2 });
  } catch (fault) {
    const error = ConnectError.from(fault);
    if (error.code !== Code.InvalidArgument) throw fault;
    const [info] = error.findDetails(ErrorInfoSchema);
    const violations = error.findDetails(BadRequestSchema).flatMap((bad) => bad.fieldViolations);
    for (const { field, description } of violations) console.log(`${field}: ${description}`);
    return `refused with ${info?.reason}: ${violations.map(({ field }) => field).join(", ")}`;
  }
  throw new Error("5,000 images with a truncation of 2 were not refused");
}

const transport = connect(readArguments());
try {
  const text = createClient(TextService, transport);
  const images = createClient(ImageService, transport);
  const done = [
    await streamText(text),
    await cancelText(text),
    await drawLetters(images),
    await scoreRows(createClient(AnomalyService, transport)),
    await evaluate(createClient(EvaluationService, transport)),
    await readRefusal(images),
  ];
  console.log(`ok: ${done.join(", ")}`);
} catch (fault) {
  console.error(`failed: ${ConnectError.from(fault).message}`);
  process.exitCode = 1;
}

// A client of Quintet in TypeScript with @grpc/grpc-js: streams text, draws letters, scores rows, runs an evaluation, reads what
// an error says.
//
//     node dist/grpc-js.js 127.0.0.1:50051 [--tls CA] [--key KEY]

import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import * as grpc from "@grpc/grpc-js";
import { loadSync, type Options } from "@grpc/proto-loader";
import { readArguments, type Arguments } from "./arguments.js";
import type { ProtoGrpcType as AnomalyTypes } from "./gen/grpc-js/anomaly.js";
import type { ProtoGrpcType as ErrorTypes } from "./gen/grpc-js/error_details.js";
import type { ProtoGrpcType as EvaluationTypes } from "./gen/grpc-js/evaluation.js";
import type { ProtoGrpcType as ImageTypes } from "./gen/grpc-js/image.js";
import type { ProtoGrpcType as StatusTypes } from "./gen/grpc-js/status.js";
import type { ProtoGrpcType as TextTypes } from "./gen/grpc-js/text.js";
import type { AnomalyServiceClient } from "./gen/grpc-js/quintet/anomaly/v1/AnomalyService.js";
import type { ScoreStreamResponse__Output } from "./gen/grpc-js/quintet/anomaly/v1/ScoreStreamResponse.js";
import type { SampleRequest } from "./gen/grpc-js/quintet/anomaly/v1/SampleRequest.js";
import type { SampleResponse__Output } from "./gen/grpc-js/quintet/anomaly/v1/SampleResponse.js";
import type { CreateEvaluationRequest } from "./gen/grpc-js/quintet/evaluation/v1/CreateEvaluationRequest.js";
import type { CreateEvaluationResponse__Output } from "./gen/grpc-js/quintet/evaluation/v1/CreateEvaluationResponse.js";
import type { EvaluationServiceClient } from "./gen/grpc-js/quintet/evaluation/v1/EvaluationService.js";
import type { WatchEvaluationResponse__Output } from "./gen/grpc-js/quintet/evaluation/v1/WatchEvaluationResponse.js";
import type { GenerateRequest } from "./gen/grpc-js/quintet/image/v1/GenerateRequest.js";
import type { GenerateResponse__Output } from "./gen/grpc-js/quintet/image/v1/GenerateResponse.js";
import type { ImageServiceClient } from "./gen/grpc-js/quintet/image/v1/ImageService.js";
import type { GenerateStreamResponse__Output } from "./gen/grpc-js/quintet/text/v1/GenerateStreamResponse.js";
import type { TextServiceClient } from "./gen/grpc-js/quintet/text/v1/TextService.js";

// The contracts are read when the program starts, as they were when the types were generated.
const protos = fileURLToPath(new URL("../proto", import.meta.url));
const options: Options = { includeDirs: [protos], longs: String, enums: String, defaults: true, oneofs: true };
const load = <Types>(path: string) => grpc.loadPackageDefinition(loadSync(path, options)) as unknown as Types;
const { TextService } = load<TextTypes>("quintet/text/v1/text.proto").quintet.text.v1;
const { ImageService } = load<ImageTypes>("quintet/image/v1/image.proto").quintet.image.v1;
const { AnomalyService } = load<AnomalyTypes>("quintet/anomaly/v1/anomaly.proto").quintet.anomaly.v1;
const { EvaluationService } = load<EvaluationTypes>("quintet/evaluation/v1/evaluation.proto").quintet.evaluation.v1;
const { Status } = load<StatusTypes>("google/rpc/status.proto").google.rpc;
const { BadRequest, ErrorInfo } = load<ErrorTypes>("google/rpc/error_details.proto").google.rpc;

/** When a call that begins now must have ended. The server sets no limit of its own: clients should. */
const deadline = (): grpc.CallOptions => ({ deadline: Date.now() + 30_000 });

/** Credentials of a channel that is plain, or over TLS with the key in the metadata of each call. */
function credentials({ ca, key }: Arguments): grpc.ChannelCredentials {
  if (ca === undefined) return grpc.credentials.createInsecure();
  const channel = grpc.credentials.createSsl(ca);
  if (key === undefined) return channel;
  const metadata = new grpc.Metadata();
  metadata.set("authorization", `Bearer ${key}`);
  const call = grpc.credentials.createFromMetadataGenerator((_, done) => done(null, metadata));
  return grpc.credentials.combineChannelCredentials(channel, call);
}

const isStatus = (fault: unknown, code: grpc.status): fault is grpc.ServiceError =>
  fault instanceof Error && (fault as Partial<grpc.ServiceError>).code === code;

async function streamText(text: TextServiceClient): Promise<string> {
  const request = { prompt: "And the king said", sampling: { seed: 3 }, stopping: { maxNewTokens: 32 } };
  process.stdout.write(request.prompt);
  let tokens = 0;
  for await (const piece of text.generateStream({ request }, deadline()) as AsyncIterable<GenerateStreamResponse__Output>) {
    process.stdout.write(piece.text);
    tokens = piece.usage?.completionTokens ?? 0;
  }
  console.log();
  return `${tokens} tokens streamed`;
}

async function cancelText(text: TextServiceClient): Promise<string> {
  const request = { prompt: "And", stopping: { maxNewTokens: 200, ignoreEos: true } };
  const call = text.generateStream({ request }, deadline());
  let pieces = 0;
  try {
    for await (const _ of call) {
      // Leaving the loop is not enough: the server generates until the call is cancelled or its deadline passes.
      if (++pieces === 8) call.cancel();
    }
  } catch (fault) {
    if (!isStatus(fault, grpc.status.CANCELLED)) throw fault;
    console.log("cancelled a stream after 8 pieces");
    return "1 stream cancelled";
  }
  throw new Error("a cancelled stream went on to its end");
}

async function drawLetters(images: ImageServiceClient): Promise<string> {
  const generate = promisify<GenerateRequest, grpc.CallOptions, GenerateResponse__Output | undefined>(images.generate.bind(images));
  const answer = await generate({ count: 8, classes: { names: ["A", "B"] }, seed: 1, grid: { columns: 4 } }, deadline());
  const picture = answer?.images[0];
  if (picture === undefined) throw new Error("no picture came");
  writeFileSync("letters.png", picture.data);
  console.log(`wrote letters.png, ${picture.width} x ${picture.height} pixels`);
  return `letters.png of ${picture.data.length} bytes`;
}

async function scoreRows(anomaly: AnomalyServiceClient): Promise<string> {
  const model = "vae-breast-cancer";
  const sample = promisify<SampleRequest, grpc.CallOptions, SampleResponse__Output | undefined>(anomaly.sample.bind(anomaly));
  const drawn = await sample({ model, count: 4, seed: 1 }, deadline());
  const rows = (drawn?.samples ?? []).map((row) => row.values);
  rows.push((rows[0] ?? []).map((value) => 10 * value));

  const stream = anomaly.scoreStream(deadline());
  // Rows go out while scores come in. For many rows, wait for "drain" where write() says false.
  for (const [index, values] of rows.entries()) {
    // The first message settles the model for all.
    stream.write({ model: index === 0 ? model : "", sample: { values: { values } } });
  }
  stream.end();
  let [scored, over] = [0, 0];
  for await (const { index, score } of stream as AsyncIterable<ScoreStreamResponse__Output>) {
    if (score === null) throw new Error("an answer without a score came");
    const verdict = score.isAnomaly ? ", an anomaly" : "";
    console.log(`row ${index}: score ${score.score.toFixed(4)}, threshold ${score.threshold.toFixed(4)}${verdict}`);
    scored += 1;
    over += score.isAnomaly ? 1 : 0;
  }
  return `${scored} rows scored, ${over} over the threshold`;
}

async function evaluate(evaluations: EvaluationServiceClient): Promise<string> {
  const create = promisify<CreateEvaluationRequest, grpc.CallOptions, CreateEvaluationResponse__Output | undefined>(
    evaluations.createEvaluation.bind(evaluations),
  );
  let job = (await create({ anomaly: { model: "vae-digits" }, bootstrapResamples: 100 }, deadline()))?.evaluation;
  const states = evaluations.watchEvaluation({ id: job?.id }, deadline());
  for await (const { evaluation } of states as AsyncIterable<WatchEvaluationResponse__Output>) {
    job = evaluation;
    console.log(`${job?.state} ${job?.stage} ${job?.progressDone}/${job?.progressTotal}`);
  }
  const metric = job?.metrics[0];
  if (job?.state !== "EVALUATION_STATE_SUCCEEDED" || metric === undefined) {
    throw new Error(`the evaluation did not succeed: ${job?.error}`);
  }
  const { lower = NaN, upper = NaN } = metric.interval ?? {};
  console.log(`${metric.name} ${metric.value.toFixed(4)} [${lower.toFixed(4)}, ${upper.toFixed(4)}], n = ${metric.sampleSize}`);
  return `${metric.name} ${metric.value.toFixed(4)}`;
}

async function readRefusal(images: ImageServiceClient): Promise<string> {
  const generate = promisify<GenerateRequest, grpc.CallOptions, GenerateResponse__Output | undefined>(images.generate.bind(images));
  try {
    await generate({ count: 5000, truncationPsi: 2 }, deadline());
  } catch (fault) {
    if (!isStatus(fault, grpc.status.INVALID_ARGUMENT)) throw fault;
    // The details are in the trailing metadata, as google.rpc.Status.
    const [encoded] = fault.metadata.get("grpc-status-details-bin");
    const details = Status.deserialize(encoded as Buffer).details.map(({ type_url, value }) => ({
      type: type_url.split("/").at(-1),
      value: value as Buffer,
    }));
    let reason = "";
    const fields: string[] = [];
    for (const { type, value } of details) {
      if (type === "google.rpc.ErrorInfo") {
        reason = ErrorInfo.deserialize(value).reason;
      } else if (type === "google.rpc.BadRequest") {
        for (const { field, description } of BadRequest.deserialize(value).fieldViolations) {
          console.log(`${field}: ${description}`);
          fields.push(field);
        }
      }
    }
    return `refused with ${reason}: ${fields.join(", ")}`;
  }
  throw new Error("5,000 images with a truncation of 2 were not refused");
}

const given = readArguments();
const channel = credentials(given);
const text = new TextService(given.address, channel);
const images = new ImageService(given.address, channel);
const anomaly = new AnomalyService(given.address, channel);
const evaluations = new EvaluationService(given.address, channel);
try {
  const done = [
    await streamText(text),
    await cancelText(text),
    await drawLetters(images),
    await scoreRows(anomaly),
    await evaluate(evaluations),
    await readRefusal(images),
  ];
  console.log(`ok: ${done.join(", ")}`);
} catch (fault) {
  console.error(`failed: ${fault instanceof Error ? fault.message : fault}`);
  process.exitCode = 1;
} finally {
  for (const client of [text, images, anomaly, evaluations]) client.close();
}

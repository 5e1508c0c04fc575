// What somebody does with a client of openapi-fetch and the types that openapi-typescript has made;
// prints what came.
import createClient from "openapi-fetch";
import { randomUUID } from "node:crypto";
import type { components, paths } from "./service.js";

type Job = components["schemas"]["JobDocument"];

const [baseUrl = "", key = ""] = process.argv.slice(2);
const story = "As a user, I want to log in";
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } });

function got<Data>(answer: { data?: Data; error?: unknown }): Data {
  if (answer.data === undefined) throw new Error(JSON.stringify(answer.error));
  return answer.data;
}

const submitted = got(
  await client.POST("/api/v1/jobs", {
    params: { query: { wait: 30 } },
    body: { story, iterations: ["validation"] },
  }),
);
if (!("result" in submitted.job)) throw new Error("it did not end in time");
const finished: Job = submitted.job;

const accepted = got(
  await client.POST("/api/v1/jobs", {
    params: { header: { "Idempotency-Key": "once" } },
    body: { story, mode: "workflow", options: { productType: "web", verify: false } },
  }),
);
const path = { id: accepted.job.id };
const cancelled = got(await client.DELETE("/api/v1/jobs/{id}", { params: { path } }));
const read = got(
  await client.GET("/api/v1/jobs/{id}", { params: { path, query: { wait: 10 } } }),
) as Job;

const page = got(await client.GET("/api/v1/jobs", { params: { query: { limit: 10 } } }));
const stream = await client.GET("/api/v1/jobs/{id}/stream", {
  params: { path: { id: finished.id } },
  parseAs: "text",
});
const refused = await client.DELETE("/api/v1/jobs/{id}", { params: { path: { id: finished.id } } });
const unknown = await client.GET("/api/v1/jobs/{id}", { params: { path: { id: randomUUID() } } });
if (refused.error === undefined || unknown.error === undefined) throw new Error("no problem");

console.log(
  JSON.stringify({
    finished: finished.status,
    markdown: finished.result?.["markdown"],
    cost: finished.costUsd,
    cancelled: cancelled.status,
    read: read.status,
    iterations: read.iterations.length,
    listed: page.jobs.map((job) => job.id).join() === [read.id, finished.id].join(),
    ends: String(stream.data).split("event: complete\n").length - 1,
    refused: [refused.response.status, refused.error.code],
    unknown: [unknown.error.status, unknown.error.code],
  }),
);

// A request for a video: its body, sending it, and the files of an earlier one.

import * as api from "./api.js";

/**
 * The multipart body of POST /v1/videos.
 * @param {Array<{field: string, face: number|null, file: Blob}>} parts
 * @param {object} given settings, model and profile by name
 */
export function bodyOf(parts, given) {
  const form = new FormData();
  for (const { field, face, file } of parts) {
    form.append(field, file, "file");
    if (face !== null) form.append("audio_face", String(face));
  }
  for (const [name, value] of Object.entries(given)) form.append(name, value === null ? "" : String(value));
  return form;
}

/** Send it; gives the job. */
export async function sendVideo(body) {
  const answer = await api.postForm("/v1/videos", body, { "Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random()) });
  return answer.json();
}

/** What was sent for a job, as parts. */
export const partsOf = (job) => Promise.all(job.inputs.map(async ({ name, field, face }) => ({ field, face, file: await api.getBlob(`/v1/videos/${job.id}/input/${name}`) })));

/** A seed that nobody has chosen. */
export const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0];

/**
 * The settings of a job as they were asked for. What the server decided by itself, or a profile other than "exact" did, is left to them again;
 * other defaults are kept, in case they have changed since.
 * @param {object} job
 * @param {SettingsStore} store with the defaults of the job's model
 */
export function askedSettings(job, store) {
  const isLeft = (name) => !(name in job.given) && (job.profile !== "exact" || [null, undefined, "auto"].includes(store.default(name)));
  return Object.fromEntries(Object.entries({ ...job.settings, ...job.given }).filter(([name]) => store.has(name) && !isLeft(name)));
}

/** Make the video of a job once more, with another seed; gives the new job. The arguments are those of `askedSettings`. */
export async function withAnotherSeed(job, store) {
  return sendVideo(bodyOf(await partsOf(job), { ...askedSettings(job, store), model: job.model, profile: job.profile, seed: randomSeed() }));
}

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

/** Make the video of a job once more, with another seed; gives the new job. */
export async function withAnotherSeed(job) {
  return sendVideo(bodyOf(await partsOf(job), { ...job.settings, model: job.model, profile: job.profile, seed: randomSeed() }));
}

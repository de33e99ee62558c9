// What was found in a video, in sentences.

const BILLION = 1e9;

/** How often an unmarked video looks like this. */
function certainty(chance) {
  if (chance * BILLION < 1) return "An unmarked video looks like this in fewer than one of a billion cases.";
  const cases = Number((1 / chance).toPrecision(1));
  return `An unmarked video looks like this in about one of ${cases.toLocaleString("en")} cases.`;
}

const sayings = {
  trainedAlgorithmicMedia: "that a model made the video",
  compositeWithTrainedAlgorithmicMedia: "that a model changed the video",
};

/** What a digital source type (an address, or nothing) says; null where nothing of models. */
const saying = (type) => sayings[type.split("/").at(-1)] ?? null;

function signedBy({ trust, signer }) {
  if (trust === "own") return "Signed by this server.";
  if (trust === "self-made") return "Signed by some copy of FantasyTalking, with a key that vouches for nobody.";
  return `Signed by ${signer || "somebody without a name"}; whether that is true is not known here.`;
}

/** The signed statement. */
export function statementWords(manifest) {
  const { state, why, generator, model, identifier, sources, covers, source_type: type } = manifest;
  if (state === "none") return ["There is none.", ...why].join(" ");
  if (state === "invalid") return ["It does not hold.", ...why].join(" ");
  const said = saying(type);
  return [
    covers === "header" ? "It holds for the header of a stream; its pictures are not signed." : "It holds: the file has not changed since it was signed.",
    signedBy(manifest),
    said ? `The statement says ${said}.` : "The statement does not say that a model had a part in the video.",
    generator ? `Program: ${generator}${model ? `, model ${model}` : ""}.` : "",
    identifier ? `Generation ${identifier}.` : "",
    sources.length ? `Made from ${sources.join(", ")}.` : "",
  ].filter(Boolean).join(" ");
}

/** The invisible watermark, with its certainty. */
export function watermarkWords({ found, chance, identifiers, frames }) {
  if (!found) return `Not found; ${frames} ${frames === 1 ? "frame" : "frames"} of the first minute were looked at.`;
  const which = identifiers.length ? `Generation ${identifiers.join(" and ")}.` : "It is too damaged to tell the generation.";
  return `Found. ${certainty(chance)} ${which}`;
}

/** The note in the file's metadata. */
export function metadataWords(type) {
  const said = saying(type);
  return said ? `Says ${said}. Anybody can write or delete it.` : "Says nothing.";
}

/** All of it in one sentence, and whether that is "good", "warn" or "bad". */
export function verdict({ is_marked: isMarked, manifest, watermark, agree }) {
  if (isMarked) return ["good", "This video is marked as made by a model, and its marks hold."];
  if (agree === false) return ["bad", "The marks contradict each other: the statement and the watermark name different generations, so one of them comes from another video."];
  if (manifest.state === "invalid") return ["bad", `The signed statement does not hold${watermark.found ? ", but the watermark says that a model made this video." : ", so it proves nothing."}`];
  if (manifest.state === "valid" && watermark.found) return ["bad", "The marks contradict each other: the signed statement does not say that a model had a part in the video, and the watermark says that a model made it."];
  if (manifest.state === "valid") return ["warn", "The signed statement holds. The watermark was not found."];
  if (watermark.found) return ["warn", "The watermark says that a model made this video. The signed statement is missing: saving a file anew takes it off."];
  return ["warn", "No mark was found. That does not say that the video is real: another program may have made it, or its marks may be lost."];
}

// A picture from the camera, in a dialog.

import { byId } from "./dom.js";
import { openDialog } from "./notices.js";

/** Why the browser gives no camera or microphone, as a sentence. */
export function whyNot(error, what) {
  if (!navigator.mediaDevices) return `The browser gives the ${what} only to pages at https:// or on this machine (localhost); choose a file instead.`;
  if (error?.name === "NotAllowedError") return `The ${what} is not allowed for this page; allow it in the browser's address bar, or choose a file.`;
  if (error?.name === "NotFoundError") return `No ${what} was found; connect one, or choose a file.`;
  return `The ${what} cannot be used (${error?.message ?? "unknown reason"}); choose a file instead.`;
}

/** A frame of a video element as a JPEG. */
export function frameOf(video) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
}

/**
 * Let the user take a picture.
 * @returns {Promise<Blob|null>} null when they change their mind
 * @throws {Error} with a sentence, when there is no camera
 */
export async function takePicture() {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 1280 }, height: { ideal: 1280 } } });
  } catch (error) {
    throw new Error(whyNot(error, "camera"));
  }
  const video = byId("camera-picture");
  video.srcObject = stream;
  try {
    const answer = await openDialog(byId("camera-dialog"));
    return answer === "take" && video.videoWidth ? await frameOf(video) : null;
  } finally {
    stream.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  }
}

// The portrait, or the footage to dub: by file, drop, paste, camera or example; and whose face speaks.

import * as api from "./api.js";
import { frameOf, takePicture } from "./camera.js";
import { button, byId } from "./dom.js";
import { FacePicker } from "./face_picker.js";
import { announce, showError } from "./notices.js";
import { size } from "./words.js";

/**
 * Event "change" when there is another picture or other faces are chosen.
 * `file` is a Blob or null, `kind` "picture" or "footage".
 */
export class PortraitCard extends EventTarget {
  file = null;
  kind = "picture";
  #address = null;
  #asked = 0;

  /** @param {object} limits answer of GET /v1/limits */
  constructor(limits) {
    super();
    this.limits = limits;
    this.error = byId("portrait-error");
    this.picker = new FacePicker(byId("portrait-faces"));
    this.picker.addEventListener("change", () => this.#chosen());
    byId("portrait-file").addEventListener("change", (event) => {
      this.use(event.target.files[0]);
      event.target.value = "";
    });
    byId("portrait-camera").addEventListener("click", () => this.#camera());
    byId("portrait-example").addEventListener("click", () => this.useExample());
    byId("portrait-remove").addEventListener("click", () => this.clear());
    byId("portrait-image").addEventListener("error", () => this.file && announce("This browser cannot show the picture; the server looks at it."));
    this.#receive();
  }

  /** Files that are dropped on the card, or pasted anywhere but in a text. */
  #receive() {
    const card = byId("portrait-card");
    const has = (event) => event.dataTransfer?.types.includes("Files");
    for (const [name, over] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]]) {
      card.addEventListener(name, (event) => {
        if (!has(event)) return;
        event.preventDefault();
        card.classList.toggle("over", over);
        if (name === "drop") this.use(event.dataTransfer.files[0]);
      });
    }
    document.addEventListener("paste", (event) => {
      const file = [...(event.clipboardData?.files ?? [])].find((one) => /^(image|video)\//.test(one.type));
      if (!file) return;
      event.preventDefault();
      this.use(file);
    });
  }

  async #camera() {
    try {
      const picture = await takePicture();
      if (picture) this.use(picture);
    } catch (error) {
      this.showError(error.message);
    }
  }

  async useExample() {
    try {
      await this.use(await api.getBlob("/v1/examples/portrait"));
    } catch (error) {
      this.showError(error.message);
    }
  }

  /** Take a file; what it is shows in its type, and the server looks closer. */
  async use(file) {
    if (!file) return;
    this.clear();
    if (!/^(image|video)\//.test(file.type) && file.type) {
      this.showError(`${file.name ?? "This"} is neither a picture nor a video.`);
      return;
    }
    const footage = file.type.startsWith("video/");
    const most = footage ? this.limits.video_bytes : this.limits.image_bytes;
    if (file.size > most) {
      this.showError(`The file has ${size(file.size)}; this server takes ${footage ? "footage" : "pictures"} of at most ${size(most)}.`);
      return;
    }
    this.file = file;
    this.kind = footage ? "footage" : "picture";
    this.#address = URL.createObjectURL(file);
    this.#preview();
    this.dispatchEvent(new Event("change"));
    await this.#findFaces();
  }

  #preview() {
    const [image, video] = [byId("portrait-image"), byId("portrait-video")];
    const footage = this.kind === "footage";
    [image.hidden, video.hidden] = [footage, !footage];
    (footage ? video : image).src = this.#address;
    byId("portrait-empty").hidden = true;
    byId("portrait-chosen").hidden = false;
    byId("footage-note").hidden = !footage;
  }

  async #findFaces() {
    const asked = ++this.#asked;
    this.#told("Looking for faces…");
    try {
      const picture = this.kind === "footage" ? await this.#firstFrame() : this.file;
      const form = new FormData();
      form.append("image_reference", picture, "picture");
      const found = await (await api.postForm("/v1/faces", form)).json();
      if (asked !== this.#asked) return;
      this.picker.show(found);
      this.#tellFaces(found);
      this.dispatchEvent(new Event("change"));
    } catch (error) {
      if (asked !== this.#asked) return;
      this.#told("");
      this.showError(error.message);
    }
  }

  async #firstFrame() {
    const video = byId("portrait-video");
    if (video.readyState < 2) {
      await new Promise((resolve, reject) => {
        video.addEventListener("loadeddata", resolve, { once: true });
        video.addEventListener("error", () => reject(new Error(
          "This browser cannot show the footage; the server may still be able to read it. The largest face speaks, unless the setting 'face' says otherwise.")), { once: true });
      });
    }
    return frameOf(video);
  }

  #tellFaces(found) {
    const count = found.faces.length;
    if (count === 0) return this.#told("No face was found. Most models need one: choose a picture that shows a face from the front.");
    if (count === 1) return this.#told(found.faces[0].told || "One face found.");
    this.#chosen();
    announce(`${count} faces found. Choose who speaks.`);
  }

  #chosen() {
    const { chosen, count } = this.picker;
    const who = chosen.length === 1 ? `Face ${chosen[0]} speaks.` : `Faces ${chosen.join(" and ")} speak, each with a speech of its own.`;
    this.#told(`${count} faces found: choose one or several in the picture. ${who}`);
    this.dispatchEvent(new Event("change"));
  }

  #told(text) {
    byId("portrait-told").textContent = text;
  }

  /** Width by height, for the stage; 1 when it is not known. */
  get aspect() {
    const [image, video] = [byId("portrait-image"), byId("portrait-video")];
    const [width, height] = this.kind === "footage" ? [video.videoWidth, video.videoHeight] : [image.naturalWidth, image.naturalHeight];
    return width && height ? width / height : 1;
  }

  /** Numbers of the faces that speak; empty where the server decides. */
  get speakers() {
    return this.picker.count > 1 ? this.picker.chosen : [];
  }

  clear() {
    this.#asked += 1;
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.file = this.#address = null;
    this.picker.show(null);
    this.showError(null);
    this.#told("");
    byId("portrait-image").removeAttribute("src");
    byId("portrait-video").removeAttribute("src");
    byId("portrait-empty").hidden = false;
    byId("portrait-chosen").hidden = true;
    this.dispatchEvent(new Event("change"));
  }

  showError(message) {
    const ways = [
      button("Choose another file", { kind: "small", onclick: () => byId("portrait-file").click() }),
      button("Use the example", { kind: "small", onclick: () => this.useExample() }),
    ];
    showError(this.error, message, ...(message ? ways : []));
  }

  focus() {
    byId(this.file ? "portrait-remove" : "portrait-file").focus();
  }
}

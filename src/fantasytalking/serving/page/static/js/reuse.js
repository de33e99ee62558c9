// An earlier video goes back into the form: picture, speech, settings and seed; and what was there before can be brought back.

import { button, byId, fill, make } from "./dom.js";
import { announce } from "./notices.js";
import { moment } from "./words.js";
import { askedSettings, partsOf } from "./video_request.js";

export class Reuse {
  /** @param {{portrait: PortraitCard, speech: SpeechCard, store: SettingsStore, extras: object, modelReady: function(): Promise}} parts of the form */
  constructor(form) {
    Object.assign(this, form);
  }

  /** Take over everything of a job, so that generating makes the same video. */
  async take(job) {
    const when = moment(job.created_at);
    const before = this.#now();
    const wanted = { parts: null, settings: () => askedSettings(job, this.store), extras: { model: job.model, profile: job.profile } };
    this.#tell(`Getting picture and speech of ${when}…`);
    let told = `Picture, speech, settings and seed of ${when} are in the form.`;
    try {
      wanted.parts = await partsOf(job);
    } catch (error) {
      told = `Settings and seed of ${when} are in the form. Its picture and speech are not: ${error.message}`;
    }
    await this.#put(wanted);
    const back = before.parts.length && wanted.parts ? button("Bring back what was there", { name: "reset", kind: "small", onclick: () => this.#bringBack(before) }) : null;
    this.#tell(told, back);
    announce(told);
    byId("create").focus();
    byId("reused").scrollIntoView({ block: "center" });
  }

  async #bringBack(before) {
    await this.#put(before);
    this.#tell(null);
    announce("The form is as it was.");
    byId("create").focus();
  }

  /** The form as it is. */
  #now() {
    const { portrait, speech, store, extras } = this;
    const values = store.values();
    const parts = [{ field: "image_reference", face: null, file: portrait.file }, ...speech.speeches.map((one) => ({ field: "audio_reference", ...one }))];
    return { parts: parts.filter((one) => one.file), settings: () => values, extras: extras.store.values() };
  }

  async #put({ parts, settings, extras }) {
    if (parts) {
      const [picture, ...speeches] = [parts.find((one) => one.field !== "audio_reference"), ...parts.filter((one) => one.field === "audio_reference")];
      if (picture) await this.portrait.use(picture.file);
      else this.portrait.clear();
      const faces = speeches.map((one) => one.face).filter((face) => face !== null);
      if (faces.length > 1) this.portrait.picker.choose(...faces);
      await this.speech.take(speeches);
    }
    // The model first: its defaults take the place of values that were not changed.
    this.extras.store.resetAll();
    this.extras.apply(extras);
    await this.modelReady();
    // After the picture, which chooses the largest face.
    this.store.resetAll();
    this.store.apply(settings());
  }

  #tell(text, ...ways) {
    byId("reused").hidden = text === null;
    fill(byId("reused"), text === null ? null : make("p", { class: "grow", text }), ...ways);
  }
}

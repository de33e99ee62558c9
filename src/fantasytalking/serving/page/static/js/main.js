// The page: makes the parts and joins them. Every part is a client of the REST API and knows the others only by events.

import * as api from "./api.js";
import { CheckDialog } from "./check_dialog.js";
import { Comparison } from "./compare.js";
import { CreateForm } from "./create_form.js";
import { button, byId, fill, make } from "./dom.js";
import { History } from "./history.js";
import { LivePanel } from "./live.js";
import { askToken, showError, watchConnection } from "./notices.js";
import { PortraitCard } from "./portrait_card.js";
import { Reuse } from "./reuse.js";
import { SettingsForm } from "./settings_form.js";
import { SettingsStore } from "./settings_store.js";
import { SpeechCard } from "./speech_card.js";
import { ENDED, Stage } from "./stage.js";
import { styleCard } from "./style_card.js";
import { startTheme } from "./theme.js";
import { extrasForm } from "./extras_form.js";
import { withAnotherSeed } from "./video_request.js";

async function start() {
  startTheme();
  api.hooks.askToken = askToken;
  const { needs_token: needsToken, client } = await api.session();
  if (needsToken && client === null && !(await askToken("This server needs an access token."))) throw new Error("the server needs an access token.");
  byId("leave").hidden = !needsToken;
  byId("leave").addEventListener("click", () => api.leave().then(() => location.reload()));
  const speech = new SpeechCard();
  const [settings, models, limits] = await Promise.all([...["settings", "models", "limits"].map((name) => api.getJson(`/v1/${name}`)), speech.findVoices()]);
  const store = new SettingsStore(settings.data);
  const form = new SettingsForm(store, styleCard(store));
  const extras = extrasForm(models.data, limits.profiles);
  const redefine = async () => store.redefine((await api.getJson(`/v1/settings?model=${encodeURIComponent(extras.store.value("model"))}`)).data);
  let redefined = Promise.resolve();
  extras.store.addEventListener("change", ({ detail: { name } }) => {
    if (name === "model") redefined = redefined.then(redefine);
  });
  const portrait = new PortraitCard(limits);
  speech.start(limits);
  const history = new History();
  const comparison = new Comparison(store);
  const create = new CreateForm({ portrait, speech, settings: form, extras });
  new LivePanel({ portrait, speech, settings: form, extras, limits });
  const check = new CheckDialog(limits);
  const reuse = new Reuse({ portrait, speech, store, extras, modelReady: () => redefined });
  const again = (job) => reuse.take(job);
  const stage = new Stage({ again, another: (job) => another(job), check: (job) => check.checkJob(job), compare: (job) => history.compareWith(job), tryAgain: () => create.submit() });
  const another = (job) => repeat(job, stage, store);

  joinFaces(portrait, speech, store);
  takeDrops(portrait, speech);
  portrait.addEventListener("change", () => stage.job || stage.setAspect(portrait.aspect));
  byId("portrait-image").addEventListener("load", () => stage.job && !ENDED.includes(stage.job.status) ? null : stage.setAspect(portrait.aspect));
  create.addEventListener("sending", () => {
    stage.setAspect(portrait.aspect);
    stage.sending();
    byId("stage").scrollIntoView({ block: innerWidth > 860 ? "nearest" : "start" });
  });
  create.addEventListener("refused", () => stage.refused());
  create.addEventListener("sent", ({ detail: job }) => stage.showSent(job));
  stage.addEventListener("job", ({ detail: job }) => {
    history.shown = job.id;
    history.update(job);
  });
  history.addEventListener("open", ({ detail: job }) => {
    stage.show(job);
    byId("stage").scrollIntoView({ block: "start" });
    byId("stage-title").focus({ preventScroll: true });
  });
  history.addEventListener("again", ({ detail: job }) => again(job));
  history.addEventListener("check", ({ detail: job }) => check.checkJob(job));
  history.addEventListener("compare", ({ detail: jobs }) => comparison.open(jobs));
  comparison.addEventListener("another", ({ detail: job }) => another(job));
  history.addEventListener("deleted", ({ detail: job }) => stage.job?.id === job.id && stage.clear());
  byId("example-video").addEventListener("click", async () => {
    await Promise.all([portrait.useExample(), speech.useExample()]);
    create.submit();
  });
  watchConnection(() => {
    history.load();
    if (stage.job && !ENDED.includes(stage.job.status)) stage.show(stage.job);
  });
  // Until here nothing would have come of a click.
  document.querySelector("main").inert = false;
  history.follow();
  await history.load();
  const running = history.jobs.find((job) => !ENDED.includes(job.status));
  if (running) stage.show(running);
  document.documentElement.dataset.ready = "true";
}

/** Files dropped anywhere go where they belong; left alone, the browser would open them in place of the page. */
function takeDrops(portrait, speech) {
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event) || event.defaultPrevented) return;
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file.type.startsWith("audio/")) speech.open.use(file);
    else portrait.use(file);
  });
}

/** The picker and the setting `face` are two views of the same; several faces get a speech each. */
function joinFaces(portrait, speech, store) {
  let speaking = "";
  portrait.addEventListener("change", () => {
    const faces = portrait.speakers;
    if (faces.join() === speaking) return;
    speaking = faces.join();
    speech.setSpeakers(faces);
    if (faces.length === 1 && faces[0] !== 0) store.set("face", faces[0]);
    else if (store.has("face")) store.reset("face");
  });
  store.addEventListener("change", ({ detail: { name } }) => {
    if (name === "face" && portrait.speakers.length < 2 && store.value("face") !== null) portrait.picker.choose(store.value("face"));
  });
}

/** Make a video once more with another seed; the form is left alone. */
async function repeat(job, stage, store) {
  stage.setAspect(job.video.width / job.video.height);
  stage.sending();
  byId("stage").scrollIntoView({ block: innerWidth > 860 ? "nearest" : "start" });
  byId("stage-title").focus({ preventScroll: true });
  try {
    stage.show(await withAnotherSeed(job, store));
  } catch (error) {
    stage.refused(error.message, button("Try again", { kind: "small", onclick: () => repeat(job, stage, store) }));
  }
}

function failed(error) {
  console.error(error);
  const place = byId("create-error");
  showError(place, `The page could not start: ${error.message}`, make("button", { type: "button", class: "button small", text: "Load the page again", onclick: () => location.reload() }));
  fill(byId("bar"));
}

start().catch(failed);

"use strict";
// Two videos, one button: both start at the same moment and are kept together by the clock of the first.
(() => {
  const players = [];

  function setUp(card) {
    const bar = card.querySelector(".player");
    const videos = [...card.querySelectorAll("video")];
    if (!bar || videos.length === 0) return;
    const lead = card.querySelector("video.generated") || videos[0];
    const others = videos.filter((video) => video !== lead);
    const button = bar.querySelector("button");
    const slider = bar.querySelector("input");
    const heads = [...card.querySelectorAll(".playhead")];
    const what = button.dataset.what;
    let playing = false;

    // Without script the browser's own controls remain.
    videos.forEach((video) => { video.controls = false; });
    bar.hidden = false;

    function draw() {
      if (lead.duration) slider.value = String(lead.currentTime / lead.duration);
      for (const head of heads) {
        const x = Number(head.dataset.left) + lead.currentTime * Number(head.dataset.slope);
        const shown = String(Math.min(x, Number(head.dataset.right)));
        head.setAttribute("x1", shown);
        head.setAttribute("x2", shown);
      }
    }
    function show() {
      button.textContent = (playing ? "❚❚ Pause " : "▶ Play ") + what;
      button.setAttribute("aria-pressed", String(playing));
    }
    function follow() {
      for (const video of others) {
        const end = video.duration || Infinity;
        const wanted = Math.min(lead.currentTime, end);
        // play() of a video at its end starts it over, so the shorter one rests on its last frame.
        if (wanted > end - 0.1) continue;
        if (Math.abs(video.currentTime - wanted) > 0.08) video.currentTime = wanted;
        if (playing && video.paused) video.play().catch(() => {});
      }
    }
    function step() {
      draw();
      if (!playing || lead.ended) return;
      follow();
      requestAnimationFrame(step);
    }
    function stop() {
      playing = false;
      videos.forEach((video) => video.pause());
      show();
    }
    async function start() {
      players.forEach((player) => player.stop());
      if (lead.ended || lead.currentTime >= (lead.duration || Infinity) - 0.05) lead.currentTime = 0;
      others.forEach((video) => { video.currentTime = lead.currentTime; });
      playing = true;
      show();
      try {
        await Promise.all(videos.map((video) => video.play()));
        requestAnimationFrame(step);
      } catch (error) {
        stop();
      }
    }

    button.addEventListener("click", () => (playing ? stop() : start()));
    slider.addEventListener("input", () => {
      if (!lead.duration) return;
      lead.currentTime = Number(slider.value) * lead.duration;
      follow();
      draw();
    });
    lead.addEventListener("ended", () => { stop(); draw(); });
    players.push({ stop });
  }

  document.querySelectorAll(".card").forEach(setUp);

  // What is folded away on the screen is needed on paper.
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")].filter((d) => !d.closest(".card"));
    opened.forEach((details) => { details.open = true; });
  });
  window.addEventListener("afterprint", () => opened.forEach((details) => { details.open = false; }));
})();

"use strict";

const PERIOD = 500; // ms between two looks at the numbers
const STALLED = 2; // s without a new picture
const STAGES = ["wait", "prepare", "run", "restore", "show"];

const $ = (id) => document.getElementById(id);
const segments = {}, amounts = {};
let reached = true;

for (const stage of STAGES) {
  const segment = document.createElement("span");
  const dot = document.createElement("i");
  const amount = document.createElement("span");
  const item = document.createElement("li");
  segment.className = dot.className = stage;
  item.append(dot, `${stage} `, amount);
  $("bar").append(segment);
  $("legend").append(item);
  segments[stage] = segment;
  amounts[stage] = amount;
}

function state(name, text) {
  document.body.className = name;
  $("state").textContent = text;
}

function draw(stats) {
  const { model, ...rest } = stats.about;
  $("model").textContent = model;
  $("about").replaceChildren(...Object.entries(rest).map(([name, value]) => {
    const pair = document.createElement("div");
    const term = document.createElement("dt");
    const text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    pair.append(term, text);
    return pair;
  }));

  $("frames").textContent = stats.frames.toLocaleString("en");
  $("dropped").textContent = stats.dropped.toLocaleString("en");
  const arrived = stats.frames + stats.dropped;
  $("share").textContent = arrived ? `of ${arrived.toLocaleString("en")}` : "";
  $("fps").textContent = stats.fps === null ? "–" : stats.fps.toFixed(1);
  $("latency").textContent = stats.median_ms === null ? "–" : stats.median_ms.age.toFixed(0);
  for (const stage of STAGES) {
    const spent = stats.median_ms === null ? 0 : stats.median_ms[stage];
    segments[stage].style.flexGrow = spent;
    amounts[stage].textContent = `${spent.toFixed(1)} ms`;
  }

  if (stats.idle_s > STALLED) state("stalled", `no new picture for ${stats.idle_s.toFixed(0)} s`);
  else if (stats.frames) state("live", "live");
  else state("", "starting");
}

async function look() {
  try {
    const answer = await fetch("stats.json");
    draw(await answer.json());
    if (!reached) $("picture").src = `stream.mjpg?${Date.now()}`; // the old stream ended with its server
    reached = true;
  } catch {
    reached = false;
    state("stopped", "stopped");
  }
  setTimeout(look, PERIOD);
}

look();

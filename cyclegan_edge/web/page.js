"use strict";

const SILENCE = 1500; // ms without a message until the connection counts as lost: numbers come twice a second
const CONNECT = 2000; // ms for a connection to open
const RETRY = 500; // ms between two attempts
const STALLED = 2; // s without a new picture, or three times what a slow engine takes
const MINUTE = 60; // s that the chart shows
const CAMERA_TIMEOUT = 10000; // ms until a camera picture without a translation is given up
const HEADER = 17; // bytes: uint32 number, uint32 tag + 1, uint8 both, float64 captured, little-endian
const STAGES = ["wait", "prepare", "run", "restore", "show"];

const $ = (id) => document.getElementById(id);
const bare = new URLSearchParams(location.search).has("bare");
const picture = $("picture").getContext("2d");
const segments = {}, amounts = {};

let socket = null, heard = 0, opened = 0;
let offset = null, roundTrip = Infinity; // s to add to performance.now() for the server's clock; ms, of its best measurement
let shown = null; // the bitmap on the canvas, and whether it holds both halves
let settings = {}, stats = null, about = null;
let drawnAt = [], ages = []; // ms and ms, of the last seconds
const minute = []; // [rate, age] of each of the last seconds
const live = { state: "connecting", age: null, fps: null, reconnects: 0, pictures: 0, bytes: 0, camera: [] };
window.live = live; // for tests and the curious

// --- the connection

function connect() {
  opened = performance.now();
  socket = new WebSocket(`${location.protocol.replace("http", "ws")}//${location.host}/live`);
  socket.binaryType = "arraybuffer";
  const mine = socket;
  socket.onopen = () => {
    if (mine !== socket) return;
    heard = performance.now();
    offset = null;
    roundTrip = Infinity;
    ping();
    if (compare()) tell({ both: true });
  };
  socket.onmessage = ({ data }) => {
    if (mine !== socket) return;
    heard = performance.now();
    if (typeof data === "string") hear(JSON.parse(data));
    else show(data);
  };
  socket.onclose = () => { if (mine === socket) lose(); };
}

function lose() {
  const old = socket;
  socket = null;
  if (old) old.close();
  if (live.state !== "lost") live.reconnects += 1;
  state("lost", "reconnecting");
  setTimeout(connect, RETRY);
}

function tell(content) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(content));
}

function ping() { tell({ ping: performance.now() }); }

function hear(message) {
  if (message.about) { about = message.about; describe(); }
  if (message.pong !== undefined) {
    const now = performance.now();
    if (now - message.pong < roundTrip) {
      roundTrip = now - message.pong;
      offset = message.now - (now + message.pong) / 2000;
    }
    roundTrip += 0.1; // clocks drift: an old measurement is trusted less and less
  }
  if (message.stats) {
    const other = message.state.engine !== settings.engine || message.state.device !== settings.device;
    stats = message.stats;
    settings = message.state;
    if (other && about) describe();
    numbers();
  }
  if (message.error) notice(message.error, 4000);
}

// --- the picture

async function show(data) {
  const view = new DataView(data);
  const number = view.getUint32(0, true), tag = view.getUint32(4, true), both = view.getUint8(8) === 1;
  const captured = view.getFloat64(9, true);
  let bitmap = null;
  try {
    bitmap = await createImageBitmap(new Blob([new Uint8Array(data, HEADER)], { type: "image/jpeg" }));
  } catch { /* acknowledged all the same, or no other would come */ }
  if (bitmap) {
    if (shown) shown.bitmap.close();
    shown = { bitmap, both };
    draw();
    const now = performance.now();
    live.pictures += 1;
    live.bytes += data.byteLength;
    drawnAt.push(now);
    if (offset !== null) {
      live.age = Math.max(0, 1000 * (now / 1000 + offset - captured)); // the offset is known to half a round trip
      ages.push(live.age);
    }
    if (tag) cameraShown(tag - 1, now);
  }
  tell({ ack: number, age: live.age });
}

function draw() {
  const { bitmap, both } = shown;
  const width = both ? bitmap.width / 2 : bitmap.width, height = bitmap.height;
  const canvas = picture.canvas;
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  picture.drawImage(bitmap, both ? width : 0, 0, width, height, 0, 0, width, height);
  if (!both) return;
  $("divider").style.width = `${Math.min(canvas.clientWidth, canvas.clientHeight * width / height)}px`;
  const middle = Math.round(width * $("divider").value / 1000);
  if (middle > 0) picture.drawImage(bitmap, 0, 0, middle, height, 0, 0, middle, height);
  picture.fillStyle = "#fff";
  picture.fillRect(middle - 1, 0, Math.max(2, width / 400), height);
}

// --- what is written around it

function state(name, text) {
  live.state = name;
  document.body.classList.remove("live", "waiting", "lost");
  document.body.classList.add(name);
  if ($("state").textContent !== text) $("state").textContent = text;
}

let noticeUntil = 0;
function notice(text, milliseconds) {
  noticeUntil = performance.now() + milliseconds;
  $("notice").textContent = text;
  $("notice").hidden = false;
}

function describe() {
  const { model, camera, camera_width, camera_height, ...rest } = about;
  const { engine, device } = settings;
  const known = Object.entries({ engine, device, ...rest }).filter(([, value]) => value !== undefined);
  $("about").replaceChildren(...known.map(([name, value]) => {
    const pair = document.createElement("div"), term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    pair.append(term, text);
    return pair;
  }));
  $("camera").hidden = !camera;
  if (camera && !navigator.mediaDevices) {
    $("camera").disabled = true;
    $("camera").title = "Browsers give a camera only to https and to localhost; start with --cert and --key.";
  }
}

function models() {
  const names = settings.models || [about ? about.model : ""];
  const select = $("model");
  if (select.childElementCount !== names.length) {
    select.replaceChildren(...names.map((name) => new Option(name, name)));
  }
  select.disabled = names.length < 2 || Boolean(settings.loading);
  if (document.activeElement !== select) select.value = settings.loading || settings.model || names[0];
}

function numbers() {
  models();
  for (const name of ["smooth", "frozen", "recording"]) {
    $(name).setAttribute("aria-pressed", String(Boolean(settings[name])));
    $(name).disabled = settings[name] === undefined;
  }
  const arrived = stats.frames + stats.dropped;
  $("dropped").textContent = stats.dropped.toLocaleString("en");
  $("share").textContent = arrived ? `of ${arrived.toLocaleString("en")}` : "";
  $("latency").textContent = stats.median_ms === null ? "–" : stats.median_ms.age.toFixed(0);
  for (const stage of STAGES) {
    const spent = stats.median_ms === null ? 0 : stats.median_ms[stage];
    segments[stage].style.flexGrow = spent;
    amounts[stage].textContent = `${spent.toFixed(1)} ms`;
  }
  if (settings.loading) notice(`${settings.loading} is being opened …`, 900);
  else if (settings.trouble) notice(settings.trouble, 900);
  if (settings.frozen) state("live", "frozen");
  else if (stats.idle_s > Math.max(STALLED, stats.median_ms ? stats.median_ms.age / 300 : 0)) state("waiting", `no new picture for ${stats.idle_s.toFixed(0)} s`);
  else if (live.pictures) state("live", "live");
  else state("waiting", "starting");
}

function everySecond() {
  const now = performance.now();
  drawnAt = drawnAt.filter((at) => now - at < 2000);
  live.fps = drawnAt.length / 2;
  const sorted = ages.sort((a, b) => a - b), median = sorted.length ? sorted[sorted.length >> 1] : null;
  ages = [];
  minute.push([live.fps, median]);
  if (minute.length > MINUTE) minute.shift();
  $("fps").textContent = live.fps.toFixed(1);
  $("age").textContent = median === null ? "–" : median.toFixed(0);
  chart();
  ping();
}

function chart() {
  const canvas = $("chart"), context = canvas.getContext("2d");
  canvas.width = canvas.clientWidth * devicePixelRatio;
  canvas.height = canvas.clientHeight * devicePixelRatio;
  const { width, height } = canvas, pad = 14 * devicePixelRatio;
  ["rate", "age"].forEach((name, index) => {
    const values = minute.map((second) => second[index]);
    const top = Math.max(1, ...values.filter((value) => value !== null)) * 1.1;
    context.strokeStyle = context.fillStyle = getComputedStyle(document.querySelector(`i.${name}`)).backgroundColor;
    context.lineWidth = 2 * devicePixelRatio;
    context.font = `${11 * devicePixelRatio}px system-ui`;
    context.textAlign = index ? "right" : "left";
    context.fillText(`${top.toFixed(0)} ${index ? "ms" : "fps"}`, index ? width - 6 : 6, pad);
    context.beginPath();
    let down = false;
    values.forEach((value, second) => {
      if (value === null) return; // no picture in that second: the line goes on to the next one
      const x = width * (second + MINUTE - values.length) / (MINUTE - 1), y = height - (height - pad) * value / top - 2;
      if (down) context.lineTo(x, y); else context.moveTo(x, y);
      down = true;
    });
    context.stroke();
  });
  const [fps, age] = minute[minute.length - 1];
  $("spoken").textContent = `${fps.toFixed(0)} frames a second, ${age === null ? "age unknown" : `${age.toFixed(0)} milliseconds old`}`;
}

// --- the camera of this browser

let camera = null; // { video, canvas, tag, sent, fresh }

async function toggleCamera() {
  if (camera) {
    camera.video.srcObject.getTracks().forEach((track) => track.stop());
    camera = null;
  } else {
    try {
      const wanted = { width: { ideal: about.camera_width || 640 }, height: { ideal: about.camera_height || 360 }, facingMode: "user" };
      const stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
      const video = document.createElement("video");
      video.muted = video.playsInline = true;
      video.srcObject = stream;
      await video.play();
      camera = { video, canvas: new OffscreenCanvas(16, 9), tag: 0, sent: null, fresh: true };
      const next = () => { if (!camera) return; camera.fresh = true; sendCamera(); video.requestVideoFrameCallback(next); };
      video.requestVideoFrameCallback(next);
    } catch (error) {
      notice(`The camera cannot be used: ${error.message}`, 6000);
    }
  }
  $("camera").setAttribute("aria-pressed", String(Boolean(camera)));
}

async function sendCamera() {
  const now = performance.now();
  if (!camera || !camera.fresh || !socket || socket.readyState !== WebSocket.OPEN) return;
  if (camera.sent !== null && now - camera.sent < CAMERA_TIMEOUT) return; // one at a time, so nothing queues
  const { video, canvas } = camera;
  if (!video.videoWidth) return;
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  camera.fresh = false;
  camera.sent = now;
  const tag = camera.tag = (camera.tag + 1) % 0xfffffff0, mine = socket;
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 }); // toBlob waits for an idle moment
  const jpeg = await blob.arrayBuffer(), message = new Uint8Array(4 + jpeg.byteLength);
  new DataView(message.buffer).setUint32(0, tag, true);
  message.set(new Uint8Array(jpeg), 4);
  if (mine.readyState === WebSocket.OPEN) mine.send(message);
}

function cameraShown(tag, now) {
  if (!camera || tag !== camera.tag || camera.sent === null) return; // of a picture that was given up
  live.camera.push([now, now - camera.sent]);
  if (live.camera.length > 5000) live.camera.shift();
  camera.sent = null;
  sendCamera();
}

// --- the controls

const compare = () => $("compare").getAttribute("aria-pressed") === "true";

const actions = {
  compare() {
    const on = !compare();
    $("compare").setAttribute("aria-pressed", String(on));
    $("divider").hidden = !on;
    tell({ both: on });
  },
  smooth() { tell({ set: ["smooth", !settings.smooth] }); },
  frozen() { tell({ set: ["frozen", !settings.frozen] }); },
  recording() { tell({ set: ["recording", !settings.recording] }); },
  snapshot() {
    const link = document.createElement("a");
    link.href = "snapshot.png";
    link.download = `cyclegan-edge-${new Date().toISOString().replace(/[:.]/g, "-")}.png`;
    link.click();
  },
  camera: toggleCamera,
  full() {
    if (document.fullscreenElement) document.exitFullscreen();
    else $("stage").requestFullscreen?.();
  },
};
const keys = { v: "compare", " ": "frozen", r: "recording", s: "snapshot", f: "full" };

for (const name of Object.keys(actions)) $(name).addEventListener("click", actions[name]);
$("divider").addEventListener("input", () => { if (shown) draw(); });
$("model").addEventListener("change", () => { tell({ set: ["model", $("model").value] }); $("model").blur(); });
document.addEventListener("keydown", (event) => {
  const typing = /^(BUTTON|SELECT|INPUT)$/.test(event.target.tagName);
  if (keys[event.key] && !event.ctrlKey && !event.metaKey && !event.altKey && !(typing && event.key === " ")) {
    event.preventDefault();
    actions[keys[event.key]]();
  }
});

for (const stage of STAGES) {
  const segment = document.createElement("span"), dot = document.createElement("i");
  const amount = document.createElement("span"), item = document.createElement("li");
  segment.className = dot.className = stage;
  item.append(dot, `${stage} `, amount);
  $("bar").append(segment);
  $("legend").append(item);
  segments[stage] = segment;
  amounts[stage] = amount;
}

document.body.classList.toggle("bare", bare);
setInterval(() => {
  const now = performance.now();
  if (socket && socket.readyState === WebSocket.OPEN && now - heard > SILENCE) lose();
  else if (socket && socket.readyState === WebSocket.CONNECTING && now - opened > CONNECT) lose();
  if (!$("notice").hidden && now > noticeUntil) $("notice").hidden = true;
}, 250);
setInterval(everySecond, 1000);
connect();

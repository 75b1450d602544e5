// Unpacks the data of the page, shows them, and handles the pointer and the keyboard.

const $ = (id) => document.getElementById(id);
const payload = JSON.parse($("payload").textContent);
const M = payload.latents, shape = payload.shape;
const decoder = new Decoder(payload.decoder);

const rowsOf = (array, length) =>
  Array.from({ length: array.length / length }, (_, i) => array.subarray(i * length, (i + 1) * length));
const triangle = (M * (M + 1)) / 2;

function unpackedGuide({ name, cloud, mean, covariance, draws, elbo, elbo_se }) {
  const steps = numbersOf(cloud.z, "uint16");
  const z = Float32Array.from(steps, (step, i) =>
    cloud.low[i % M] + (step / 65535) * (cloud.high[i % M] - cloud.low[i % M]));
  const each = (text, length) => text && rowsOf(numbersOf(text, "float32"), length);
  const means = each(mean, M), drawn = each(draws, M);
  const perImage = drawn && drawn.length / means.length;
  return {
    name, elbo, elbo_se, cloud: rowsOf(z, M), mean: means, covariance: each(covariance, triangle),
    draws: drawn && means.map((_, i) => drawn.slice(i * perImage, (i + 1) * perImage)),
  };
}

// Images in the numbers that the model was given: bytes become float32 levels, as in PyTorch.
function unpackedImages({ x, levels }) {
  const length = shape.reduce((product, side) => product * side);
  const pixels = levels
    ? Float32Array.from(numbersOf(x, "uint8"), (byte) => byte / levels) : numbersOf(x, "float32");
  return rowsOf(pixels, length);
}

const guides = payload.guides.map(unpackedGuide);
const images = unpackedImages(payload.images);
const exact = payload.exact && {
  mean: rowsOf(numbersOf(payload.exact.mean, "float32"), M),
  covariance: rowsOf(numbersOf(payload.exact.covariance, "float32"), triangle),
  log_evidence: payload.exact.log_evidence,
};

// How far the plane reaches: to the farthest encoding, and to three sigma of the prior at least.
const REACH = guides.flatMap((guide) => guide.cloud).reduce(
  (most, z) => z.reduce((far, value) => Math.max(far, Math.abs(value)), most), 3) * 1.05;
const whole = () => ({ low: [-REACH, -REACH], high: [REACH, REACH] });

const state = {
  z: new Float64Array(M), axes: [0, M > 1 ? 1 : -1], view: whole(), chosen: 0, highlighted: null,
  labels: payload.labels && numbersOf(payload.labels, "uint8"), drawn: null, grid: null, exact,
  closeUp: false,
};

// A new element with its attributes and contents.
function made(tag, attributes, ...contents) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...contents);
  return element;
}

// One plane per guide, the point shared by both.
const planes = guides.map((guide, i) => {
  const canvas = made("canvas", {
    tabindex: 0, role: "application", "aria-describedby": "place",
    "aria-label": `The latent plane with the encodings of ${guide.name}. Arrow keys move the ` +
      "point, with Shift in larger steps, Home to the origin.",
  });
  const caption = guides.length > 1 ? `${"AB"[i]}: ${guide.name}` : guide.name;
  $("planes").append(made("figure", {}, canvas, made("figcaption", {}, caption)));
  return new Plane(canvas, guide, state, (x, y) => {
    const z = Float64Array.from(state.z);
    z[state.axes[0]] = x;
    if (state.axes[1] >= 0) z[state.axes[1]] = y;
    moveTo(z);
  });
});
const drawPlanes = () => planes.forEach((plane) => plane.draw());

const times = []; // of the last decodes [ms]
function moveTo(z) {
  state.z = z;
  const began = performance.now();
  const image = decoder.mean(z);
  times.push(performance.now() - began);
  if (times.length > 51) times.shift();
  paint($("decoded"), image, shape);
  const shown = Array.from(z.slice(0, 8), (value) => signed(value)).join(", ");
  const words = `z = (${shown}${M > 8 ? ", …" : ""})`;
  $("place").textContent = words;
  $("decoded").setAttribute("aria-label", `The decoded image at ${words}`);
  if (times.length > 10) { // the first ones are slow: the browser has not compiled them yet
    const median = Float64Array.from(times).sort()[times.length >> 1];
    $("time").textContent = `decoded in ${median.toFixed(2)} ms`;
  }
  sliders.forEach((slider, k) => { slider.value = z[k]; });
  drawPlanes();
}

const sliders = Array.from({ length: M }, (_, k) => {
  const range = { type: "range", min: -REACH, max: REACH, step: 0.01, value: 0 };
  const slider = made("input", { id: `z${k + 1}`, ...range });
  slider.addEventListener("input", () => {
    const z = Float64Array.from(state.z);
    z[k] = Number(slider.value);
    moveTo(z);
  });
  $("sliders").append(made("label", {}, `z${k + 1} `, slider));
  return slider;
});

// Which two latents the plane shows, where there are more.
function chooseAxes() {
  if (M < 3) return;
  $("axes").hidden = false;
  ["across", "up"].forEach((id, axis) => {
    for (let k = 0; k < M; k++) $(id).append(new Option(`z${k + 1}`, k));
    $(id).value = state.axes[axis];
    $(id).addEventListener("change", () => {
      const other = state.axes[1 - axis], wanted = Number($(id).value);
      if (wanted === other) state.axes[1 - axis] = state.axes[axis]; // the two change places
      state.axes[axis] = wanted;
      ["across", "up"].forEach((name, a) => { $(name).value = state.axes[a]; });
      if (state.closeUp) look();
      else drawPlanes();
    });
  });
}

function legend() {
  if (!state.labels) return;
  for (const kind of [...new Set(state.labels)].sort((a, b) => a - b)) {
    const name = payload.classes.length ? payload.classes[kind] : String(kind);
    const dot = made("span", {});
    dot.style.background = COLOURS[kind];
    const button = made("button", {
      type: "button", "aria-pressed": "false", "aria-label": `show class ${name} alone`,
    }, dot, name);
    button.addEventListener("click", () => {
      state.highlighted = state.highlighted === kind ? null : kind;
      for (const other of $("legend").children) {
        other.setAttribute("aria-pressed", String(other === button && state.highlighted === kind));
      }
      drawPlanes();
    });
    $("legend").append(button);
  }
}

// A test image: x, its reconstruction from q's mean, its bounds.
const named = (i) => {
  const label = payload.images.labels[i];
  return `#${payload.images.rows[i]}` + (label === null ? "" : ` (${label})`);
};

function choose(i) {
  state.chosen = (i + images.length) % images.length;
  state.grid = null;
  $("image").value = state.chosen;
  paint($("original"), images[state.chosen], shape);
  $("original").setAttribute("aria-label", `test image ${named(state.chosen)}`);
  $("means").replaceChildren(...guides.map((guide, g) => {
    const label = `reconstruction of test image ${named(state.chosen)}`;
    const canvas = made("canvas", { role: "img", "aria-label": label });
    paint(canvas, decoder.mean(guide.mean[state.chosen]), shape);
    const caption = guides.length > 1 ? `from q's mean, ${"AB"[g]}` : "from q's mean";
    return made("figure", {}, canvas, made("figcaption", {}, caption));
  }));
  bounds();
  moveTo(Float64Array.from(guides[0].mean[state.chosen]));
  if (state.closeUp) look();
}

// The table of what is known of log p(x) for the chosen image.
function bounds() {
  const { chosen, grid } = state;
  const evidence = exact ? exact.log_evidence[chosen] : grid ? grid.logEvidence : null;
  const rows = [];
  if (exact) rows.push(["log p(x), closed form", signed(exact.log_evidence[chosen], 3)]);
  if (grid) rows.push(["log p(x), from the grid", signed(grid.logEvidence, 3)]);
  guides.forEach((guide, g) => {
    const name = guides.length > 1 ? ` of ${"AB"[g]}` : "";
    if (!guide.elbo) return rows.push([`ELBO${name}`, "none: q is a point"]);
    const elbo = guide.elbo[chosen], error = guide.elbo_se[chosen].toFixed(3);
    rows.push([`ELBO${name}`, `${signed(elbo, 3)} ± ${error}`]);
    if (evidence !== null) rows.push([`gap${name}`, `${signed(evidence - elbo, 3)} ± ${error}`]);
  });
  $("bounds").replaceChildren(...rows.map(([name, value]) =>
    made("tr", {}, made("th", { scope: "row" }, name), made("td", {}, value))));
}

// The posterior of the chosen image on a grid, in slices of a few milliseconds between frames.
let looking = 0; // the number of the last look: an older one ends when a newer begins
async function look() {
  const own = ++looking;
  let slice = performance.now();
  const pause = async (share) => {
    if (performance.now() - slice < 12) return;
    $("progress").textContent = `exact posterior: ${Math.round(100 * share)}% of a grid`;
    await new Promise((resume) => setTimeout(resume));
    if (own !== looking) throw new Error("replaced by another look");
    slice = performance.now();
  };
  if (M !== 2) return closeIn(guides.map((guide) => boxOf(guide)));
  try {
    const grid = await posteriorOf(decoder, images[state.chosen], Math.max(REACH, 6), pause);
    state.grid = grid;
    $("progress").textContent = "";
    bounds();
    closeIn([grid, ...guides.map((guide) => boxOf(guide))]);
  } catch (error) {
    if (own === looking) throw error;
  }
}

// The box of a guide's q around its mean, 3.5 sigma to each side.
function boxOf({ mean, covariance, draws }) {
  const centre = mean[state.chosen];
  const sides = state.axes.map((axis) => {
    if (axis < 0) return 1;
    if (covariance) return 3.5 * Math.sqrt(covariance[state.chosen][(axis * (axis + 3)) / 2]);
    if (!draws) return 0.1;
    return Math.max(...draws[state.chosen].map((z) => Math.abs(z[axis] - centre[axis])));
  });
  return { low: state.axes.map((axis, k) => (centre[axis] ?? 0) - sides[k]),
           high: state.axes.map((axis, k) => (centre[axis] ?? 0) + sides[k]) };
}

// A square view of all boxes.
function closeIn(boxes) {
  const low = [0, 1].map((k) => Math.min(...boxes.map((box) => box.low[k])));
  const high = [0, 1].map((k) => Math.max(...boxes.map((box) => box.high[k])));
  const half = Math.max(high[0] - low[0], high[1] - low[1], 1e-6) * 0.55;
  const centre = [0, 1].map((k) => (low[k] + high[k]) / 2);
  state.view = { low: centre.map((c) => c - half), high: centre.map((c) => c + half) };
  drawPlanes();
}

function closeUp(on) {
  state.closeUp = on;
  $("close-up").setAttribute("aria-pressed", String(on));
  if (on) return look();
  looking++;
  $("progress").textContent = "";
  state.view = whole();
  drawPlanes();
}

// Images of z ~ N(0, T^2 I).
function drawAtTemperature() {
  const T = Number($("temperature").value);
  state.drawn = Array.from({ length: 16 }, () => Float64Array.from({ length: M }, () => T * normal()));
  $("drawn").replaceChildren(...state.drawn.map((z, i) => {
    const canvas = made("canvas", {});
    paint(canvas, decoder.mean(z), shape);
    const label = `draw ${i + 1} at temperature ${T}: move the point there`;
    const button = made("button", { type: "button", "aria-label": label }, canvas);
    button.addEventListener("click", () => moveTo(Float64Array.from(z)));
    return button;
  }));
  drawPlanes();
}

function start() {
  payload.images.rows.forEach((_, i) => $("image").append(new Option(named(i), i)));
  $("image").addEventListener("change", () => choose(Number($("image").value)));
  $("previous").addEventListener("click", () => choose(state.chosen - 1));
  $("next").addEventListener("click", () => choose(state.chosen + 1));
  $("close-up").addEventListener("click", () => closeUp(!state.closeUp));
  $("draw").addEventListener("click", drawAtTemperature);
  $("temperature").addEventListener("input", () => {
    $("T").textContent = Number($("temperature").value).toFixed(2);
    drawAtTemperature();
  });
  document.body.classList.toggle("two", guides.length > 1);
  $("posterior-key").hidden = !exact && M !== 2;
  $("when").hidden = exact !== null;
  legend();
  chooseAxes();
  choose(0);
  new ResizeObserver(drawPlanes).observe($("planes"));
}

// What the console, and a test, can ask.
window.explorer = {
  decoder, guides, images, state, moveTo, choose, posteriorOf,
  // The median time of n decodes at draws of the prior [ms].
  benchmark(n = 200) {
    const taken = Array.from({ length: n }, () => {
      const z = Float64Array.from({ length: M }, normal);
      const began = performance.now();
      for (let i = 0; i < 10; i++) decoder.mean(z); // clocks of browsers are coarse
      return (performance.now() - began) / 10;
    });
    return taken.sort((a, b) => a - b)[n >> 1];
  },
};
start();

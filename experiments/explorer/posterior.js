// The exact posterior of two latents: p(x | z) p(z) on a grid that closes in on where its mass is.

const DEEPEST = 20; // cells so many nats below the highest one are left out when closing in
const COARSE = 41, FINE = 61; // points along a side

// The centre of a cell along one axis of a window that has `side` cells along each axis.
const centreOf = ({ low, high }, side, cell, axis) =>
  low[axis] + ((cell + 0.5) / side) * (high[axis] - low[axis]);

// log p(x, z) at the centres of side x side cells of a window, rows from the lowest z_2 upwards.
// `pause` is awaited after every row: a page stays alive while it computes.
async function logJointOn(decoder, x, view, side, pause) {
  const values = new Float64Array(side * side);
  const z = new Float64Array(2);
  for (let row = 0; row < side; row++) {
    z[1] = centreOf(view, side, row, 1);
    for (let column = 0; column < side; column++) {
      z[0] = centreOf(view, side, column, 0);
      values[row * side + column] = decoder.logJoint(x, z);
    }
    await pause((row + 1) / side);
  }
  return values;
}

// The window of the cells that matter, with a cell's margin.
function windowOfMass(values, view, side) {
  const highest = values.reduce((most, value) => Math.max(most, value), -Infinity);
  const first = [side, side], last = [-1, -1];
  values.forEach((value, i) => {
    if (value < highest - DEEPEST) return;
    [i % side, Math.floor(i / side)].forEach((at, k) => {
      first[k] = Math.min(first[k], at);
      last[k] = Math.max(last[k], at);
    });
  });
  const edge = (at, k) => view.low[k] + (at / side) * (view.high[k] - view.low[k]);
  return { low: [0, 1].map((k) => edge(first[k] - 1, k)),
           high: [0, 1].map((k) => edge(last[k] + 2, k)) };
}

const areaOf = ({ low, high }) => (high[0] - low[0]) * (high[1] - low[1]);

// The posterior on the last grid: its window, cells' probabilities, mean, covariance, and
// log p(x), the log of the grid's sum times a cell's area [nats].
async function posteriorOf(decoder, x, reach, pause = async () => {}) {
  let view = { low: [-reach, -reach], high: [reach, reach] };
  for (let round = 0; round < 8; round++) {
    const values = await logJointOn(decoder, x, view, COARSE, pause);
    const next = windowOfMass(values, view, COARSE);
    const closer = areaOf(next) < 0.7 * areaOf(view);
    view = next;
    if (!closer) break;
  }
  const values = await logJointOn(decoder, x, view, FINE, pause);
  const total = logSumExp(values);
  const mass = values.map((value) => Math.exp(value - total));
  return { ...view, side: FINE, mass, ...momentsOf(mass, view, FINE),
           logEvidence: total + Math.log(areaOf(view) / (FINE * FINE)) };
}

// Mean and covariance (z_1 z_1, z_2 z_1, z_2 z_2) of a distribution on a grid.
function momentsOf(mass, view, side) {
  const at = (i, k) => centreOf(view, side, k === 0 ? i % side : Math.floor(i / side), k);
  const mean = [0, 1].map((k) => mass.reduce((sum, m, i) => sum + m * at(i, k), 0));
  const covariance = [[0, 0], [1, 0], [1, 1]].map(([k, l]) =>
    mass.reduce((sum, m, i) => sum + m * (at(i, k) - mean[k]) * (at(i, l) - mean[l]), 0));
  return { mean, covariance };
}

// The height of the smallest set of cells that together hold a share of the mass.
function heightOf(mass, share) {
  const sorted = Float64Array.from(mass).sort().reverse();
  let sum = 0;
  for (const m of sorted) {
    sum += m;
    if (sum >= share) return m;
  }
  return 0;
}

// Pieces [[x, y], [x, y]] of the line at a height, in units of cells' centres (marching squares).
function contourOf(mass, side, height) {
  const pieces = [];
  for (let row = 0; row + 1 < side; row++) {
    for (let column = 0; column + 1 < side; column++) {
      const corners = [[0, 0], [1, 0], [1, 1], [0, 1]].map(([dx, dy]) => [column + dx, row + dy]);
      const values = corners.map(([x, y]) => mass[y * side + x]);
      const cuts = [];
      for (let a = 0; a < 4; a++) {
        const b = (a + 1) % 4;
        if (values[a] < height === values[b] < height) continue;
        const t = (height - values[a]) / (values[b] - values[a]);
        cuts.push([0, 1].map((k) => corners[a][k] + t * (corners[b][k] - corners[a][k])));
      }
      for (let i = 0; i + 1 < cuts.length; i += 2) pieces.push([cuts[i], cuts[i + 1]]);
    }
  }
  return pieces;
}

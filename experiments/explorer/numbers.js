// Base 64 to arrays of numbers, and special functions that JavaScript lacks.

// An array of a kind: "float32", "float16", "uint16" or "uint8", little-endian as browsers are.
function numbersOf(text, kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  if (kind === "uint8") return bytes;
  if (kind === "float32") return new Float32Array(bytes.buffer);
  const halves = new Uint16Array(bytes.buffer);
  return kind === "uint16" ? halves : Float32Array.from(halves, floatOfHalf);
}

// IEEE 754 half precision: a sign, five bits of exponent, ten of fraction. Browsers have no such
// array everywhere yet.
function floatOfHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function softplus(x) {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}

function sigmoid(x) {
  return 1 / (1 + Math.exp(-x));
}

// The error function by a series of positive terms, which loses no digits.
function erf(x) {
  const size = Math.abs(x);
  if (size > 6) return Math.sign(x); // the difference is below double precision
  let term = size, sum = size;
  for (let n = 1; term > 1e-17 * sum; n++) {
    term *= (2 * size * size) / (2 * n + 1);
    sum += term;
  }
  return (Math.sign(x) * 2 * Math.exp(-size * size) * sum) / Math.sqrt(Math.PI);
}

function normalCdf(x) {
  return 0.5 * (1 + erf(x / Math.SQRT2));
}

// log Gamma(x), x > 0: Stirling's series, from where it has converged.
function logGamma(x) {
  let shift = 0;
  for (; x < 10; x++) shift += Math.log(x);
  const inverse = 1 / (x * x);
  const series = (1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse / 1680))) / x;
  return (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI) + series - shift;
}

function logSumExp(values) {
  let most = -Infinity;
  for (const value of values) most = Math.max(most, value);
  if (most === -Infinity) return most;
  let sum = 0;
  for (const value of values) sum += Math.exp(value - most);
  return most + Math.log(sum);
}

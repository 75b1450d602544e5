// p(x | z) from a decoder's output: `mean` of every pixel, as it is shown, and `logProb` of an
// image [nats]. `out` holds the values of all pixels one kind after the other, [number, pixels];
// formulas and floors are those of ppl_models/likelihoods.py.

const MIN_SCALE = 1 / 255;
const HALF_LOG_2PI = 0.5 * Math.log(2 * Math.PI);
const SMALLEST_LOG_SCALE = Math.log(2 ** -1022) / 2; // whose inverse cannot overflow

function normalLogProb(x, loc, scale) {
  return -0.5 * ((x - loc) / scale) ** 2 - Math.log(scale) - HALF_LOG_2PI;
}

// A family of independent pixels: the functions are given the output, a pixel's number and how
// many there are.
function independent(mean, logProb) {
  return {
    mean(out, pixels, model) {
      return Float64Array.from({ length: pixels }, (_, d) => mean(out, d, pixels, model));
    },
    logProb(out, x, model) {
      let sum = 0;
      for (let d = 0; d < x.length; d++) sum += logProb(out, x[d], d, x.length, model);
      return sum;
    },
  };
}

const locOf = (out, d) => out[d];
const scaleAt = (value) => MIN_SCALE + softplus(value);

const gaussian = independent(locOf, null);
gaussian.logProb = (out, x, { constants }) => {
  const logSigma = constants.log_sigma[0];
  let squared = 0;
  for (let d = 0; d < x.length; d++) squared += (x[d] - out[d]) ** 2;
  return -0.5 * squared * Math.exp(-2 * logSigma) - x.length * (logSigma + HALF_LOG_2PI);
};

// log(a / (1 - exp(-a))), a >= 0; near zero, where both cancel, the first terms of its series.
function logRatio(a) {
  return a < 1e-3 ? a / 2 - (a * a) / 24 : Math.log(a) - Math.log(-Math.expm1(-a));
}

const continuousBernoulli = independent(
  (out, d) => {
    const a = Math.abs(out[d]);
    const fromEnd = a < 1e-3 ? 0.5 - a / 12 : 1 / a - 1 / Math.expm1(a);
    return out[d] > 0 ? 1 - fromEnd : fromEnd;
  },
  // x from the end that the logit favours, so that nothing cancels
  (out, x, d) => out[d] * (x - (out[d] > 0 ? 1 : 0)) + logRatio(Math.abs(out[d])),
);

// The mean: a logistic distribution is nearly a mixture of normals (ppl_models/distributions/normals.py).
const logitNormal = independent(
  (out, d, pixels, { constants }) => {
    const variance = scaleAt(out[pixels + d]) ** 2;
    return constants.slopes.reduce((sum, slope, i) => sum + constants.weights[i] *
      normalCdf(out[d] / Math.sqrt(slope ** -2 + variance)), 0);
  },
  (out, x, d, pixels) =>
    normalLogProb(Math.log(x) - Math.log1p(-x), out[d], scaleAt(out[pixels + d])) -
    Math.log(x) - Math.log1p(-x),
);

const beta = independent(
  (out, d, pixels) => scaleAt(out[d]) / (scaleAt(out[d]) + scaleAt(out[pixels + d])),
  (out, x, d, pixels) => {
    const a = scaleAt(out[d]), b = scaleAt(out[pixels + d]);
    return (a - 1) * Math.log(x) + (b - 1) * Math.log1p(-x) +
      logGamma(a + b) - logGamma(a) - logGamma(b);
  },
);

// Probabilities of levels from the bins of `count` logistics: locations, log scales, and logits
// where there are several.
function discretizedLogistics(count) {
  const parts = (out, d, pixels) => {
    const logits = Array.from({ length: count },
      (_, j) => (count > 1 ? out[(2 * count + j) * pixels + d] : 0));
    const total = logSumExp(logits);
    return logits.map((logit, j) => ({
      logWeight: logit - total,
      loc: out[j * pixels + d],
      logScale: Math.max(out[(count + j) * pixels + d], SMALLEST_LOG_SCALE),
    }));
  };
  const mean = (out, d, pixels, { levels }) => {
    let sum = 0;
    for (const { logWeight, loc, logScale } of parts(out, d, pixels)) {
      const inverse = Math.exp(-logScale);
      for (let k = 1; k <= levels; k++) {
        sum += Math.exp(logWeight) * sigmoid((loc - (k - 0.5) / levels) * inverse);
      }
    }
    return sum / levels;
  };
  const logProb = (out, x, d, pixels, { levels }) => {
    const half = 0.5 / levels;
    return logSumExp(parts(out, d, pixels).map(({ logWeight, loc, logScale }) => {
      const inverse = Math.exp(-logScale);
      const upper = (x + half - loc) * inverse, lower = (x - half - loc) * inverse;
      const below = -softplus(-upper), above = -softplus(lower);
      if (x < half) return logWeight + below;
      if (x > 1 - half) return logWeight + above;
      return logWeight + below + above - logScale - Math.log(levels) - logRatio(inverse / levels);
    }));
  };
  return independent(mean, logProb);
}

// Covariance F F⊤ + diag(s^2) with F of rank four, by Woodbury and the determinant lemma: with
// C = I + F⊤ diag(s^-2) F, all that is inverted is four by four.
const lowRank = independent(locOf, null);
lowRank.logProb = (out, x, { number }) => {
  const rank = number - 2, pixels = x.length;
  const C = Array.from({ length: rank }, (_, i) =>
    Float64Array.from({ length: rank }, (_, j) => (i === j ? 1 : 0)));
  const b = new Float64Array(rank);
  let squared = 0, logDet = 0;
  for (let d = 0; d < pixels; d++) {
    const scale = scaleAt(out[(number - 1) * pixels + d]), residual = (x[d] - out[d]) / scale;
    squared += residual * residual;
    logDet += 2 * Math.log(scale);
    for (let i = 0; i < rank; i++) {
      const factor = (0.1 * out[(1 + i) * pixels + d]) / scale;
      b[i] += factor * residual;
      for (let j = 0; j <= i; j++) {
        C[i][j] += (factor * 0.1 * out[(1 + j) * pixels + d]) / scale;
      }
    }
  }
  const L = choleskyOf(C);
  for (let i = 0; i < rank; i++) {
    // forward substitution, b' C^-1 b being the square of L^-1 b
    for (let j = 0; j < i; j++) b[i] -= L[i][j] * b[j];
    b[i] /= L[i][i];
    squared -= b[i] * b[i];
    logDet += 2 * Math.log(L[i][i]);
  }
  return -0.5 * (squared + logDet) - pixels * HALF_LOG_2PI;
};

// The Cholesky factor of a symmetric matrix, of which the lower triangle is read.
function choleskyOf(A) {
  const L = A.map((row) => Float64Array.from(row, () => 0));
  for (let i = 0; i < A.length; i++) {
    for (let j = 0; j <= i; j++) {
      let rest = A[i][j];
      for (let k = 0; k < j; k++) rest -= L[i][k] * L[j][k];
      L[i][j] = i === j ? Math.sqrt(Math.max(rest, 0)) : rest / L[j][j];
    }
  }
  return L;
}

const LIKELIHOODS = {
  gaussian,
  gaussian_per_pixel: independent(locOf, (out, x, d, pixels, { constants }) =>
    normalLogProb(x, out[d], MIN_SCALE + Math.exp(constants.log_sigma[d]))),
  gaussian_decoder: independent(locOf, (out, x, d, pixels) =>
    normalLogProb(x, out[d], scaleAt(out[pixels + d]))),
  low_rank: lowRank,
  bernoulli: independent((out, d) => sigmoid(out[d]),
    (out, x, d) => x * out[d] - softplus(out[d])),
  continuous_bernoulli: continuousBernoulli,
  logit_normal: logitNormal,
  beta,
  discretized_logistic: discretizedLogistics(1),
  discretized_logistic_mixture: discretizedLogistics(10),
};

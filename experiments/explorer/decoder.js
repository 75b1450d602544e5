// The decoder: affine layers with an activation between them, and the likelihood of its output.

const ACTIVATIONS = {
  relu: (x) => (x > 0 ? x : 0),
  tanh: Math.tanh,
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
};

// A layer of W [outputs, inputs], kept as its transpose.
function unpackedLayer({ inputs, outputs, weight, bias }, precision) {
  return {
    inputs, outputs, weight: numbersOf(weight, precision), bias: numbersOf(bias, precision),
    sums: new Float64Array(outputs), // of its last call: nothing is allocated while one drags
  };
}

// W h + b, a column at a time: units that are off, half of a ReLU network's, cost nothing.
function affine({ inputs, outputs, weight, bias, sums }, h) {
  sums.set(bias);
  for (let i = 0; i < inputs; i++) {
    const value = h[i];
    if (value === 0) continue;
    for (let o = 0, at = i * outputs; o < outputs; o++, at++) sums[o] += value * weight[at];
  }
  return sums;
}

class Decoder {
  constructor(packed) {
    this.layers = packed.layers.map((layer) => unpackedLayer(layer, packed.precision));
    this.activation = ACTIVATIONS[packed.activation];
    this.likelihood = LIKELIHOODS[packed.likelihood];
    this.model = packed; // number, levels and constants, for the likelihood
    this.pixels = this.layers.at(-1).outputs / packed.number;
  }

  // What the last layer gives for z [M]; overwritten by the next call.
  output(z) {
    let h = z;
    this.layers.forEach((layer, i) => {
      h = affine(layer, h);
      if (i < this.layers.length - 1) for (let k = 0; k < h.length; k++) h[k] = this.activation(h[k]);
    });
    return h;
  }

  // E[x | z], [pixels].
  mean(z) {
    return this.likelihood.mean(this.output(z), this.pixels, this.model);
  }

  // log p(x | z) [nats].
  logLikelihood(x, z) {
    return this.likelihood.logProb(this.output(z), x, this.model);
  }

  // log p(x, z) [nats], z standard normal.
  logJoint(x, z) {
    let squared = 0;
    for (const value of z) squared += value * value;
    return this.logLikelihood(x, z) - 0.5 * squared - z.length * HALF_LOG_2PI;
  }
}

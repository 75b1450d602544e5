// Colours and small drawing tools.

// Ten colours that people with the usual colour blindnesses tell apart (Tol's "muted", with a dark
// grey for its pale one).
const COLOURS = ["#332288", "#88ccee", "#44aa99", "#117733", "#999933",
                 "#ddcc77", "#cc6677", "#882255", "#aa4499", "#555555"];
const PLAIN = "#6b7785", GUIDE = "#b04a00", EXACT = "#005f9e";

// An image [C, H, W] with values in [0, 1] on a canvas of its size, one channel dark on light.
function paint(canvas, image, [channels, height, width]) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const pixels = width * height;
  for (let d = 0; d < pixels; d++) {
    for (let c = 0; c < 3; c++) {
      const value = channels === 1 ? 1 - image[d] : image[Math.min(c, channels - 1) * pixels + d];
      picture.data[4 * d + c] = 255 * value; // clamped by the array
    }
    picture.data[4 * d + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
}

const ON_A_LINE = { 0.5: 0.67449, 0.95: 1.959964 }; // sigmas on each side, of one latent

// The ellipse that holds a share of a Gaussian's mass in two of its dimensions, or in one.
function ellipseOf(mean, [xx, xy, yy], share) {
  const radius = yy > 0 ? Math.sqrt(-2 * Math.log(1 - share)) : ON_A_LINE[share];
  const L = choleskyOf([[xx, 0], [xy, yy]]);
  return Array.from({ length: 73 }, (_, i) => {
    const u = radius * Math.cos((i * Math.PI) / 36), v = radius * Math.sin((i * Math.PI) / 36);
    return [mean[0] + L[0][0] * u, mean[1] + L[1][0] * u + L[1][1] * v];
  });
}

// A standard normal number (Box & Muller).
function normal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

// A step of 1, 2 or 5 times a power of ten that divides a length into about five parts.
function tickOf(length) {
  const rough = length / 5, power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((m) => m * power).find((step) => step >= rough);
}

// A number with a true minus sign, and none before a zero.
function signed(value, digits = 2) {
  const text = Math.abs(value).toFixed(digits);
  return (value < 0 && Number(text) ? "\u2212" : "") + text;
}

// One picture of the latent plane: a guide's encodings, the point, q(z | x) and the posterior.

const SHARES = [0.5, 0.95]; // of the mass, inside the ellipses and the contours
const MARGIN = 34; // for the axes' numbers

class Plane {
  // `state` is shared by all planes; `moved(z_x, z_y)` is called when somebody moves the point.
  constructor(canvas, guide, state, moved) {
    Object.assign(this, { canvas, guide, state, moved });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.dragging = true;
      this.drag(event);
    });
    canvas.addEventListener("pointermove", (event) => this.dragging && this.drag(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, () => { this.dragging = false; });
    }
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  drag(event) {
    const box = this.canvas.getBoundingClientRect();
    this.moved(...this.latent(event.clientX - box.left, event.clientY - box.top));
  }

  // Arrows move the point by a fiftieth of the view, with Shift by a tenth; Home to the origin.
  key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
    const { state } = this;
    if (event.key === "Home") this.moved(0, 0);
    else if (event.key in steps) {
      const part = event.shiftKey ? 10 : 50, at = this.coordinates(state.z);
      const [x, y] = steps[event.key].map((step, k) =>
        at[k] + (step * (state.view.high[k] - state.view.low[k])) / part);
      this.moved(x, y);
    } else return;
    event.preventDefault();
  }

  // The coordinates of a latent along the plane's axes; of a single latent the second is 0.
  coordinates(z) {
    return this.state.axes.map((axis) => z[axis] ?? 0);
  }

  get size() {
    return { width: this.canvas.clientWidth, height: this.canvas.clientHeight };
  }

  // From the plane to the canvas and back, the axes' margin at the left and below.
  place([x, y]) {
    const { low, high } = this.state.view, { width, height } = this.size;
    return [MARGIN + ((x - low[0]) / (high[0] - low[0])) * (width - MARGIN),
            (1 - (y - low[1]) / (high[1] - low[1])) * (height - MARGIN)];
  }

  latent(left, top) {
    const { low, high } = this.state.view, { width, height } = this.size;
    const x = low[0] + ((left - MARGIN) / (width - MARGIN)) * (high[0] - low[0]);
    const y = low[1] + (1 - top / (height - MARGIN)) * (high[1] - low[1]);
    return [Math.min(Math.max(x, low[0]), high[0]), Math.min(Math.max(y, low[1]), high[1])];
  }

  draw() {
    if (!this.size.width) return; // in a frame that is hidden
    const context = this.fresh(this.canvas);
    context.drawImage(this.background(), 0, 0, this.size.width, this.size.height);
    this.inside(context);
    if (this.state.drawn) this.crosses(context, this.state.drawn);
    this.posterior(context);
    this.guess(context);
    this.point(context);
  }

  // An empty canvas of the plane's size, in the pixels of the screen.
  fresh(canvas) {
    const ratio = window.devicePixelRatio || 1, { width, height } = this.size;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.font = "11px system-ui, sans-serif";
    return context;
  }

  // From here on nothing is drawn over the axes' numbers.
  inside(context) {
    context.beginPath();
    context.rect(MARGIN, 0, this.size.width - MARGIN, this.size.height - MARGIN);
    context.clip();
  }

  // Axes and encodings, which are drawn anew only when the view changes: not while one drags.
  background() {
    const { view, axes, highlighted } = this.state, { width, height } = this.size;
    const key = JSON.stringify([view, axes, highlighted, width, height, window.devicePixelRatio]);
    if (key !== this.drawnFor) {
      this.behind = document.createElement("canvas");
      const context = this.fresh(this.behind);
      this.axes(context, width, height);
      this.inside(context);
      this.cloud(context);
      this.drawnFor = key;
    }
    return this.behind;
  }

  axes(context, width, height) {
    context.strokeStyle = "#e3e6ea";
    context.fillStyle = "#555";
    for (const axis of [0, 1]) {
      const low = this.state.view.low[axis], high = this.state.view.high[axis];
      const step = tickOf(high - low), digits = Math.max(0, -Math.floor(Math.log10(step)));
      context.textAlign = axis ? "right" : "center";
      context.textBaseline = axis ? "middle" : "top";
      for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) {
        const [x, y] = this.place(axis ? [this.state.view.low[0], tick] : [tick, this.state.view.low[1]]);
        context.beginPath();
        context.moveTo(x, y);
        context.lineTo(...(axis ? [width, y] : [x, 0]));
        context.stroke();
        const inside = axis ? y > 22 && y < height - MARGIN - 4 : x > MARGIN + 6 && x < width - 30;
        if (inside) context.fillText(signed(tick, digits), ...(axis ? [x - 4, y] : [x, y + 5]));
      }
    }
    const [across, up] = this.state.axes;
    context.fillStyle = "#000";
    context.fillText(`z${across + 1}`, width - 4, height - MARGIN + 16);
    if (up >= 0) context.fillText(`z${up + 1}`, MARGIN - 6, 8);
  }

  cloud(context) {
    const { labels, highlighted } = this.state;
    const radius = Math.max(1.3, Math.min(2.2, this.size.width / 220));
    this.guide.cloud.forEach((z, i) => {
      const label = labels ? labels[i] : null;
      const dim = highlighted !== null && label !== highlighted;
      context.globalAlpha = dim ? 0.08 : 0.75;
      context.fillStyle = label === null ? PLAIN : COLOURS[label];
      const [x, y] = this.place(this.coordinates(z));
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.fill();
    });
    context.globalAlpha = 1;
  }

  line(context, points, colour, width, dash = []) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.setLineDash(dash);
    context.beginPath();
    for (const point of points) context.lineTo(...this.place(point)); // the first one only moves
    context.stroke();
    context.setLineDash([]);
  }

  // Draws from the prior at a temperature.
  crosses(context, drawn) {
    context.strokeStyle = "#000";
    context.lineWidth = 1.2;
    for (const z of drawn) {
      const [x, y] = this.place(this.coordinates(z));
      context.beginPath();
      context.moveTo(x - 3, y - 3);
      context.lineTo(x + 3, y + 3);
      context.moveTo(x - 3, y + 3);
      context.lineTo(x + 3, y - 3);
      context.stroke();
    }
  }

  // The exact posterior: contours from the grid, or the closed form's ellipses in any plane.
  posterior(context) {
    const { grid, exact, chosen } = this.state;
    if (grid) {
      const at = (cell) => cell.map((place, k) => centreOf(grid, grid.side, place, k));
      for (const share of SHARES) {
        for (const piece of contourOf(grid.mass, grid.side, heightOf(grid.mass, share))) {
          this.line(context, piece.map(at), EXACT, 1.6);
        }
      }
    } else if (exact) this.gaussian(context, exact.mean[chosen], exact.covariance[0], EXACT, []);
  }

  // q(z | x) of the chosen image: ellipses, draws where it is no Gaussian, a point where it is one.
  guess(context) {
    const { guide, state: { chosen } } = this;
    if (guide.covariance) {
      this.gaussian(context, guide.mean[chosen], guide.covariance[chosen], GUIDE, [5, 3]);
    }
    context.fillStyle = GUIDE;
    for (const z of guide.draws ? guide.draws[chosen] : [guide.mean[chosen]]) {
      const [x, y] = this.place(this.coordinates(z));
      context.fillRect(x - 1.5, y - 1.5, 3, 3);
    }
  }

  gaussian(context, mean, covariance, colour, dash) {
    const entry = (i, j) => covariance[(Math.max(i, j) * (Math.max(i, j) + 1)) / 2 + Math.min(i, j)];
    const [i, j] = this.state.axes;
    const spread = mean.length > 1 ? [entry(i, i), entry(i, j), entry(j, j)] : [entry(0, 0), 0, 0];
    const centre = this.coordinates(mean);
    for (const share of SHARES) this.line(context, ellipseOf(centre, spread, share), colour, 1.8, dash);
  }

  point(context) {
    const [x, y] = this.place(this.coordinates(this.state.z));
    for (const [radius, colour] of [[8, "#fff"], [6.5, "#000"], [4.5, "#fff"]]) {
      context.fillStyle = colour;
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.fill();
    }
  }
}

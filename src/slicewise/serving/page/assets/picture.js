// The viewer of a picture: the image, and the mask, its outline or the probability over it, drawn on a canvas.

const COLOURS = { Orange: [230, 159, 0], Cyan: [0, 200, 255], Magenta: [255, 70, 220], Lime: [120, 230, 0] };
const STEPS = 100; // of the threshold
const viewers = new WeakMap();

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".viewer");
  if (viewers.get(root)?.data.finding === data.finding) return;
  const viewer = new Picture(root, data);
  viewers.set(root, viewer);
  viewer.open().catch((error) => viewer.say(`The picture cannot be shown: ${error.message}.`));
}

class Picture {
  constructor(root, data) {
    Object.assign(this, { root, data });
    this.find = (name) => root.querySelector(`[data-role="${name}"]`);
    this.threshold = data.probability ? data.threshold : null;
    const hide = (name, isHidden) => root.querySelectorAll(`[data-for="${name}"]`).forEach((each) => (each.hidden = isHidden));
    hide("overlay", !data.mask);
    hide("colour", !data.mask || data.classes.length > 1);
    hide("threshold", this.threshold === null);
    if (!data.mask) this.find("layer").value = "none";
    if (!data.probability) this.find("layer").querySelector('[value="probability"]').remove();
    if (this.threshold !== null) this.find("threshold").value = this.threshold * STEPS;
  }

  async open() {
    this.say("Loading the picture …");
    this.image = await this.pixels(this.data.image);
    [this.mask, this.probability] = await Promise.all([this.data.mask, this.data.probability].map((url) => url && this.pixels(url)));
    this.canvas = this.find("canvas");
    [this.canvas.width, this.canvas.height] = [this.image.width, this.image.height];
    this.zoom(1);
    this.wire();
    this.draw();
    this.say("");
    this.root.dataset.ready = "true";
  }

  async pixels(url) {
    const response = await fetch(new URL(url, document.baseURI));
    if (!response.ok) throw new Error("it is no longer stored; examine the file again");
    const bitmap = await createImageBitmap(await response.blob());
    const canvas = new OffscreenCanvas(this.image?.width ?? bitmap.width, this.image?.height ?? bitmap.height);
    const pen = canvas.getContext("2d");
    pen.imageSmoothingEnabled = url !== this.data.mask; // between two numbers of classes there is none
    pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    return pen.getImageData(0, 0, canvas.width, canvas.height);
  }

  isOwnThreshold() {
    return this.threshold !== null && Math.abs(this.threshold - this.data.threshold) > 0.5 / STEPS;
  }

  inside() { // which pixels the mask holds
    if (this.isOwnThreshold()) return (place) => this.probability.data[place * 4] >= this.threshold * 255;
    return (place) => this.mask.data[place * 4] + this.mask.data[place * 4 + 1] + this.mask.data[place * 4 + 2] > 0;
  }

  draw() {
    const { width, height } = this.image;
    const shown = new ImageData(new Uint8ClampedArray(this.image.data), width, height);
    this.applyWindow(shown.data);
    const mode = this.find("layer").value;
    const opacity = this.find("opacity").value / 100;
    const isInside = mode === "none" ? null : mode === "probability" ? (place) => this.probability.data[place * 4] > 5 : this.inside();
    const isDrawn = mode === "outline" ? outline(isInside, width, height) : isInside;
    for (let place = 0; isDrawn && place < width * height; place++) {
      if (!isDrawn(place)) continue;
      const colour = this.colourAt(place, mode);
      for (let channel = 0; channel < 3; channel++) {
        const at = place * 4 + channel;
        shown.data[at] = shown.data[at] * (1 - opacity) + colour[channel] * opacity;
      }
    }
    this.canvas.getContext("2d").putImageData(shown, 0, 0);
    this.legend(mode);
    this.measure();
  }

  applyWindow(pixels) {
    const [level, width] = [+this.find("level").value * 2.55, +this.find("width").value * 2.55];
    const table = Uint8ClampedArray.from({ length: 256 }, (_, value) => ((value - level) / width + 0.5) * 255);
    for (let at = 0; at < pixels.length; at++) if (at % 4 < 3) pixels[at] = table[pixels[at]];
  }

  colourAt(place, mode) {
    if (mode === "probability") {
      const share = this.probability.data[place * 4] / 255;
      return [255 * Math.min(1, 0.3 + share), 255 * Math.max(0, share - 0.2), 160 * (1 - share)];
    }
    if (this.data.classes.length > 1) return this.mask.data.slice(place * 4, place * 4 + 3);
    return COLOURS[this.find("colour").value];
  }

  measure() {
    if (!this.mask) return;
    let share = this.data.share;
    if (this.isOwnThreshold()) {
      const isInside = this.inside();
      let [held, tissue] = [0, 0];
      for (let place = 0; place < this.image.width * this.image.height; place++) {
        tissue += this.image.data[place * 4] > 12;
        held += isInside(place);
      }
      share = held / Math.max(1, tissue);
    }
    this.find("volume").textContent = `${(share * 100).toFixed(1)} % of ${this.data.whole}`;
    this.find("percent").textContent = this.threshold === null ? "" : `${Math.round(this.threshold * 100)} %`;
    this.find("note").textContent = this.isOwnThreshold() ? "before small regions are removed" : "as the model was evaluated";
  }

  legend(mode) {
    const several = this.data.classes.map(({ label, colour }) => [label, colour]);
    const single = this.data.classes.map(({ label }) => [label, COLOURS[this.find("colour").value]]);
    const entries = { none: [], probability: [["probability: dark low, bright high", [255, 190, 40]]] };
    const items = entries[mode] ?? (several.length > 1 ? several : single);
    this.find("legend").replaceChildren(...items.map(([name, colour]) => {
      const item = document.createElement("span");
      const swatch = document.createElement("i");
      swatch.style.background = `rgb(${colour})`;
      item.append(swatch, name);
      return item;
    }));
  }

  wire() {
    const on = (role, event, handle) => this.find(role).addEventListener(event, (each) => handle(each.target.value));
    for (const role of ["layer", "colour"]) on(role, "change", () => this.draw());
    for (const role of ["opacity", "level", "width"]) on(role, "input", () => this.draw());
    on("threshold", "input", (value) => ((this.threshold = value / STEPS), this.draw()));
    on("zoom", "input", (value) => this.zoom(value));
    on("reset", "click", () => {
      Object.entries({ level: 50, width: 100, zoom: 1 }).forEach(([role, value]) => (this.find(role).value = value));
      this.zoom(1);
      this.draw();
    });
  }

  zoom(factor) {
    const { width, height } = this.canvas;
    Object.assign(this.root.querySelector(".stage").style, factor > 1 ? { overflow: "auto", maxHeight: "36rem" } : { overflow: "hidden", maxHeight: "" });
    this.canvas.style.width = `calc(min(100%, ${(36 * width) / height}rem) * ${factor})`;
  }

  say(text) {
    this.find("status").textContent = text;
  }
}

function outline(isInside, width, height) { // inside, within two pixels of the edge
  const reach = Math.max(1, Math.round(Math.max(width, height) / 300));
  return (place) => {
    if (!isInside(place)) return false;
    const [row, column] = [Math.floor(place / width), place % width];
    return row < reach || column < reach || row >= height - reach || column >= width - reach ||
      !(isInside(place - reach) && isInside(place + reach) && isInside(place - reach * width) && isInside(place + reach * width));
  };
}

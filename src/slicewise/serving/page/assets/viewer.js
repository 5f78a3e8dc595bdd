// The viewer of a volume: NiiVue, its controls, and what is computed here (volume at a threshold, comparison).
// Streamlit calls the default export on every change of `data`; a viewer is built once for each place.

const COLOURS = { Orange: [230, 159, 0], Cyan: [0, 200, 255], Magenta: [255, 70, 220], Lime: [120, 230, 0] };
const AGREEMENT = [["both", [0, 190, 120]], ["only the model", [230, 159, 0]], ["only the truth", [60, 140, 255]]];
const STEPS = 100; // of the threshold
const viewers = new WeakMap();

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".viewer");
  const known = viewers.get(root);
  if (known?.finding === data.finding) {
    if (data.slice !== known.asked) known.show((known.asked = data.slice));
    return;
  }
  known?.close();
  const viewer = new Viewer(root, data);
  viewers.set(root, viewer);
  viewer.open().catch((error) => viewer.fail(error));
  return () => (viewer.close(), viewers.delete(root));
}

function loadNiivue() {
  globalThis.niivueLoading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL("assets/niivue.umd.js", document.baseURI);
    script.onload = () => resolve(globalThis.niivue);
    script.onerror = () => reject(new Error("its program could not be loaded; reload the page"));
    document.head.append(script);
  });
  return globalThis.niivueLoading;
}

function isDrawnByProcessor() { // without a graphics card fewer pixels are drawn, so that slices follow quickly
  const gl = document.createElement("canvas").getContext("webgl2");
  if (!gl) throw new Error("this browser has no WebGL 2");
  const about = gl.getExtension("WEBGL_debug_renderer_info");
  const renderer = about ? gl.getParameter(about.UNMASKED_RENDERER_WEBGL) : "";
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return /swiftshader|llvmpipe|software|basic render/i.test(renderer);
}

class Viewer {
  constructor(root, data) {
    Object.assign(this, { root, data, finding: data.finding, asked: data.slice, volumes: new Map() });
    this.find = (name) => root.querySelector(`[data-role="${name}"]`);
    this.offer();
    this.threshold = this.chosenClass()?.probability ? this.chosenClass().threshold : null;
  }

  offer() { // the controls of what this finding has
    const { images, classes, mask, truth } = this.data;
    const hide = (name, isHidden) => this.root.querySelectorAll(`[data-for="${name}"]`).forEach((each) => (each.hidden = isHidden));
    const fill = (role, entries) => this.find(role).replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
    fill("sequence", images.map(({ name, label }) => [name, label]));
    fill("class", classes.map(({ label }, number) => [number, label]));
    const hasProbability = classes.some((each) => each.probability);
    hide("overlay", !mask);
    hide("class", classes.length < 2 || !hasProbability);
    hide("colour", !mask || classes.length > 1);
    hide("threshold", !hasProbability || classes[0].threshold === null);
    if (!mask) this.find("layer").value = "none";
    if (!hasProbability) this.find("layer").querySelector('[value="probability"]')?.remove();
    if (!truth) this.find("layer").querySelector('[value="comparison"]')?.remove();
    else this.find("layer").value = "comparison";
    if (classes.length) this.find("threshold").value = classes[0].threshold * STEPS;
  }

  async open() {
    this.say("Loading the volume …");
    const niivue = await loadNiivue();
    this.isSlow = isDrawnByProcessor();
    this.niivue = niivue;
    this.nv = await this.scene("canvas", {});
    this.nv.onLocationChange = () => this.report();
    this.nv.onIntensityChange = () => this.reportWindow();
    this.wire();
    this.find("view").value = this.root.clientWidth < 600 ? "axial" : "planes";
    this.arrange();
    await this.select(this.data.images[0].name);
    await this.paint();
    this.aim(this.data.slice);
    this.show(this.data.slice);
    this.say("");
    this.root.dataset.ready = "true";
  }

  scene(role, options) {
    const { Niivue, SHOW_RENDER, DRAG_MODE } = this.niivue;
    const nv = new Niivue({
      isRadiologicalConvention: true, backColor: [0, 0, 0, 1], crosshairColor: [0.1, 0.8, 1, 0.8], crosshairWidth: this.isSlow ? 0.6 : 0.3,
      crosshairWidthUnit: "percent", crosshairGap: 3, dragMode: DRAG_MODE.windowing, show3Dcrosshair: true,
      multiplanarShowRender: SHOW_RENDER.NEVER, forceDevicePixelRatio: this.isSlow ? 0.6 : 0,
      dragAndDropEnabled: false, logLevel: "silent", loadingText: "", fontMinPx: 15, fontColor: [0.8, 0.8, 0.8, 1],
      viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "", ...options,
    });
    return nv.attachToCanvas(this.find(role));
  }

  // ---- the planes and the 3-D view are scenes of their own: a slow 3-D view must not delay the next slice
  arrange() {
    const { MULTIPLANAR, AXIAL, CORONAL, SAGITTAL } = this.niivue.SLICE_TYPE;
    const view = this.find("view").value;
    this.root.dataset.view = view;
    this.nv.resizeListener();
    if (view === "planes") {
      const beside = [{ sliceType: CORONAL, position: [0.6, 0, 0.4, 0.5] }, { sliceType: SAGITTAL, position: [0.6, 0.5, 0.4, 0.5] }];
      this.nv.setCustomLayout([{ sliceType: AXIAL, position: [0, 0, 0.6, 1] }, ...beside]);
    } else this.nv.clearCustomLayout();
    if (view !== "render") this.nv.setSliceType({ planes: MULTIPLANAR, axial: AXIAL, coronal: CORONAL, sagittal: SAGITTAL }[view]);
    this.solidLater();
  }

  has3D() {
    return ["planes", "render"].includes(this.root.dataset.view);
  }

  solidLater() { // once nothing has moved for a while
    clearTimeout(this.timer);
    if (this.has3D()) this.timer = setTimeout(() => this.drawSolid().catch((error) => this.fail(error)), this.isSlow ? 1500 : 300);
  }

  async drawSolid() {
    if (!this.image) return;
    if (!this.solid) {
      const RENDER = this.niivue.SLICE_TYPE.RENDER;
      this.solid = await this.scene("solid", { sliceType: RENDER, ...(this.isSlow && { forceDevicePixelRatio: 0.4 }) });
      this.stale = true;
    }
    if (this.stale) {
      this.stale = false;
      const { solid } = this;
      solid.volumes = [...this.nv.volumes];
      [solid.back, ...solid.overlays] = solid.volumes;
      solid.updateGLVolume();
    }
    this.solid.resizeListener();
    this.solid.scene.crosshairPos = [...this.nv.scene.crosshairPos];
    this.solid.drawScene();
  }

  refresh(volume) { // one layer, not all of them
    const layer = this.nv.volumes.indexOf(volume);
    this.nv.refreshLayers(volume, layer);
    this.nv.drawScene();
    this.stale = true;
    this.solidLater();
  }

  soon(name, action) { // a slider that is dragged: what it starts takes place when it rests
    this.rests ??= {};
    clearTimeout(this.rests[name]);
    this.rests[name] = setTimeout(() => Promise.resolve(action()).catch((error) => this.fail(error)), 80);
  }

  async load(url) {
    if (!this.volumes.has(url)) {
      const place = new URL(url, document.baseURI);
      const response = await fetch(place);
      if (!response.ok) throw new Error(response.status === 404 ? "this finding is no longer stored; examine the files again"
                                                                : "the volume could not be fetched; reload the page");
      const name = place.pathname.split("/").pop();
      this.volumes.set(url, await this.niivue.NVImage.loadFromUrl({ url: await response.arrayBuffer(), name }));
    }
    return this.volumes.get(url);
  }

  async select(name) { // a sequence
    const image = await this.load(this.data.images.find((each) => each.name === name).url);
    const old = this.image;
    if (!old) this.nv.addVolume(image);
    else if (old !== image) {
      this.nv.volumes[0] = image;
      this.nv.setVolume(image, 0);
      this.stale = true;
      this.solidLater();
    }
    this.image = image;
    this.window ??= new Map();
    if (!this.window.has(image)) this.window.set(image, [image.cal_min, image.cal_max]);
    this.reportWindow();
    const planes = this.image.dimsRAS[3];
    this.find("slice").max = planes;
    this.find("slices").textContent = `of ${planes}`;
  }

  // ---- the overlay: numbers of classes, computed here, or the probability as it is
  async paint() {
    const mode = this.find("layer").value;
    const overlay = mode === "none" ? null : await (mode === "probability" ? this.probability() : this.numbers(mode));
    if (this.overlay && this.overlay !== overlay) this.nv.removeVolume(this.overlay);
    if (overlay) {
      overlay.opacity = this.find("opacity").value / 100;
      this.nv.overlayOutlineWidth = mode === "outline" ? 1.5 : 0;
      if (this.overlay !== overlay) this.nv.addVolume(overlay);
      else this.refresh(overlay);
    }
    this.overlay = overlay;
    this.stale = true;
    this.solidLater();
    this.legend(mode);
    await this.measure();
  }

  chosenClass() {
    return this.data.classes[+this.find("class").value || 0];
  }

  async probability() {
    const volume = await this.load(this.chosenClass().probability);
    Object.assign(volume, { cal_min: 0.02, cal_max: 1 });
    volume.colormap = "inferno";
    return volume;
  }

  isOwnThreshold() {
    return this.threshold !== null && Math.abs(this.threshold - this.chosenClass().threshold) > 0.5 / STEPS;
  }

  async numbers(mode) {
    const mask = await this.load(this.data.mask);
    this.original ??= mask.img.slice();
    let numbers = this.original;
    if (this.isOwnThreshold()) numbers = await this.thresholded();
    if (mode === "comparison") numbers = await this.compared(numbers);
    mask.img = numbers;
    const colours = mode === "comparison" ? AGREEMENT.map(([, colour]) => colour) : this.colours();
    const [R, G, B] = [0, 1, 2].map((place) => [0, ...colours.map((colour) => colour[place])]);
    mask.setColormapLabel({ R, G, B, A: [0, ...colours.map(() => 255)], I: [0, ...colours.map((_, number) => number + 1)] });
    return mask;
  }

  colours() {
    return this.data.classes.length > 1 ? this.data.classes.map((each) => each.colour) : [COLOURS[this.find("colour").value]];
  }

  async thresholded() { // of the selected class; stored probabilities are bytes
    const { img, hdr } = await this.load(this.chosenClass().probability);
    const least = this.threshold / (hdr.scl_slope || 1);
    const number = this.data.classes.indexOf(this.chosenClass()) + 1;
    return Uint8Array.from(img, (value) => (value >= least ? number : 0));
  }

  async compared(numbers) {
    const truth = (await this.load(this.data.truth)).img;
    return numbers.map((value, place) => (value ? (truth[place] ? 1 : 2) : truth[place] ? 3 : 0));
  }

  async measure() { // millilitres of the selected class at the threshold
    const each = this.chosenClass();
    if (!each) return;
    let millilitres = each.millilitres;
    if (this.isOwnThreshold()) {
      const { img, hdr } = await this.load(each.probability);
      const least = this.threshold / (hdr.scl_slope || 1);
      const voxel = hdr.pixDims.slice(1, 4).reduce((product, side) => product * side, 1) / 1000;
      millilitres = img.reduce((count, value) => count + (value >= least), 0) * voxel;
    }
    this.find("volume").textContent = millilitres === null ? "–" : `${millilitres.toFixed(1)} ml`;
    this.find("percent").textContent = this.threshold === null ? "" : `${Math.round(this.threshold * 100)} %`;
    this.find("note").textContent = this.isOwnThreshold() ? "before small regions are removed" : "as the model was evaluated";
  }

  legend(mode) {
    const named = mode === "comparison" ? AGREEMENT : this.data.classes.map((each, number) => [each.label, this.colours()[number]]);
    const items = mode === "none" ? [] : mode === "probability" ? [["probability: dark low, bright high", [240, 140, 40]]] : named;
    this.find("legend").replaceChildren(...items.map(([name, colour]) => {
      const item = document.createElement("span");
      const swatch = document.createElement("i");
      swatch.style.background = `rgb(${colour})`;
      item.append(swatch, name);
      return item;
    }));
  }

  // ---- where it looks
  show(slice) { // counted from 1 at the feet
    if (!this.image) return;
    const planes = this.image.dimsRAS[3];
    const place = Math.min(Math.max(Math.round(slice), 1), planes);
    this.nv.scene.crosshairPos[2] = (place - 0.5) / planes;
    this.nv.drawScene();
    this.report();
  }

  aim(slice) { // the other planes at the voxel of the overlay that is nearest to the middle of what this slice shows
    const [, columns, rows] = this.image.dimsRAS;
    const voxels = [];
    for (let y = 0; this.overlay && y < rows; y++)
      for (let x = 0; x < columns; x++) if (this.overlay.getValue(x, y, slice - 1) > 0) voxels.push([x, y]);
    if (!voxels.length) return;
    const middle = [0, 1].map((axis) => voxels.reduce((sum, voxel) => sum + voxel[axis], 0) / voxels.length);
    const distance = ([x, y]) => Math.hypot(x - middle[0], y - middle[1]);
    const [x, y] = voxels.reduce((best, voxel) => (distance(voxel) < distance(best) ? voxel : best));
    this.nv.scene.crosshairPos[0] = (x + 0.5) / columns;
    this.nv.scene.crosshairPos[1] = (y + 0.5) / rows;
  }

  report() {
    const [x, y, z] = this.image.dimsRAS.slice(1).map((size, axis) =>
      Math.min(size, Math.floor(this.nv.scene.crosshairPos[axis] * size) + 1));
    this.find("slice").value = z;
    this.find("number").value = z;
    this.find("place").textContent = `coronal ${y}, sagittal ${x}`;
    this.root.dataset.slice = z;
    this.solidLater();
  }

  reportWindow() {
    if (!this.image) return;
    const [low, high] = this.window?.get(this.image) ?? [this.image.cal_min, this.image.cal_max];
    const range = Math.max(high - low, 1e-6);
    const [level, width] = [(this.image.cal_min + this.image.cal_max) / 2, this.image.cal_max - this.image.cal_min];
    this.find("level").value = ((level - low) / range) * 100;
    this.find("width").value = (width / range) * 100;
  }

  setWindow(level, width) { // percent of the range that is shown at first
    const [low, high] = this.window.get(this.image);
    const range = high - low;
    const middle = low + (level / 100) * range;
    this.image.cal_min = middle - (width / 200) * range;
    this.image.cal_max = middle + (width / 200) * range;
    this.soon("window", () => this.refresh(this.image));
  }

  zoom(factor) {
    const [x, y, z] = this.nv.scene.pan2Dxyzmm;
    this.nv.setPan2Dxyzmm(factor === 1 ? [0, 0, 0, 1] : [x, y, z, factor]);
    this.solid?.setScale(factor);
  }

  // ---- controls
  wire() {
    const on = (role, event, handle) => this.find(role)?.addEventListener(event, (each) =>
      Promise.resolve(handle(each.target.value, each)).catch((error) => this.fail(error)));
    on("sequence", "change", (name) => this.select(name));
    on("view", "change", () => this.arrange());
    on("layer", "change", () => this.paint());
    on("colour", "change", () => this.paint());
    on("class", "change", () => {
      this.threshold = this.chosenClass().threshold;
      if (this.find("threshold")) this.find("threshold").value = this.threshold * STEPS;
      return this.paint();
    });
    on("opacity", "input", (value) => {
      if (!this.overlay) return;
      this.overlay.opacity = value / 100;
      this.soon("opacity", () => this.refresh(this.overlay));
    });
    on("threshold", "input", (value) => {
      this.threshold = value / STEPS;
      if (!["probability", "none"].includes(this.find("layer").value)) this.soon("threshold", () => this.paint());
      return this.measure();
    });
    on("slice", "input", (value) => this.show(+value));
    on("number", "change", (value) => this.show(+value));
    on("previous", "click", () => this.show(+this.find("slice").value - 1));
    on("next", "click", () => this.show(+this.find("slice").value + 1));
    on("level", "input", () => this.setWindow(+this.find("level").value, +this.find("width").value));
    on("width", "input", () => this.setWindow(+this.find("level").value, +this.find("width").value));
    on("zoom", "input", (value) => this.zoom(+value));
    on("reset", "click", () => {
      this.find("zoom").value = 1;
      this.zoom(1);
      this.setWindow(50, 100);
      this.reportWindow();
    });
    const steps = { ArrowUp: 1, PageUp: 10, ArrowDown: -1, PageDown: -10 };
    const step = (event) => {
      if (steps[event.key]) {
        event.preventDefault();
        this.show(+this.find("slice").value + steps[event.key]);
      }
      if (event.key !== "Tab") event.stopPropagation(); // NiiVue's own keys would change what is shown unseen
    };
    this.root.querySelector(".stage").addEventListener("keydown", step, { capture: true });
  }

  say(text) {
    this.find("status").textContent = text;
  }

  fail(error) {
    this.say(`The viewer cannot show this volume: ${error.message}. The slices are also on the tab Classification and among the key slices of the tab Patient.`);
    this.root.dataset.failed = "true";
  }

  close() {
    clearTimeout(this.timer);
    for (const scene of [this.nv, this.solid]) {
      scene?.cleanup();
      scene?.gl?.getExtension("WEBGL_lose_context")?.loseContext();
    }
  }
}

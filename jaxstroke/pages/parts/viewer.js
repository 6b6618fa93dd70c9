// One study at a time in a dialog: NiiVue draws the volumes, a canvas above it the contours. Without WebGL 2 the same
// slices are drawn as pictures.
const viewer = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (name) => document.getElementById(name);
  const dialog = at("viewer");
  const COLOURS = { reference: "#56b4e9", prediction: "#e67e00" };
  const FILL = { R: [0, 240, 230, 86], G: [0, 228, 126, 180], B: [0, 66, 0, 233], A: [0, 200, 200, 200], I: [0, 1, 2, 3],
    labels: ["", "true positive", "false positive", "false negative"] };
  // Inferno, which colour-blind eyes follow too; what is low lets the image through.
  const HEAT = { R: [0, 87, 188, 249, 252], G: [0, 16, 55, 142, 255], B: [4, 110, 84, 9, 164], A: [0, 100, 190, 220, 230], I: [0, 64, 128, 192, 255] };
  const AXIS = { axial: 0, coronal: 1, sagittal: 2, planes: 0, volume: 0 };
  const ready = { study: -1, drawn: 0 };
  let study = null; // what is open: number, view, images, heats, masks, crosshair [slice, row, column]
  let screen = null; // what draws it
  let opening = 0;

  // --- what is chosen ---

  const system = () => at("system").value;
  const annotation = () => at("annotation").value;
  const plane = () => at("view").value;
  const image = () => study.images[Number(document.querySelector("input[name=image]:checked").value)];
  const heat = () => study.heats[Number(at("heat").value)] || null;
  const shownWindow = () => image().windows[at("window").selectedIndex];
  const index = ([d, h, w]) => (d * study.view.shape[1] + h) * study.view.shape[2] + w;
  const reference = () => study.masks.references[annotation()];
  const prediction = () => (study.masks.predictions[system()] || {})[annotation()];

  function options(list, names, values) {
    list.replaceChildren(...names.map((name, number) => new Option(name, values ? values[number] : name)));
    list.closest("label").hidden = names.length < 2 && list.id !== "window";
  }

  // --- opening a study ---

  async function open(number) {
    const mine = ++opening;
    const told = data.studies[number];
    at("viewer-title").textContent = told.name;
    if (!dialog.open) dialog.showModal();
    at("viewer-title").focus();
    dialog.querySelector(".viewer-body").hidden = false;
    const element = at("view-" + number);
    dialog.classList.toggle("empty", !element);
    study = null;
    if (!element) {
      say("This study's images are not in this page.");
      at("readout").textContent = "";
      for (const list of ["system", "annotation"]) options(at(list), [...new Set(data.rows.filter((row) => row.study === told.name).map((row) => row[list === "annotation" ? "target" : list]))]);
      scores(told.name);
      if (screen) screen.clear();
      return;
    }
    const view = JSON.parse(element.textContent);
    const decoded = await decode(view);
    if (mine !== opening) return; // another was asked for meanwhile
    study = { number, name: told.name, view, ...decoded, crosshair: [0, 0, 0] };
    fillControls();
    study.crosshair = middleOfLesion();
    screen = screen || (await makeScreen());
    await screen.load();
    refresh();
    ready.study = number;
  }

  async function decode(view) {
    const volumes = await Promise.all(view.volumes.map(async (one) => ({ ...one, values: await unpack.whole(one.data, view.shape, one.bytes), data: null })));
    const masks = async (texts) => Object.fromEntries(await Promise.all(Object.entries(texts).map(async ([name, text]) => [name, await unpack.whole(text, view.shape, 1)])));
    const predictions = await Promise.all(Object.entries(view.predictions).map(async ([name, texts]) => [name, await masks(texts)]));
    return {
      images: volumes.filter((one) => one.kind === "image"),
      heats: volumes.filter((one) => one.kind !== "image"),
      masks: { references: await masks(view.references), predictions: Object.fromEntries(predictions) },
    };
  }

  function fillControls() {
    const names = study.images.map((one) => one.name);
    const before = document.querySelector("input[name=image]:checked");
    const kept = before ? names.indexOf(before.dataset.name) : -1;
    const first = kept >= 0 ? kept : Math.max(names.indexOf("DWI"), names.indexOf("Tmax"), 0);
    at("images").querySelectorAll("label").forEach((label) => label.remove());
    names.forEach((name, number) => {
      const label = document.createElement("label"), input = document.createElement("input");
      Object.assign(input, { type: "radio", name: "image", value: String(number), checked: number === first });
      input.dataset.name = name;
      label.append(input, " " + name);
      at("images").append(label);
    });
    fillWindows();
    const keep = (list) => [at(list), at(list).value];
    for (const [list, value, entries] of [[...keep("system"), Object.keys(study.view.predictions)], [...keep("annotation"), Object.keys(study.view.references)]]) {
      options(list, entries);
      if (entries.includes(value)) list.value = value;
    }
    options(at("heat"), ["none", ...study.heats.map((one) => one.name)], ["-1", ...study.heats.keys()]);
  }

  function fillWindows() {
    options(at("window"), image().windows.map((one) => `${one.name}: ${number(one.low, image())} to ${number(one.high, image())}`));
  }

  function middleOfLesion() {
    const [depth, height, width] = study.view.shape, a = reference(), b = prediction();
    let best = [0, 0, 0, 0], slice = Math.floor(depth / 2);
    for (let d = 0; d < depth; d++) {
      let count = 0, rows = 0, columns = 0;
      for (let h = 0; h < height; h++) for (let w = 0; w < width; w++) {
        const place = (d * height + h) * width + w;
        if ((a && a[place]) || (b && b[place])) { count++; rows += h; columns += w; }
      }
      if (count > best[0]) best = [count, d, Math.round(rows / count), Math.round(columns / count)];
    }
    return best[0] ? best.slice(1) : [slice, Math.floor(height / 2), Math.floor(width / 2)];
  }

  function compared() {
    const a = reference(), b = prediction(), labels = new Uint8Array(a ? a.length : b.length);
    for (let place = 0; place < labels.length; place++) {
      const expected = a && a[place], found = b && b[place];
      labels[place] = expected && found ? 1 : found ? 2 : expected ? 3 : 0;
    }
    return labels;
  }

  // --- what is told ---

  function number(value, volume) {
    const decimals = Math.max(0, Math.min(4, Math.ceil(-Math.log10(volume.step * 3))));
    return value.toFixed(decimals);
  }

  function say(text) {
    at("viewer-notice").hidden = !text;
    at("viewer-notice").textContent = text;
  }

  function told(volume) {
    const q = volume.values[index(study.crosshair)], most = volume.bytes === 1 ? 255 : 4095;
    const edge = volume.kind !== "image" ? "" : q === 0 && volume.low !== 0 ? "\u2264 " : q === most ? "\u2265 " : "";
    return `${volume.name} ${edge}${number(volume.low + volume.step * q, volume)}${volume.unit ? " " + volume.unit : ""}`;
  }

  function readout() {
    const { view, crosshair } = study;
    const own = crosshair.map((value, axis) => view.corner[axis] + (axis ? value * view.shrink : value) + 1);
    const a = reference(), b = prediction(), place = index(crosshair);
    const expected = a && a[place], found = b && b[place];
    const verdict = expected ? (found ? "true positive" : "false negative") : found ? "false positive" : "no lesion";
    const chosen = heat(), volumes = [...study.images, ...study.heats.filter((one) => one.kind === "probability" || one === chosen)];
    at("readout").textContent = `slice ${own[0]} of ${view.native[0]}, row ${own[1]}, column ${own[2]}: ${verdict}; ${volumes.map(told).join(", ")}`;
    const axis = AXIS[plane()], slider = at("slice");
    slider.max = String(view.shape[axis] - 1);
    slider.value = String(crosshair[axis]);
    at("slice-told").textContent = `${own[axis]}`;
  }

  function scores(name) {
    const row = data.rows.find((one) => one.study === name && one.system === system() && one.target === annotation());
    at("viewer-scores").replaceChildren(...Object.entries(data.columns).map(([key, column]) => {
      const pair = document.createElement("div"), title = document.createElement("dt"), value = document.createElement("dd");
      title.textContent = column.title;
      value.textContent = !row || row[key] == null ? "undefined" : row[key].toFixed(column.decimals);
      pair.append(title, value);
      return pair;
    }));
  }

  function refresh() {
    if (!study) return;
    readout();
    scores(study.name);
    screen.draw();
  }

  function move(steps) {
    const axis = AXIS[plane()];
    study.crosshair[axis] = Math.max(0, Math.min(study.view.shape[axis] - 1, study.crosshair[axis] + steps));
    refresh();
  }

  // --- contours: the edge of a mask in one plane, as lines through the middles between its voxels ---

  // [axis of the plane, axis across, axis down the array]
  const SPREAD = [[0, 2, 1], [1, 2, 0], [2, 1, 0]];

  function outline(holds, axis, position) {
    const [, across, down] = SPREAD[axis], shape = study.view.shape, voxel = [0, 0, 0];
    voxel[axis] = position;
    const inside = (x, y) => {
      if (x < 0 || y < 0 || x >= shape[across] || y >= shape[down]) return 0;
      voxel[across] = x;
      voxel[down] = y;
      return holds(index(voxel)) ? 1 : 0;
    };
    const next = new Map(); // from the middle of a cell's side to the next: each line has the mask on its right
    for (let y = -1; y < shape[down]; y++) for (let x = -1; x < shape[across]; x++) {
      const corners = inside(x, y) | (inside(x + 1, y) << 1) | (inside(x + 1, y + 1) << 2) | (inside(x, y + 1) << 3);
      const N = [2 * x + 1, 2 * y], E = [2 * x + 2, 2 * y + 1], S = [2 * x + 1, 2 * y + 2], W = [2 * x, 2 * y + 1];
      const lines = { 1: [[N, W]], 2: [[E, N]], 3: [[E, W]], 4: [[S, E]], 5: [[N, W], [S, E]], 6: [[S, N]], 7: [[S, W]],
        8: [[W, S]], 9: [[N, S]], 10: [[E, N], [W, S]], 11: [[E, S]], 12: [[W, E]], 13: [[N, E]], 14: [[W, N]] }[corners] || [];
      for (const [from, to] of lines) next.set(from.join(), to);
    }
    const loops = [];
    while (next.size) {
      let [key] = next.keys();
      const loop = [];
      for (let to = next.get(key); to; to = next.get(key)) {
        next.delete(key);
        loop.push([to[0] / 2, to[1] / 2]);
        key = to.join();
      }
      loops.push(loop);
    }
    return loops;
  }

  function lines(tiles) {
    const canvas = at("lines"), under = at("canvas");
    if (canvas.width !== under.width || canvas.height !== under.height) [canvas.width, canvas.height] = [under.width, under.height];
    const pen = canvas.getContext("2d"), scale = canvas.width / Math.max(1, canvas.clientWidth);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    if (!study) return;
    const labels = at("show-fill").checked && tiles.length ? compared() : null, drawn = [];
    if (at("show-reference").checked && reference()) drawn.push([reference(), COLOURS.reference, [7 * scale, 4 * scale]]);
    if (at("show-prediction").checked && prediction()) drawn.push([prediction(), COLOURS.prediction, []]);
    for (const { axis, place, box } of tiles) {
      pen.save();
      pen.beginPath();
      pen.rect(...box);
      pen.clip();
      const trace = (holds) => {
        pen.beginPath();
        for (const loop of outline(holds, axis, study.crosshair[axis])) {
          loop.forEach(([x, y], step) => pen[step ? "lineTo" : "moveTo"](...place(x, y)));
          pen.closePath();
        }
      };
      for (let label = 1; labels && label <= 3; label++) {
        pen.fillStyle = `rgb(${FILL.R[label]} ${FILL.G[label]} ${FILL.B[label]} / ${at("opacity").value}%)`;
        trace((voxel) => labels[voxel] === label);
        pen.fill("evenodd");
      }
      for (const [mask, colour, dashes] of drawn) {
        pen.strokeStyle = colour;
        pen.lineWidth = 2 * scale;
        pen.setLineDash(dashes);
        trace((voxel) => mask[voxel]);
        pen.stroke();
      }
      pen.restore();
    }
    ready.drawn++;
  }

  // --- screens ---

  async function makeScreen() {
    const probe = document.createElement("canvas");
    if (!probe.getContext("webgl2")) return flatScreen("This browser offers no WebGL 2: slices are shown as pictures, without 3D.");
    try {
      return await solidScreen();
    } catch (error) {
      const canvas = at("canvas");
      canvas.replaceWith(canvas.cloneNode());
      return flatScreen(`The 3D viewer could not start (${error.message}): slices are shown as pictures.`);
    }
  }

  async function solidScreen() {
    if (!window.niivue) {
      const script = document.createElement("script");
      script.textContent = at("niivue-text").textContent;
      document.head.append(script);
    }
    const { Niivue, NVImage } = window.niivue;
    const nv = new Niivue({ dragAndDropEnabled: false, isRadiologicalConvention: true, backColor: [0, 0, 0, 1], crosshairColor: [1, 1, 1, 0.45],
      crosshairWidth: 0.25, crosshairGap: 8, crosshairWidthUnit: "mm", show3Dcrosshair: true, loadingText: "", logLevel: "error", multiplanarShowRender: 0,
      fontColor: [0.9, 0.9, 0.9, 1], isColorbar: false });
    await nv.attachToCanvas(at("canvas"));
    at("canvas").removeAttribute("tabindex"); // everything it does has a key of the dialog's
    nv.addColormap("heat", HEAT);
    const TYPES = () => ({ axial: nv.sliceTypeAxial, coronal: nv.sliceTypeCoronal, sagittal: nv.sliceTypeSagittal, planes: nv.sliceTypeMultiplanar, volume: nv.sliceTypeRender });
    const bare = nv.drawScene.bind(nv);
    nv.drawScene = (...words) => {
      const result = bare(...words);
      lines(study ? tiles() : []);
      return result;
    };

    const mm = ([d, h, w]) => {
      const [x, y, z] = unpack.origin(study.view), [dz, dy, dx] = study.view.spacing_mm;
      return [x - w * dx, y - h * dy, z + d * dz];
    };
    const voxel = (x, y, z) => {
      const [x0, y0, z0] = unpack.origin(study.view), [dz, dy, dx] = study.view.spacing_mm;
      return [(z - z0) / dz, (y0 - y) / dy, (x0 - x) / dx].map((value, axis) => Math.max(0, Math.min(study.view.shape[axis] - 1, Math.round(value))));
    };

    function tiles() {
      if (plane() === "volume") return [];
      return nv.screenSlices.filter((tile) => tile.axCorSag <= 2).map((tile) => {
        const axis = tile.axCorSag, [, across, down] = SPREAD[axis], [a, b] = [[0, 1], [0, 2], [1, 2]][axis];
        let [left, top, width, height] = tile.leftTopWidthHeight;
        const mirrored = width < 0;
        if (mirrored) [left, width] = [left + width, -width];
        const place = (x, y) => {
          const at3 = [0, 0, 0];
          at3[across] = x;
          at3[down] = y;
          const where = mm(at3);
          const fraction = (where[a] - tile.leftTopMM[0]) / tile.fovMM[0];
          return [left + (mirrored ? 1 - fraction : fraction) * width, top + (1 - (where[b] - tile.leftTopMM[1]) / tile.fovMM[1]) * height];
        };
        return { axis, place, box: [left, top, width, height] };
      });
    }

    nv.onLocationChange = (where) => {
      if (!study || !where) return;
      study.crosshair = voxel(...where.mm);
      readout();
    };

    const made = (values, scale, name, colormap, opacity, low, high) =>
      NVImage.new(unpack.nifti(values, study.view, scale), name + ".nii", colormap, opacity, null, low, high, true, 0, false, false, "", 0, undefined, NaN, NaN, false);

    async function load() {
      const base = image(), range = shownWindow(), over = heat(), opacity = Number(at("opacity").value) / 100;
      const volumes = [await made(base.values, base, "image", "gray", 1, range.low, range.high)];
      if (over) volumes.push(await made(over.values, over, "heat", "heat", opacity, over.low, over.low + 255 * over.step));
      if (plane() === "volume") { // in planes the fill is drawn with the contours, as sharp as they are
        const labels = await made(compared(), { step: 1, low: 0 }, "compared", "gray", Math.max(opacity, 0.3), 0, 3);
        labels.setColormapLabel(FILL);
        volumes.push(labels);
      }
      show(volumes);
      nv.opts.isOrientationTextVisible = study.view.sides;
    }

    // All at once: what lies under, what over it, and one upload.
    function show(volumes) {
      nv.volumes = volumes;
      nv.back = volumes[0] || null;
      nv.overlays = volumes.slice(1);
      nv.updateGLVolume();
    }

    function draw() {
      nv.setSliceType(TYPES()[plane()]);
      nv.scene.crosshairPos = nv.mm2frac(mm(study.crosshair));
      nv.drawScene();
    }

    const place = (slice, row, column) => {
      const [tile] = tiles();
      return tile && tile.place(column, row);
    };
    return { load, draw, place, clear: () => show([]) };
  }

  // Slices as pictures, for browsers without WebGL 2.
  function flatScreen(reason) {
    for (const name of ["planes", "volume"]) at("view").querySelector(`option[value=${name}]`).remove();
    const canvas = at("canvas"), pen = canvas.getContext("2d");
    function heatOf(q) {
      const end = HEAT.I.findIndex((stop) => stop >= q), from = Math.max(0, end - 1), share = end ? (q - HEAT.I[from]) / (HEAT.I[end] - HEAT.I[from]) : 0;
      return [HEAT.R, HEAT.G, HEAT.B, HEAT.A].map((part) => part[from] + share * (part[end] - part[from]));
    }

    function pixels(axis, position) {
      const [, across, down] = SPREAD[axis], shape = study.view.shape, [width, height] = [shape[across], shape[down]];
      const picture = new ImageData(width, height), base = image(), range = shownWindow(), over = heat(), voxel = [0, 0, 0];
      const opacity = Number(at("opacity").value) / 100;
      voxel[axis] = position;
      for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
        voxel[across] = x;
        voxel[down] = axis ? height - 1 - y : y; // feet at the bottom
        const place = index(voxel), grey = 255 * Math.max(0, Math.min(1, (base.low + base.step * base.values[place] - range.low) / (range.high - range.low)));
        let colour = [grey, grey, grey];
        const mix = (other, share) => { colour = colour.map((value, number) => (1 - share) * value + share * other[number]); };
        if (over) {
          const [red, green, blue, alpha] = heatOf(over.values[place]);
          mix([red, green, blue], (opacity * alpha) / 255);
        }
        picture.data.set([...colour, 255], 4 * (y * width + x));
      }
      return picture;
    }

    function draw() {
      const axis = AXIS[plane()], [, across, down] = SPREAD[axis], { shape, spacing_mm } = study.view;
      const density = window.devicePixelRatio || 1;
      [canvas.width, canvas.height] = [Math.round(canvas.clientWidth * density), Math.round(canvas.clientHeight * density)];
      const [width, height] = [shape[across] * spacing_mm[across], shape[down] * spacing_mm[down]];
      const scale = Math.min(canvas.width / width, canvas.height / height);
      const box = [(canvas.width - scale * width) / 2, (canvas.height - scale * height) / 2, scale * width, scale * height];
      const picture = pixels(axis, study.crosshair[axis]), small = document.createElement("canvas");
      [small.width, small.height] = [picture.width, picture.height];
      small.getContext("2d").putImageData(picture, 0, 0);
      pen.fillStyle = "#000";
      pen.fillRect(0, 0, canvas.width, canvas.height);
      pen.drawImage(small, ...box);
      const place = (x, y) => [box[0] + ((x + 0.5) / shape[across]) * box[2], box[1] + (axis ? 1 - (y + 0.5) / shape[down] : (y + 0.5) / shape[down]) * box[3]];
      tile = { axis, place, box };
      if (study.view.sides && axis < 2) {
        pen.fillStyle = "#ddd";
        pen.font = `${16 * density}px sans-serif`;
        pen.fillText("R", box[0] + 4, box[1] + box[3] / 2);
        pen.fillText("L", box[0] + box[2] - 18 * density, box[1] + box[3] / 2);
      }
      lines([tile]);
    }

    let tile = null;
    canvas.addEventListener("click", (event) => {
      if (!study || !tile) return;
      const { shape } = study.view, [, across, down] = SPREAD[tile.axis], density = canvas.width / canvas.clientWidth;
      const x = (event.offsetX * density - tile.box[0]) / tile.box[2], y = (event.offsetY * density - tile.box[1]) / tile.box[3];
      const inside = (value, size) => Math.max(0, Math.min(size - 1, Math.floor(value * size)));
      study.crosshair[across] = inside(x, shape[across]);
      study.crosshair[down] = inside(tile.axis ? 1 - y : y, shape[down]);
      refresh();
    });
    canvas.addEventListener("wheel", (event) => { event.preventDefault(); if (study) move(Math.sign(event.deltaY)); }, { passive: false });
    window.addEventListener("resize", () => study && dialog.open && draw());
    say(reason);
    return { load: async () => {}, draw, place: (slice, row, column) => tile.place(column, row), clear: () => pen.clearRect(0, 0, canvas.width, canvas.height) };
  }

  // --- what a person does ---

  async function reload() {
    if (!study || !screen) return;
    await screen.load();
    refresh();
  }

  function listed() {
    const links = [...document.querySelectorAll("#studies-table tbody tr:not([hidden]) a")].map((link) => Number(link.hash.split("-")[1]));
    return [...new Set(links.length ? links : data.studies.keys())];
  }

  function neighbour(steps) {
    const numbers = listed(), here = numbers.indexOf(study ? study.number : Number(location.hash.split("-")[1]));
    location.hash = "study-" + numbers[(here + steps + numbers.length) % numbers.length];
  }

  const cycle = (list) => { list.selectedIndex = (list.selectedIndex + 1) % list.options.length; list.dispatchEvent(new Event("input")); };
  const flip = (...boxes) => { const on = boxes.some((box) => box.checked); boxes.forEach((box) => { box.checked = !on; }); boxes[0].dispatchEvent(new Event("input")); };
  const KEYS = {
    ArrowUp: () => move(1), ArrowDown: () => move(-1), PageUp: () => move(5), PageDown: () => move(-5),
    n: () => neighbour(1), p: () => neighbour(-1), w: () => cycle(at("window")), v: () => cycle(at("view")), h: () => cycle(at("heat")),
    c: () => flip(at("show-reference"), at("show-prediction")), f: () => flip(at("show-fill")),
  };

  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !study) return;
    const typing = /^(SELECT|INPUT)$/.test(event.target.tagName) && event.target.type !== "checkbox";
    if (typing && (event.key.startsWith("Arrow") || event.key.startsWith("Page") || event.target.tagName === "SELECT")) return;
    const choice = document.querySelector(`input[name=image][value="${Number(event.key) - 1}"]`);
    if (choice) { choice.checked = true; choice.dispatchEvent(new Event("input", { bubbles: true })); }
    else if (KEYS[event.key]) KEYS[event.key]();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function followHash() {
    const asked = /^#study-(\d+)$/.exec(location.hash);
    if (asked && Number(asked[1]) < data.studies.length) open(Number(asked[1])).catch((error) => say(`This study could not be shown: ${error.message}`));
    else if (dialog.open) dialog.close();
  }

  dialog.addEventListener("keydown", pressed, true);
  dialog.addEventListener("close", () => {
    ready.study = -1;
    const link = document.querySelector(`#studies-table tr:not([hidden]) a[href="${location.hash}"]`);
    history.replaceState(null, "", "#studies");
    if (link) link.focus({ preventScroll: false });
  });
  at("close").addEventListener("click", () => dialog.close());
  at("next").addEventListener("click", () => neighbour(1));
  at("previous").addEventListener("click", () => neighbour(-1));
  at("images").addEventListener("input", () => { fillWindows(); reload(); });
  for (const name of ["window", "system", "annotation", "heat", "opacity", "view"]) at(name).addEventListener("input", reload);
  for (const name of ["show-reference", "show-prediction", "show-fill"]) at(name).addEventListener("input", refresh);
  at("slice").addEventListener("input", () => { if (study) { study.crosshair[AXIS[plane()]] = Number(at("slice").value); refresh(); } });
  window.addEventListener("hashchange", followHash);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", followHash); // the studies come last
  else followHash();
  return { ready, place: (...voxel) => screen.place(...voxel), crosshair: () => study && study.crosshair };
})();

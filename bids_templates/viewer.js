"use strict";
// The 3-D page: binds its controls to NiiVue. Text from the dataset enters as textContent only.
(() => {
  const byId = (id) => document.getElementById(id);
  const all = (selector) => Array.from(document.querySelectorAll(selector));

  function giveUp(words) {
    byId("failed").textContent = words;
    byId("failed").hidden = false;
    byId("work").hidden = true;
  }

  if (!document.createElement("canvas").getContext("webgl2")) {
    giveUp(
      "This browser offers no WebGL 2, which the 3-D view needs: it may be switched off, or the " +
        "graphics driver may be too old. The report of this participant shows the same images as slices."
    );
    return;
  }
  byId("work").hidden = false;

  const scenes = JSON.parse(byId("described").textContent);
  const nv = new niivue.Niivue({
    backColor: [0, 0, 0, 1],
    crosshairWidth: 0.75,
    crosshairGap: 12,
    crosshairColor: [1, 0.85, 0.2, 0.8],
    fontColor: [1, 1, 0.55, 1],
    fontSizeScaling: 0.6,
    dragAndDropEnabled: false,
    isColorbar: false,
    isOrientCube: true,
    isOrientationTextVisible: true,
    isRadiologicalConvention: false,
    loadingText: "",
    logLevel: "error",
    multiplanarShowRender: 1,
    sagittalNoseLeft: false,
    scrollRequiresFocus: true,
    show3Dcrosshair: false,
    showAllOrientationMarkers: true,
  });
  let scene = -1;
  // NiiVue's volumes by layer: a layer is unpacked when it is first shown.
  let volumes = new Map();
  let work = Promise.resolve();

  function controls(kind) {
    return all(`.scene[data-scene="${scene}"] .${kind}`);
  }

  // One thing after another, and a mark that tells when all is drawn.
  function enqueue(task) {
    delete document.body.dataset.ready;
    work = work.then(task).catch((error) => giveUp(`The 3-D view failed: ${error}`));
    const mine = work;
    mine.then(() => {
      if (mine === work) {
        document.body.dataset.ready = String(scene);
      }
    });
  }

  async function unpack(index) {
    const layer = scenes[scene].layers[index];
    const volume = await niivue.NVImage.loadFromBase64({
      base64: byId(`volume-${scene}-${index}`).textContent,
      name: `layer${index}.nii.gz`,
      colormap: layer.kind === "map" ? "uncertainty" : "gray",
      opacity: 0,
      cal_min: layer.low,
      cal_max: layer.high,
    });
    volume.cal_min = layer.low;
    volume.cal_max = layer.high;
    if (layer.labels) {
      volume.setColormapLabel(layer.labels);
    }
    const below = Array.from(volumes.keys()).filter((other) => other < index).length;
    nv.addVolume(volume);
    nv.setVolume(volume, below);
    volumes.set(index, volume);
  }

  // Layers, and what is said over them.
  async function update() {
    const synthetic = [];
    const opacities = controls("opacity-of");
    const boxes = controls("show");
    for (let index = 0; index < boxes.length; index += 1) {
      const layer = scenes[scene].layers[index];
      const opacity = boxes[index].checked ? Number(opacities[index].value) / 100 : 0;
      // The first layer gives the space of all others.
      if (!volumes.has(index) && (opacity > 0 || index === 0)) {
        await unpack(index);
      }
      if (volumes.has(index)) {
        const volume = volumes.get(index);
        if (volume.opacity !== opacity) {
          nv.setOpacity(nv.volumes.indexOf(volume), opacity);
        }
      }
      if (opacity > 0 && layer.synthetic) {
        synthetic.push(layer.name);
      }
    }
    const words = synthetic.length ? `SYNTHETIC: ${synthetic.join(", ")}` : "";
    if (byId("badge").textContent !== words) {
      byId("badge").textContent = words;
    }
    describe();
  }

  function moved() {
    all(".at").forEach((slider) => {
      slider.value = Math.round(1000 * nv.scene.crosshairPos[Number(slider.dataset.axis)]);
    });
    describe();
  }

  const side = (value, plus, minus) => `${Math.abs(value).toFixed(0)} mm ${value < 0 ? minus : plus}`;

  function describe() {
    const mm = nv.frac2mm(nv.scene.crosshairPos);
    const parts = [
      side(mm[0], "right", "left"),
      side(mm[1], "front", "back"),
      side(mm[2], "up", "down"),
    ];
    controls("show").forEach((box, index) => {
      const volume = volumes.get(index);
      if (!box.checked || !volume) {
        return;
      }
      const layer = scenes[scene].layers[index];
      const vox = volume.mm2vox([mm[0], mm[1], mm[2]]);
      const value = volume.getValue(vox[0], vox[1], vox[2]);
      let words = value < layer.low ? "outside" : value.toPrecision(3);
      if (layer.labels) {
        words = layer.labels.labels[Math.round(value)] || "none";
      }
      parts.push(`${layer.name}${layer.synthetic ? " (synthetic)" : ""}: ${words}`);
    });
    byId("where").textContent = parts.join("; ");
  }

  async function load(number) {
    scene = number;
    all(".scene").forEach((set) => {
      set.hidden = Number(set.dataset.scene) !== number;
    });
    while (nv.volumes.length) {
      nv.removeVolume(nv.volumes[nv.volumes.length - 1]);
    }
    volumes = new Map();
    await update();
    moved();
  }

  async function start() {
    await nv.attachToCanvas(byId("view"));
    nv.addColormap("uncertainty", JSON.parse(byId("colours").textContent));
    nv.onLocationChange = moved;
    nv.setInterpolation(true);
    nv.setSliceType(3);
    nv.setRenderAzimuthElevation(135, 20);
    await nv.setVolumeRenderIllumination(0.6);
    await load(0);
  }

  all(".show, .opacity-of").forEach((control) =>
    control.addEventListener("input", () => enqueue(update))
  );
  byId("scene").addEventListener("change", (event) => {
    const number = Number(event.target.value);
    enqueue(() => load(number));
  });
  byId("views").addEventListener("change", (event) => nv.setSliceType(Number(event.target.value)));
  all(".at").forEach((slider) =>
    slider.addEventListener("input", () => {
      nv.scene.crosshairPos[Number(slider.dataset.axis)] = Number(slider.value) / 1000;
      nv.drawScene();
      describe();
    })
  );
  ["turn", "tilt"].forEach((id) =>
    byId(id).addEventListener("input", () =>
      nv.setRenderAzimuthElevation(Number(byId("turn").value), Number(byId("tilt").value))
    )
  );
  enqueue(start);
})();

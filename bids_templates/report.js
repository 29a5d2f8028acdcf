// What moves on a subject's page: slices to step through, two scans over each other, and the zoom.
// It reads numbers and names that stand in the page; it adds no markup made of text.
"use strict";
const root = document.documentElement;
root.classList.add("js");
for (const rows of document.querySelectorAll("details.overview")) rows.open = false;

// --- slices ---------------------------------------------------------------------------------------

function tileOf(stepper, index) {
  const { columns, width, height } = stepper.dataset;
  const at = index % columns;
  return [at * width, Math.floor(index / columns) * height, Number(width), Number(height)];
}

function paint(canvas, image, [left, top, width, height]) {
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").drawImage(image, left, top, width, height, 0, 0, width, height);
}

function inWords(stepper, index) {
  const heights = stepper.dataset.heights.split(" ");
  return `z = ${Math.round(heights[index])} mm, slice ${index + 1} of ${heights.length}`;
}

for (const stepper of document.querySelectorAll(".stepper")) {
  const slider = stepper.querySelector("input");
  const looks = [...stepper.querySelectorAll("button.look")];
  const draw = () => {
    const index = Number(slider.value);
    for (const look of looks) {
      const image = document.getElementById(look.dataset.sheet);
      paint(look.querySelector("canvas"), image, tileOf(stepper, index));
    }
    const words = inWords(stepper, index);
    slider.setAttribute("aria-valuetext", words);
    stepper.querySelector("output").textContent = words;
  };
  stepper.go = (index) => {
    slider.value = index;
    draw();
  };
  const step = (by) => stepper.go(Number(slider.value) + by);
  slider.addEventListener("input", draw);
  stepper.querySelector(".previous").addEventListener("click", () => step(-1));
  stepper.querySelector(".next").addEventListener("click", () => step(1));
  for (const look of looks) {
    look.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
      if (by) {
        event.preventDefault();
        step(by);
      }
    });
  }
  const sheets = looks.map((look) => document.getElementById(look.dataset.sheet));
  Promise.allSettled(sheets.map((sheet) => sheet.decode())).then(draw);
}

// --- two scans over each other --------------------------------------------------------------------

// A change every 700 ms is far from the three flashes a second that can harm.
const PERIOD = 700;
const still = matchMedia("(prefers-reduced-motion: reduce)");

for (const comparison of document.querySelectorAll(".comparison")) {
  const stage = comparison.querySelector(".stage");
  const slider = comparison.querySelector("input[type=range]");
  const flicker = comparison.querySelector(".flicker");
  const edges = comparison.querySelector("input[type=checkbox]");
  const moved = stage.querySelector("img.above");
  const names = { above: stage.querySelector("b.above"), below: stage.querySelector("b.below") };
  let timer = null;

  const wipe = () => stage.style.setProperty("--cut", `${slider.value}%`);
  const showMoved = (shown) => {
    moved.classList.toggle("hidden", !shown);
    names.above.classList.toggle("hidden", !shown);
    names.below.classList.toggle("hidden", shown);
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    stage.classList.remove("whole");
    flicker.setAttribute("aria-pressed", "false");
    showMoved(true);
    names.below.classList.remove("hidden");
  };
  const turn = () => showMoved(moved.classList.contains("hidden"));
  const adapt = () => {
    stop();
    // Without motion the button shows one scan, then the other, as often as it is pressed.
    flicker.textContent = still.matches ? "Switch" : "Flicker";
  };
  flicker.addEventListener("click", () => {
    if (still.matches) {
      stage.classList.add("whole");
      turn();
    } else if (timer !== null) {
      stop();
    } else {
      stage.classList.add("whole");
      flicker.setAttribute("aria-pressed", "true");
      turn();
      timer = setInterval(turn, PERIOD);
    }
  });
  slider.addEventListener("input", () => {
    stop();
    wipe();
  });
  edges.addEventListener("change", () => {
    stage.querySelector("img.edges").classList.toggle("hidden", !edges.checked);
  });
  const drag = (event) => {
    if (event.buttons !== 1) return;
    const box = stage.getBoundingClientRect();
    slider.value = Math.round((100 * (event.clientX - box.left)) / box.width);
    stop();
    wipe();
  };
  stage.addEventListener("pointerdown", drag);
  stage.addEventListener("pointermove", drag);
  stage.addEventListener("dragstart", (event) => event.preventDefault());
  still.addEventListener("change", adapt);
  wipe();
  adapt();
}

for (const group of document.querySelectorAll(".choices")) {
  const pairs = [...group.querySelectorAll(".comparison")];
  const buttons = [...group.querySelectorAll(":scope > .controls > button")];
  const choose = (chosen) => {
    pairs.forEach((pair, number) => pair.classList.toggle("hidden", number !== chosen));
    buttons.forEach((button, number) => button.setAttribute("aria-pressed", number === chosen));
  };
  buttons.forEach((button, number) => button.addEventListener("click", () => choose(number)));
  choose(0);
}

// --- zoom -----------------------------------------------------------------------------------------

const zoom = document.getElementById("zoom");
const view = zoom.querySelector(".zoom-view");
const canvas = zoom.querySelector("canvas");
const choice = zoom.querySelector("select");
const STEPS = [0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48];
let looks = [];
let stepper = null;
let scale = 1;

function resize(wanted) {
  const middle = [
    (view.scrollLeft + view.clientWidth / 2) / view.scrollWidth,
    (view.scrollTop + view.clientHeight / 2) / view.scrollHeight,
  ];
  scale = wanted;
  canvas.style.width = `${canvas.width * scale}px`;
  canvas.style.height = `${canvas.height * scale}px`;
  view.scrollLeft = middle[0] * view.scrollWidth - view.clientWidth / 2;
  view.scrollTop = middle[1] * view.scrollHeight - view.clientHeight / 2;
}

function fit() {
  const largest = Math.min(view.clientWidth / canvas.width, view.clientHeight / canvas.height);
  resize(STEPS.findLast((step) => step <= largest) ?? largest);
}

function magnify(by) {
  const larger = STEPS.filter((step) => (by > 0 ? step > scale : step < scale));
  if (larger.length) resize(by > 0 ? larger[0] : larger.at(-1));
}

function show() {
  const look = looks[choice.selectedIndex];
  if (stepper) {
    const index = Number(stepper.querySelector("input").value);
    paint(canvas, document.getElementById(look.dataset.sheet), tileOf(stepper, index));
    zoom.querySelector("output").textContent = inWords(stepper, index);
  } else {
    const image = look.querySelector("img");
    paint(canvas, image, [0, 0, image.naturalWidth, image.naturalHeight]);
    zoom.querySelector("output").textContent = "";
  }
  canvas.setAttribute("aria-label", look.getAttribute("aria-label").replace(/^Zoom: /, ""));
  for (const mark of zoom.querySelectorAll(".pill, .mark")) mark.hidden = !look.dataset.synthetic;
  // Planes have letters of their own.
  for (const side of zoom.querySelectorAll(".side, .slices")) side.hidden = !stepper;
}

function stepBy(by) {
  if (!stepper) return;
  stepper.go(Number(stepper.querySelector("input").value) + by);
  show();
}

function openZoom(look) {
  stepper = look.closest(".stepper");
  looks = stepper ? [...stepper.querySelectorAll("button.look")] : [look];
  choice.replaceChildren(...looks.map((one) => new Option(one.dataset.title)));
  choice.selectedIndex = looks.indexOf(look);
  zoom.querySelector("label").hidden = looks.length < 2;
  zoom.querySelector("h2").textContent = stepper
    ? stepper.getAttribute("aria-label")
    : look.dataset.title;
  zoom.showModal();
  show();
  fit();
  view.focus();
}

for (const look of document.querySelectorAll("button.look")) {
  look.addEventListener("click", () => openZoom(look));
}
choice.addEventListener("change", () => {
  show();
  resize(scale);
});
zoom.querySelector(".larger").addEventListener("click", () => magnify(1));
zoom.querySelector(".smaller").addEventListener("click", () => magnify(-1));
zoom.querySelector(".fit").addEventListener("click", fit);
zoom.querySelector(".previous").addEventListener("click", () => stepBy(-1));
zoom.querySelector(".next").addEventListener("click", () => stepBy(1));
zoom.querySelector(".close").addEventListener("click", () => zoom.close());
view.addEventListener("keydown", (event) => {
  const far = 60;
  const move = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] };
  const acts = {
    "+": () => magnify(1),
    "=": () => magnify(1),
    "-": () => magnify(-1),
    0: fit,
    PageUp: () => stepBy(1),
    PageDown: () => stepBy(-1),
  };
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (move[event.key]) view.scrollBy(...move[event.key]);
  else if (acts[event.key]) acts[event.key]();
  else return;
  event.preventDefault();
});
view.addEventListener("pointermove", (event) => {
  if (event.buttons === 1 && event.pointerType === "mouse") {
    view.scrollBy(-event.movementX, -event.movementY);
  }
});

// --- text to copy, and paper ----------------------------------------------------------------------

function selectText(element) {
  const range = document.createRange();
  range.selectNodeContents(element);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  const text = document.getElementById(button.dataset.copy);
  const said = button.parentElement.querySelector("[role=status]");
  button.addEventListener("click", async () => {
    let copied = true;
    try {
      await navigator.clipboard.writeText(text.textContent);
    } catch {
      // A page from a file may not use the clipboard: the older way, or at least a selection.
      selectText(text);
      copied = document.execCommand("copy");
    }
    said.textContent = copied ? "Copied." : "Selected: press Ctrl+C or Cmd+C to copy.";
  });
}

let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details.overview:not([open])")];
  for (const rows of closed) rows.open = true;
});
addEventListener("afterprint", () => {
  for (const rows of closed) rows.open = false;
});

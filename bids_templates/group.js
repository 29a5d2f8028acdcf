"use strict";
(() => {
  const body = document.getElementById("rows");
  const form = document.getElementById("filter");
  const said = document.getElementById("count");
  const more = document.getElementById("more");
  const first = Number(body.dataset.first);
  const rows = Array.from(body.rows);
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const place = new Map(rows.map((row, index) => [row, index]));
  let all = false;

  const show = () => {
    const words = form.elements.words.value.toLowerCase().trim();
    const contrast = form.elements.contrast.value;
    const kind = form.elements.kind.value;
    const state = form.elements.state.value;
    let fitting = 0;
    let shown = 0;
    for (const row of body.rows) {
      const fits = (!words || texts[place.get(row)].includes(words))
        && (!contrast || row.dataset.contrast === contrast)
        && (!kind || row.dataset.kind === kind)
        && (!state || row.dataset.states.split(" ").includes(state));
      fitting += fits ? 1 : 0;
      const visible = fits && (all || fitting <= first);
      shown += visible ? 1 : 0;
      row.className = visible ? "" : "more";
    }
    said.textContent = `${shown} of ${fitting} fitting rows are shown, ${rows.length} in all.`;
    more.hidden = shown === fitting;
  };

  const value = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.order !== undefined) {
      return Number(cell.dataset.order);
    }
    const text = cell.textContent.trim();
    const number = Number(text);
    return text === "" ? null : Number.isNaN(number) ? text : number;
  };
  const compare = (one, other) => typeof one === "number" && typeof other === "number"
    ? one - other
    : String(one).localeCompare(String(other), "en", { numeric: true });
  const heads = Array.from(body.parentElement.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = rows.map((row) => [value(row, column), row]);
      keyed.sort(([one, a], [other, b]) => {
        // What is not known comes last, whichever way.
        if (one === null || other === null) {
          return (one === null) - (other === null) || place.get(a) - place.get(b);
        }
        return (down ? -1 : 1) * compare(one, other) || place.get(a) - place.get(b);
      });
      body.append(...keyed.map(([, row]) => row));
      show();
    });
  });

  let waiting = 0;
  form.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(show, 120);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(show));
  more.addEventListener("click", () => {
    all = true;
    show();
  });
  show();

  // Points: the name beside what is pointed at, and arrow keys from one to the next.
  const tip = document.getElementById("tip");
  const point = (event) => event.target instanceof Element
    ? event.target.closest("svg.strip a") : null;
  const name = (event) => {
    const found = point(event);
    tip.hidden = !found;
    if (found) {
      const box = found.getBoundingClientRect();
      tip.textContent = found.getAttribute("aria-label");
      const left = box.left + box.width / 2 - tip.offsetWidth / 2;
      const most = document.documentElement.clientWidth - tip.offsetWidth - 4;
      tip.style.left = `${Math.max(4, Math.min(left, most)) + scrollX}px`;
      tip.style.top = `${box.top - tip.offsetHeight - 6 + scrollY}px`;
    }
  };
  document.addEventListener("pointerover", name);
  document.addEventListener("focusin", name);
  document.addEventListener("focusout", () => { tip.hidden = true; });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      tip.hidden = true;
      return;
    }
    const found = point(event);
    if (!found) {
      return;
    }
    const points = Array.from(found.closest("svg.strip").querySelectorAll("a"));
    const here = points.indexOf(found);
    const next = {
      ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: points.length - 1,
    }[event.key];
    if (points[next]) {
      event.preventDefault();
      found.setAttribute("tabindex", "-1");
      points[next].setAttribute("tabindex", "0");
      points[next].focus();
    }
  });
})();

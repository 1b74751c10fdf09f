"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // What a cell sorts by: in a column of numbers its exact value where it has one, else the number that it begins with.
  const key = (cell) => {
    const text = cell ? cell.textContent.trim() : "";
    const number = cell && cell.classList.contains("n") ? parseFloat(cell.dataset.v ?? text) : NaN;
    return [number, text];
  };
  const order = ([a, left], [b, right]) =>
    Number.isNaN(a) && Number.isNaN(b) ? left.localeCompare(right, undefined, { numeric: true })
      : Number.isNaN(a) ? 1 : Number.isNaN(b) ? -1 : a < b ? -1 : a > b ? 1 : 0;

  for (const table of all("table.sort")) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((one) => one.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = all("tbody tr", table).map((row) => [key(row.cells[column]), row]);
        rows.sort((a, b) => (down ? -1 : 1) * order(a[0], b[0]));
        table.tBodies[0].append(...rows.map(([, row]) => row));
      });
    });
  }

  for (const table of all("table.filter")) {
    const rows = all("tbody tr", table);
    if (rows.length < 6) continue;
    const label = document.createElement("label");
    const input = document.createElement("input");
    const count = document.createElement("span");
    label.className = "find";
    input.type = "search";
    count.setAttribute("role", "status");
    label.append("Filter ", input, count);
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let left = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        left += row.hidden ? 0 : 1;
      }
      count.textContent = words.length ? `${left} of ${rows.length} rows` : "";
    });
    table.parentElement.before(label);
  }

  for (const tools of all(".tools")) {
    tools.hidden = false;
    for (const button of all("button", tools)) {
      button.addEventListener("click", () => all("details").forEach((one) => { one.open = Boolean(button.dataset.open); }));
    }
  }

  // A link into a closed case opens it.
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const closed = target && target.closest("details");
    if (closed) { closed.open = true; target.scrollIntoView(); }
  };
  addEventListener("hashchange", reveal);
  reveal();
  for (const link of all('a[href^="#case-"]')) link.addEventListener("click", () => setTimeout(reveal));

  let shut = [];
  addEventListener("beforeprint", () => { shut = all("details:not([open])"); shut.forEach((one) => { one.open = true; }); });
  addEventListener("afterprint", () => shut.forEach((one) => { one.open = false; }));

  // What the curves of a plot are where a pointer is, read off the drawing: to two or three digits.
  for (const drawing of all("svg[data-axes]")) {
    const [left, top, right, bottom, x0, x1, y0, y1, across, up] = drawing.dataset.axes.split(" ")
      .map((one, place) => (place < 8 ? Number(one) : one));
    const curves = all(".series path", drawing).map((path) =>
      [...path.getAttribute("d").matchAll(/([-\d.]+) ([-\d.]+)/g)].map(([, x, y]) => [Number(x), Number(y)]));
    if (!curves.length) continue;
    const names = all(".legend li", drawing.parentElement).map((one) => one.textContent);
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.setAttribute("aria-hidden", "true");
    drawing.after(tip);
    const at = (part, from, to, scale) =>
      scale === "log" ? from * (to / from) ** part : from + part * (to - from);
    const near = (x, points) => points.reduce((best, one) => (Math.abs(one[0] - x) < Math.abs(best[0] - x) ? one : best));
    drawing.addEventListener("pointermove", (event) => {
      const box = drawing.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width * drawing.viewBox.baseVal.width;
      const points = curves.map((curve) => near(x, curve));
      const values = points.map(([, y], number) =>
        `${names[number]} ≈ ${at((bottom - y) / (bottom - top), y0, y1, up).toPrecision(3)}`);
      tip.textContent = `${Math.round(at((near(x, points)[0] - left) / (right - left), x0, x1, across))}: ${values.join(", ")}`;
    });
    drawing.addEventListener("pointerleave", () => { tip.textContent = ""; });
  }
})();
